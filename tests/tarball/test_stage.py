"""The tarball: built in a clean export, kept under its content's name, pointed to by its commit."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
import tarfile

import pytest
import zstandard

from tasks import application, source
from tasks.bucket import cache, layout
from tasks.console.console import Console
from tasks.digest import Digest
from tasks.full_disk import DiskFull
from tasks.infrastructure import stage as infrastructure
from tasks.profile import ProfileOptionUnknown
from tasks.release import stage as release
from tasks.source import NoBranch, UncommittedChanges
from tasks.tarball import stage as tarball
from tasks.tarball import stored
from tasks.tarball.build.layers import Build
from tasks.tarball.build.overlay import BuildFailed, BuildIncomplete
from tasks.tarball.stage import LockFileUnusable
from tasks.tarball.stored import ArchiveDamaged, NoTarball, TarballGone
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import EXAMPLE, SERVED, commit, git

PROFILE = (
    SERVED
    + """
options: {languages: [en, de]}
tools: {shell: [sh, -c, echo 1]}
layers:
  - name: pages
    for_each: {language: languages}
    files: [index.php]
    tools: [shell]
    variables: [ALLOWED]
    commands: [[sh, -c, "mkdir -p out && cp index.php out/{language} && env | grep -v -e HOME= -e PWD= > out/environment"]]
    outputs: [out]
    promises: ["out/{language}"]
