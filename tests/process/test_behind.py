"""Work behind a run: nobody waits for it but who needs it, and the run's end."""

from __future__ import annotations

import os
import threading

import pytest

from tasks.process import behind, children


def test_nobody_waits_for_it_but_who_asks_and_the_end():
    go, done = threading.Event(), []

    def work():
        go.wait(10)
        done.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return "made"

    here = os.getpriority(os.PRIO_PROCESS, 0)
    begun = behind.begin("work", work)
    assert done == []
    go.set()
    behind.finish()
    assert begun.result() == "made"
    assert done == [min(19, here + behind.KINDNESS)] or done == [behind.KINDNESS]
    assert os.getpriority(os.PRIO_PROCESS, 0) == here


def test_what_went_wrong_is_told_at_the_end_once_and_to_who_asks():
    def fails():
        raise KeyError("lost")

    begun = behind.begin("work", fails)
    with pytest.raises(KeyError, match="lost"):
        behind.finish()
    behind.finish()
    with pytest.raises(KeyError, match="lost"):
        begun.result()


def test_the_end_does_not_wait_for_what_is_not_awaited():
    go = threading.Event()
    begun = behind.begin("work", go.wait, awaited=False)
    behind.finish()
    assert not begun.done()
    go.set()
    assert begun.result()


def test_a_kind_command_is_kind_to_other_sessions_too():
    said = children.run([*behind.KINDLY, "sh", "-c", "nice; cat /proc/self/autogroup"])
    assert said.splitlines()[0] == "19"
    assert said.splitlines()[1].endswith(" nice 19")


def test_it_runs_also_where_sessions_share_the_processor_in_another_way():
    words = [word.replace("/proc/self/autogroup", "/proc/none") for word in behind.KINDLY]
    assert children.run([*words, "echo", "a  b"]) == "a  b"
