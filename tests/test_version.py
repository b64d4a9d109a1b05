"""A version is a commit's id, with a mark where files differ; its text stays as older records have it."""

from __future__ import annotations

import json

import pytest

from tasks import source
from tasks.version import Commit, Version

SHA = Commit("3fa9c2e" + "0" * 33)


@pytest.mark.parametrize(
    ("dirty", "text", "marked"), [(False, SHA, "3fa9c2e"), (True, f"{SHA}-dirty", "3fa9c2e-dirty")]
)
def test_it_is_written_with_its_mark_and_knows_its_commit_without(dirty, text, marked):
    version = Version.of(SHA, dirty=dirty)
    assert json.loads(json.dumps(version)) == version == text
    assert (version.commit, version.dirty) == (SHA, dirty)
    assert (version.short, version.marked, SHA.short) == ("3fa9c2e", marked, "3fa9c2e")


def test_nothing_is_known_of_no_version():
    assert (Version().commit, Version().dirty, Version().marked) == ("", False, "")


def test_a_working_tree_says_its_version(checkout):
    clean = source.Snapshot(checkout)
    assert clean.version == clean.commit == source.commit(checkout)
    (checkout / "new").write_text("x")
    changed = source.Snapshot(checkout)
    assert changed.commit is None
    assert changed.version == f"{clean.commit}-dirty"
    assert changed.version.commit == clean.commit
