"""Fixtures that every test may ask for: a checkout of its own, and the embedded cloud."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tasks.cloud.embedded import lifecycle
from tasks.process import behind, children
from tests import leftovers

ROOT = Path(__file__).parents[1]
SERVED = """
server: {roles: {}}
"""
"""What a profile must say of its machines, for those that are only built."""
EXAMPLE = """profile: magento2
  options: {themes: [Shop/spring], themes.adminhtml: [], locales: [en_US, de_DE]}"""
"""The example's profile and its options, as `pipeline.yml` has them."""
DOIT = Path(sys.executable).parent / "doit"
PAUSE = 0.1
"""Seconds between two looks at what is to become true."""
T = TypeVar("T")


def until(found: Callable[[], T], seconds: float = 30) -> T:
    """What becomes true. It is counted how often that is looked for: on a machine that is busy, each look takes longer."""
    for _ in range(round(seconds / PAUSE)):
        if answer := found():
            return answer
        time.sleep(PAUSE)
    raise AssertionError("it did not come true in time")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, message: str = "change") -> str:
    """Commit everything; the new commit's id."""
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", message)
    return git(folder, "rev-parse", "HEAD")


BASETEMP: list[Path] = []
"""The temporary folder of this process, once its session has begun."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Take away what killed sessions have left. Workers belong to the session that has started them."""
    BASETEMP.append(session.config._tmp_path_factory.getbasetemp())
    if not hasattr(session.config, "workerinput"):
        for words in leftovers.begin(*BASETEMP):
            session.config.get_terminal_writer().line(f"leftovers: {words}")


def baking(basetemp: Path) -> Path:
    """The folder in which a session bakes its image, whichever of its processes does; `basetemp` is the process's own."""
    return (basetemp.parent if "PYTEST_XDIST_WORKER" in os.environ else basetemp) / "baked"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What stays in the temporary folder is for who looks at a failure."""
    gc.collect()
    gc.freeze()  # pytest looks five times through what a session has made
    if not hasattr(session.config, "workerinput"):
        folder = session.config._tmp_path_factory.getbasetemp()
        lifecycle.delete(lambda words: None, {"XDG_STATE_HOME": str(baking(folder) / "state")})
        leftovers.end(folder)


LONG = (
    *("end_to_end", "php", "pages", "tests/infrastructure/test_stage.py", "ledger"),
    *(
        "tests/cloud/embedded/test_instances.py",
        "tests/test_template.py",
        "tests/backup/test_host_program.py",
    ),
    *("tests/test_planted.py", "tests/release/test_phases.py", "tests/commands/test_controls.py"),
    *("tests/test_drill.py", "tests/bucket/test_lease.py", "tests/test_iam.py"),
)
"""Groups that take minutes, in the order in which they start. The first one bakes the image that others wait for."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each group of tests runs in one process. Tests that boot hosts share them, in a group; each other file is a group.

    Long groups run first, and those that need the processor alternate with those that wait: two groups with hosts fill two cores.
    """
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            group = "end_to_end" if "end_to_end" in item.path.parts else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(group))
    ranks = {name: rank for rank, name in enumerate(LONG)}

    def rank(item: pytest.Item) -> int:
        (group,) = next(item.iter_markers("xdist_group")).args
        return ranks.get(group, len(LONG) - ("end_to_end" in item.keywords))

    items.sort(key=rank)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is loaded by now stays to the end: looking through all of it for garbage, again and again, took a twelfth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def sampled(values: Iterable[T]) -> list[Any]:
    """Parameters of which every third is a test of the default command; the others are for `test-long`."""
    return [
        pytest.param(value, marks=pytest.mark.long) if number % 3 else value
        for number, value in enumerate(values)
    ]


@pytest.fixture(scope="session")
def _checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `checkout` is a copy of: a copy takes a tenth of the time that git takes."""
    root = tmp_path_factory.mktemp("made") / "checkout"
    (root / "app").mkdir(parents=True)
    (root / "app" / "index.php").write_text("<?php echo 1;\n")
    (root / "README.md").write_text("read me\n")
    shutil.copy(ROOT / "pipeline.yml", root)
    for folder in ("environments", "applications", "roles"):
        shutil.copytree(ROOT / folder, root / folder)
    begin(root, "first")
    return root


@pytest.fixture
def checkout(tmp_path: Path, _checkout: Path) -> Path:
    """A repository on branch main with this project's settings and a tiny application."""
    return Path(shutil.copytree(_checkout, tmp_path / "checkout", symlinks=True))


@cache
def _project() -> Path:
    """What `copy_project` copies."""
    root = BASETEMP[0] / "project"
    root.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    begin(root, "all of it")
    return root


def copy_project(root: Path) -> Path:
    """A copy of this repository with its uncommitted changes, committed on branch main."""
    return Path(shutil.copytree(_project(), root, symlinks=True, dirs_exist_ok=True))


def begin(root: Path, message: str) -> None:
    """Commit a folder, on branch main of a new repository that is quick to copy: one file has all objects."""
    git(root, "init", "-qb", "main", "--template=")
    commit(root, message)
    git(root, "-c", "gc.packRefs=false", "gc", "-q")


def doit(
    root: Path, *arguments: str, timeout: float = 400, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run doit in a project, with a cloud home below the test's own folder."""
    return subprocess.run(
        [DOIT, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environ},  # its own code, not the installed one
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session", autouse=True)
def _state_home(tmp_path_factory):
    """Keep the tests away from the user's cloud, and delete the one that they start."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    lifecycle.delete(lambda words: None)
    os.environ.pop("XDG_STATE_HOME")
    if before is not None:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(autouse=True)
def _uninterrupted():
    """Clear the interruption that a test has left, and what went wrong beside it."""
    yield
    children._interrupted.clear()
    behind._begun.clear()
