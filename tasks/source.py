"""source: asks git for the branch, the commit, and what `git add -A` would commit. The only door to git."""

from __future__ import annotations

import functools
import os
import posixpath
import re
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tasks.refusal import UNKNOWN, Refusal
from tasks.version import Commit, Version

if TYPE_CHECKING:
    import git

CI_BRANCH = (
    "GITHUB_HEAD_REF",  # a pull request's own branch; empty elsewhere
    "GITHUB_REF_NAME",
    "CI_COMMIT_REF_NAME",  # GitLab
    "BITBUCKET_BRANCH",
)

LS_REMOTE = 60
"""Seconds that the remote has to list its branches."""

NOTHING = "0" * 40
"""The id of no object."""

SNAPSHOT = threading.Lock()
"""Two stages may ask for the first snapshot at once."""

T = TypeVar("T")
P = ParamSpec("P")


class NoRepository(Refusal):
    """The pipeline is called outside of a git repository."""

    sentence = "git: {path} is not in a git repository, so there is nothing to release"
    remedy = "git init && git add -A && git commit -m 'first'"


class NoCommit(Refusal):
    """The repository has no commit yet, or the named one does not exist."""

    sentence = "git: there is no commit {name} here"
    remedy = "git add -A && git commit"


class NoBranch(Refusal):
    """HEAD is detached, and no CI variable names the branch."""

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


class UncommittedChanges(Refusal):
    """Only environments with `uncommitted: allowed` take uncommitted changes."""

    sentence = "{stage}: {environment} takes committed files only, these differ: {files}"
    remedy = "git commit"


class BranchesUnknown(Refusal):
    """The remote does not list its branches, so what is orphaned is unknown: an empty list must not delete everything."""

    sentence = "sweep: the remote origin does not list its branches ({problem})"
    remedy = "git ls-remote --heads origin"


def refusing(ask: Callable[P, T]) -> Callable[P, T]:
    """Turn git's errors into refusals. Raises GitRefused, ForeignCheckout or GitMissing."""

    @functools.wraps(ask)
    def guarded(*args: P.args, **keywords: P.kwargs) -> T:
        try:
            import git
        except ImportError:  # GitPython looks for the program when it is imported
            raise GitMissing from None
        try:
            return ask(*args, **keywords)
        except git.GitCommandError as error:
            said = str(error.stderr).strip().strip("'").splitlines()
            problem = next((line.strip() for line in said if "fatal:" in line), str(error).strip())
            if "dubious ownership" in problem:
                named = re.search(r"repository at '(.+?)'", problem)
                raise ForeignCheckout(path=named[1] if named else Path.cwd()) from None
            raise GitRefused(problem=problem.removeprefix("stderr: '").removeprefix("fatal: ")) from None

    return guarded


@functools.cache
@refusing
def repository(root: Path) -> git.Repo:
    """The repository that `root` is the top or a folder of. Raises NoRepository."""
    import git  # 100 ms to import, and `doit list` does without

    try:
        return git.Repo(root, search_parent_directories=True)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        raise NoRepository(path=root.name) from None


def prefix(root: Path) -> str:
    """The path of `root` from the top of its repository: `deploy`, or `.` at the top."""
    top = repository(root).working_tree_dir or root
    return root.resolve().relative_to(Path(top).resolve()).as_posix()


def _from(root: Path, paths: Iterable[str]) -> list[str]:
    """Paths from the top of the repository, as paths from `root`."""
    folder = prefix(root)
    # anchored: `relpath` looks at the working directory otherwise
    return [each if folder == "." else posixpath.relpath(f"/{each}", f"/{folder}") for each in paths]


@refusing
def branch(root: Path, environ: Mapping[str, str]) -> str:
    """The checked-out branch; on a detached HEAD the one that the CI names. Raises NoBranch."""
    repo = repository(root)
    if not repo.head.is_detached:
        return str(repo.head.ref.path.removeprefix("refs/heads/"))
    named = next((environ[name] for name in CI_BRANCH if environ.get(name)), None)
    if not named:
        raise NoBranch(task="release")
    return named


def remote_branches(root: Path, default: str) -> dict[str, Commit]:
    """The branches that the remote has now, with their commits; never the clone's own. Raises BranchesUnknown."""
    try:
        found = _ls_remote(root)
    except GitRefused as refusal:
        raise BranchesUnknown(problem=refusal.facts["problem"]) from None
    if default not in found:  # an empty list, or another repository
        raise BranchesUnknown(problem=f"{len(found)} branches, and none is {default}")
    return found


@refusing
def _ls_remote(root: Path) -> dict[str, Commit]:
    import git

    asked = git.Git(str(root))
    asked.update_environment(GIT_TERMINAL_PROMPT="0")
    lines = str(asked.ls_remote("--heads", "origin", kill_after_timeout=LS_REMOTE)).splitlines()
    return {ref.removeprefix("refs/heads/"): Commit(commit) for commit, ref in map(str.split, lines)}


@refusing
def pushed(root: Path, branch: str) -> bool:
    """Whether the clone has seen the branch on a remote."""
    return bool(repository(root).git.for_each_ref(f"refs/remotes/*/{branch}"))


