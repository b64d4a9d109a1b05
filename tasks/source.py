"""source: what git says: the branch, the commit, and what `git add -A` would commit. The only door to git."""

from __future__ import annotations

import functools
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.refusal import GitRefused, NoBranch, NoCommit, NoRepository

if TYPE_CHECKING:
    import git

CI_BRANCH = (
    "GITHUB_HEAD_REF",  # a pull request's own branch; empty elsewhere
    "GITHUB_REF_NAME",
    "CI_COMMIT_REF_NAME",  # GitLab
    "BITBUCKET_BRANCH",
)


@functools.cache
def repository(root: Path) -> git.Repo:
    """The repository at `root`. Raises NoRepository."""
    import git  # 100 ms, and `doit list` does without

    try:
        return git.Repo(root)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        raise NoRepository(path=root.name) from None


def branch(root: Path, environ: Mapping[str, str]) -> str:
    """The checked-out branch; on a detached HEAD the one that the CI names. Raises NoBranch."""
    repo = repository(root)
    if not repo.head.is_detached:
        return str(repo.head.ref.path.removeprefix("refs/heads/"))
    named = next((environ[name] for name in CI_BRANCH if environ.get(name)), None)
    if not named:
        raise NoBranch(task="release")
    return named


def commit(root: Path) -> str:
    """The full id of the checked-out commit. Raises NoCommit."""
    repo = repository(root)
    if not repo.head.is_valid():
        raise NoCommit(name="HEAD")
    return str(repo.head.commit.hexsha)


def uncommitted(root: Path) -> list[str]:
    """Paths that differ from the checked-out commit, new files included."""
    lines = repository(root).git.status("--porcelain", "-z", "--no-renames").split("\0")
    return [line[3:] for line in lines if line]


class Snapshot:
    """The working tree as one git tree: what `git add -A` would commit now.

    Made in a copy of the index, with new objects in a folder of its own: the repository stays as it is. In
    a clean tree every id is that of `HEAD:path`, in a shallow clone and at any place. Measured once: a file
    edited later in the run does not count.
    """

    def __init__(self, root: Path) -> None:
        import git

        self.repo = repository(root)
        self.folder = tempfile.TemporaryDirectory(prefix="snapshot-")
        folder, common = Path(self.folder.name), Path(self.repo.common_dir)
        inherited = os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES")
        alternates = [str(common / "objects"), *([inherited] if inherited else [])]
        self.environment = {
            "GIT_INDEX_FILE": str(folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(folder),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(alternates),
        }
        index = Path(self.repo.git_dir) / "index"
        if index.exists():
            shutil.copy(index, folder / "index")  # with its times, so that git reads changed files only
        try:
            with self.repo.git.custom_environment(**self.environment):
                self.repo.git.add("-A", "--", ".")
                self.tree: str = self.repo.git.write_tree()
        except git.GitCommandError as error:
            raise GitRefused(problem=_last_line(error)) from None

    def ids(self, paths: Iterable[str]) -> dict[str, str | None]:
        """The git id (40 hex digits) of each path, None where there is no such path."""
        wanted = sorted(set(paths))
        with self.repo.git.custom_environment(**self.environment), tempfile.TemporaryFile() as asked:
            asked.write("".join(f"{self.tree}:{path}\n" for path in wanted).encode())
            asked.seek(0)
            answers = self.repo.git.cat_file("--batch-check", istream=asked).splitlines()
        return {
            path: None if answer.endswith(" missing") else answer.split()[0]
            for path, answer in zip(wanted, answers, strict=True)
        }

    def export(self, path: str, destination: Path) -> None:
        """Write the files below `path` into `destination`, with the modes that git keeps."""
        with (
            self.repo.git.custom_environment(**self.environment),
            tempfile.TemporaryFile() as packed,
        ):
            self.repo.git.archive("--format=tar", f"{self.tree}:{path}", output_stream=packed)
            packed.seek(0)
            with tarfile.open(fileobj=packed) as archive:
                # the tree is the developer's own; what must not reach a server is refused when packing
                archive.extractall(destination, filter="tar")


@functools.cache
def snapshot(root: Path) -> Snapshot:
    """The snapshot of this run."""
    return Snapshot(root)


def _last_line(error: git.GitCommandError) -> str:
    lines = str(error.stderr).strip().strip("'").splitlines()
    return lines[-1].strip() if lines else str(error)
