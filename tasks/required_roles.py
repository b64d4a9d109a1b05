"""required_roles: roles of others: fetched by `build/ci/run roles`, held to a digest, and kept below it in `.run/roles`.

The digest in requirements.yml stands for a role's files: nothing of another tarball is unpacked, and files that were
changed since are refused.
"""

from __future__ import annotations

import json
import posixpath
import shutil
import sys
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tasks import environ
from tasks.digest import Digest
from tasks.process import bounds, children
from tasks.process.children import CommandFailed
from tasks.refusal import Refusal
from tasks.settings import REQUIREMENTS, RequiredRole, required_roles, role_names

if TYPE_CHECKING:
    import tarfile

FOLDER = ".run/roles"
CONTENT = "content"
"""The file beside a role with the digest of its files."""
LARGEST, UNPACKED, MOST = 32 << 20, 256 << 20, 10_000
"""Bytes of a tarball, bytes of what is in it, and how many files that may be."""
ANSWER = 30.0
"""Seconds that a server may fall silent."""


class RoleNotFetched(Refusal):
    """A role of others is not on this machine, or its files were changed since it was fetched."""

    sentence = "requirements.yml: the role {name} {version} {problem}"
    remedy = "build/ci/run roles"
    any_environment = True


class RoleUnavailable(Refusal):
    """Nobody gives the tarball of a role: the server does not answer, or has no such version."""

    sentence = "roles: {name} {version}: {url}: {problem}"
    remedy = "$EDITOR requirements.yml && build/ci/run roles"


class RoleTarballRefused(Refusal):
    """A role's tarball is not the one that requirements.yml means, or nothing that may be unpacked: nothing of it was."""

    sentence = "roles: {name} {version}: {url}: {problem}"
    remedy = "$EDITOR requirements.yml"


# --- where they are -------------------------------------------------------------------------------


def path(root: Path, role: RequiredRole) -> Path:
    """The folder of a role of others, fetched or not. It is called as the role is, as Ansible finds it by that."""
    return root / FOLDER / role.sha256 / role.name


def folder(root: Path, name: str) -> Path:
    """The folder of a role: one of others, or one in roles/."""
    required = required_roles(root)
    return path(root, required[name]) if name in required else root / "roles" / name


def search_path(root: Path) -> list[Path]:
    """The folders in which Ansible looks for roles."""
    return [root / "roles", *(path(root, each).parent for each in required_roles(root).values())]


def accept(root: Path) -> dict[str, str]:
    """The roles of others by name, each with its version and digest. Raises RoleNotFetched for one that is not here as it was fetched."""
    for each in required_roles(root).values():
        if problem := _problem(root, each):
            raise RoleNotFetched(name=each.name, version=each.version, problem=problem)
    return {each.name: f"{each.version} {each.sha256}" for each in required_roles(root).values()}


def _problem(root: Path, role: RequiredRole) -> str:
    here = path(root, role)
    if not here.is_dir():
        return "is not fetched here"
    known = here.with_name(CONTENT)
    return (
        ""
        if known.exists() and known.read_text() == _content(here)
        else "was changed here after it was fetched"
    )


def _content(folder: Path) -> Digest:
    """The digest of all files of a folder, with their names."""
    found = sorted(each for each in folder.rglob("*") if each.is_symlink() or each.is_file())
    return Digest.of_value(
        {
            str(each.relative_to(folder)): str(each.readlink())
            if each.is_symlink()
            else Digest.of_bytes(each.read_bytes())
            for each in found
        }
    )


# --- how they get there ---------------------------------------------------------------------------


def fetch(root: Path) -> Iterator[str]:
    """Fetch the roles that are not here yet, and remove those that nothing requires any more; a line for each.

    Raises RoleUnavailable or RoleTarballRefused.
    """
    store = root / FOLDER
    store.mkdir(parents=True, exist_ok=True)
    required = required_roles(root)
    for each in required.values():
        if not _problem(root, each):
            yield f"{each.name} {each.version}  unchanged"
            continue
        # beside the others, so that it is renamed whole; a killed run's is removed below
        with tempfile.TemporaryDirectory(dir=store, prefix="new-") as scratch:
            _unpack(root, each, _downloaded(each, Path(scratch)))
            shutil.rmtree(path(root, each).parent, ignore_errors=True)
            (Path(scratch) / "made").rename(path(root, each).parent)
        yield f"{each.name} {each.version}  fetched"
    for old in store.iterdir():
        if old.name not in {each.sha256 for each in required.values()}:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()


def _downloaded(role: RequiredRole, scratch: Path) -> Path:
    """The tarball, once its digest is the one of requirements.yml. Raises RoleUnavailable or RoleTarballRefused."""
    import http.client  # as below
    import urllib.error
    import urllib.request  # 30 ms to import, and every stage imports this module

    about = {"name": role.name, "version": role.version, "url": role.url}
    try:
        with urllib.request.urlopen(role.url, timeout=ANSWER) as answer:  # noqa: S310 (the form of `src` is an address of HTTP)
            content = answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        raise RoleUnavailable(problem=f"answers {error.code}", **about) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise RoleUnavailable(problem=f"does not answer: {reason or type(error).__name__}", **about) from None
    if len(content) > LARGEST:
        raise RoleTarballRefused(problem=f"has more than {LARGEST >> 20} MiB", **about)
    if (digest := Digest.of_bytes(content)) != role.sha256:
        raise RoleTarballRefused(problem=f"has the SHA-256 {digest}, not {role.sha256}", **about)
    made = scratch / "role.tar.gz"
    made.write_bytes(content)
    return made


