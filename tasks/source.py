"""source: asks git for the branch, the commit, and what `git add -A` would commit. The only door to git."""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import posixpath
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from tasks import ci, remote
from tasks import environ as variables
from tasks.clock import stamp
from tasks.forms import is_text
from tasks.process import bounds, children
from tasks.process.children import ChildSilent
from tasks.refusal import UNKNOWN, Refusal
from tasks.version import Commit, Version

HEADS, ORIGIN = "refs/heads/", "refs/remotes/origin/"
"""Where a clone keeps its branches, and those of the remote `origin`. A name alone may be a tag's."""

SHOWN = 5
"""Files with conflicts that are named."""

NOTHING = "0" * 40
"""The id of no object."""

SNAPSHOT = threading.Lock()
"""Two stages may ask for the first snapshot at once."""

OURS = (
    *("-c", "core.hooksPath=/dev/null"),  # `git add` runs the hook post-index-change
    *("-c", "core.fsmonitor=false"),  # a program that tells git which files have changed
    *("-c", "core.splitIndex=false"),  # would write into the repository
    *("-c", "add.ignoreErrors=false"),  # would leave out what cannot be read
)
"""Options that take from the user's configuration what must not decide here."""

VARIABLES = {
    "GIT_NO_REPLACE_OBJECTS": "1",  # a commit has the content that its id names
    "GIT_TERMINAL_PROMPT": "0",
}
LINK, SUBMODULE, EXECUTABLE, FOLDER = "120000", "160000", "100755", "040000"
"""Modes of files, as git writes them."""

LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\n")
LFS_LARGEST = 1024
"""Git LFS: no pointer has more bytes."""


class NoRepository(Refusal):
    """The pipeline is called outside of a git repository."""

    sentence = "git: {path} is not in a git repository, so there is nothing to release"
    remedy = "git init && git add -A && git commit -m 'first'"


class NoCommit(Refusal):
    """The repository has no commit yet, or the named one does not exist."""

    sentence = "git: there is no commit {name} here"
    remedy = "git add -A && git commit"


class NoBranch(Refusal):
    """HEAD is detached, and no CI variable names a branch: a tag is none."""

    sentence = "git: HEAD is detached and no CI variable names the branch"
    remedy = "doit branch=NAME {task}"
    exit_code = UNKNOWN


class NoFolder(Refusal):
    """A folder that the settings name does not exist, or lies outside of the repository."""

    sentence = "git: {path} is no folder of this repository"
    remedy = "$EDITOR pipeline.yml"
    exit_code = UNKNOWN


class GitRefused(Refusal):
    """git itself fails: a checkout of another user, a broken index, a full disk."""

    sentence = "git: {problem}"
    remedy = "git status"


class GitMissing(Refusal):
    """The program git is not installed."""

    sentence = "git: is not installed"
    remedy = "rm -f .run/installed-* && build/ci/run list"


class ForeignCheckout(Refusal):
    """The checkout belongs to another user, as in a CI container; git trusts it only if `safe.directory` names it."""

    sentence = "git: {path} belongs to another user"
    remedy = "git config --global --add safe.directory {path}"


class SubmoduleMissing(Refusal):
    """A submodule of the application is not checked out, so that its folder is empty."""

    sentence = "git: {path} is a submodule that is not checked out"
    remedy = "git submodule update --init --recursive"


class NestedClone(Refusal):
    """A folder of the application is a git repository of its own, which no other clone can get."""

    sentence = "git: {path} is a git repository of its own, and no .gitmodules says where it comes from"
    remedy = "git rm -q --cached --ignore-unmatch '{path}' && git submodule add URL '{path}'"


class LargeFileMissing(Refusal):
    """The clone has only a pointer of Git LFS in the place of a file of the application."""

    sentence = "git: {path} is a pointer of Git LFS, and the file itself is not here"
    remedy = "git lfs pull"


class UnmergedFiles(Refusal):
    """A merge, a rebase or a stash has left conflicts: the files have both sides and git's marks."""

    sentence = "git: {files} {verb} conflicts that are not resolved"
    remedy = "git status"


class NameNotText(Refusal):
    """A file's name is not UTF-8, so it cannot be told to hosts and records as it is."""

    sentence = "git: {path}: the name is not UTF-8"
    remedy = "git mv"


