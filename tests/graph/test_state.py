"""Records: written per task, voided before a change, and never overwritten without having been read."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tasks.bucket.store import BucketMissing, RecordTaken, Store
from tasks.graph.state import BucketState, Records
from tasks.infrastructure import stage as infrastructure
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in


@pytest.fixture
def run(checkout, server):  # noqa: F811
    made = run_in(checkout, QuietCloud(REGION, server.home.load()), branch=checkout.parent.name)
    infrastructure.share(made)
    return made


def saved(run, task="server", **values):
    state = BucketState(Records(run=run), None)
    for key, value in {**values, "deps:": []}.items():
        state.set(task, key, value)
    return state


def test_a_success_is_there_for_everybody_else(run):
    saved(run, value=1)
    other = BucketState(Records(run=run), None)
    assert other.in_("server")
    assert other.get("server", "value") == 1
    assert not other.in_("release")


def test_nothing_is_written_before_the_last_key(run):
    BucketState(Records(run=run), None).set("server", "value", 1)
    assert not BucketState(Records(run=run), None).in_("server")


def test_a_voided_record_is_no_success(run):
    saved(run, value=1)
    BucketState(Records(run=run), None).void("server")
    assert not BucketState(Records(run=run), None).in_("server")


@pytest.mark.promise("records-are-not-overwritten")
def test_the_second_writer_of_a_record_is_refused(run):
    one, two = BucketState(Records(run=run), None), BucketState(Records(run=run), None)
    assert (one.get("server", "x"), two.get("server", "x")) == (None, None)
    saved(dataclasses.replace(run, id="another"))
    with pytest.raises(RecordTaken, match=r"server\.json was changed by .*@"):
        one.set("server", "deps:", [])


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"doit": 3}', b""])
@pytest.mark.promise("broken-record-is-a-warning")
def test_a_corrupted_record_is_a_warning_and_a_miss(run, body, capfd):
    state = saved(run, value=1)
    run.cloud.client("s3").put_object(Bucket=run.bucket, Key=state.key("server"), Body=body)
    assert not BucketState(Records(run=run), None).in_("server")
    warned = f"{state.key('server')} is no JSON: the task counts as never run" in capfd.readouterr().out
    assert warned is (body != b'{"doit": 3}')
    saved(run, value=2)
    assert BucketState(Records(run=run), None).get("server", "value") == 2


def test_forgetting_is_written_at_the_end(run):
    saved(run, value=1)
    state = BucketState(Records(run=run), None)
    state.remove("server")
    assert BucketState(Records(run=run), None).in_("server")
    state.dump()
    assert not BucketState(Records(run=run), None).in_("server")


def test_forgetting_everything_forgets_this_environment_only(run, checkout):
    other = run_in(checkout, run.cloud, branch="other")
    saved(run, "server")
    saved(run, "infrastructure:environment")
    saved(other, "server")
    state = BucketState(Records(run=run), None)
    state.remove_all()
    state.dump()
    assert not any(
        BucketState(Records(run=run), None).in_(each) for each in ("server", "infrastructure:environment")
    )
    assert BucketState(Records(run=other), None).in_("server")


def test_a_record_says_who_and_when(run):
    state = saved(run)
    record = json.loads(
        run.cloud.client("s3").get_object(Bucket=run.bucket, Key=state.key("server"))["Body"].read()
    )
    assert record["by"] == run.who
    assert record["at"].endswith(" UTC")


def test_without_a_bucket_nothing_is_known_and_voiding_is_no_error(checkout, server):  # noqa: F811
    run = run_in(checkout, QuietCloud(REGION, server.home.load()))
    run = dataclasses.replace(run, store=dataclasses.replace(run.store, chosen="no-such-bucket"))
    state = BucketState(Records(run=run), None)
    assert not state.in_("server")
    state.void("server")
    with pytest.raises(BucketMissing):
        state.set("server", "deps:", [])


class Twice:
    """An S3 client whose every write arrives twice, as when the first response is lost and the SDK retries."""

    def __init__(self, cloud):
        self.s3 = cloud.client("s3")

    def client(self, service):
        """As a cloud gives it."""
        return self

    def __getattr__(self, name):
        return getattr(self.s3, name)

    def put_object(self, **request):
        self.s3.put_object(**request)
        return self.s3.put_object(**request)


@pytest.mark.promise("every-write-is-unique")
def test_a_request_that_was_repeated_recognises_itself(run):
    store = Store(cloud=Twice(run.cloud), chosen=run.bucket)
    first = store.write("twice.json", {"a": 1}, seen=None)
    store.write("twice.json", {"a": 2}, seen=first)
    assert store.read("twice.json").value["a"] == 2


@pytest.mark.promise("records-are-not-overwritten")
def test_equal_values_get_different_versions(run):
    first = run.store.write("same.json", {"a": 1}, seen=None)
    second = run.store.write("same.json", {"a": 1}, seen=first)
    assert first != second
    with pytest.raises(RecordTaken):
        run.store.write("same.json", {"a": 1}, seen=first)


def test_what_a_task_takes_is_remembered_of_the_times_that_it_had_work(run):
    state = BucketState(Records(run=run), None)
    assert state.expected("server") is None
    for seconds, changed in ((40.0, True), (0.3, False), (44.0, True), (42.0, True)):
        values = {"done": "", "unchanged": "", "changed": changed, "seconds": seconds}
        state.void("server")
        saved(run, "server", _values_=None)
        state = BucketState(Records(run=run), None)
        state.set("server", "_values_:", values)
        state.set("server", "deps:", [])
    assert BucketState(Records(run=run), None).expected("server") == 42.0
    BucketState(Records(run=run), None).void("server")
    assert BucketState(Records(run=run), None).expected("server") == 42.0


class Held:
    """A lease that is not lost."""

    def check(self):
        pass


def leased(run):
    state = BucketState(Records(run=run), None)
    state.lease = Held()
    return state


def test_a_first_success_that_comes_late_is_not_believed_once_another_run_acts(run):
    """The first run stood still before it wrote its first record; meanwhile another has taken its lease, and acts."""
    late, follower = leased(run), leased(dataclasses.replace(run, id="another"))
    assert not late.in_("server")
    late.void("server")
    follower.void("server")
    with pytest.raises(RecordTaken):
        late.set("server", "deps:", [])
    assert not BucketState(Records(run=run), None).in_("server")


def test_a_run_s_own_write_is_no_other_run_s_if_its_answer_was_lost(run):
    state = saved(run, value=1)
    state.seen["server"] = "the version before"
    state.void("server")
    assert not BucketState(Records(run=run), None).in_("server")
    other = BucketState(Records(run=dataclasses.replace(run, id="another")), None)
    other.seen["server"], other.records["server"] = "the version before", {}
    with pytest.raises(RecordTaken):
        other.set("server", "deps:", [])


class Overtaken:
    """A store in which another run writes a record just before this run reads it again."""

    def __init__(self, store, write):
        self.store, self.write_other = store, write

    def __getattr__(self, name):
        return getattr(self.store, name)

    def read(self, key):
        self.write_other()
        return self.store.read(key)


def test_the_run_that_wrote_last_is_named(run):
    saved(run, value=1)
    other = dataclasses.replace(run, id="another", who="lee@there")
    store = Overtaken(run.store, lambda: BucketState(Records(run=other), None).void("server"))
    state = BucketState(Records(run=dataclasses.replace(run, store=store)), None)
    state.seen["server"], state.records["server"] = "the version before", {}
    with pytest.raises(RecordTaken, match="was changed by lee@there in the meantime"):
        state.set("server", "deps:", [])
