"""application: which files of the repository are the application's, and which are the pipeline's own."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import source
from tasks.source import within

if TYPE_CHECKING:
    from tasks.run import Run

OWN = (
    # what runs: nothing of a web application is called like this
    "dodo.py",
    "pipeline.yml",
    "environments",
    "applications",
    "tasks",
    "playbooks",
    "roles",
    "hooks",
    "build/ci",  # not build/: an application may have its own there
    "pyproject.toml",
    "requirements.lock",
    "requirements-mutate.lock",
    "requirements-new.lock",
    "requirements-test.lock",
    "requirements.yml",
    # what CI and checks read: no server does
    ".ansible-lint",
    ".ci",
    ".copier-answers.yml",
    ".copier-answers.yml.jinja",
    ".github",
    ".gitignore",
    ".gitlab-ci.yml",
    ".yamllint",
    "bitbucket-pipelines.yml",
    "copier.yml",
    "pipeline.yml.jinja",
    # what it measures and what it leaves
    ".run",
    "bench",
    "tests",
    # what people read: a site works without
    "CHANGELOG.md",
    "README.md",
    "docs",
)
"""What in the pipeline's folder is its own, where the application has the same folder; `application.keep` says otherwise."""


@dataclass(frozen=True, kw_only=True)
class ApplicationFolder:
    """Where the application is. `path`: its folder, from the pipeline's; `pipeline`: the pipeline's from there, None if it is not in it.

    `exclude` is left out of it, but not what of that is in `keep`: both are paths from the application's folder.
    """

    path: str
    pipeline: str | None
    exclude: tuple[str, ...]
    keep: tuple[str, ...]

    def has(self, path: str) -> bool:
        """Whether a path, from the pipeline's folder, is the application's."""
        if self.pipeline is not None:
            name = posixpath.normpath(posixpath.join(self.pipeline, path))
            if within(name, [".."]):
                return False
        elif within(path, [self.path]):
            name = posixpath.relpath(f"/{path}", f"/{self.path}") if path != self.path else "."
        else:
            return False
        return within(name, self.keep) or not within(name, self.exclude)


def place(run: Run) -> ApplicationFolder:
    """Where the settings say that it is."""
    asked = run.pipeline.application
    folder = Path(os.path.normpath(run.root / asked.path))
    inside = run.root.is_relative_to(folder)
    pipeline = run.root.relative_to(folder).as_posix() if inside else None
    own = () if pipeline is None else OWN if pipeline == "." else (pipeline,)
    return ApplicationFolder(
        path=Path(os.path.relpath(folder, run.root)).as_posix(),
        pipeline=pipeline,
        exclude=(*own, *asked.exclude),
        keep=asked.keep,
    )


def tree(run: Run) -> str:
    """The git id of all its files, uncommitted ones included. Raises NoFolder."""
    found = place(run)
    return source.snapshot(run.root).folder_id(found.path, found.exclude, found.keep)


def files(run: Run) -> dict[str, str]:
    """Mode and git id of each of its files, by its path from the application's folder. Raises NoFolder."""
    return source.snapshot(run.root).files(tree(run))


def content(run: Run, path: str) -> str | None:
    """The text of one of its files, None where there is no such file."""
    return source.snapshot(run.root).content(f"{place(run).path}/{path}")


def export(run: Run, destination: Path) -> None:
    """Write all its files into a folder. Raises NoFolder."""
    source.snapshot(run.root).export(tree(run), destination)
