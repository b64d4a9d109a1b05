"""One run at a time changes an environment: which run waits, which takes over, which stops, and what it no longer writes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tasks import clock
from tasks.bucket import create, lease
from tasks.bucket.create import BucketGone
from tasks.bucket.lease import EnvironmentHeld, Lease, LeaseLost, LeaseUnreadable
from tasks.bucket.store import BucketForbidden, RecordTaken
from tasks.clock import Clock
from tasks.cloud.embedded.faults import YOUNG
from tasks.cloud.embedded.home import Home
from tasks.graph.state import BucketState, Records
from tasks.infrastructure import find
from tasks.infrastructure import stage as infrastructure
from tasks.process.threads import Threads
from tests.cloud.embedded.conftest import REGION, Server, faulty  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in, secrets_of
from tests.conftest import ROOT, copy_project, doit, until
from tests.graph.test_state import Twice, saved

TTL = 3.0
PATIENCE = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server without containers, where doit looks for the user's cloud."""
    made = Server(Home(folder=tmp_path_factory.mktemp("state") / "release-pipeline" / "cloud"))
    made.home.folder.parent.mkdir()
    made.start()
    yield made
    made.kill()


@pytest.fixture
def run(checkout, server):
    made = run_in(checkout, QuietCloud(REGION, server.home.load()), branch=checkout.parent.name)
    infrastructure.share(made)
    return made


def another(run):
    """Another person's run in the same environment."""
    named = {"branch": run.named_branch} if run.named_branch else {}
    return run_in(run.root, run.cloud, **named)


def body(run, key=None):
    key = key or Lease(run).key
    return json.loads(run.cloud.client("s3").get_object(Bucket=run.bucket, Key=key)["Body"].read())


def elsewhere(run, seen=None, **changes):
    """The lease as a run on another machine has written it."""
    holder = lease.dataclasses.asdict(lease.this_process(another(run), TTL))
    holder |= {"host": "elsewhere", "machine": "elsewhere", **changes}
    return run.store.write(Lease(run).key, holder, seen=seen)


def theft_from(run, robbed):
    """The lease taken from its holder, whose signs of life go on: one may come between our look and our write."""
    while True:
        try:
            return elsewhere(run, seen=run.store.read(robbed.key).etag, by="thief@elsewhere")
        except RecordTaken:
            assert not robbed.lost


PROGRAM = """
    import sys, time
    from pathlib import Path
    from tasks.bucket.lease import Lease
    from tasks.cloud.embedded import client
    from tasks.cloud.embedded.home import Home
    from tasks.process import children
    from tests.clouds import run_in

    home, root, branch, words = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    def run():
        return run_in(Path(root), client.Embedded("eu-central-1", Home(folder=Path(home)).load), branch=branch)
"""


def program(run, server, text, *words):
    """A process with a run of its own."""
    code = textwrap.dedent(PROGRAM) + textwrap.dedent(text)
    arguments = [str(server.home.folder), str(run.root), run.named_branch, *words]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    )


