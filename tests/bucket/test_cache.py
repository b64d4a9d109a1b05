"""The default branch reads nothing from the cache that other branches may write."""

from __future__ import annotations

import pytest

from tasks import ci, source
from tasks.bucket import cache, layout
from tasks.bucket.cache import Cache
from tasks.bucket.store import BucketForbidden, Document, NotADocument
from tasks.digest import Digest
from tasks.tarball import stored
from tests.clouds import run_in
from tests.conftest import commit, git
from tests.iam import allowed, policy
from tests.plain import Plain
from tests.test_iam import BUCKET, ROLES, project, roles, run_as  # noqa: F401  (fixtures)

KEY, DIGEST, COMMIT = Digest("a" * 64), Digest("b" * 64), "c" * 40


class Bucket:
    """A store in a mapping: documents are mappings, blobs are bytes, None is an object that cannot be read."""

    def __init__(self, objects):
        self.objects = objects

    def read(self, key):
        if key not in self.objects:
            return None
        if self.objects[key] is None:
            raise NotADocument("bucket", key, "etag", 0)
        return Document(value=self.objects[key], etag=f"etag of {key}", age=0)

    def size(self, key):
        return len(self.objects[key]) if key in self.objects else None

    def keys(self, prefix):
        return [key for key in self.objects if key.startswith(prefix)]


def view(objects, reads=layout.ZONES):
    return Cache(store=Bucket(objects), writes=reads[-1], reads=reads)


def test_a_record_is_looked_for_in_each_zone_to_read_and_a_damaged_one_is_a_miss():
    trusted, other = (layout.record(zone, "layers", KEY) for zone in layout.ZONES)
    both = {other: {"digest": "theirs"}, trusted: {"digest": "ours"}}
    assert [each.value["digest"] for each in view(both).records("layers", KEY)] == ["ours", "theirs"]
    assert view({**both, trusted: None}).record("layers", KEY).zone == layout.BRANCHES
    assert view({other: both[other]}, (layout.TRUSTED,)).record("layers", KEY) is None


def test_a_blob_is_looked_for_in_each_zone_to_read_and_has_its_size():
    trusted, other = (layout.blob(zone, "tarballs", DIGEST) for zone in layout.ZONES)
    both = {other: b"whole", trusted: b"cut"}
    assert view(both).blob("tarballs", DIGEST) == trusted
    assert view(both).blob("tarballs", DIGEST, 5) == other
    assert view(both).blob("tarballs", DIGEST, 4) is None
    assert view({other: b"whole"}, (layout.TRUSTED,)).blob("tarballs", DIGEST) is None


def test_files_beside_a_blob_and_records_of_layers_are_no_blobs():
    key, layer = layout.blob("trusted", "tarballs", DIGEST), layout.blob("trusted", "layers", DIGEST)
    objects = {key: b"", layout.beside(key, "minisig"): b"", layer: b"", layout.record("trusted", "layers", KEY): {}}  # fmt: skip
    assert list(view(objects).blobs("tarballs", DIGEST[:8])) == [DIGEST]
    assert list(view(objects).blobs("layers")) == [DIGEST]
    assert list(view(objects).blobs("tarballs", "c")) == []


def forge(run, tmp_path, commit):
    """Write everything that a build writes, with false content."""
    (tmp_path / "bytes").write_bytes(b"forged")
    ours = cache.of(run)
    for kind, name in (("layers", KEY), ("keys", KEY), ("commits", commit)):
        ours.keep(kind, name, {"digest": DIGEST, "size": 6})
    for kind in ("layers", "tarballs"):
        ours.upload(kind, DIGEST, tmp_path / "bytes")


@pytest.mark.promise("default-branch-takes-from-trusted-only")
def test_the_default_branch_takes_nothing_that_another_branch_has_left(run_as, tmp_path):  # noqa: F811
    attacker, builder = run_as("branch"), run_as("builder", branch="main")
    forge(attacker, tmp_path, builder.commit)
    theirs, ours = cache.of(attacker), cache.of(builder)
    assert theirs.blob("tarballs", DIGEST)
    assert theirs.record("layers", KEY)
    for kind, name in (("layers", KEY), ("keys", KEY), ("commits", builder.commit)):
        assert ours.record(kind, name) is None
    for kind in ("layers", "tarballs"):
        assert ours.blob(kind, DIGEST) is None
        assert list(ours.blobs(kind)) == []
    assert stored.pointer(builder, builder.commit) is None


@pytest.mark.promise("branch-writes-branches")
def test_another_branch_cannot_write_where_the_default_branch_takes_from(run_as, tmp_path):  # noqa: F811
    run = run_as("branch")
    for kind in ("layers", "keys", "commits", "tarballs"):
        with pytest.raises(BucketForbidden):
            run.store.put(f"{layout.TRUSTED}/{kind}/{KEY}", b"forged")


@pytest.mark.promise("branches-take-trusted-first")
def test_another_branch_takes_the_default_branch_s_records_before_others(run_as, tmp_path):  # noqa: F811
    builder, attacker = run_as("builder", branch="main"), run_as("branch")
    cache.of(builder).keep("layers", KEY, {"digest": "good"})
    forge(attacker, tmp_path, COMMIT)
    assert cache.of(attacker).record("layers", KEY).value["digest"] == "good"


