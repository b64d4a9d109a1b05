"""image: a machine image with the packages of all roles, so that a new environment only needs its configuration."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks import source
from tasks.bucket.lease import EnvironmentHeld, Lease
from tasks.cloud.errors import already
from tasks.digest import Digest
from tasks.graph.stage import Outcome
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import hosts, images, machine, throw_away, waiting
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.apply import ChangeRefused
from tasks.process import children
from tasks.server import stage as server
from tasks.settings import required_roles

if TYPE_CHECKING:
    from tasks.run import Run

NAME = "image"
"""The identity of the throw-away host and its key and group, in the place of an environment's."""
KEPT = 2
"""Images of a project that are kept; older ones are removed unless a machine runs on them."""
X86 = "x86_64"
"""The processor of most types of machines."""
BAKE_GB = 10
"""GB of the throw-away host's disk: the least that a machine of the settings may have."""
PATIENCE = 1800.0
"""Seconds for the cloud to copy a disk."""
SPENT = ("failed", "error", "invalid", "deregistered")
"""States of an image from which no machine can start any more."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that carries our tags."""

    id: str
    state: str
    fingerprint: str
    made: str
    architecture: str = X86
    snapshots: tuple[str, ...] = ()


# --- fingerprint and images ---------------------------------------------------------------------


def parts(run: Run) -> dict[str, object]:
    """The settings that an image depends on, by name: no secret and no address of an environment."""
    return {"image": run.pipeline.image, **variables(run)}


def paths(run: Run) -> tuple[str, ...]:
    """The files that an image is made from."""
    return (
        "playbooks/image.yml",
        "roles/image",
        "roles/packages",
        *(f"roles/{role}" for role in run.profile.server.roles if role not in required_roles(run.root)),
    )


def variables(run: Run) -> dict[str, object]:
    """The variables of the playbook: the roles, and what the lists of their packages name."""
    roles = [each for each in run.profile.server.roles if each not in run.network.absent]
    files = [run.root / "roles" / role / "vars" / "main.yml" for role in roles]
    named = set(re.findall(r"\w+", " ".join(file.read_text() for file in files if file.exists())))
    told = {f"{role}_{name}": value for role, name, value in server.declared(run)}
    return {"server_roles": roles, **{name: told[name] for name in sorted(named & told.keys())}}


def fingerprint(run: Run) -> str:
    """A digest of the git ids of the paths and of the settings: the same in every clone."""
    content = {"paths": source.snapshot(run.root).ids(paths(run)), "settings": parts(run)}
    return Digest.of_value(content).id


def found(run: Run) -> list[Image]:
    """The project's images, the newest first."""
    filters = [{"Name": "tag:project", "Values": [run.pipeline.name]}]
    answer = run.cloud.client("ec2").describe_images(Owners=["self"], Filters=filters)
    ours = [
        Image(
            id=each["ImageId"],
            state=each["State"],
            fingerprint=tags["fingerprint"],
            made=each["CreationDate"],
            architecture=each["Architecture"],
            snapshots=tuple(
                disk["Ebs"]["SnapshotId"]
                for disk in each.get("BlockDeviceMappings", ())
                if "SnapshotId" in disk.get("Ebs", {})
            ),
        )
        for each in answer["Images"]
        if "fingerprint" in (tags := {tag["Key"]: tag["Value"] for tag in each.get("Tags", ())})
    ]
    return sorted(ours, key=lambda each: each.made, reverse=True)


def fitting(run: Run, mark: str) -> list[Image]:
    """The images of that fingerprint from which the environment's machines can start, the newest first."""
    wanted = images.architecture(run.cloud.client("ec2"), machine.size(run), run.pipeline.region)
    return [each for each in found(run) if (each.fingerprint, each.architecture) == (mark, wanted)]


def ready(run: Run, mark: str) -> Image | None:
    """The newest of them that is whole."""
    return next((each for each in fitting(run, mark) if each.state == "available"), None)


def differences(run: Run) -> list[str]:
    """Why an image is due: none has the fingerprint of the checkout, or it is too old."""
    mark = fingerprint(run)
    image = ready(run, mark)
    if not image:
        return [f"there is no image of fingerprint {mark}"]
    old = f"{image.id} is older than {run.pipeline.image_days} days"
    return [old] if _old(run, image) else []


def _old(run: Run, image: Image) -> bool:
    """Whether it is due to be baked anew: packages have had updates since."""
    days = run.pipeline.image_days
    age = run.clock.now() - datetime.datetime.fromisoformat(image.made)
    return bool(days) and age > datetime.timedelta(days=days)


def superfluous(newest_first: list[Image], used: set[str]) -> list[Image]:
    """The images to remove: the failed ones, and the old ones that no machine runs on."""
    spent = [each for each in newest_first if each.state in SPENT]
    whole = [each for each in newest_first if each.state == "available"]
    kept = newest((each.id, each.architecture) for each in whole) | used
    return spent + [each for each in whole if each.id not in kept]