def _unpack(root: Path, role: RequiredRole, tarball: Path) -> None:
    """Let ansible-galaxy unpack a tarball that is what it should be. Raises RoleTarballRefused."""
    about = {"name": role.name, "version": role.version, "url": role.url}
    made = tarball.with_name("made")
    if problem := _unfit(tarball):
        raise RoleTarballRefused(problem=problem, **about)
    listed = tarball.with_name(REQUIREMENTS)
    listed.write_text(json.dumps({"roles": [{"name": role.name, "src": str(tarball)}]}))
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    (tarball.with_name("ansible.cfg")).touch()
    own = {
        "ANSIBLE_CONFIG": str(tarball.with_name("ansible.cfg")),
        "ANSIBLE_HOME": str(tarball.with_name("home")),
    }
    try:
        children.run(
            [
                sys.executable,
                str(galaxy),
                "role",
                "install",
                "--no-deps",
                "--roles-path",
                str(made),
                "--role-file",
                str(listed),
            ],
            env={**environ.of(), **own},
            seconds=bounds.ANSWER,
        )
    except CommandFailed as failed:
        said = str(failed.facts["tail"]).strip().splitlines()
        raise RoleTarballRefused(
            problem=f"is no role: {said[0].strip(' |') if said else 'ansible-galaxy fails'}", **about
        ) from None
    here = made / role.name
    (here / "meta" / ".galaxy_install_info").unlink(missing_ok=True)  # it has the time
    try:
        needs = _needed(here)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RoleTarballRefused(problem=f"has a meta that is not read: {error}", **about) from None
    if missing := sorted(needs - {*required_roles(root), *role_names(root)}):
        needed = (
            "a role that requirements.yml does not have"
            if len(missing) == 1
            else "roles that requirements.yml does not have"
        )
        raise RoleTarballRefused(problem=f"needs {', '.join(missing)}, {needed}", **about)
    (made / CONTENT).write_text(_content(here))


def _unfit(tarball: Path) -> str:
    """Why nothing of a tarball may be unpacked; empty if it may."""
    import tarfile  # as above
    import zlib

    try:
        with tarfile.open(tarball) as opened:
            members = opened.getmembers()
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError):
        return "is no tarball"
    if len(members) > MOST or sum(each.size for each in members) > UNPACKED:
        return f"has more than {MOST} files, or more than {UNPACKED >> 20} MiB of them"
    links = {posixpath.normpath(each.name) for each in members if each.issym()}
    if bad := next((each.name for each in members if _escapes(each, links)), ""):
        return f"{bad} would lie outside of the role's folder, or is neither file, folder nor link"
    return ""


def _escapes(member: tarfile.TarInfo, links: Set[str]) -> bool:
    """Whether a member of a tarball is, or leads, outside of the folder in which it is unpacked, or is a device.

    What goes through a link may be anywhere, so that counts as outside too. `links`: those of the tarball.
    """
    paths = [member.name]
    if member.issym():
        paths.append(posixpath.join(posixpath.dirname(member.name), member.linkname))
    elif member.islnk():
        paths.append(member.linkname)
    outside = any(_leaves(each, links) for each in paths)
    return outside or not (member.isreg() or member.isdir() or member.issym() or member.islnk())


def _leaves(path: str, links: Set[str]) -> bool:
    """Whether a path leaves the folder it starts from, at its end or on the way, or goes through a link."""
    parts = path.split("/")
    steps = [posixpath.normpath("/".join(parts[: number + 1])) for number in range(len(parts))]
    return (
        path.startswith("/")
        or any(f"{each}/".startswith("../") for each in steps)
        or any(each in links for each in steps[:-1])
    )


def _needed(role: Path) -> set[str]:
    """The roles that a role says it depends on."""
    found = set[str]()
    for file in (role / "meta").glob("main.y*ml"):
        said = yaml.safe_load(file.read_text())
        for each in (said or {}).get("dependencies") or () if isinstance(said, dict) else ():
            found.add(
                str(each.get("role") or each.get("name") or each.get("src"))
                if isinstance(each, dict)
                else str(each)
            )
    return found


def main() -> int:
    """`build/ci/run roles`; the exit code."""
    try:
        for line in fetch(Path.cwd()):
            sys.stdout.write(f"roles  {line}\n")
    except Refusal as refusal:
        sys.stderr.write(f"{refusal.text}\n")
        return refusal.exit_code
    except OSError as error:  # a read-only checkout, a full disk
        sys.stderr.write(f"roles: {error}\n    ls -ld {FOLDER}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