@pytest.fixture
def zone_of(monkeypatch):
    """The zone that a run of a checkout writes to."""
    for name in {*ci.BRANCH, *ci.TAG, *ci.REQUEST, "GITHUB_REF", "GITHUB_REF_TYPE", "CI_COMMIT_BRANCH"}:
        monkeypatch.delenv(name, raising=False)

    def zone(root, environ=None, **variables):
        source._snapshot.cache_clear()
        for name, value in (environ or {}).items():
            monkeypatch.setenv(name, value)
        found = cache.of(run_in(root, Plain("eu-central-1"), **variables))
        assert found.reads == ((layout.TRUSTED,) if found.writes == layout.TRUSTED else layout.ZONES)
        return found.writes

    yield zone
    source._snapshot.cache_clear()


@pytest.mark.promise("trusted-is-of-the-default-branch")
def test_a_clean_commit_of_the_default_branch_is_trusted(zone_of, checkout):
    assert zone_of(checkout) == layout.TRUSTED
    assert zone_of(checkout, branch="main") == layout.TRUSTED
    assert zone_of(checkout, branch="feature") == layout.BRANCHES


@pytest.mark.promise("a-name-is-no-proof", "a-name-makes-no-commit-trusted")
def test_a_name_that_is_typed_makes_no_commit_trusted(zone_of, checkout):
    git(checkout, "checkout", "-qb", "feature")
    (checkout / "app" / "index.php").write_text("theirs\n")
    commit(checkout)
    assert zone_of(checkout, branch="main") == layout.BRANCHES
    git(checkout, "checkout", "-q", "--detach")
    assert zone_of(checkout, branch="main") == layout.BRANCHES
    git(checkout, "checkout", "-q", "--detach", "main")
    assert zone_of(checkout, branch="main") == layout.TRUSTED


@pytest.mark.parametrize("change", ["app/index.php", "app/new.php", "pipeline.yml"])
@pytest.mark.promise("what-shows-that-a-commit-is-trusted")
def test_uncommitted_files_on_the_default_branch_are_not_trusted(zone_of, checkout, change):
    with (checkout / change).open("a") as file:
        file.write("# not committed\n")
    assert zone_of(checkout) == layout.BRANCHES


@pytest.mark.parametrize(
    ("environ", "variables", "zone"),
    [
        ({"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main"}, {}, layout.TRUSTED),
        ({"CI_COMMIT_BRANCH": "main", "CI_COMMIT_REF_NAME": "main"}, {}, layout.TRUSTED),
        ({"BITBUCKET_BRANCH": "main"}, {}, layout.TRUSTED),
        (
            {"GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main"},
            {"branch": "feature"},
            layout.BRANCHES,
        ),
        # a tag called main, a fork's branch called main, the name alone
        ({"GITHUB_REF": "refs/tags/main", "GITHUB_REF_TYPE": "tag"}, {"branch": "main"}, layout.BRANCHES),
        ({"CI_COMMIT_TAG": "main", "CI_COMMIT_REF_NAME": "main"}, {"branch": "main"}, layout.BRANCHES),
        ({"GITHUB_HEAD_REF": "main", "GITHUB_REF": "refs/pull/5/merge"}, {}, layout.BRANCHES),
        ({"CI_COMMIT_REF_NAME": "main", "CI_MERGE_REQUEST_IID": "5"}, {}, layout.BRANCHES),
        ({}, {"branch": "main"}, layout.BRANCHES),
    ],
)
@pytest.mark.promise("a-name-makes-no-commit-trusted", "tags-and-requests-are-not-believed")
def test_in_a_job_s_checkout_of_one_commit_the_provider_must_say_that_it_is_the_branch_s(
    zone_of, checkout, tmp_path, environ, variables, zone
):
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", "job")
    job = tmp_path / "job"
    git(job, "checkout", "-q", "--detach")
    git(job, "branch", "-qD", "main")
    git(job, "remote", "remove", "origin")
    git(job, "tag", "main")
    here = dict.fromkeys(("GITHUB_SHA", "CI_COMMIT_SHA", "BITBUCKET_COMMIT"), git(job, "rev-parse", "HEAD"))
    assert zone_of(job, {**environ, **here}, **variables) == zone


@pytest.mark.parametrize(
    ("action", "who"),
    [
        ("s3:PutObject", ["compiler", "builder"]),  # a presigned URL has the rights of its signer
        ("s3:GetObject", [each for each in ROLES if each not in ("driller", "pruner")]),  # of backups only
        ("s3:DeleteObject", ["sweeper"]),  # in a batch too, which moto does not check
        ("s3:DeleteObjectVersion", []),
        ("s3:PutObjectAcl", []),
        ("s3:BypassGovernanceRetention", []),
    ],
)
@pytest.mark.promise("sweeper-deletes-what-is-swept")
def test_actions_that_moto_does_not_check_are_held_against_the_policies(action, who):
    for kind in ("layers", "keys", "commits", "tarballs"):
        resource = f"{BUCKET}/{layout.TRUSTED}/{kind}/{DIGEST}"
        assert [role for role in ROLES if allowed(map(policy, ROLES[role]), action, resource)] == who
