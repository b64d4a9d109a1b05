"""layout: every key of the bucket: made here, parsed here, and nowhere else.

    state/IDENTITY/TASK.json             a task's last success in an environment; a `.` stands for the task's `:`
    leases/IDENTITY.json                 who may change the environment now
    machines/IDENTITY.json               host keys, launch tokens, DNS names
    ledgers/IDENTITY/HOST/PLAYBOOK.json  what a playbook has left on a host
    history/IDENTITY.json                what went live in the environment
    restored/IDENTITY/TRY.json           a backup that was restored, or how that failed; each try adds one

    undone/ZONE/DIGEST.json              who has undone a tarball, and who has allowed it again
    runs/COMMIT.json                     a commit's promotion record
    runs/current.json                    the commit whose run began last
    sweep/memory.json                    what sweeps have seen

    ZONE/layers/KEY.json                 record: which blob a layer's inputs gave; written last
    ZONE/keys/KEY.json                   record: which tarball a build's inputs gave; written last
    ZONE/commits/COMMIT.json             record: which tarball is the commit's: digest, branch, by, role, at
    ZONE/layers/DIGEST.tar.zst           blob: a layer's archive
    ZONE/tarballs/DIGEST.tar.zst         blob: a tarball
    ZONE/tarballs/DIGEST.SUFFIX          beside the tarball: manifest.json, sbom.json, KEY.minisig

IDENTITY names an environment (`staging`, `testing-0d6e4079e3`). ZONE is `trusted` for commits that are known to be on the default
branch, `branches` for all others. The policies in build/ci/iam/ allow by these prefixes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

Zone = Literal["trusted", "branches"]
RecordKind = Literal["layers", "keys", "commits"]
"""Which output an input gave, by the input's name."""
BlobKind = Literal["layers", "tarballs"]
"""Content, by its own digest."""
Kind = Literal[
    "state", "lease", "machines", "ledger", "history", "run", "current run", "sightings", "undone", "record", "blob", "beside", "restored"
]  # fmt: skip

TRUSTED: Zone = "trusted"
BRANCHES: Zone = "branches"
ZONES: tuple[Zone, ...] = (TRUSTED, BRANCHES)
CURRENT_RUN = "runs/current.json"
SIGHTINGS = "sweep/memory.json"
ARCHIVE = ".tar.zst"
"""The suffix of a blob, here and in the folders of a build."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """The parts of a key; a part that its kind lacks is empty or None.

    `name`: the task, playbook, commit, digest, or the digest of the inputs. `folder`: the kind of record or blob. `suffix`: of a
    file beside a tarball.
    """

    kind: Kind
    identity: str = ""
    host: str = ""
    zone: Zone | None = None
    folder: RecordKind | BlobKind | None = None
    name: str = ""
    suffix: str = ""


# --- one environment's own ------------------------------------------------------------------------


def state(identity: str, task: str) -> str:
    """The key of a task's record."""
    return f"{states(identity, task)}.json"


def states(identity: str, beginning: str = "") -> str:
    """The prefix of the records of an environment's tasks whose names begin with `beginning`."""
    return f"state/{identity}/{beginning.replace(':', '.')}"


def lease(identity: str) -> str:
    """The key of an environment's lease."""
    return f"leases/{identity}.json"


def machines(identity: str) -> str:
    """The key of an environment's host keys, launch tokens and DNS names."""
    return f"machines/{identity}.json"


def ledger(identity: str, host: str, playbook: str) -> str:
    """The key of a host's ledger."""
    return f"{ledgers(identity)}{host}/{playbook}.json"


def ledgers(identity: str) -> str:
    """The prefix of an environment's ledgers."""
    return f"ledgers/{identity}/"


def history(identity: str) -> str:
    """The key of an environment's releases."""
    return f"history/{identity}.json"


def restored(identity: str, at: str, run: str, backup: str = "failed", snapshot: str = "") -> str:
    """The key of the record of a restore: when it was, and of which backup from when; or that it failed. Times sort as texts."""
    return f"{all_restored(identity)}{'.'.join(filter(None, (at, run, backup, snapshot)))}.json"


