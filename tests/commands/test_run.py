"""run: what is asked again once the lease is held, what an interruption leaves, and what a lost lease ends."""

from __future__ import annotations

import dataclasses
import signal
import threading
from types import SimpleNamespace

import doit.cmd_run
import pytest
from doit.task import dict_to_task

from tasks.bucket import layout
from tasks.bucket.lease import Lease, LeaseLost, this_process
from tasks.commands import run as running
from tasks.commands.run import RunCommand
from tasks.graph.stage import Properties
from tasks.graph.state import BucketState, Records
from tasks.infrastructure import stage as infrastructure
from tasks.process import children
from tasks.promotion import record as promotion_record
from tasks.refusal import Refusal
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import commit, until
from tests.graph.test_state import saved


class Stages(doit.cmd_run.Run):
    """doit's own part of a run: what it does is handed in."""

    def _execute(self, does):
        return does()


class Typed(RunCommand, Stages):
    """The command as it is, around stages that are functions of a test."""


@pytest.fixture(autouse=True)
def _this_process(monkeypatch):
    """A run marks its process, and takes its signals: it is the last that a process does."""
    monkeypatch.setattr(children, "_marks", [])
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def typed(checkout, server):  # noqa: F811
    """`doit release`, before it runs, in an environment."""
    (checkout / "README.md").write_text(str(checkout))
    commit(checkout)  # of no other test

    def made(**variables):
        run = run_in(checkout, QuietCloud(REGION, server.home.load()), **variables)
        infrastructure.share(run)
        meta = {"run": run, "properties": Properties(leased=True), "elsewhere": ()}
        command = Typed.__new__(Typed)  # doit makes it from a whole command line
        command.task_list = [dict_to_task({"name": "release", "actions": None, "meta": meta})]
        command.sel_tasks, command.wait = ["release"], 0
        command.dep_manager = SimpleNamespace(backend=BucketState(Records(run=run), None))
        return command, run

    return made


@pytest.mark.promise("records-are-read-under-the-lease")
def test_what_was_recorded_until_the_lease_was_taken_is_read_again(typed):
    command, run = typed(branch="records")
    backend = command.dep_manager.backend
    assert not backend.in_("release")
    saved(run, "release", value=1)  # by the run that held the lease
    assert command._execute(does=lambda: backend.get("release", "value")) == 1


@pytest.mark.parametrize(("ends", "unclean"), [(None, False), (KeyboardInterrupt, True), (SystemExit, True)])
@pytest.mark.promise("an-interrupted-run-leaves-a-note")
def test_a_run_that_does_not_end_by_itself_says_so_in_its_lease(typed, ends, unclean):
    command, run = typed(branch="notes")

    def does():
        assert Lease(run).look().holder.run == run.id
        if ends:
            raise ends
        return 0

    if ends:
        with pytest.raises(ends):
            command._execute(does=does)
        assert children.cancelled(), "its children are ended"
    else:
        assert command._execute(does=does) == 0
    found = Lease(run).look()
    assert (found.holder, found.unclean) == (None, unclean)
    run.store.delete(Lease(run).key)


@pytest.mark.promise("lost-lease-stops")
def test_a_run_that_has_lost_its_lease_proves_nothing_at_its_end(typed):
    command, run = typed(environment="staging")
    for key in (layout.CURRENT_RUN, layout.history("staging"), Lease(run).key):
        run.store.delete(key)

    def does():
        """Another run takes the lease, between two signs of life."""
        another = this_process(run_in(run.root, run.cloud, environment="staging"), 60)
        run.store.write(Lease(run).key, dataclasses.asdict(another), seen=Lease(run).look().etag)
        return 0

    with pytest.raises(LeaseLost, match="records nothing more"):
        command._execute(does=does)
    assert [each.state for each in promotion_record.read(run.store, run.commit).steps] == ["started"]
    run.store.delete(Lease(run).key)


@pytest.fixture
def child():
    """A child that a stage waits for in a thread of its own."""
    ended = threading.Event()

    def waits():
        with pytest.raises(Refusal):
            children.run(["sleep", "60"])
        ended.set()

    thread = threading.Thread(target=waits)
    thread.start()
    until(lambda: children._children)
    yield ended
    children.interrupt()
    thread.join()


@pytest.mark.promise("an-interruption-ends-children")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_children_before_anybody_waits_for_a_stage(child, number):
    """doit waits for its threads before it lets the interruption through."""
    with pytest.raises(running._Interrupted):
        running._interrupt(number, None)
    assert until(child.is_set)


@pytest.mark.promise("lost-lease-stops")
def test_the_loss_of_a_lease_ends_the_children_and_wakes_the_run(child):
    woken = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: woken.set())
    running._stop()
    assert until(woken.is_set)
    assert until(child.is_set)