HOLDS = f"""
    held = Lease(run(), ttl={TTL})
    held.take()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.promise("lease-for-what-changes", "two-jobs-one-writer")
def test_of_six_processes_in_twelve_sections_each_no_two_are_in_one_at_once(run, server, tmp_path):
    sections = """
        for number in range(12):
            held = Lease(run())
            held.take(300)
            with open(words[0], "x"):
                time.sleep(0.02)
            Path(words[0]).unlink()
            held.free()
            print("entered", flush=True)
            time.sleep(0.05)
    """
    lease.POLL, before = 0.1, lease.POLL
    try:
        text = "\nfrom tasks.bucket import lease\nlease.POLL = 0.05\n" + textwrap.dedent(sections)
        processes = [program(run, server, text, str(tmp_path / "inside")) for _ in range(6)]
        outputs = [each.communicate(timeout=300)[0] for each in processes]
    finally:
        lease.POLL = before
    assert [each.returncode for each in processes] == [0] * 6
    assert sum(output.count("entered") for output in outputs) == 72


@pytest.mark.promise("killed-holder-is-followed", "next-run-knows-an-unclean-end")
def test_a_holder_killed_on_this_machine_is_followed_at_once(run, server):
    holder = program(run, server, HOLDS.replace(f"ttl={TTL}", "ttl=60"))
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(EnvironmentHeld):
        Lease(run).take(0)
    holder.send_signal(signal.SIGKILL)
    # dead, and not waited for: the zombie has its process id
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    follower = Lease(run)
    follower.take(0)  # a living holder would be waited for
    assert follower.unclean
    follower.free()
    assert body(run)["unclean"] is True  # no run has cleaned up the hosts in between
    holder.wait()


@pytest.mark.promise("killed-holder-is-followed")
def test_a_silent_holder_elsewhere_is_followed_after_its_time_to_live(run):
    elsewhere(run)
    follower = Lease(run, ttl=TTL)
    with pytest.raises(EnvironmentHeld):
        follower.take(0)
    follower.take()  # it waits as long as it takes to know that the holder is dead
    assert follower.unclean
    follower.free()


@pytest.mark.promise(
    "killed-holder-is-followed",
    "theft-is-noticed",
    "held-lease-is-waited-for",
    "no-bucket-no-writer",
    "dead-network-does-not-hang",
)
def test_the_seconds_of_the_pages_are_those_of_the_code(run):
    """The tests beside this one have short times."""
    own, waits = Lease(run), []
    assert (own._me.ttl, own._me.ttl / lease.BEATS, own._me.ttl * lease.SILENCE, lease.FREEING) == (
        60,
        20,
        54,
        10,
    )
    elsewhere(run, ttl=100)
    passed = [0.0]

    class Hurried(Threads):
        def wait(self, seconds, stage):
            waits.append(seconds)
            passed[0] += seconds

    hurried = dataclasses.replace(run, threads=Hurried(), clock=Clock(since_boot=lambda: passed[0]))
    with pytest.raises(EnvironmentHeld):
        Lease(hurried).take()
    assert sum(waits) == pytest.approx(80, abs=1)


@pytest.mark.promise("held-lease-is-waited-for", "holder-is-named")
def test_a_living_holder_is_waited_for_and_named(run, server):
    holder, said = program(run, server, HOLDS), []
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(EnvironmentHeld, match=r"last sign of life [01] s ago\n    doit --wait 600 release"):
        Lease(run, ttl=TTL).take(say=said.append)
    assert re.fullmatch(rf"waits for .+@.+ on .+ \(process {holder.pid}: doit .*, since .* UTC\)", said[0])
    holder.kill()
    holder.wait()


@pytest.mark.promise("next-run-knows-an-unclean-end")
def test_a_normal_end_is_followed_at_once_and_is_clean(run):
    first = Lease(run)
    first.take(0)
    first.free()
    second = Lease(another(run))
    second.take(0)
    assert not second.unclean
    second.free()


def test_a_lease_that_goes_with_its_environment_leaves_nothing_unless_another_run_has_taken_it(run):
    first = Lease(run)
    first.take(0)
    first.free(remove=True)
    assert not first.look().etag
    first = Lease(run)
    first.take(0)
    found = first.look()
    elsewhere(run, seen=found.etag)
    first.free(remove=True)
    assert first.look().holder.host == "elsewhere"


def test_an_interrupted_run_frees_the_lease_as_unclean(run):
    first = Lease(run)
    first.take(0)
    first.free(unclean=True)
    second = Lease(another(run))
    second.take(0)
    assert second.unclean
    second.free()


@pytest.mark.promise("killed-holder-is-followed")
def test_a_sign_of_life_keeps_the_lease(run):
    holder = Lease(run, ttl=TTL)
    holder.take()
    with pytest.raises(EnvironmentHeld):
        Lease(another(run), ttl=TTL).take(TTL * 2)
    holder.check()
    holder.free()
    assert body(run)["free"] is True


@pytest.mark.promise("theft-is-noticed")
def test_a_theft_is_noticed_with_the_next_sign_of_life_and_nothing_can_be_written(run):
    told = threading.Event()
    robbed = Lease(run, ttl=TTL, on_lost=told.set)
    robbed.take()
    thief = theft_from(run, robbed)
    assert told.wait(PATIENCE)
    state = BucketState(Records(run=run), None)
    state.lease = robbed
    for write in (lambda: state.set("server", "deps:", []), robbed.check):
        with pytest.raises(LeaseLost, match=r"held by thief@elsewhere on elsewhere"):
            write()
    assert not BucketState(Records(run=run), None).in_("server")
    robbed.free()
    assert run.store.read(robbed.key).etag == thief


@pytest.mark.promise("lost-lease-stops", "a-record-asks-for-the-lease")
def test_a_theft_between_two_signs_of_life_is_noticed_before_a_record_is_written(run):
    told = threading.Event()
    robbed = Lease(run, on_lost=told.set)
    robbed.take()
    state = BucketState(Records(run=run), None)
    state.lease = robbed
    state.set("tarball", "deps:", [])
    elsewhere(run, seen=run.store.read(robbed.key).etag)
    with pytest.raises(LeaseLost):
        state.set("server", "deps:", [])
    assert told.is_set()
    assert not BucketState(Records(run=run), None).in_("server")
    assert BucketState(Records(run=run), None).in_("tarball")


class Deaf:
    """An S3 client whose requests fail once it is told so."""

    def __init__(self, client):
        self.client, self.deaf = client, False

    def __getattr__(self, name):
        return getattr(self.client, name)

    def put_object(self, **request):
        if self.deaf:
            raise OSError("no route")
        return self.client.put_object(**request)


@pytest.mark.promise("no-bucket-no-writer", "both-sides-measure-silence")
def test_a_holder_that_cannot_reach_the_bucket_stops_before_another_may_follow(run):
    deaf, told = Deaf(run.cloud.client("s3")), threading.Event()
    run.cloud._clients["s3"] = deaf
    passed, asked = [0.0], [0]

    def now():
        asked[0] += 1
        return passed[0]

    holder = Lease(dataclasses.replace(run, clock=Clock(since_boot=now)), ttl=TTL, on_lost=told.set)
    holder.take()
    deaf.deaf = True
    passed[0] = TTL * lease.SILENCE - 0.01
    before = asked[0]
    until(lambda: asked[0] > before + 3)
    assert not told.is_set()
    passed[0] = TTL * lease.SILENCE + 0.01
    assert passed[0] < TTL, "another run follows later"
    assert until(told.is_set)
    with pytest.raises(LeaseLost, match="no sign of life got through"):
        holder.check()


class Unheard(Deaf):
    """Writes get through, their answers do not, every other time."""

    def put_object(self, **request):
        answer = self.client.put_object(**request)
        self.deaf = not self.deaf
        if self.deaf:
            raise OSError("connection reset")
        return answer


@pytest.mark.promise("every-write-is-unique")
def test_a_write_whose_answer_was_lost_is_recognised(run):
    client = run.cloud.client("s3")
    run.cloud._clients["s3"] = Twice(run.cloud)
    holder = Lease(run, ttl=1.5)
    holder.take(0)
    run.cloud._clients["s3"] = unheard = Unheard(client)
    holder._store = run.store
    time.sleep(2)
    holder.check()
    unheard.deaf = True  # so that the last one is heard
    holder.free()
    assert body(run)["free"] is True


def test_on_a_cloud_that_answers_409_now_and_then_it_is_the_same(checkout, faulty):  # noqa: F811
    run = run_in(checkout, faulty)
    infrastructure.share(run)
    for number in range(YOUNG):  # what a young bucket does is another test's
        run.store.put(f"state/{number}", b"")
    for _ in range(5):
        holder = Lease(run, ttl=TTL)
        holder.take(0)
        with pytest.raises(EnvironmentHeld):
            Lease(another(run), ttl=TTL).take(0)
        holder.check()
        holder.free()


class Waits(Threads):
    """Threads that note how long they were to wait, and go on at once."""

    def __init__(self):
        self.seconds = []

    def wait(self, seconds, stage):
        self.seconds.append(seconds)


@pytest.mark.parametrize("damaged", [b"{", b"[]", b"{}", b'{"free": "yes"}', b'{"run": 1, "pid": "x"}', b""])
@pytest.mark.promise("damaged-lease-is-nobodys")
def test_a_damaged_lease_cannot_be_taken_until_it_is_unlocked(run, damaged):
    run.cloud.client("s3").put_object(Bucket=run.bucket, Key=Lease(run).key, Body=damaged)
    with pytest.raises(LeaseUnreadable, match=r"its holder is unknown.*\n    doit unlock"):
        Lease(run).take(0)
    waits = Waits()
    Lease(dataclasses.replace(run, threads=waits), ttl=TTL).seize(lambda words: None)
    (waited,) = waits.seconds
    assert waited > TTL * lease.SILENCE - 1, "its unknown holder may still write"
    follower = Lease(run)
    follower.take(0)
    assert follower.unclean
    follower.free()


@pytest.mark.promise("unlock-waits")
def test_unlocking_waits_until_a_living_holder_has_noticed(run):
    told = threading.Event()
    holder = Lease(run, ttl=TTL, on_lost=told.set)
    holder.take()
    Lease(another(run)).seize(lambda words: None)
    assert told.is_set()
    Lease(another(run)).take(0)


class DeafStore:
    """A store whose cloud does not answer any more, once `silent` is set."""

    def __init__(self, store):
        self.store, self.silent, self.hanging = store, threading.Event(), False

    def __getattr__(self, name):
        if self.silent.is_set():
            self.hanging = True
            time.sleep(60)
            self.hanging = False
        return getattr(self.store, name)


def deaf(run):
    return dataclasses.replace(run, store=DeafStore(run.store))


@pytest.mark.promise("unlock-waits")
def test_unlocking_waits_longer_than_a_holder_without_a_network_may_write(run):
    run, lost = deaf(run), threading.Event()
    holder = Lease(run, ttl=TTL, on_lost=lost.set)
    holder.take()
    run.store.silent.set()
    Lease(another(dataclasses.replace(run, store=run.store.store))).seize(lambda words: None)
    assert lost.is_set()


@pytest.mark.promise("suspend-counts")
def test_time_in_suspend_counts_as_silence(run):
    """The machine wakes up after an hour: another run may have the lease."""
    slept, lost = [0.0], threading.Event()
    suspended = Clock(since_boot=lambda: time.monotonic() + slept[0])
    holder = Lease(dataclasses.replace(run, clock=suspended), ttl=20.0, on_lost=lost.set)
    holder.take()
    slept[0] = 3600.0
    assert lost.wait(6)  # the next sign of life is due later
    assert "no sign of life" in holder.lost.text


class LateAnswer:
    """A store whose first write takes effect at once; its answer comes when the lease has run out."""

    def __init__(self, store, passed):
        self.store, self.passed, self.writes = store, passed, 0

    def __getattr__(self, name):
        return getattr(self.store, name)

    def write(self, *arguments, **how):
        version = self.store.write(*arguments, **how)
        self.writes += 1
        if self.writes == 1:
            self.passed[0] += TTL
        return version


def test_a_lease_that_has_run_out_before_the_answer_came_is_not_held(run):
    passed = [0.0]
    late = LateAnswer(run.store, passed)
    slow = Clock(since_boot=lambda: time.monotonic() + passed[0])
    holder = Lease(dataclasses.replace(run, clock=slow, store=late), ttl=TTL)
    holder.take()
    assert late.writes >= 2, "it took it again"
    holder.free()


@pytest.mark.promise("suspend-counts")
def test_the_systems_clock_goes_on_in_suspend():
    assert "CLOCK_BOOTTIME" in inspect.getsource(clock.SYSTEM.since_boot)


@pytest.mark.promise("dead-network-does-not-hang")
def test_a_lease_is_freed_in_time_on_a_dead_network(run, monkeypatch):
    monkeypatch.setattr(lease, "FREEING", 1.0)
    run = deaf(run)
    holder = Lease(run)
    holder.take()
    run.store.silent.set()
    holder.free()
    assert run.store.hanging, "nobody has waited for the answer"


@pytest.mark.promise("no-secret-in-records", "secrets-are-nowhere-else")
def test_no_secret_is_in_a_lease_or_a_record(run):
    known = secrets_of(run)
    holder = Lease(run)
    holder.take(0)
    facts = infrastructure.converge(run).facts
    assert facts["hosts"]
    values = {"inputs": infrastructure.parts(run), "facts": facts}
    saved(run, "infrastructure:environment", **{"_values_:": values})
    from tasks.release import stage as release
    from tasks.server import stage

    saved(run, "server", **{"_values_:": {"inputs": stage.parts(run)}})
    saved(run, "release", **{"_values_:": {"inputs": release.parts(run)}})
    for key in run.store.keys(""):
        data = run.cloud.client("s3").get_object(Bucket=run.bucket, Key=key)["Body"].read()
        for secret in (known.database_password, known.crypt_key, known.deploy_key.splitlines()[2]):
            assert secret.encode() not in data, key
    holder.free()


# --- the bucket: missing, gone, unreadable, read-only ---------------------------------------------


def named(run, bucket):
    return dataclasses.replace(run, store=dataclasses.replace(run.store, chosen=bucket))


def of_project(run, name):
    """The run in a project of its own: the cloud is shared with tests that leave machines."""
    return dataclasses.replace(run, pipeline=dataclasses.replace(run.pipeline, name=name))


@pytest.mark.promise("missing-bucket-is-made")
def test_of_two_first_runs_without_a_bucket_one_proceeds(checkout, server):
    runs = [
        named(of_project(run_in(checkout, QuietCloud(REGION, server.home.load())), "first"), "first-releases")
        for _ in range(4)
    ]
    proceeded, refused, begin = [], [], threading.Barrier(len(runs))

    def first(run):
        begin.wait()
        held = Lease(run)
        try:
            held.take(0)
            proceeded.append(held)
        except EnvironmentHeld:
            refused.append(run)

    threads = [threading.Thread(target=first, args=(each,)) for each in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(proceeded), len(refused)) == (1, 3)
    infrastructure.share(runs[0])
    assert create.bucket_exists(runs[0].store, runs[0].pipeline.name)
    proceeded[0].free()


@pytest.mark.promise("gone-bucket-is-refused")
def test_a_missing_bucket_is_refused_where_machines_have_our_tags(run):
    run = of_project(run, "moved")
    infrastructure.converge(run)
    run = named(run, "not-where-it-was")
    for make in (lambda: Lease(run).take(0), lambda: infrastructure.share(run)):
        with pytest.raises(BucketGone, match=r"not-where-it-was is gone, and i-[0-9a-f]+ of moved are still"):
            make()
    with pytest.raises(run.cloud.client("s3").exceptions.ClientError):
        run.cloud.client("s3").head_bucket(Bucket="not-where-it-was")
    ours = [each.id for each in find.everything(run).machines]
    run.cloud.client("ec2").terminate_instances(InstanceIds=ours)
    infrastructure.share(run)


def denied(run, *actions):
    """From now on the bucket's policy denies these actions to everybody."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": list(actions),
                "Resource": f"arn:aws:s3:::{run.bucket}/*",
            }
        ],
    }
    run.cloud.client("s3").put_bucket_policy(Bucket=run.bucket, Policy=json.dumps(policy))