def all_restored(identity: str) -> str:
    """The prefix of the records of an environment's restores."""
    return f"restored/{identity}/"


def backups(identity: str, part: str = "") -> str:
    """The prefix of an environment's repository of restic, or of a part of it such as `snapshots/`. No key in it is ours."""
    return f"backups/{identity}/{part}"


def below(kind: Literal["history", "machines"]) -> str:
    """The prefix of the documents of a kind, of all environments."""
    return f"{kind}/"


# --- shared by all environments -------------------------------------------------------------------


def undone(zone: Zone, digest: str) -> str:
    """The key of the mark of a tarball that was undone."""
    return f"{all_undone(zone, digest)}.json"


def all_undone(zone: Zone, beginning: str = "") -> str:
    """The prefix of the marks of tarballs whose digests begin with `beginning`."""
    return f"undone/{zone}/{beginning}"


def commit_run(commit: str) -> str:
    """The key of a commit's promotion record."""
    return f"runs/{commit}.json"


def record(zone: Zone, kind: RecordKind, name: str) -> str:
    """The key of the record that says which output an input gave."""
    return f"{zone}/{kind}/{name}.json"


def blob(zone: Zone, kind: BlobKind, digest: str) -> str:
    """The key of a blob."""
    return f"{blobs(zone, kind, digest)}{ARCHIVE}"


def blobs(zone: Zone, kind: BlobKind, beginning: str = "") -> str:
    """The prefix of the blobs whose digests begin with `beginning`, and of the records and files beside them."""
    return f"{zone}/{kind}/{beginning}"


def beside(key: str, suffix: str) -> str:
    """The key of a file beside a tarball, from the tarball's key: `manifest.json`, `sbom.json`, `KEY.minisig`."""
    return f"{key.removesuffix(ARCHIVE)}.{suffix}"


# --- parsing --------------------------------------------------------------------------------------

_RECORDS, _BLOBS, _ZONES = ("|".join(get_args(each)) for each in (RecordKind, BlobKind, Zone))
_PATTERNS: dict[Kind, str] = {
    # a layer's name may contain a `/`
    "state": r"state/(?P<identity>[^/]+)/(?P<name>.+)\.json",
    "lease": r"leases/(?P<identity>[^/]+)\.json",
    "machines": r"machines/(?P<identity>[^/]+)\.json",
    "ledger": r"ledgers/(?P<identity>[^/]+)/(?P<host>[^/]+)/(?P<name>[^/]+)\.json",
    "history": r"history/(?P<identity>[^/]+)\.json",
    "restored": r"restored/(?P<identity>[^/]+)/(?P<name>[^/]+)\.json",
    "current run": re.escape(CURRENT_RUN),
    "run": r"runs/(?P<name>[^/.]+)\.json",
    "sightings": re.escape(SIGHTINGS),
    "undone": rf"undone/(?P<zone>{_ZONES})/(?P<name>[^/.]+)\.json",
    "record": rf"(?P<zone>{_ZONES})/(?P<folder>{_RECORDS})/(?P<name>[^/.]+)\.json",
    "blob": rf"(?P<zone>{_ZONES})/(?P<folder>{_BLOBS})/(?P<name>[^/.]+){re.escape(ARCHIVE)}",
    # any suffix: files that a newer pipeline adds are deleted with the tarball
    "beside": rf"(?P<zone>{_ZONES})/(?P<folder>tarballs)/(?P<name>[^/.]+)\.(?P<suffix>[^/]+)",
}


def parse(key: str) -> Key | None:
    """The parts of a key; None for a key that no function here makes."""
    for kind, pattern in _PATTERNS.items():
        if found := re.fullmatch(pattern, key):
            parts: dict[str, Any] = found.groupdict()
            if kind == "state":
                parts["name"] = parts["name"].replace(".", ":")
            return Key(kind=kind, **parts)
    return None