class BranchWrong(Refusal):
    """A branch's name is one that git does not allow, or not UTF-8, so that nothing can be named after it."""

    sentence = "git: {branch}: no branch can be called that"
    remedy = "git branch --list"
    exit_code = UNKNOWN


class UncommittedChanges(Refusal):
    """Only environments with `uncommitted: allowed` take uncommitted changes."""

    sentence = "{stage}: {environment} takes committed files only, these differ: {files}"
    remedy = "git commit"


class BranchesUnknown(Refusal):
    """The remote does not list its branches, so what is orphaned is unknown: an empty list must not delete everything."""

    sentence = "sweep: the remote origin does not list its branches ({problem})"
    remedy = "git ls-remote --heads origin"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """`top`: the folder of its working tree. `own`: where its index is; `common`: where its objects are."""

    top: Path
    own: Path
    common: Path

    @property
    def objects(self) -> str:
        """The folder of its objects, as GIT_ALTERNATE_OBJECT_DIRECTORIES lists it: quoted, as a colon ends a path."""
        return '"{}"'.format(str(self.common / "objects").replace("\\", "\\\\").replace('"', '\\"'))


def _git(folder: Path, *words: str, **how: Any) -> str:
    """What git prints; `how`: see `_asked`. Raises GitRefused, ForeignCheckout, NoRepository or GitMissing."""
    code, printed, said = _asked(folder, *words, **how)
    if code:
        raise _refusal(folder, words[0], code, said)
    return printed


def _try(folder: Path, *words: str) -> str | None:
    """What git prints, None where it fails without a word, as `--quiet` makes it. Raises what `_git` raises."""
    code, printed, said = _asked(folder, *words)
    if code and said.strip():
        raise _refusal(folder, words[0], code, said)
    return None if code else printed


def _asked(
    folder: Path,
    *words: str,
    child: str = "here",
    more: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    seconds: float = bounds.GIT,
) -> tuple[int, str, str]:
    """Exit code, output and complaints of git. Raises NoRepository, GitMissing, or GitRefused where it falls silent."""
    try:
        from git import Git  # 100 ms to import, and `doit list` does without
    except ImportError:  # it looks for the program when it is imported
        raise GitMissing from None
    if not folder.is_dir():  # GitPython would ask in the working directory
        raise NoRepository(path=folder.name)
    given = {**variables.of(child), **VARIABLES, **(more or {})}
    # GitPython hands on every variable of the caller's, and sets one of its own
    others = [f"--unset={name}" for name in {*os.environ, "LANGUAGE"} - given.keys()]
    started = Git(folder).execute(
        ["env", *others, "git", *OURS, *words],
        env=given,
        istream=cast("BinaryIO | None", stdin),
        as_process=True,
        start_new_session=True,
    )
    try:
        code, printed, said = children.answer(
            cast("subprocess.Popen[bytes]", started.proc), ["git", words[0]], seconds=seconds
        )
    except ChildSilent as silent:
        raise _too_slow(words[0], silent) from None
    return code, _text(printed).removesuffix("\n"), _text(said)


def _too_slow(command: str, silent: ChildSilent) -> GitRefused:
    return GitRefused(problem=f"git {command} did not end within {silent.facts['seconds']} s and was ended")


def _refusal(folder: Path, command: str, code: int, said: str) -> Refusal:
    lines = [line.strip() for line in said.splitlines()]
    told = [line for line in lines if line.startswith(("error: ", "fatal: "))]
    problem = "; ".join(line.partition(": ")[2] for line in told) or f"git {command}: exit code {code}"
    if "dubious ownership" in problem:
        named = re.search(r"repository at '(.+?)'", problem)
        return ForeignCheckout(path=named[1] if named else folder)
    if "not a git repository" in problem:
        return NoRepository(path=folder.name)
    return GitRefused(problem=problem)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _text(printed: bytes) -> str:
    """A text of git's: names of files are bytes."""
    return printed.decode("utf-8", "surrogateescape")


@functools.cache
def repository(root: Path) -> Repository:
    """The repository that `root` is the top or a folder of. Raises NoRepository."""
    asked = ("--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir")
    top, own, common = _git(root, "rev-parse", *asked).splitlines()
    return Repository(top=Path(top), own=Path(own), common=Path(common))


def prefix(root: Path) -> str:
    """The path of `root` from the top of its repository: `deploy`, or `.` at the top."""
    return root.resolve().relative_to(repository(root).top.resolve()).as_posix()


