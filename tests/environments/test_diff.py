"""What differs between two tarballs, whatever they are named by."""

from __future__ import annotations

import pytest

from tasks import source
from tasks.digest import Digest
from tasks.environments import diff
from tasks.environments.diff import NoSuchTarball
from tasks.release import history
from tasks.tarball import stage as tarball
from tasks.tarball import stored
from tasks.tarball.build.layers import Build
from tasks.tarball.stored import ArchiveDamaged
from tests.cloud.embedded.conftest import server  # noqa: F401  (a fixture)
from tests.conftest import commit
from tests.tarball.test_stage import change_profile, project, start  # noqa: F401  (fixtures)


@pytest.fixture
def two(project, start):  # noqa: F811
    """Two commits' tarballs: a file changed, one added, one removed, one made executable; another option."""
    (project / "app" / "old").write_text("")
    (project / "app" / "run").write_text("x")
    before = commit(project)
    tarball.pack(Build(start(project)))
    (project / "app" / "old").unlink()
    (project / "app" / "new").symlink_to("run")
    (project / "app" / "run").chmod(0o755)
    (project / "app" / "index.php").write_text("<?php // other\n")
    change_profile(project, "[en, de]", "[en]")
    run = start(project)
    history.add(run, Digest(tarball.pack(Build(run)).facts["digest"]))
    return run, before


@pytest.mark.promise("dates-do-not-count")
def test_what_differs_is_listed_by_name_and_dates_do_not_count(two):
    run, before = two
    first, second = (diff.read(run, diff.find(run, each)) for each in (before, "HEAD"))
    found = {line.partition(": ")[0]: line.partition(": ")[2] for line in diff.lines(first, second)}
    layers = {"layers.pages-en", "layers.pages-de"}
    files = {"index.php", "new", "old", "out/de", "out/en", "run"}
    assert found.keys() == {"tree", "options.languages", *layers, *files}
    assert found["new"] == "not there → link to run"
    assert found["old"].endswith("→ not there")
    assert found["run"].startswith("1 bytes, 2d711642b726 → 1 bytes, executable, 2d711642b726")
    assert list(diff.lines(second, second)) == []


def test_sizes_are_listed_by_layer(two):
    run, before = two
    first, second = (diff.read(run, diff.find(run, each)) for each in (before, "HEAD"))
    lines = list(diff.sizes(first, second))
    assert [line.partition(":")[0] for line in lines] == ["application", "pages-de", "pages-en"]
    assert lines[1].startswith("pages-de: 2 files, 0.0 MB → none")


@pytest.mark.promise("tarballs-by-any-name")
def test_a_tarball_is_found_by_digest_commit_branch_and_environment(two):
    run, _ = two
    digest = stored.existing(run)
    for name in (digest, digest[:10], source.commit(run.root), "HEAD", "main", "testing", run.identity):
        assert diff.find(run, name) == digest, name


@pytest.mark.parametrize("name", ["nothing", "0" * 12, "--all", "production", "HEAD~1"])
@pytest.mark.promise("tarballs-by-any-name")
def test_what_has_no_tarball_is_refused(two, name):
    run, before = two
    run.store.delete(stored.stored_key(run, diff.find(run, before)))
    with pytest.raises(NoSuchTarball, match=f"diff: {name} is no tarball"):
        diff.find(run, name)


def test_a_damaged_tarball_is_refused(two):
    run, _ = two
    digest = diff.find(run, "HEAD")
    run.cloud.client("s3").put_object(Bucket=run.bucket, Key=stored.stored_key(run, digest), Body=b"<html>")
    with pytest.raises(ArchiveDamaged, match="is damaged"):
        diff.read(run, digest)
