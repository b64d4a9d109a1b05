"""The question of `doit continue`: on a terminal a yes is needed, in CI the job is the answer."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading

import pytest
from doit.task import dict_to_task

from tasks.bucket.store import RecordTaken
from tasks.commands import controls
from tasks.commands import run as running
from tasks.graph import plan
from tasks.graph.stage import Properties
from tasks.process import children
from tasks.promotion import record as promotion_record
from tasks.promotion.rules import NotWaiting
from tests.commands.test_run import Stages
from tests.conftest import until
from tests.promotion.test_gate import run, server, waiting  # noqa: F401  (fixtures)


class Asking(controls.ContinueCommand, Stages):
    """The command as it is, up to its stages: of production's only the release is due, or also the server."""

    due = ("release",)

    def _verdicts(self):
        return [plan.Verdict(task=each, what="run", reasons=()) for each in self.due]


@pytest.fixture
def typed():
    """A terminal: what is written to it, somebody has typed. And a command's standard input."""
    keyboard, screen = os.openpty()
    with os.fdopen(screen) as stdin:
        yield keyboard, stdin
    os.close(keyboard)


@pytest.fixture
def asking(waiting, monkeypatch):  # noqa: F811
    """`doit continue`, under the lease. `looked`: what happened to the hosts."""
    handlers = {each: signal.getsignal(each) for each in running.INTERRUPTED}
    meta = {"run": waiting, "properties": Properties(leased=True), "elsewhere": ()}
    command = Asking.__new__(Asking)  # doit makes it from a whole command line
    command.task_list = [
        dict_to_task({"name": each, "actions": None, "meta": meta}) for each in ("server", "release")
    ]
    command.sel_tasks, command.yes, command.looked = ["release"], False, []

    @contextlib.contextmanager
    def brought(_):
        try:
            command.looked.append("brought")
            yield
        except BaseException:
            command.looked.append("removed")
            raise

    monkeypatch.setattr(controls.ahead, "brought", brought)
    yield command
    for each, handler in handlers.items():
        signal.signal(each, handler)


def begins(command):
    with command.agreed():
        command.looked.append("begins")


@pytest.mark.parametrize(
    ("keys", "yes", "goes_on"),
    [
        (b"y\n", False, True),
        (b"Yes\n", False, True),
        (b"\n", False, False),
        (b"n\n", False, False),
        (b"\x04", False, False),
        (b"", False, False),
        (b"y", False, False),
        (b"n\n", True, True),
        (None, False, True),
    ],
)
@pytest.mark.promise("continue-asks", "without-a-yes-nothing-stays")
def test_on_a_terminal_nothing_goes_on_without_a_yes(asking, waiting, typed, monkeypatch, keys, yes, goes_on):  # noqa: F811
    keyboard, stdin = typed
    asking.yes = yes
    monkeypatch.setattr(sys, "stdin", io.StringIO() if keys is None else stdin)
    monkeypatch.setattr(controls, "PATIENCE", 0.2)
    os.write(keyboard, keys or b"")
    asking._refuse_early()
    if goes_on:
        begins(asking)
    else:
        with pytest.raises(controls.NotConfirmed):
            begins(asking)
    assert asking.looked == ["brought", "begins" if goes_on else "removed"]
    assert signal.getsignal(signal.SIGINT) is running._interrupt  # as before it asked
    assert promotion_record.read(waiting.store, waiting.commit).state == "waiting"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.promise("without-a-yes-nothing-stays")
def test_an_interruption_removes_what_was_brought_before_it_ends_the_children(
    asking, typed, monkeypatch, number
):
    monkeypatch.setattr(sys, "stdin", typed[1])

    def interrupt():
        until(lambda: asking.looked)  # before that, nobody listens for a signal, which would end this process
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    with pytest.raises(running._Interrupted):
        begins(asking)
    assert asking.looked == ["brought", "removed"]
    assert not children.cancelled()  # the removal needs them
    with pytest.raises(running._Interrupted):
        signal.raise_signal(number)
    assert children.cancelled()  # who interrupts it again does not wait for it


def test_what_the_gate_refuses_after_the_yes_is_removed(asking):
    asking.yes = True
    with pytest.raises(RecordTaken), asking.agreed():
        raise RecordTaken(key="runs/1", by="another run")
    assert asking.looked == ["brought", "removed"]


@pytest.mark.promise("nothing-is-brought-where-the-gate-refuses")
def test_where_the_gate_refuses_under_the_lease_nothing_is_brought(asking, waiting):  # noqa: F811
    asking._refuse_early()
    promotion_record.add(waiting.store, waiting.commit, promotion_record.step(waiting, "stopped"))
    with pytest.raises(NotWaiting):
        begins(asking)
    assert asking.looked == []


@pytest.mark.promise("brought-ahead-of-the-yes")
@pytest.mark.parametrize(
    ("due", "looked"), [([], []), (["server", "release"], []), (["release"], ["brought"])]
)
def test_a_release_is_brought_where_nothing_comes_before_it(asking, due, looked):
    asking.yes, asking.due = True, due
    begins(asking)
    assert asking.looked == [*looked, "begins"]
