"""sbom: the software bill of materials of a tarball, in CycloneDX; the same bytes for the same lock file."""

from __future__ import annotations

import datetime
import hashlib
import importlib
import json
import threading
from typing import TYPE_CHECKING, Any

from tasks.tarball.build.archive import EPOCH

if TYPE_CHECKING:
    from uuid import UUID

    from tasks.digest import Digest


def load_ahead() -> None:
    """Load the library in a thread, while the layers are built."""
    threading.Thread(target=importlib.import_module, args=["cyclonedx.output.json"], daemon=True).start()


def usable(lock: str) -> bool:
    """Whether a composer.lock lists packages with their versions."""
    try:
        return all(each["name"] and each["version"] for each in json.loads(lock)["packages"])
    except (ValueError, KeyError, TypeError):
        return False


def of_composer(lock: bytes, *, application: str, tarball: Digest) -> str:
    """The software bill of materials (CycloneDX 1.5, JSON) of a tarball with this composer.lock, whose digest is its version and its date."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot5

    version, date = tarball.short, EPOCH + int(tarball[:7], 16)
    packages = json.loads(lock)["packages"]
    components = {each["name"]: _component(each) for each in packages}
    root = Component(name=application, version=version, type=ComponentType.APPLICATION, bom_ref="application")
    bom = Bom(components=components.values(), serial_number=_serial(lock, application, version))
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(date, datetime.UTC)
    bom.register_dependency(root, components.values())
    for each in packages:
        needs = [components[name] for name in each.get("require", {}) if name in components]
        bom.register_dependency(components[each["name"]], needs)
    return JsonV1Dot5(bom).output_as_string(indent=1) + "\n"


def _component(package: dict[str, Any]) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    group, _, name = package["name"].rpartition("/")
    dist, licences = package.get("dist", {}), package.get("license")  # several licences mean a choice
    url = PackageURL("composer", group, name, package["version"])
    return Component(
        type=ComponentType.LIBRARY,
        group=group or None,
        name=name,
        version=package["version"],
        purl=url,
        bom_ref=url.to_string(),
        description=package.get("description"),
        licenses=[LicenseFactory().make_from_string(" OR ".join(licences))] if licences else (),
        hashes=[HashType(alg=HashAlgorithm.SHA_1, content=dist["shasum"])] if dist.get("shasum") else (),
        external_references=[
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(dist["url"]))
        ]
        if dist.get("url")
        else (),
    )


def _serial(*content: bytes | str) -> UUID:
    """A digest of the content in the form of a version 4 UUID, which the format requires."""
    from uuid import UUID  # it asks what platform this is: 3 ms of every start

    text = b"\0".join(each if isinstance(each, bytes) else each.encode() for each in content)
    return UUID(bytes=hashlib.sha256(text).digest()[:16], version=4)