@pytest.mark.parametrize(
    ("actions", "sentence"),
    [
        (["s3:GetObject"], r"does not let us read leases/.* \(.+\)"),
        (["s3:PutObject"], r"does not let us write leases/.* \(.+\)"),
    ],
)
@pytest.mark.promise("forbidden-bucket-is-named")
def test_a_bucket_that_refuses_is_named_and_nothing_is_lost(checkout, server, actions, sentence):
    run = run_in(checkout, QuietCloud(REGION, server.home.load()))
    named(run, f"no-{actions[0][3:].lower()}")
    infrastructure.share(run)
    saved(run, value=1)
    denied(run, *actions)
    with pytest.raises(BucketForbidden, match=sentence):
        Lease(run).take(0)
    state = BucketState(Records(run=run), None)
    with pytest.raises(BucketForbidden):
        state.void("server")
    run.cloud.client("s3").delete_bucket_policy(Bucket=run.bucket)
    assert BucketState(Records(run=run), None).get("server", "value") == 1


# --- what is typed --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of this repository, whose commands find the cloud without containers."""
    return copy_project(tmp_path_factory.mktemp("project") / "shop")


@pytest.fixture
def typed(project, server, monkeypatch):
    """Run doit in the project, in that cloud."""
    monkeypatch.setenv("XDG_STATE_HOME", str(server.home.folder.parents[1]))

    def call(*arguments):
        return doit(project, *arguments)

    return call