def _from(root: Path, paths: Iterable[str]) -> list[str]:
    """Paths from the top of the repository, as paths from `root`."""
    folder = prefix(root)
    # anchored: `relpath` looks at the working directory otherwise
    return [each if folder == "." else posixpath.relpath(f"/{each}", f"/{folder}") for each in paths]


def branch(root: Path, environ: Mapping[str, str]) -> str:
    """The checked-out branch; on a detached HEAD the one that the CI names. Raises NoBranch."""
    named = _checked_out(root) or ci.branch(environ)
    if not named:
        raise NoBranch(task="release")
    return named


def _checked_out(root: Path) -> str | None:
    """The checked-out branch; None where HEAD is detached or refers to something else, such as a tag."""
    head = _try(repository(root).top, "symbolic-ref", "--quiet", "HEAD")
    return head.removeprefix(HEADS) if head and head.startswith(HEADS) else None


def remote_branches(root: Path, default: str, *, seconds: float = bounds.REMOTE) -> dict[str, Commit]:
    """The branches that the remote has now, with their commits; never the clone's own. Raises BranchesUnknown."""
    try:
        found = _ls_remote(root, seconds)
    except GitRefused as refusal:
        raise BranchesUnknown(problem=refusal.facts["problem"]) from None
    if default not in found:  # an empty list, or another repository
        raise BranchesUnknown(problem=f"{len(found)} branches, and none is {default}")
    return found


def _ls_remote(root: Path, seconds: float) -> dict[str, Commit]:
    lines = _git(root, "ls-remote", "--heads", "origin", child="remote", seconds=seconds).splitlines()
    return {ref.removeprefix(HEADS): Commit(commit) for commit, ref in map(str.split, lines)}


def origin(root: Path) -> str:
    """The address of the remote `origin`, whose branches a sweep asks for; empty if there is none, or it is unknown."""
    return _origin(root)[0]


def pushed(root: Path, branch: str) -> bool:
    """Whether the clone has seen the branch on the remote `origin`: there it ends when the branch ends."""
    here = f"{ORIGIN}{branch}"
    if here not in _refs(root, here):
        return False
    fetched, *pushed_to = _origin(root)
    # git notes as the remote's what it has pushed to another address, and what it fetches that is no branch
    return set(pushed_to) == {fetched} and not _fetched_as(root, here) - {f"{HEADS}{branch}"}


def _origin(root: Path) -> list[str]:
    """The addresses from which `origin` is fetched, and to which it is pushed, as git rewrites them (`insteadOf`)."""
    listed = [line.partition("\t") for line in _git(root, "remote", "--verbose").splitlines()]
    told = [re.match(r"(.*) \((fetch|push)\)", about) for name, _, about in listed if name == "origin"]
    found = [(each[2], remote.address(each[1], repository(root).top)) for each in told if each]
    fetched = [address for way, address in found if way == "fetch"][:1] or [""]
    return fetched + [address for way, address in found if way == "push"]


def _fetched_as(root: Path, here: str) -> set[str]:
    """The remote's refs that the clone keeps as `here`, by what it is told to fetch."""
    told = _try(root, "config", "--get-all", "remote.origin.fetch") or ""
    found = set()
    for line in told.splitlines():
        there, _, kept = line.removeprefix("+").partition(":")
        begin, star, end = kept.partition("*")
        if kept and (here == kept if not star else here.startswith(begin) and here.endswith(end)):
            found.add(there.replace("*", here.removeprefix(begin).removesuffix(end)))
    return found


def _refs(root: Path, *names: str) -> dict[str, Commit]:
    """The commits of those of the refs that there are. git itself would also list what lies below a name."""
    lines = _git(root, "for-each-ref", "--format=%(objectname) %(refname)", *names).splitlines()
    found = {name: Commit(id) for id, _, name in (line.partition(" ") for line in lines)}
    return {name: id for name, id in found.items() if name in names}


def commit(root: Path) -> Commit:
    """The full id of the checked-out commit. Raises NoCommit."""
    found = revision(root, "HEAD")
    if not found:
        raise NoCommit(name="HEAD")
    return found


