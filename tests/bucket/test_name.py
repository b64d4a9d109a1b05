"""Names of buckets are the world's: ours has the account's id, another's is not written to, and a former one is kept."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.bucket import create, name
from tasks.bucket.name import BucketTaken
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import QuietCloud, run_in

PLACE = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}


@pytest.fixture
def run(checkout, server):  # noqa: F811
    return named(checkout, server, "shop")


def named(checkout, server, project):  # noqa: F811
    settings = checkout / "pipeline.yml"
    settings.write_text(settings.read_text().replace("name: shop", f"name: {project}"))
    return run_in(checkout, QuietCloud(REGION, server.home.load()), branch="one")


def asked(run):
    calls = []
    run.cloud.client("s3").meta.events.register("before-call", lambda model, **_: calls.append(model.name))
    return calls


def taken(server, *names):  # noqa: F811
    (server.home.folder / "taken").write_text(" ".join(names))


@pytest.mark.promise("bucket-has-the-account-s-name")
def test_a_new_bucket_has_the_account_and_the_region_in_its_name(checkout, server):  # noqa: F811
    run = named(checkout, server, "fresh")
    assert run.bucket == "fresh-123456789012-eu-central-1"
    create.make_bucket(run.store, "fresh", REGION)
    again = named(checkout, server, "fresh")
    calls = asked(again)
    assert (again.bucket, create.bucket_exists(again.store, "fresh")) == (run.bucket, True)
    assert calls == ["GetBucketTagging"], "the look for the name is the look whether it is complete"


def test_a_long_name_is_cut():
    made = name.default(62 * "a", "123456789012", "ap-southeast-2")
    assert len(made) == name.MOST
    assert made.endswith("aaa-123456789012-ap-southeast-2")


@pytest.mark.promise("former-bucket-is-kept")
def test_a_bucket_of_ours_under_the_former_name_is_kept(checkout, server):  # noqa: F811
    run = named(checkout, server, "former")
    store = dataclasses.replace(run.store, chosen="former-releases")
    create.make_bucket(store, "former", REGION)
    again = named(checkout, server, "former")
    assert again.bucket == "former-releases"
    assert create.bucket_exists(again.store, "former")


@pytest.mark.promise("another-s-bucket-is-not-used")
def test_the_former_name_in_another_account_is_not_taken_for_ours(checkout, server):  # noqa: F811
    taken(server, "stranger-releases")
    assert named(checkout, server, "stranger").bucket == "stranger-123456789012-eu-central-1"


@pytest.mark.promise("another-s-bucket-is-not-used")
def test_a_name_that_another_account_has_is_refused_with_what_to_set(checkout, server):  # noqa: F811
    taken(server, "unlucky")
    run = named(checkout, server, "unlucky-one")
    store = dataclasses.replace(run.store, chosen="unlucky")
    with pytest.raises(
        BucketTaken, match=r"unlucky is another account's.*\(pipeline.yml: bucket\)\n    \$EDITOR"
    ):
        create.make_bucket(store, "unlucky-one", REGION)
    with pytest.raises(BucketTaken):
        store.write("state/x.json", {}, seen=None)
    with pytest.raises(BucketTaken):
        store.read("state/x.json")


@pytest.mark.promise("another-s-bucket-is-not-used")
def test_nothing_is_written_to_another_s_bucket_that_lets_everybody_in(checkout, server, run):  # noqa: F811
    taken(server, "open-to-all")
    s3 = run.cloud.client("s3")
    s3.put_object(Bucket="open-to-all", Key="x", Body=b"theirs", ExpectedBucketOwner="210987654321")
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.put_object(Bucket="open-to-all", Key="x", Body=b"ours")
    with pytest.raises(s3.exceptions.ClientError, match="403"):
        s3.head_object(Bucket="open-to-all", Key="x")


def test_the_default_name_in_another_account_is_refused(checkout, server):  # noqa: F811
    taken(server, "squat-123456789012-eu-central-1")
    with pytest.raises(BucketTaken):
        _ = named(checkout, server, "squat").bucket


@pytest.mark.parametrize("code", ["OperationAborted", "NoSuchBucket"])
@pytest.mark.promise("a-new-bucket-is-waited-for")
def test_a_request_that_comes_too_early_is_repeated(checkout, server, code):  # noqa: F811
    run = named(checkout, server, f"early-{code.lower()}")
    waited, left = [], {"PutBucketVersioning": 2, "PutBucketTagging": 1}
    s3 = run.cloud.client("s3")

    def early(model, **_):
        if left.get(model.name, 0):
            left[model.name] -= 1
            told = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 409}}
            raise s3.exceptions.ClientError(told, model.name)

    s3.meta.events.register("before-call", early)
    store = dataclasses.replace(run.store, pause=waited.append)
    create.make_bucket(store, run.pipeline.name, REGION)
    assert create.bucket_exists(store, run.pipeline.name)
    assert waited == [0.5, 1.0, 0.5]


@pytest.mark.promise("plain-http-is-denied")
def test_the_bucket_denies_what_comes_without_tls(checkout, server):  # noqa: F811
    run = named(checkout, server, "plain")
    create.make_bucket(run.store, "plain", REGION)
    told = run.cloud.client("s3").get_bucket_policy(Bucket=run.bucket)["Policy"]
    assert '"aws:SecureTransport": "false"' in told
    assert run.bucket in told


def test_a_presigned_url_names_no_owner(run):
    url = run.cloud.client("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    assert "owner" not in url.lower()