@pytest.fixture
def held(project, server):
    """The project's environment, held by a run on another machine."""
    run = run_in(project, QuietCloud(REGION, server.home.load()))
    infrastructure.share(run)
    document = Lease(run).look()
    elsewhere(run, seen=document.etag, ttl=600, by="kim@elsewhere", command="doit release")
    return run


@pytest.mark.promise("lease-for-what-changes", "reading-needs-no-lease")
def test_what_changes_an_environment_needs_the_lease_and_the_rest_does_not(project):
    code = "import dodo, tasks.commands.run as c; from doit.loader import load_tasks; from tasks.graph.stage import properties; "
    code += "t = load_tasks(vars(dodo)); "
    code += "print([any(properties(e).leased for e in t if e.name in c.selected(t, [n])) for n in ('tarball', 'release', 'server', 'teardown', 'inf*')])"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert printed == "[False, True, True, True, True]\n"


@pytest.mark.promise("holder-is-named", "wait-zero", "release-means-testing")
def test_a_run_that_does_not_wait_names_the_holder(held, typed):
    answered = typed("--wait", "0", "release")
    assert "waits for" not in answered.stdout + answered.stderr
    assert answered.returncode == 1
    assert re.search(
        r"lease: testing-\w+ is held by kim@elsewhere on elsewhere \(process \d+: doit release, since .* UTC\)"
        r"; last sign of life \d+ s ago\n",
        answered.stderr,
    ), answered.stderr
    assert "Traceback" not in answered.stderr
    assert "released" not in answered.stdout