def revision(root: Path, name: str) -> Commit | None:
    """The full id of the commit that a name stands for, None where it is none."""
    found = _try(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return Commit(found) if found else None


def uncommitted(root: Path) -> list[str]:
    """Paths in which this run's snapshot differs from the checked-out commit, in the whole repository."""
    return snapshot(root).uncommitted


def named(root: Path, name: str) -> list[str]:
    """The files of that name in the whole repository, by their paths from its top."""
    asked = ("--cached", "--others", "--exclude-standard", "-z", "--", f":(top,glob)**/{name}")
    return [each for each in _git(repository(root).top, "ls-files", *asked).split("\0") if each]


def unmerged(root: Path) -> list[str]:
    """Files with conflicts, in the whole repository."""
    lines = _git(root, "ls-files", "--unmerged", "--full-name", "-z", ":/").split("\0")
    return _from(root, dict.fromkeys(line.partition("\t")[2] for line in lines if line))


def changed(root: Path) -> list[str]:
    """Paths that differ from the checked-out commit now, new files and conflicts among them: no snapshot is taken."""
    listed = (
        _git(root, "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "HEAD"),
        _git(root, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", ":/"),
    )
    return _from(root, [each for part in listed for each in part.split("\0") if each])


def changed_since(root: Path, name: str) -> list[str]:
    """Paths that the commits after the last one that wrote a file have changed."""
    wrote = _git(root, "log", "-1", "--no-show-signature", "--format=%H", "--", str(root / name))
    return touched(root, wrote, "HEAD")


def restore(root: Path, paths: Sequence[str]) -> None:
    """Bring files back as they are committed."""
    if paths:
        _git(root, "checkout", "HEAD", "--", *(str(root / each) for each in paths))


def ignored(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Which paths, from `root`, git ignores, and by which file and line."""
    said = _try(root, "check-ignore", "--no-index", "--verbose", "--", *paths) or ""
    found = (line.split("\t") for line in said.splitlines())
    return {path: where for where, path in found if not where.split(":", 2)[2].startswith("!")}


def default_branch(root: Path) -> str:
    """The branch that a remote calls its default, or main or master, or the one that is checked out."""
    told = _git(root, "for-each-ref", "--format=%(symref:lstrip=3)", "refs/remotes/origin/HEAD")
    names = _git(root, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").splitlines()
    return told or next((each for each in ("main", "master") if each in names), branch(root, os.environ))


def clone(root: Path, folder: Path) -> None:
    """Clone the checked-out commit into a folder."""
    _git(root, "clone", "--quiet", root.resolve().as_uri(), str(folder))


def address(root: Path) -> str:
    """Where others find this commit: the remote `origin`, without a password; this folder if the remote lacks it."""
    url = _try(root, "config", "--get", "remote.origin.url")
    if not url or not _git(root, "branch", "--remotes", "--contains", "HEAD"):
        return str(root)
    return f"git+{re.sub(r'(?<=://)[^/@]+@(?=.+)', '', url)}"


def on_branch(root: Path, branch: str, environ: Mapping[str, str]) -> bool | None:
    """Whether the checked-out commit is on the branch; None if neither the clone nor the CI knows.

    It is if the branch is checked out. A detached commit must be in the branch's history, or the CI must say that it is the
    branch's. A pull request's checkout may have the branch's name: only the history counts.
    """
    request, checked_out = ci.of_request(environ), _checked_out(root)
    if checked_out and not request:
        return checked_out == branch
    here = commit(root)
    if ci.states(environ, branch, here):
        return True
    known = _refs(root, f"{ORIGIN}{branch}", *([] if request else [f"{HEADS}{branch}"]))
    found = {contains(root, each, here) for each in known.values()}
    return True if True in found else None if None in found or not found else False


def contains(root: Path, new: str, old: str) -> bool | None:
    """Whether `old` is in the history of `new`; None where the clone does not have both, or not all between them."""
    known = [revision(root, each) for each in (old, new)]
    if None in known:
        return None
    if _try(root, "merge-base", *map(str, known)) == known[0]:
        return True
    return None if _git(root, "rev-parse", "--is-shallow-repository") == "true" else False


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why something goes live: the commit's author, the first line of its message, and when it was made (UTC)."""

    author: str = ""
    subject: str = ""
    committed: str = ""


def reason(root: Path, commit: Commit) -> Reason:
    """What a commit of the clone says of itself."""
    asked = (
        "--no-walk",
        "--no-show-signature",
        "--encoding=UTF-8",
        "--no-color",
        "--format=%an%x00%ct%x00%s",
    )
    author, seconds, subject = _git(root, "log", *asked, commit).split("\0")
    at = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return Reason(author=author, subject=subject.strip(), committed=stamp(at))


def commits(root: Path, old: str | None, new: str) -> list[str]:
    """The commits of `new` that `old` does not have, newest first: short id, author, subject."""
    span = f"{old}..{new}" if old else new
    # whatever the user's configuration says of git log
    asked = ("--no-show-signature", "--encoding=UTF-8", "--no-color", "--format=%h  %an  %s")
    # a subject may hold characters at which `splitlines` would begin another commit
    return [each for each in _git(root, "log", *asked, span).split("\n") if each]


def touched(root: Path, old: str, new: str) -> list[str]:
    """Paths that differ between two commits."""
    return _from(root, _differing(root, old, new))


def _differing(root: Path, old: str, new: str, more: Mapping[str, str] | None = None) -> list[str]:
    """Paths that differ between two trees or commits. A plumbing command: the user's configuration changes no answer."""
    asked = ("-r", "-z", "--name-only", "--no-renames", "--ignore-submodules=none")
    names = _git(root, "diff-tree", *asked, old, new, more=more)
    return [each for each in names.split("\0") if each]


def within(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders, or lies in one."""
    return any(path == each or path.startswith(f"{each}/") for each in folders)


def _submodules(repo: Repository) -> list[str]:
    """The paths for which .gitmodules says where they come from."""
    if not (repo.top / ".gitmodules").exists():
        return []
    asked = ("config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$")
    return [each.partition("\n")[2] for each in (_try(repo.top, *asked) or "").split("\0") if each]


class Snapshot:
    """The working tree as one git tree: what `git add -A` would commit now, with the content of submodules.

    It uses a copy of the index, and a folder of its own for new objects: the repository is not changed. In a clean
    tree every id is that of `HEAD:path`, in a shallow clone too. It is taken once: a file or commit that is changed
    or made later in the run does not count. It is of the whole repository; paths are given from `root`, which may be
    a folder of it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.repository = root, repository(root)
        self.entries: dict[str, dict[str, str]] = {}
        self.listed: dict[str, dict[str, str]] = {}
        self.parts: dict[object, str] = {}
        self.texts: dict[str, str | None] = {}
        self.places: dict[str, str] = {}
        """The paths of the folders that were asked for, by their ids."""
        self.prefix = prefix(root)
        self.folder = tempfile.TemporaryDirectory(prefix="snapshot-")
        self.repositories: list[Repository] = []
        self.empty: dict[str, type[Refusal]] = {}
        """Why a submodule's content is not there, by its path from the repository's top."""
        head = commit(root)
        self.tree, changed = self._take(self.repository, head)
        self.uncommitted = _from(root, changed)
        """Paths that differ from the checked-out commit."""
        self.commit = None if changed else head
        """The commit that has exactly this tree; None where files differ from it."""
        self.version = Version.of(head, dirty=bool(changed))

    def _take(self, repo: Repository, head: str, below: str = "") -> tuple[str, list[str]]:
        """The tree of what `git add -A` would commit in a repository, and the paths in which it differs from its commit `head`."""
        self.repositories.append(repo)
        index = Path(self.folder.name) / f"index-of-{len(self.repositories)}"
        if (repo.own / "index").exists():
            shutil.copy(repo.own / "index", index)  # with its times, so that git reads changed files only
        try:
            self._refuse_unmerged(repo, index)
            self._git("add", "-A", "--", ".", top=repo.top, index=index)
        except GitRefused as refused:
            unborn = re.search(r"'(.+?)/?' does not have a commit checked out", str(refused.facts["problem"]))
            if unborn:
                raise NestedClone(path=_from(self.root, [below + unborn[1]])[0]) from None
            raise
        tree = self._git("write-tree", top=repo.top, index=index)
        changed = _differing(repo.top, head, tree, self._variables())
        links = {path: about for path, about in self._entries(tree).items() if about.startswith(SUBMODULE)}
        if links:
            known = _submodules(repo)
            for path, about in links.items():
                if path not in known:
                    self.empty[below + path] = NestedClone
                elif not os.path.lexists(repo.top / path / ".git"):
                    self.empty[below + path] = SubmoduleMissing
                elif self._fill(repo, below + path, path, about.split()[2], index) and path not in changed:
                    changed.append(path)
            tree = self._git("write-tree", top=repo.top, index=index)
        return tree, changed

    def _refuse_unmerged(self, repo: Repository, index: Path) -> None:
        """`git add -A` would take a conflict for resolved. Raises UnmergedFiles."""
        listed = self._git("ls-files", "--unmerged", "-z", top=repo.top, index=index).split("\0")
        files = sorted({line.partition("\t")[2] for line in listed if line})
        if files:
            more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
            verb = "has" if len(files) == 1 else "have"
            raise UnmergedFiles(files=", ".join(files[:SHOWN]) + more, verb=verb)

    def _fill(self, repo: Repository, whole: str, path: str, id: str, index: Path) -> bool:
        """Put a submodule's content in the place of its commit; whether the content differs from that commit's."""
        inner = repository(repo.top / path)
        head = commit(inner.top)
        content, changed = self._take(inner, head, f"{whole}/")
        with tempfile.TemporaryFile() as removed:
            removed.write(_bytes(f"0 {NOTHING}\t{path}\0"))
            removed.seek(0)
            self._git("update-index", "-z", "--index-info", stdin=removed, top=repo.top, index=index)
        self._git("read-tree", f"--prefix={path}/", content, top=repo.top, index=index)
        return bool(changed) or head != id

    def _git(
        self, *words: str, stdin: IO[bytes] | None = None, top: Path | None = None, index: Path | None = None
    ) -> str:
        more = self._variables() | ({"GIT_INDEX_FILE": str(index)} if index else {})
        return _git(top or self.repository.top, *words, stdin=stdin, more=more)

    def _variables(self) -> dict[str, str]:
        return {
            "GIT_OBJECT_DIRECTORY": self.folder.name,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(each.objects for each in self.repositories),
        }

    def ids(self, paths: Iterable[str]) -> dict[str, str | None]:
        """The git id (40 hex digits) of each path, None where there is no such path."""
        return {path: self._entry(path)[1] for path in sorted(set(paths))}

    def _entry(self, path: str) -> tuple[str, str | None]:
        """Type and git id of what is at a path; no id where there is nothing."""
        inside = self._whole(path)
        if inside == ".":
            return "tree", self.tree
        about = self._entries(self.tree).get(inside)
        if about is None or about.startswith(SUBMODULE):  # one whose content is not here
            return "", None
        _, kind, id = about.split(" ")
        return kind, id

    def _path(self, tree: str, name: str) -> str:
        """The path of a file of a folder, from `root`."""
        return posixpath.normpath(posixpath.join(self.places.get(tree, "."), name))

    def _whole(self, path: str) -> str:
        """The path from the repository's top."""
        return posixpath.normpath(posixpath.join(self.prefix, path))

    def folder_id(self, path: str, exclude: Sequence[str] = (), keep: Sequence[str] = ()) -> str:
        """The git id of a folder: the one that it has, or would have without `exclude`, but with what of that is in `keep`.

        Both are paths from the folder. Raises NoFolder.
        """
        kind, whole = self._entry(path)
        if whole is None or kind != "tree":
            raise NoFolder(path=path)
        self.places[whole] = path
        if not exclude:
            return whole
        asked = (whole, tuple(exclude), tuple(keep))
        if asked not in self.parts:
            wanted = {
                name: about
                for name, about in self._listed(whole).items()
                if within(name, keep) or not within(name, exclude)
            }
            index = Path(self.folder.name) / f"index-{len(self.parts)}"
            with tempfile.TemporaryFile() as listed:
                for name, about in wanted.items():
                    listed.write(_bytes(f"{about}\t{name}\0"))
                listed.seek(0)
                self._git("update-index", "-z", "--index-info", stdin=listed, index=index)
            self.parts[asked] = self._git("write-tree", index=index)
        self.places[self.parts[asked]] = path
        return self.parts[asked]

    def files(self, tree: str) -> dict[str, str]:
        """Mode and git id of each file of a folder, which its id names, by its path from there.

        Raises SubmoduleMissing or NestedClone.
        """
        found = self._listed(tree)
        for name, about in found.items():
            if about.startswith(SUBMODULE):
                path = self._path(tree, name)
                raise self.empty[self._whole(path)](path=path)
        return found

    def _listed(self, tree: str) -> dict[str, str]:
        if tree not in self.listed:
            path = self.places.get(tree, "")
            if self._entry(path)[1] == tree:  # it lies in the snapshot, which is listed already
                below = "" if self._whole(path) == "." else f"{self._whole(path)}/"
                entries = self._entries(self.tree)
                found = {name[len(below) :]: entries[name] for name in entries if name.startswith(below)}
            else:
                found = self._entries(tree)
            for name in found:
                if not is_text(name):
                    raise NameNotText(path=name)
            self.listed[tree] = {name: about for name, about in found.items() if not about.startswith(FOLDER)}
        return self.listed[tree]

    def _entries(self, tree: str) -> dict[str, str]:
        """Mode, type and git id of all that a tree has, folders among it, by its path from there. git is asked once."""
        if tree not in self.entries:
            lines = self._git("ls-tree", "-r", "-t", "-z", "--full-tree", tree).split("\0")
            entries = (line.partition("\t") for line in lines if line)
            self.entries[tree] = {name: about for about, _, name in entries}
        return self.entries[tree]

    def content(self, path: str) -> str | None:
        """A file's text, None where there is no such file. git is asked for it once: each call takes 5 ms."""
        if path not in self.texts:
            about = self._entries(self.tree).get(self._whole(path))
            self.texts[path] = _text(*self._blobs([about])) if about else None
        return self.texts[path]

    def export(self, tree: str, destination: Path) -> None:
        """Write the files of a folder, which its id names, into `destination`, with the modes and the bytes that git keeps.

        No filter, attribute or setting changes them: git's own commands that write files would follow all of these.
        In the place of a pointer of Git LFS stands the file that it points to. Raises SubmoduleMissing, NestedClone or LargeFileMissing.
        """
        entries = self.files(tree)
        folders: set[Path] = set()
        destination.mkdir(parents=True, exist_ok=True)
        for (name, about), content in zip(entries.items(), self._blobs(entries.values()), strict=True):
            path = destination / os.fsdecode(_bytes(name))
            if path.parent not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.add(path.parent)
            mode = about.partition(" ")[0]
            if mode == LINK:
                path.symlink_to(os.fsdecode(content))
                continue
            large = len(content) <= LFS_LARGEST and LFS.match(content)
            with path.open("wb") as file:
                if large:
                    self._write_large(large[1].decode(), self._path(tree, name), file)
                else:
                    file.write(content)
                os.fchmod(file.fileno(), 0o755 if mode == EXECUTABLE else 0o644)

    def _blobs(self, entries: Iterable[str], *, seconds: float = bounds.OBJECTS) -> Iterator[bytes]:
        """The content of each entry, in order, by one process of git."""
        with tempfile.TemporaryFile() as asked:
            asked.write("".join(f"{about.split()[2]}\n" for about in entries).encode())
            asked.seek(0)
            child = subprocess.Popen(
                ["git", *OURS, "cat-file", "--batch"],
                cwd=self.repository.top,
                # a partial clone asks its remote
                env={**variables.of("remote"), **VARIABLES, **self._variables()},
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=1 << 20,
                start_new_session=True,
            )
        try:
            with children.within(seconds, child, ["git", "cat-file"]):
                yield from _contents(cast("IO[bytes]", child.stdout))
        except ChildSilent as silent:
            raise _too_slow("cat-file", silent) from None

    def _write_large(self, oid: str, path: str, file: IO[bytes]) -> None:
        """Write the file that a pointer of Git LFS names, if the clone has it."""
        for repo in self.repositories:
            kept = repo.common / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
            if kept.exists():
                with kept.open("rb") as whole:
                    shutil.copyfileobj(whole, file, 1 << 20)
                    whole.seek(0)
                    if hashlib.file_digest(whole, "sha256").hexdigest() == oid:
                        return
        raise LargeFileMissing(path=path)


def _contents(answers: IO[bytes]) -> Iterator[bytes]:
    """The files in an answer of `git cat-file --batch`."""
    while header := answers.readline():
        id, kind, *size = header.split()
        if kind != b"blob":
            raise GitRefused(problem=f"there is no file {id.decode()} here")
        content = answers.read(int(size[0]))
        answers.read(1)
        yield content


def snapshot(root: Path) -> Snapshot:
    """The snapshot of this run."""
    with SNAPSHOT:
        return _snapshot(root)


_snapshot = functools.cache(Snapshot)