exclude: [var]
"""
)


@pytest.fixture
def project(checkout):
    (checkout / "applications" / "tiny").mkdir()
    (checkout / "applications" / "tiny" / "profile.yml").write_text(PROFILE)
    pipeline = (checkout / "pipeline.yml").read_text().replace(EXAMPLE, "profile: tiny")
    (checkout / "pipeline.yml").write_text(pipeline)
    (checkout / ".gitignore").write_text("/.run/\n/app/var/\n")
    code = checkout / "tasks" / "tarball" / "build" / "archive.py"  # stands for what keys.CODE names
    code.parent.mkdir(parents=True)
    code.write_text("code\n")
    (checkout / "app" / "index.php").write_text(f"<?php // {checkout}\n")
    commit(checkout)
    return checkout


@pytest.fixture
def start(server):  # noqa: F811
    """A run of a checkout as a new process would see it."""

    def started(root, **variables):
        source._snapshot.cache_clear()
        run = run_in(root, QuietCloud(REGION, server.home.load()), **variables)
        infrastructure.share(run)
        return run

    yield started
    source._snapshot.cache_clear()


def content(run, digest):
    body = run.cloud.client("s3").get_object(Bucket=run.bucket, Key=stored.key_of(run, digest))["Body"].read()
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as packed:
        return {each.name: packed.extractfile(each).read().decode() for each in packed if each.isfile()}


def change_profile(project, before, after):
    path = project / "applications" / "tiny" / "profile.yml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    commit(project)


def test_it_is_built_once_and_kept_under_its_digest(project, start):
    run = start(project)
    first = tarball.pack(Build(run))
    assert first.changed
    files = content(run, first.facts["digest"])
    assert {"index.php", "out/en", "out/de"} <= files.keys()
    again = tarball.pack(Build(start(project)))
    assert (again.changed, again.facts) == (False, first.facts)
    assert first.facts["digest"] in again.unchanged


@pytest.mark.promise("no-tarball-stage-takes-the-pointer")
def test_the_manifest_and_the_pointer_say_what_it_is(project, start):
    run = start(project)
    digest = tarball.pack(Build(run)).facts["digest"]
    manifest = run.store.read(layout.beside(stored.key_of(run, digest), "manifest.json")).value
    assert manifest["tree"] == git(project, "rev-parse", "HEAD:app")
    assert manifest["digest"] == digest
    assert manifest["tools"].keys() == {"shell", "zstd"}
    pointer = stored.pointer(run, git(project, "rev-parse", "HEAD"))
    assert (pointer.digest, pointer.branch, pointer.by) == (digest, "main", run.who)
    assert pointer.role
    assert stored.existing(run) == digest
    assert tarball.differences(Build(run)) == []


@pytest.mark.promise("no-tarball-stage-takes-the-pointer", "point-builds-nothing")
def test_a_commit_that_changes_nothing_of_it_gets_a_pointer_and_no_build(project, start):
    digest = tarball.pack(Build(start(project))).facts["digest"]
    (project / "README.md").write_text("another\n")
    commit(project)
    run = start(project)
    assert "points to no tarball yet" in tarball.differences(Build(run))[0]
    foreseen = tarball.foresee(Build(run))
    assert (foreseen.what, foreseen.words[0].partition("; ")[2]) == ("point", "the commit gets a pointer")
    assert tarball.foresee_layer(Build(run), "pages-en").what == "unchanged"
    with pytest.raises(NoTarball, match="doit tarball"):
        stored.existing(run)
    outcome = tarball.pack(Build(run))
    assert (outcome.changed, outcome.facts["digest"]) == (False, digest)
    assert stored.existing(run) == digest


@pytest.mark.promise("uncommitted-gets-no-pointer")
def test_a_commit_made_during_the_build_does_not_get_the_tarball(project, start):
    run = start(project)
    before = git(project, "rev-parse", "HEAD")
    source.snapshot(project)
    (project / "app" / "later.php").write_text("x")
    after = commit(project)
    digest = tarball.pack(Build(run)).facts["digest"]
    assert "later.php" not in content(run, digest)
    assert stored.pointer(run, before).digest == digest
    assert stored.pointer(run, after) is None


def test_a_commit_s_pointer_stays_with_the_tarball_that_was_staged(project, start, monkeypatch):
    run = start(project)
    digest = tarball.pack(Build(run)).facts["digest"]
    monkeypatch.setenv("ALLOWED", "another")
    assert tarball.pack(Build(start(project))).facts["digest"] != digest
    assert stored.pointer(run, git(project, "rev-parse", "HEAD")).digest == digest


@pytest.mark.promise("two-builds-same-bytes")
def test_two_clones_at_different_places_give_the_same_bytes(project, start, tmp_path):
    (project / "app" / "index.php").write_text("<?php // everywhere the same\n")
    commit(project)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{project}", "elsewhere")
    one = start(project)
    digest = tarball.pack(Build(one)).facts["digest"]
    s3 = one.cloud.client("s3")
    for key in list(one.store.keys("trusted/")):  # nothing to restore from
        s3.delete_object(Bucket=one.bucket, Key=key)
    other = tarball.pack(Build(start(tmp_path / "elsewhere", branch="main")))
    assert other.changed
    assert other.facts["digest"] == digest


def test_the_working_copy_s_leftovers_and_what_is_excluded_stay_out(project, start):
    (project / "app" / "var").mkdir()
    (project / "app" / "var" / "cache").write_text("x")
    run = start(project)
    assert not any(name.startswith("var") for name in content(run, tarball.pack(Build(run)).facts["digest"]))


@pytest.mark.promise("a-build-sees-named-variables-only")
def test_a_build_sees_only_the_variables_that_its_profile_names(project, start, monkeypatch):
    monkeypatch.setenv("ALLOWED", "yes")
    monkeypatch.setenv("FORBIDDEN", "no")
    run = start(project)
    seen = content(run, tarball.pack(Build(run)).facts["digest"])["out/environment"]
    assert "ALLOWED=yes" in seen
    assert "FORBIDDEN" not in seen
    assert "TZ=UTC" in seen


@pytest.mark.promise("whole-output-is-in-the-log", "a-failing-build-shows-its-end")
def test_a_failing_command_shows_its_last_lines_and_where_the_rest_is(project, start):
    many = (
        "for each in 0 1 2 3 4 5 6 7 8 9; do echo line $each.1; echo line $each.2; echo line $each.3; done;"
    )
    change_profile(project, "mkdir -p out &&", f"{many} echo about to; echo broken >&2; exit 7;")
    with pytest.raises(BuildFailed) as caught:
        tarball.pack(Build(start(project)))
    assert "tarball: pages-" in caught.value.text
    assert "exit code 7" in caught.value.text
    assert "    | about to\n    | broken" in caught.value.text
    log = project / caught.value.text.split("whole output: ")[1].split(")")[0]
    assert "line 0.1" not in caught.value.text
    assert re.search(r"line 0\.1\n(.*\n)*.*broken", log.read_text())


@pytest.mark.promise("promised-paths-must-be-there")
def test_a_build_that_leaves_out_what_it_promises_is_refused(project, start):
    change_profile(project, 'promises: ["out/{language}"]', "promises: [out/fr]")
    with pytest.raises(BuildIncomplete, match=r"pages-.* ended with exit code 0 and left no out/fr"):
        tarball.pack(Build(start(project)))


def test_an_option_that_the_profile_does_not_know_is_refused(project, start):
    pipeline = (project / "pipeline.yml").read_text()
    (project / "pipeline.yml").write_text(
        pipeline.replace("profile: tiny", "profile: tiny\n  options: {langs: [fr]}")
    )
    with pytest.raises(
        ProfileOptionUnknown,
        match=r"options\.langs: unknown option of tiny \(did you mean languages\? known: languages\)",
    ):
        tarball.pack(Build(start(project)))


def test_another_option_makes_another_tarball(project, start):
    one = tarball.pack(Build(start(project))).facts["digest"]
    pipeline = (project / "pipeline.yml").read_text()
    (project / "pipeline.yml").write_text(
        pipeline.replace("profile: tiny", "profile: tiny\n  options: {languages: [fr]}")
    )
    commit(project)
    run = start(project)
    two = tarball.pack(Build(run)).facts["digest"]
    assert two != one
    assert "out/fr" in content(run, two)


@pytest.mark.promise(
    "uncommitted-only-where-allowed", "uncommitted-is-refused-elsewhere", "uncommitted-gets-no-pointer"
)
def test_uncommitted_changes_get_no_pointer_and_are_refused_elsewhere(project, start):
    (project / "app" / "new.php").write_text("x")
    run = start(project)
    digest = tarball.pack(Build(run)).facts["digest"]
    assert "new.php" in content(run, digest)
    assert stored.pointer(run, git(project, "rev-parse", "HEAD")) is None
    with pytest.raises(
        UncommittedChanges, match=r"staging takes committed files only, these differ: app/new\.php"
    ):
        tarball.pack(Build(start(project, environment="staging")))
    assert tarball.foresee(Build(start(project))).what == "unchanged"
    refused = Build(start(project, environment="staging"))
    assert (tarball.foresee(refused), tarball.foresee_layer(refused, "pages-en")) == (None, None)


@pytest.mark.promise("damaged-tarball-heals")
def test_a_stored_tarball_that_is_gone_or_cut_off_is_built_again(project, start):
    run = start(project)
    digest = tarball.pack(Build(run)).facts["digest"]
    s3, key = run.cloud.client("s3"), stored.key_of(run, digest)
    for damage in (
        lambda: s3.delete_object(Bucket=run.bucket, Key=key),
        lambda: s3.put_object(Bucket=run.bucket, Key=key, Body=b"half"),
    ):
        damage()
        outcome = tarball.pack(Build(start(project)))
        assert (outcome.changed, outcome.facts["digest"]) == (True, digest)
        assert content(run, digest)


def replace_by_others(run, digest):
    """Other bytes of the same size in the place of a tarball."""
    s3, key = run.cloud.client("s3"), layout.blob(cache.of(run).writes, "tarballs", digest)
    s3.put_object(Bucket=run.bucket, Key=key, Body=b"x" * run.store.size(key))


@pytest.mark.promise("damaged-tarball-is-refused", "damaged-tarball-heals")
def test_a_stored_tarball_of_the_same_size_that_is_another_one_is_built_again(project, start):
    run = start(project)
    digest = Digest(tarball.pack(Build(run)).facts["digest"])
    replace_by_others(run, digest)
    run = start(project)
    assert "is gone or damaged" in tarball.differences(Build(run))[0]
    assert tarball.foresee(Build(run)) is None
    with pytest.raises(ArchiveDamaged, match=r"when it was packed\n    doit tarball$"):
        release.variables(run, digest)
    outcome = tarball.pack(Build(run))
    assert (outcome.changed, outcome.facts["digest"]) == (True, digest)
    assert content(run, digest)
    assert stored.stored_key(run, digest)
    assert not tarball.pack(Build(start(project))).changed


@pytest.mark.promise("damaged-tarball-is-refused")
def test_where_nothing_is_built_a_damaged_tarball_is_refused_with_who_builds_it(project, start):
    run = start(project, environment="staging")
    digest = Digest(tarball.pack(Build(run)).facts["digest"])
    replace_by_others(run, digest)
    with pytest.raises(ArchiveDamaged, match="doit environment=staging tarball"):
        stored.stored_key(start(project, environment="production"), digest)
    tarball.pack(Build(start(project, environment="staging")))
    assert stored.stored_key(start(project, environment="production"), digest)


@pytest.mark.promise("branch-stores-its-own")
def test_a_branch_passes_over_a_damaged_tarball_that_it_may_not_replace(project, start):
    ours = start(project, branch="main")
    digest = Digest(tarball.pack(Build(ours)).facts["digest"])
    replace_by_others(ours, digest)
    theirs = start(project, branch="feature")
    assert tarball.pack(Build(theirs)).facts["digest"] == digest
    assert stored.stored_key(theirs, digest) == f"branches/tarballs/{digest}.tar.zst"
    assert content(theirs, digest)


@pytest.mark.parametrize("left", ["a manifest without a version", "no manifest", "no document"])
def test_a_tarball_of_an_older_pipeline_is_taken_and_a_broken_manifest_is_written_again(project, start, left):
    run = start(project)
    digest = Digest(tarball.pack(Build(run)).facts["digest"])
    beside = layout.beside(stored.key_of(run, digest), "manifest.json")
    told = run.store.read(beside)
    run.store.delete(beside)
    if left == "a manifest without a version":
        older = {name: value for name, value in told.value.items() if name != "etag"}
        run.store.write(beside, older, seen=None)
    if left == "no document":
        run.store.put(beside, b"<html>")
    outcome = tarball.pack(Build(start(project)))
    assert (outcome.changed, outcome.facts["digest"]) == (left == "no document", digest)
    assert stored.stored_key(run, digest)
    assert not tarball.pack(Build(start(project))).changed


def test_a_full_disk_is_a_sentence_and_leaves_nothing(project, start):
    run = start(project)
    change_profile(project, "mkdir -p out &&", "head -c 9M /dev/zero > big &&")
    (project / ".run").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", project / ".run"], check=True)
    try:
        with pytest.raises(DiskFull, match=r"tarball: no space left at \.run"):
            tarball.pack(Build(start(project)))
    finally:
        subprocess.run(["umount", "--lazy", project / ".run"], check=True)
    assert list(run.store.keys(f"state/{run.identity}")) == []


@pytest.mark.parametrize("stale", ["out/stale", "out/en", "out/deep/er/stale", "out"])
@pytest.mark.promise("committed-outputs-stay-out")
def test_what_is_committed_below_a_layer_s_outputs_is_not_mixed_with_what_was_built(project, start, stale):
    clean = content(start(project), tarball.pack(Build(start(project))).facts["digest"])
    path = project / "app" / stale
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/nowhere") if stale == "out" else path.write_text("stale")
    git(project, "add", "-f", "app")
    commit(project)
    run = start(project)
    assert content(run, tarball.pack(Build(run)).facts["digest"]) == clean


@pytest.mark.promise("committed-outputs-stay-out")
def test_what_a_layer_was_given_below_its_outputs_stays(project, start):
    (project / "app" / "out").mkdir()
    (project / "app" / "out" / "source.less").write_text("source")
    (project / "app" / "outer").write_text("no output")
    change_profile(project, "files: [index.php]", "files: [index.php, out]")
    run = start(project)
    files = content(run, tarball.pack(Build(run)).facts["digest"])
    assert (files["out/source.less"], files["outer"]) == ("source", "no output")
    assert {"out/en", "out/de"} <= files.keys()


LOCK = '{"packages": [{"name": "acme/tool", "version": "1.0"}]}'


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        (None, "is not in the repository"),
        ("ignored", "is not in the repository"),
        ("excluded", "is not in the repository"),
        ("", "does not list what it is built of"),
        ("<<<<<<< HEAD\n{}", "does not list what it is built of"),
        ("{}", "does not list what it is built of"),
        ("[]", "does not list what it is built of"),
        ('{"packages": [{"name": "acme/tool"}]}', "does not list what it is built of"),
        ('{"packages": null}', "does not list what it is built of"),
    ],
)
def test_without_the_list_of_parts_that_the_profile_names_nothing_is_built(project, start, lock, problem):
    if lock == "ignored":
        (project / ".gitignore").write_text("/.run/\ncomposer.lock\n")
    if lock == "excluded":
        pipeline = (project / "pipeline.yml").read_text()
        excluding = pipeline.replace("profile: tiny", "profile: tiny\n  exclude: [composer.lock]")
        (project / "pipeline.yml").write_text(excluding)
    if lock is not None:
        (project / "app" / "composer.lock").write_text(LOCK if lock in ("ignored", "excluded") else lock)
    change_profile(project, "exclude: [var]", "exclude: [var]\nsbom: composer.lock")
    run = start(project)
    before = list(run.store.keys(""))
    for build in (tarball.pack, lambda build: tarball.layer(build, "pages-en")):
        with pytest.raises(LockFileUnusable, match=f"tarball: app/composer.lock {problem}"):
            build(Build(run))
    assert list(run.store.keys("")) == before
    change_profile(project, "sbom: composer.lock", "# no list")
    assert tarball.pack(Build(start(project))).changed


@pytest.mark.promise("sbom-lists-the-parts")
def test_the_list_of_parts_lies_beside_the_tarball(project, start):
    (project / "app" / "composer.lock").write_text(LOCK)
    change_profile(project, "exclude: [var]", "exclude: [var]\nsbom: composer.lock")
    run = start(project)
    digest = tarball.pack(Build(run)).facts["digest"]
    listed = run.store.read(layout.beside(stored.key_of(run, digest), "sbom.json")).value
    assert [each["name"] for each in listed["components"]] == ["tool"]


def test_equal_content_is_kept_once(project, start):
    run = start(project)
    tarball.pack(Build(run))
    change_profile(project, "exclude: [var]", "exclude: [var, log]")
    again = tarball.pack(Build(start(project)))
    assert again.changed
    stored = [
        key for key in run.store.keys("trusted/tarballs/") if key.endswith(f"{again.facts['digest']}.tar.zst")
    ]
    versions = run.cloud.client("s3").list_object_versions(Bucket=run.bucket, Prefix=stored[0])["Versions"]
    assert len(versions) == 1


def test_the_key_of_a_tarball_is_readable_by_people(project, start):
    run = start(project)
    digest = tarball.pack(Build(run)).facts["digest"]
    keys = [key for key in run.store.keys("trusted/keys/") if run.store.read(key).value["digest"] == digest]
    assert keys
    assert json.dumps(run.store.read(keys[0]).value)


@pytest.mark.promise("default-branch-takes-from-trusted-only")
def test_the_default_branch_takes_nothing_that_another_branch_made(project, start):
    ours, theirs = start(project, branch="main"), start(project, branch="feature")
    digest = tarball.pack(Build(theirs)).facts["digest"]
    commit_id = git(project, "rev-parse", "HEAD")
    assert stored.pointer(ours, commit_id) is None
    assert stored.key_of(ours, digest) is None
    assert tarball.pack(Build(ours)).changed
    assert stored.key_of(ours, digest) == f"trusted/tarballs/{digest}.tar.zst"


@pytest.mark.promise("branches-take-trusted-first")
def test_another_branch_takes_what_the_default_branch_made_and_changes_nothing_of_it(project, start):
    digest = tarball.pack(Build(start(project, branch="main"))).facts["digest"]
    theirs = start(project, branch="feature")
    before = list(theirs.store.keys("branches/"))
    assert tarball.differences(Build(theirs)) == []
    outcome = tarball.pack(Build(theirs))
    assert (outcome.changed, outcome.facts["digest"]) == (False, digest)
    assert list(theirs.store.keys("branches/")) == before
    with pytest.raises(TarballGone, match="no tarball 000000000000 in"):
        stored.stored_key(theirs, Digest("0" * 64))


def in_zones(run):
    """Which zones have any of what was built here. The tests of this file share a bucket."""
    commit, tree = source.commit(run.root), application.tree(run)
    found = set()
    for zone in layout.ZONES:
        here = [run.store.read(key).value for key in run.store.keys(f"{zone}/keys/")]
        if any(each["tree"] == tree for each in here) or run.store.read(
            layout.record(zone, "commits", commit)
        ):
            found.add(zone)
    return found


@pytest.mark.promise("trusted-is-of-the-default-branch")
def test_another_branch_s_commit_under_the_default_branch_s_name_is_stored_apart(project, start):
    git(project, "checkout", "-qb", "feature")
    (project / "app" / "index.php").write_text(f"<?php // feature of {project}\n")
    commit(project)
    said = io.StringIO()
    run = dataclasses.replace(start(project, branch="main"), console=Console(said))
    tarball.pack(Build(run))
    assert in_zones(run) == {layout.BRANCHES}
    assert "is stored apart from those of main: this is no commit of it" in said.getvalue()


def test_uncommitted_files_of_the_default_branch_are_stored_apart(project, start):
    (project / "app" / "index.php").write_text(f"<?php // not committed in {project}\n")
    run = start(project)
    tarball.pack(Build(run))
    assert in_zones(run) == {layout.BRANCHES}


@pytest.mark.promise("tags-and-requests-are-not-believed", "unknown-is-not-trusted")
def test_a_tag_with_the_default_branch_s_name_is_stored_apart(project, start, tmp_path, monkeypatch):
    (project / "app" / "index.php").write_text(f"<?php // tagged in {project}\n")
    git(project, "checkout", "-qb", "feature")
    commit(project)
    git(project, "tag", "main")
    git(tmp_path, "init", "-q", "job")
    git(tmp_path / "job", "fetch", "-q", "--depth", "1", f"file://{project}", "refs/tags/main:refs/tags/main")
    git(tmp_path / "job", "checkout", "-q", "refs/tags/main")
    monkeypatch.setenv("CI_COMMIT_TAG", "main")
    monkeypatch.setenv("CI_COMMIT_REF_NAME", "main")
    monkeypatch.setenv("CI_COMMIT_SHA", git(project, "rev-parse", "HEAD"))
    with pytest.raises(NoBranch):
        tarball.pack(Build(start(tmp_path / "job")))
    said = io.StringIO()
    run = dataclasses.replace(start(tmp_path / "job", branch="main"), console=Console(said))
    tarball.pack(Build(run))
    assert in_zones(run) == {layout.BRANCHES}
    assert "is stored apart from those of main: this is not known to be one of it" in said.getvalue()


@pytest.mark.promise("build-code-is-in-every-key")
def test_other_code_of_the_build_makes_another_key(project, start):
    before = Build(start(project)).keys
    (project / "tasks" / "tarball" / "build" / "archive.py").write_text("other code\n")
    commit(project)
    after = Build(start(project)).keys
    assert before
    assert [name for name in before if after[name].key == before[name].key] == []
