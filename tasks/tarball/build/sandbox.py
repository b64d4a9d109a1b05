"""sandbox: what a layer's commands may see, reach and change, and whether this machine can hold them to it."""

from __future__ import annotations

import functools
import marshal
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks import environ
from tasks.process import children

USER = 65533
"""The user and group of a build's commands. Debian reserves the number, so that no file and no program of the machine is theirs."""
TREE, HOME, CACHES, TEMPORARY = "/build", "/home/build", "/caches", "/tmp"  # noqa: S108  it is the build's own
"""Where a command finds its tree, its home, its caches and room for files: the same on every machine."""
FOLDERS = ("made", "work", "tree", "home", "temporary", "root")
"""What the folder of a sandbox has; `root` is where the program mounts."""
USED = "used"
"""The file in which the program tells what a command has taken."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc")
"""What of the machine a command sees: programs, and how they are set up. What only root may read there stays so."""
BESIDE = ("lib", "lib64", "libexec", "pyvenv.cfg")
"""What programs of a folder `bin` need of the folder above it."""
ACCOUNTS = {
    "passwd": f"root:x:0:0::/:/bin/false\nbuild:x:{USER}:{USER}::{HOME}:/bin/sh\n",
    "group": f"root:x:0:\nbuild:x:{USER}:\n",
}
PROGRAM = [sys.executable, "-IS", str(Path(__file__).with_name("namespaces.py"))]
"""Reads a request and runs its command; with none of the caller's or the checkout's modules."""


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """How commands are kept apart on this machine.

    `as_root`: we are root, and they become another user; else they keep the caller's number, in a user namespace.
    `overlays`: their tree can be mounted; else it is a copy.
    """

    as_root: bool
    overlays: bool

    def own(self, *folders: Path, below: bool = True) -> None:
        """Give folders to the commands' user, with all that is in them or without."""
        if self.as_root:
            children.run(["chown", "-Rh" if below else "-h", f"{USER}:{USER}", *map(str, folders)])


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What commands may reach beside their tree. `private`: folders of which they see nothing, unless PATH names something in them."""

    network: bool
    caches: Path | None
    private: tuple[Path, ...]


def request(
    sandbox: Sandbox,
    folder: Path,
    reach: Allowed,
    command: Sequence[str],
    *,
    overlay: str,
    environment: Mapping[str, str],
    shuffled: bool = False,
) -> bytes:
    """What the program is asked. `overlay`: mount options of the tree, from `folder`; empty for a copied tree.

    `shuffled`: folders of the overlay list what they have in another order each time.
    """
    for name, text in ACCOUNTS.items():
        (folder / name).write_text(text)
    private = [*dict.fromkeys(each.resolve() for each in reach.private)]
    writable = {"home": HOME, "temporary": TEMPORARY}
    writable |= {} if overlay else {"tree": TREE}
    writable |= {str(reach.caches): CACHES} if reach.caches else {}
    return marshal.dumps(
        {
            "as_root": sandbox.as_root,
            "user": USER,
            "network": reach.network,
            "folder": str(folder),
            "tree": TREE,
            "overlay": overlay,
            "shuffled": shuffled,
            # in this order: a program's folder may lie below one that may be written
            "mounts": [
                *((*each, False) for each in _system(folder, private)),
                *((*each, True) for each in writable.items()),
                *((os.path.realpath(each), each, False) for each in _named(reach, environment, private)),
            ],
            "environment": {**environment, "HOME": HOME},
            "command": list(command),
        }
    )


def _system(folder: Path, private: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """What the command sees of the machine, and where; without a source it is hidden."""
    for each in SYSTEM:
        if Path(each).exists():
            yield each, each
    for name in ACCOUNTS:
        yield str(folder / name), f"/etc/{name}"
    for hidden in private:
        if hidden.is_dir() and _below(hidden, SYSTEM):
            yield "", str(hidden)


def _named(reach: Allowed, environment: Mapping[str, str], private: Sequence[Path]) -> Iterator[str]:
    """What the command sees besides, because a variable names it."""
    yield from _programs(environment.get("PATH", ""), private)
    if reach.network:
        yield from _trust(environment)


def _programs(path: str, private: Sequence[Path]) -> Iterator[str]:
    """Folders of PATH that are not the system's, and what their programs need. None that something private is in."""
    for entry in dict.fromkeys(
        [*path.split(os.pathsep), f"{sys.base_prefix}/bin"]
    ):  # a venv's Python is a link
        folder, real = Path(entry), Path(entry).resolve()
        if (
            not folder.is_absolute()
            or not folder.is_dir()
            or any(each.is_relative_to(real) for each in private)
        ):
            continue
        if _below(real, SYSTEM) and not _below(real, private):
            continue
        yield entry
        if folder.name in ("bin", "sbin"):
            yield from (str(folder.parent / each) for each in BESIDE if (folder.parent / each).exists())


def _trust(environment: Mapping[str, str]) -> Iterator[str]:
    """Who resolves names, and which authorities are believed, where that is not the system's."""
    named = [environment.get(each) for each in ("SSL_CERT_FILE", "SSL_CERT_DIR")]
    for each in dict.fromkeys([*filter(None, named), os.path.realpath("/etc/resolv.conf")]):
        if Path(each).exists() and not _below(Path(each), SYSTEM):
            yield each


def _below(path: Path, folders: Sequence[str | Path]) -> bool:
    return any(path.is_relative_to(each) for each in folders)


def of(folder: Path) -> Sandbox | None:
    """How commands can be kept apart in that folder; None where this machine does not let us make the namespaces."""
    return _found(folder.parent)


@functools.cache
def _found(folder: Path) -> Sandbox | None:
    for as_root in (True, False) if os.geteuid() == 0 else (False,):
        for overlays in (True, False):
            tried = Sandbox(as_root=as_root, overlays=overlays)
            if _holds(tried, folder):
                return tried
    return None


def can(sandbox: Sandbox, folder: Path, *, before: Sequence[str] = (), shuffled: bool = False) -> bool:
    """Whether commands run there with these words in front of them, and in folders whose order is shuffled."""
    if shuffled and not (sandbox.as_root and sandbox.overlays):
        return False
    return _holds(sandbox, folder, before=before, shuffled=shuffled)


def _holds(sandbox: Sandbox, folder: Path, *, before: Sequence[str] = (), shuffled: bool = False) -> bool:
    """Try it: what the kernel, a container or a security module forbids is known no other way."""
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        for name in (*FOLDERS, "lower"):
            (Path(own) / name).mkdir()
        if before:
            sandbox.own(Path(own) / "temporary")
        asked = request(
            sandbox,
            Path(own),
            Allowed(network=False, caches=None, private=()),
            [*before, "true"],
            overlay="lowerdir=lower,upperdir=made,workdir=work" if sandbox.overlays else "",
            environment={"PATH": os.environ.get("PATH", "")},
            shuffled=shuffled,
        )
        try:
            children.run(PROGRAM, env=environ.FIXED, stdin=asked)
        except children.CommandFailed:
            return False
        return True
