"""A cache can be poisoned by whoever may write to it: what other branches may write, the default branch never takes."""

from __future__ import annotations

import pytest
from moto.core.authorization import enable_iam_authentication

from tasks.bucket import cache, layout
from tasks.bucket.store import BucketForbidden
from tasks.tarball import stored
from tests.iam import allowed, policy
from tests.test_iam import BUCKET, ROLES, project, run_as  # noqa: F401  (fixtures)

KEY, DIGEST, COMMIT = "a" * 64, "b" * 64, "c" * 40


def poison(run, tmp_path, commit):
    """Everything that a build would leave, with bytes of somebody's own."""
    (tmp_path / "bytes").write_bytes(b"poison")
    ours = cache.of(run)
    for kind, name in (("layers", KEY), ("keys", KEY), ("commits", commit)):
        ours.keep(kind, name, {"digest": DIGEST, "size": 6})
    for kind in ("layers", "tarballs"):
        ours.upload(kind, DIGEST, tmp_path / "bytes")


def test_the_default_branch_takes_nothing_that_another_branch_has_left(run_as, tmp_path):  # noqa: F811
    attacker, builder = run_as("branch"), run_as("builder", branch="main")
    with enable_iam_authentication():
        poison(attacker, tmp_path, builder.commit)
        theirs, ours = cache.of(attacker), cache.of(builder)
        assert theirs.blob("tarballs", DIGEST)
        assert theirs.record("layers", KEY)
        for kind, name in (("layers", KEY), ("keys", KEY), ("commits", builder.commit)):
            assert ours.record(kind, name) is None
        for kind in ("layers", "tarballs"):
            assert ours.blob(kind, DIGEST) is None
            assert list(ours.blobs(kind)) == []
        assert stored.pointer(builder, builder.commit) is None


def test_another_branch_cannot_write_where_the_default_branch_takes_from(run_as, tmp_path):  # noqa: F811
    run = run_as("branch")
    with enable_iam_authentication():
        for kind in ("layers", "keys", "commits", "tarballs"):
            with pytest.raises(BucketForbidden):
                run.store.put(f"{layout.TRUSTED}/{kind}/{KEY}", b"poison")


def test_another_branch_takes_the_default_branch_s_own_before_that_of_others(run_as, tmp_path):  # noqa: F811
    builder, attacker = run_as("builder", branch="main"), run_as("branch")
    with enable_iam_authentication():
        cache.of(builder).keep("layers", KEY, {"digest": "good"})
        poison(attacker, tmp_path, COMMIT)
        assert cache.of(attacker).record("layers", KEY).value["digest"] == "good"


@pytest.mark.parametrize(
    ("action", "who"),
    [
        ("s3:PutObject", ["builder"]),  # a presigned URL may what its signer may
        ("s3:GetObject", list(ROLES)),
        ("s3:DeleteObject", ["sweeper"]),  # in a batch too: moto lets that pass
        ("s3:DeleteObjectVersion", []),
        ("s3:PutObjectAcl", []),
        ("s3:BypassGovernanceRetention", []),
    ],
)
def test_what_moto_cannot_judge_the_evaluator_does(action, who):
    for kind in ("layers", "keys", "commits", "tarballs"):
        resource = f"{BUCKET}/{layout.TRUSTED}/{kind}/{DIGEST}"
        assert [role for role in ROLES if allowed(map(policy, ROLES[role]), action, resource)] == who
