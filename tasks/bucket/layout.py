"""layout: the bucket's map: every key that anybody writes is made here, parsed here, and nowhere else.

    state/IDENTITY/TASK.json             a task's last success in an environment; a `.` stands for the task's `:`
    leases/IDENTITY.json                 who may change the environment now
    machines/IDENTITY.json               host keys, tokens of launches
    ledgers/IDENTITY/HOST/PLAYBOOK.json  what a playbook has left on a host
    history/IDENTITY.json                what went live in the environment

    runs/COMMIT.json                     a commit's run from environment to environment
    runs/current.json                    the commit whose run is the last to have begun
    sweep/memory.json                    what sweeps have seen

    ZONE/layers/KEY.json                 record: which bytes a layer's inputs gave; written last
    ZONE/keys/KEY.json                   record: which tarball a build's inputs gave; written last
    ZONE/commits/COMMIT.json             record: which tarball is the commit's: digest, branch, by, role, at
    ZONE/layers/DIGEST.tar.zst           blob: a layer's archive
    ZONE/tarballs/DIGEST.tar.zst         blob: a tarball
    ZONE/tarballs/DIGEST.TELLING         beside the tarball: manifest.json, sbom.json, minisig

IDENTITY names an environment (`staging`, `testing-0d6e4079e3`). ZONE is `trusted` for the default branch's own work, `branches` for
everybody else's. The policies in build/ci/iam/ allow by these prefixes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

Zone = Literal["trusted", "branches"]
RecordKind = Literal["layers", "keys", "commits"]
"""What an input gave, by the input's name."""
BlobKind = Literal["layers", "tarballs"]
"""Content, by its own digest."""
Kind = Literal[
    "state", "lease", "machines", "ledger", "history", "run", "current run", "sightings", "record", "blob", "beside"
]  # fmt: skip

TRUSTED: Zone = "trusted"
BRANCHES: Zone = "branches"
ZONES: tuple[Zone, ...] = (TRUSTED, BRANCHES)
CURRENT_RUN = "runs/current.json"
SIGHTINGS = "sweep/memory.json"
ARCHIVE = ".tar.zst"
"""How a blob's name ends, here and in the folders of a build."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What a key was made of; what its kind has not is empty or None.

    `name`: the task, playbook, commit, digest, or the digest of the inputs. `folder`: the kind of record or blob. `telling`: what
    lies beside a tarball.
    """

    kind: Kind
    identity: str = ""
    host: str = ""
    zone: Zone | None = None
    folder: RecordKind | BlobKind | None = None
    name: str = ""
    telling: str = ""


# --- one environment's own ------------------------------------------------------------------------


def state(identity: str, task: str) -> str:
    """Where the record of a task lies."""
    return f"{states(identity, task)}.json"


def states(identity: str, beginning: str = "") -> str:
    """How the keys of an environment's records begin, of the tasks that begin so."""
    return f"state/{identity}/{beginning.replace(':', '.')}"


def lease(identity: str) -> str:
    """Where an environment's lease lies."""
    return f"leases/{identity}.json"


def machines(identity: str) -> str:
    """Where host keys and the tokens of launches lie."""
    return f"machines/{identity}.json"


def ledger(identity: str, host: str, playbook: str) -> str:
    """Where the ledger of a host lies."""
    return f"{ledgers(identity)}{host}/{playbook}.json"


def ledgers(identity: str) -> str:
    """How the keys of an environment's ledgers begin."""
    return f"ledgers/{identity}/"


def history(identity: str) -> str:
    """Where an environment's releases lie."""
    return f"history/{identity}.json"


# --- all environments' ----------------------------------------------------------------------------


def commit_run(commit: str) -> str:
    """Where the record of a commit's run lies."""
    return f"runs/{commit}.json"


def record(zone: Zone, kind: RecordKind, name: str) -> str:
    """Where it is written which content an input gave."""
    return f"{zone}/{kind}/{name}.json"


def blob(zone: Zone, kind: BlobKind, digest: str) -> str:
    """Where content lies."""
    return f"{blobs(zone, kind, digest)}{ARCHIVE}"


def blobs(zone: Zone, kind: BlobKind, beginning: str = "") -> str:
    """How the keys of contents begin whose digests begin so; those of records and of what lies beside them, too."""
    return f"{zone}/{kind}/{beginning}"


def beside(key: str, telling: str) -> str:
    """Where what is told of a tarball lies, from its own key: `manifest.json`, `sbom.json`, `minisig`."""
    return f"{key.removesuffix(ARCHIVE)}.{telling}"


# --- and back -------------------------------------------------------------------------------------

_RECORDS, _BLOBS, _ZONES = ("|".join(get_args(each)) for each in (RecordKind, BlobKind, Zone))
_PATTERNS: dict[Kind, str] = {
    # a layer of a profile may be called anything, with a `/` as well
    "state": r"state/(?P<identity>[^/]+)/(?P<name>.+)\.json",
    "lease": r"leases/(?P<identity>[^/]+)\.json",
    "machines": r"machines/(?P<identity>[^/]+)\.json",
    "ledger": r"ledgers/(?P<identity>[^/]+)/(?P<host>[^/]+)/(?P<name>[^/]+)\.json",
    "history": r"history/(?P<identity>[^/]+)\.json",
    "current run": re.escape(CURRENT_RUN),
    "run": r"runs/(?P<name>[^/.]+)\.json",
    "sightings": re.escape(SIGHTINGS),
    "record": rf"(?P<zone>{_ZONES})/(?P<folder>{_RECORDS})/(?P<name>[^/.]+)\.json",
    "blob": rf"(?P<zone>{_ZONES})/(?P<folder>{_BLOBS})/(?P<name>[^/.]+){re.escape(ARCHIVE)}",
    # whatever a newer pipeline tells of a tarball goes with it
    "beside": rf"(?P<zone>{_ZONES})/(?P<folder>tarballs)/(?P<name>[^/.]+)\.(?P<telling>[^/]+)",
}


def parse(key: str) -> Key | None:
    """What a key was made of; None for one that nobody here makes."""
    for kind, pattern in _PATTERNS.items():
        if found := re.fullmatch(pattern, key):
            parts: dict[str, Any] = found.groupdict()
            if kind == "state":
                parts["name"] = parts["name"].replace(".", ":")
            return Key(kind=kind, **parts)
    return None