@pytest.mark.promise("reading-needs-no-lease")
def test_reading_needs_no_lease(held, typed):
    for command in (["list"], ["list", "--deps"], ["graph"], ["plan", "tarball"]):
        assert typed(*command).returncode == 0, command


@pytest.mark.promise("unlock-asks")
def test_unlocking_without_a_yes_is_refused_and_with_one_it_names_the_holder(held, typed):
    refused = typed("unlock")
    assert refused.returncode == 1
    assert "held by kim@elsewhere" in refused.stderr
    assert "\n    doit status" in refused.stderr
    assert Lease(held).look().holder.by == "kim@elsewhere"
    elsewhere(held, seen=Lease(held).look().etag, ttl=1, by="kim@elsewhere")
    time.sleep(2.1)
    taken = typed("unlock", "--yes")
    assert taken.returncode == 0, taken.stderr
    assert "is taken from kim@elsewhere on elsewhere" in taken.stdout
    assert "is not held" in typed("unlock").stdout


@pytest.mark.promise("records-are-not-overwritten")
def test_a_record_taken_in_the_middle_is_named(run):
    state = BucketState(Records(run=run), None)
    state.get("server", "x")
    saved(dataclasses.replace(run, id="another"))
    with pytest.raises(RecordTaken):
        state.set("server", "deps:", [])
