"""What a tarball is made of: valid CycloneDX, and the same bytes for the same lock file."""

from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tasks.digest import Digest
from tasks.tarball import sbom
from tests.conftest import ROOT

LOCK = json.dumps(
    {
        "packages": [
            {
                "name": "acme/tool",
                "version": "v2.1.0",
                "license": ["MIT", "GPL-3.0-or-later"],
                "require": {"php": ">=8", "acme/base": "*"},
                "dist": {"type": "zip", "url": "https://example.com/tool.zip", "shasum": "a" * 40},
            },
            {"name": "acme/base", "version": "1.0", "license": ["proprietary"], "dist": {"shasum": ""}},
            {"name": "plain", "version": "dev-main"},
        ],
        "packages-dev": [{"name": "acme/test", "version": "1.0"}],
    }
).encode()


def made(lock=LOCK, **changes):
    return sbom.of_composer(
        lock, **{"application": "shop", "tarball": Digest("0000000" + 57 * "a"), **changes}
    )


@pytest.mark.parametrize("lock", [LOCK, (ROOT / "app" / "composer.lock").read_bytes()], ids=["odd", "shop"])
@pytest.mark.promise("sbom-lists-the-parts")
def test_it_is_valid_cyclonedx(lock):
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(made(lock)) is None


@pytest.mark.promise("sbom-is-reproducible")
def test_the_same_lock_file_gives_the_same_bytes_and_another_one_another_serial():
    assert made() == made()
    serials = {
        json.loads(each)["serialNumber"]
        for each in (made(), made(tarball=Digest(64 * "d")), made(LOCK + b" "))
    }
    assert len(serials) == 3


@pytest.mark.promise("sbom-lists-the-parts")
def test_it_names_what_is_installed_with_version_licence_digest_and_needs():
    found = json.loads(made())
    by_url = {each["purl"]: each for each in found["components"]}
    tool = by_url["pkg:composer/acme/tool@v2.1.0"]
    assert tool["licenses"] == [{"expression": "MIT OR GPL-3.0-or-later"}]
    assert tool["hashes"] == [{"alg": "SHA-1", "content": "a" * 40}]
    assert by_url["pkg:composer/acme/base@1.0"]["licenses"] == [{"license": {"name": "proprietary"}}]
    assert by_url.keys() == {
        "pkg:composer/acme/tool@v2.1.0",
        "pkg:composer/acme/base@1.0",
        "pkg:composer/plain@dev-main",
    }
    needs = {each["ref"]: each.get("dependsOn", []) for each in found["dependencies"]}
    assert needs["pkg:composer/acme/tool@v2.1.0"] == ["pkg:composer/acme/base@1.0"]
    assert found["metadata"]["timestamp"].startswith("2001-09-09")