@refusing
def commit(root: Path) -> Commit:
    """The full id of the checked-out commit. Raises NoCommit."""
    repo = repository(root)
    if not repo.head.is_valid():
        raise NoCommit(name="HEAD")
    return Commit(repo.head.commit.hexsha)


@refusing
def revision(root: Path, name: str) -> Commit | None:
    """The full id of the commit that a name stands for, None where it is none."""
    import git

    try:
        asked = ["--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
        return Commit(repository(root).git.rev_parse(*asked))
    except git.GitCommandError:
        return None


@refusing
def uncommitted(root: Path) -> list[str]:
    """Paths that differ from the checked-out commit, new files included, in the whole repository."""
    lines = repository(root).git.status("--porcelain", "-z", "--no-renames").split("\0")
    return _from(root, (line[3:] for line in lines if line))


@refusing
def named(root: Path, name: str) -> list[str]:
    """The files of that name in the whole repository, by their paths from its top."""
    asked = ("--cached", "--others", "--exclude-standard", "-z", "--", f":(top,glob)**/{name}")
    return [each for each in repository(root).git.ls_files(*asked).split("\0") if each]


@refusing
def unmerged(root: Path) -> list[str]:
    """Files with conflicts, in the whole repository."""
    lines = repository(root).git.ls_files("--unmerged", "--full-name", "-z", ":/").split("\0")
    return _from(root, dict.fromkeys(line.partition("\t")[2] for line in lines if line))


@refusing
def changed_since(root: Path, name: str) -> list[str]:
    """Paths that the commits after the last one that wrote a file have changed."""
    wrote = repository(root).git.log("-1", "--format=%H", "--", str(root / name))
    return touched(root, wrote, "HEAD")


@refusing
def restore(root: Path, paths: Sequence[str]) -> None:
    """Bring files back as they are committed."""
    if paths:
        repository(root).git.checkout("HEAD", "--", *(str(root / each) for each in paths))


@refusing
def ignored(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Which paths, from `root`, git ignores, and by which file and line."""
    import git

    try:
        said = repository(root).git.check_ignore("--no-index", "--verbose", "--", *paths)
    except git.GitCommandError as error:
        if error.status == 1:  # none of them
            return {}
        raise
    found = (line.split("\t") for line in str(said).splitlines())
    return {path: where for where, path in found if not where.split(":", 2)[2].startswith("!")}


@refusing
def default_branch(root: Path) -> str:
    """The branch that a remote calls its default, or main or master, or the one that is checked out."""
    repo = repository(root)
    told = repo.git.for_each_ref("refs/remotes/origin/HEAD", format="%(symref:lstrip=3)")
    names = [head.name for head in repo.heads]
    return told or next((each for each in ("main", "master") if each in names), branch(root, os.environ))


@refusing
def clone(root: Path, folder: Path) -> None:
    """Clone the checked-out commit into a folder."""
    import git

    git.Git(str(root)).clone("--quiet", root.resolve().as_uri(), str(folder))


@refusing
def address(root: Path) -> str:
    """Where others find this commit: the remote `origin`, without a password; this folder if the remote lacks it."""
    repo = repository(root)
    if "origin" not in repo.remotes or not repo.git.branch("--remotes", "--contains", "HEAD"):
        return str(root)
    url = (
        re.sub(r"(?<=://)[^/@]+@(?=.+)", "", repo.remotes.origin.url)
        if "://" in repo.remotes.origin.url
        else ""
    )
    return f"git+{url or repo.remotes.origin.url}"


@refusing
def on_branch(root: Path, branch: str) -> bool:
    """Whether the checked-out commit is on the branch. A detached one must be in its history, if the clone has the branch."""
    repo = repository(root)
    if not repo.head.is_detached:
        return str(repo.head.ref.path) == f"refs/heads/{branch}"
    names = (f"refs/heads/{branch}", f"refs/remotes/origin/{branch}")
    known = [name for name in names if repo.git.for_each_ref(name)]
    return not known or any(contains(root, name, commit(root)) for name in known)


@refusing
def contains(root: Path, new: str, old: str) -> bool | None:
    """Whether `old` is in the history of `new`; None where the clone does not have both."""
    import git

    repo = repository(root)
    try:
        for each in (old, new):
            repo.git.rev_parse("--verify", "--quiet", f"{each}^{{commit}}")
    except git.GitCommandError:
        return None
    return bool(
        repo.git.merge_base(old, new, with_exceptions=False) == repo.git.rev_parse(f"{old}^{{commit}}")
    )


@refusing
def commits(root: Path, old: str | None, new: str) -> list[str]:
    """The commits of `new` that `old` does not have, newest first: short id, author, subject."""
    span = f"{old}..{new}" if old else new
    return repository(root).git.log("--format=%h  %an  %s", span).splitlines()  # type: ignore[no-any-return]


@refusing
def touched(root: Path, old: str, new: str) -> list[str]:
    """Paths that differ between two commits."""
    names = repository(root).git.diff("--name-only", "-z", "--no-renames", old, new)
    return _from(root, filter(None, names.split("\0")))


def within(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders, or lies in one."""
    return any(path == each or path.startswith(f"{each}/") for each in folders)


class Snapshot:
    """The working tree as one git tree: what `git add -A` would commit now.

    It uses a copy of the index, and a folder of its own for new objects: the repository is not changed. In a clean
    tree every id is that of `HEAD:path`, in a shallow clone too. It is taken once: a file or commit that is changed
    or made later in the run does not count. It is of the whole repository; paths are given from `root`, which may be
    a folder of it.
    """

    @refusing
    def __init__(self, root: Path) -> None:
        import git

        repo = repository(root)
        self.listed: dict[str, dict[str, str]] = {}
        self.parts: dict[object, str] = {}
        self.prefix = prefix(root)
        self.folder = tempfile.TemporaryDirectory(prefix="snapshot-")
        folder, common = Path(self.folder.name), Path(repo.common_dir)
        inherited = os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES")
        alternates = [str(common / "objects"), *([inherited] if inherited else [])]
        # its own: stages in other threads use the repository meanwhile
        self.git = git.Git(str(repo.working_tree_dir or root))
        self.git.update_environment(
            GIT_INDEX_FILE=str(folder / "index"),
            GIT_OBJECT_DIRECTORY=str(folder),
            GIT_ALTERNATE_OBJECT_DIRECTORIES=":".join(alternates),
        )
        head = commit(root)
        index = Path(repo.git_dir) / "index"
        if index.exists():
            shutil.copy(index, folder / "index")  # with its times, so that git reads changed files only
        self.git.add("-A", "--", ".")
        self.tree: str = self.git.write_tree()
        clean = self.tree == self.git.rev_parse(f"{head}^{{tree}}")
        self.commit = head if clean else None
        """The commit that has exactly this tree; None where files differ from it."""
        self.version = Version.of(head, dirty=not clean)

    @refusing
    def ids(self, paths: Iterable[str]) -> dict[str, str | None]:
        """The git id (40 hex digits) of each path, None where there is no such path."""
        wanted = sorted(set(paths))
        with tempfile.TemporaryFile() as asked:
            asked.write("".join(f"{self._object(path)}\n" for path in wanted).encode())
            asked.seek(0)
            answers = self.git.cat_file("--batch-check", istream=asked).splitlines()
        return {
            path: None if answer.endswith(" missing") else answer.split()[0]
            for path, answer in zip(wanted, answers, strict=True)
        }

    def _object(self, path: str) -> str:
        inside = posixpath.normpath(posixpath.join(self.prefix, path))
        if within(inside, [".."]):  # git would end with an error, and not only say that it is missing
            return NOTHING
        return f"{self.tree}:{'' if inside == '.' else inside}"

    @refusing
    def folder_id(self, path: str, exclude: Sequence[str] = (), keep: Sequence[str] = ()) -> str:
        """The git id of a folder: the one that it has, or would have without `exclude`, but with what of that is in `keep`.

        Both are paths from the folder. Raises NoFolder.
        """
        whole = self.ids([path])[path]
        if not whole or self.git.cat_file("-t", whole) != "tree":
            raise NoFolder(path=path)
        if not exclude:
            return whole
        asked = (whole, tuple(exclude), tuple(keep))
        if asked not in self.parts:
            wanted = {
                name: about
                for name, about in self.files(whole).items()
                if within(name, keep) or not within(name, exclude)
            }
            index = {"GIT_INDEX_FILE": str(Path(self.folder.name) / f"index-{len(self.parts)}")}
            with tempfile.TemporaryFile() as listed:
                for name, about in wanted.items():
                    listed.write(f"{about}\t{name}\0".encode(errors="surrogateescape"))
                listed.seek(0)
                self.git.update_index("-z", "--index-info", istream=listed, env=index)
            self.parts[asked] = self.git.write_tree(env=index)
        return self.parts[asked]

    @refusing
    def files(self, tree: str) -> dict[str, str]:
        """Mode and git id of each file of a folder, which its id names, by its path from there."""
        if tree not in self.listed:
            listed = self.git.ls_tree("-r", "-z", tree).split("\0")
            entries = (line.partition("\t") for line in listed if line)
            self.listed[tree] = {name: about for about, _, name in entries}
        return self.listed[tree]

    @refusing
    def content(self, path: str) -> str | None:
        """A file's text, None where there is no such file."""
        if not self.ids([path])[path]:
            return None
        return str(self.git.cat_file("blob", self._object(path)))

    @refusing
    def export(self, tree: str, destination: Path) -> None:
        """Write the files of a folder, which its id names, into `destination`, with the modes that git keeps."""
        with tempfile.TemporaryFile() as packed:
            self.git.archive("--format=tar", tree, output_stream=packed)
            packed.seek(0)
            with tarfile.open(fileobj=packed) as archive:
                # the tree is the developer's own; what must not reach a server is refused when packing
                archive.extractall(destination)  # noqa: S202  Debian 12's own Python knows no `filter`


def snapshot(root: Path) -> Snapshot:
    """The snapshot of this run."""
    with SNAPSHOT:
        return _snapshot(root)


_snapshot = functools.cache(Snapshot)
