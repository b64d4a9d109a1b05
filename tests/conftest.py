"""Fixtures that every test may ask for: a checkout of its own, and the embedded cloud."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tasks import process

ROOT = Path(__file__).parents[1]


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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository on branch main with this project's settings and a tiny application."""
    root = tmp_path / "checkout"
    (root / "app").mkdir(parents=True)
    (root / "app" / "index.php").write_text("<?php echo 1;\n")
    (root / "README.md").write_text("read me\n")
    shutil.copy(ROOT / "pipeline.yml", root)
    for folder in ("environments", "applications"):
        shutil.copytree(ROOT / folder, root / folder)
    git(root, "init", "-qb", "main")
    commit(root, "first")
    return root


@pytest.fixture(autouse=True)
def _uninterrupted():
    """An interruption of one test is none of the next one's."""
    yield
    process._interrupted.clear()