def newest(newest_first: Iterable[tuple[str, str]]) -> set[str]:
    """Of whole images, each an id and a processor, those that stay: the newest ones for each processor."""
    by_processor: dict[str, list[str]] = {}
    for id, processor in newest_first:
        by_processor.setdefault(processor, []).append(id)
    return {id for ids in by_processor.values() for id in ids[:KEPT]}


# --- the stage ----------------------------------------------------------------------------------


def bake(run: Run) -> Outcome:
    """Provision a throw-away host and make an image from it, unless one exists. Always removes the host."""
    mark, builder = fingerprint(run), _builder(run)
    image = ready(run, mark)
    image = None if image and _old(run, image) else image
    made = image is None
    # all bakes of a project use one host: the lease keeps them apart
    lease = Lease(builder, on_lost=children.interrupt)
    try:
        lease.take(0 if image else None, run.console.say(NAME))
    except EnvironmentHeld:
        if not image:
            raise
        id = image.id  # the other bake makes another image
    else:
        with contextlib.ExitStack() as afterwards:
            afterwards.callback(lease.free)
            afterwards.callback(_end, builder)
            id = _baked(run, builder, mark)
    removed = _sweep(run)
    also = f", {removed} old removed" if removed else ""
    words = f"{id} of fingerprint {mark}{also}"
    return Outcome(facts={"image": id, "fingerprint": mark}, done=words, unchanged=words, changed=made)


def _baked(run: Run, builder: Run, mark: str) -> str:
    """The id of the image: an existing one, one that a killed bake has requested, or a new one."""
    usable = (each for each in fitting(run, mark) if each.state not in SPENT and not _old(run, each))
    id = next((each.id for each in usable), None)
    if not id:
        _end(builder)  # a killed bake may have left a part of its host
        _sweep(run)
        id = _make(run, builder, mark)
    _await(run, id)
    return id


def _builder(run: Run) -> Run:
    """The run for the throw-away host: the same project and cloud, but an identity of its own."""
    # on demand: a spot instance cannot be stopped; small: a disk is never smaller than that of its image
    lone = dataclasses.replace(
        run.environment.infrastructure,
        instances=1,
        placement={},
        termination_protection=False,
        http_from=(),
        spot=False,
        disk_gb=BAKE_GB,
    )
    environment = dataclasses.replace(
        run.environment, per_branch=False, host_name="", stores={}, infrastructure=lone
    )
    return dataclasses.replace(run, environment=environment, environment_name=NAME)


def _make(run: Run, builder: Run, mark: str) -> str:
    """Start to make the image. Returns its id."""
    (host,) = hosts.parsed(infrastructure.converge(builder, NAME).facts)
    run.hosts.play(
        NAME,
        hosts=hosts.reachable(builder, [host]),
        variables=variables(run),
        strategy=run.environment.strategy,
        console=run.console,
        log=run.log(NAME),
    )
    run.console.event(NAME, f"stop {host.id}")
    # stopped: no file is half written, and nothing that the playbook has removed is made again by a reboot
    ec2.stop(builder, host.id)
    # of one fingerprint there is one for each processor, and a new one when the last is old
    fit = images.architecture(run.cloud.client("ec2"), machine.size(run), run.pipeline.region)
    name = "-".join([run.pipeline.name, mark, *([] if fit == X86 else [fit]), f"{run.clock.now():%Y%m%d}"])
    run.console.event(NAME, f"create image {name}")
    tags = {"Name": name, "project": run.pipeline.name, "fingerprint": mark, "base": run.pipeline.image}
    with already("InvalidAMIName.Duplicate"):  # another run was faster: its image is the same
        return images.create(run.cloud.client("ec2"), host.id, name=name, tags=tags)
    return fitting(run, mark)[0].id


def _await(run: Run, id: str) -> None:
    for _ in waiting.patience(run, f"the image {id} not ready", pause=waiting.POLL_IMAGE, seconds=PATIENCE):
        image = next((each for each in found(run) if each.id == id), None)
        if image and image.state == "available":
            return
        if image and image.state in SPENT:
            raise ChangeRefused(change=f"create image {id}", problem=f"the image is {image.state}")
        run.console.say(NAME)(f"waits for the copy of the disk, {id}")


def _end(builder: Run) -> None:
    throw_away.end(builder, NAME)


def _sweep(run: Run) -> int:
    """Remove the images that are not needed. Returns their number."""
    known, client = found(run), run.cloud.client("ec2")
    gone = superfluous(known, images.in_use(client, [each.id for each in known]))
    for each in gone:
        run.console.event(NAME, f"remove {each.id} of {each.made[:10]}")
        images.remove(run, each.id, each.snapshots)
    return len(gone)


# --- where a new machine starts from ------------------------------------------------------------


def start(run: Run) -> str | None:
    """The baked image for a new machine of this environment; None for the image of the settings."""
    if run.identity == NAME:
        return None
    mark = fingerprint(run)
    image = ready(run, mark)
    words = f"the baked image {image.id}" if image else f"{run.pipeline.image}: no baked image of {mark}"
    run.console.event("infrastructure", f"starts from {words}")
    return image.id if image else None
