"""The question of `doit continue`: on a terminal a yes is needed, in CI the job is the answer."""

from __future__ import annotations

import io
import sys

import pytest
from doit.task import dict_to_task

from tasks.commands import controls
from tasks.graph.stage import Properties
from tasks.promotion import record as promotion_record
from tests.commands.test_run import Stages
from tests.promotion.test_gate import run, server, waiting  # noqa: F401  (fixtures)


class Terminal(io.StringIO):
    """A terminal on which somebody has typed an answer."""

    def isatty(self):
        return True


class Asking(controls.ContinueCommand, Stages):
    """The command as it is, up to its stages, which nobody expects to take any time."""

    def _expected(self):
        return ()


@pytest.mark.parametrize(
    ("typed", "yes", "goes_on"),
    [
        ("y\n", False, True),
        ("\n", False, False),
        ("n\n", False, False),
        ("n\n", True, True),
        (None, False, True),
    ],
)
@pytest.mark.promise("continue-asks")
def test_on_a_terminal_nothing_goes_on_without_a_yes(waiting, monkeypatch, typed, yes, goes_on):  # noqa: F811
    meta = {"run": waiting, "properties": Properties(leased=True), "elsewhere": ()}
    command = Asking.__new__(Asking)  # doit makes it from a whole command line
    command.task_list = [dict_to_task({"name": "release", "actions": None, "meta": meta})]
    command.sel_tasks, command.yes = ["release"], yes
    monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
    if goes_on:
        command._refuse_early()
    else:
        with pytest.raises(controls.NotConfirmed):
            command._refuse_early()
    assert promotion_record.read(waiting.store, waiting.commit).state == "waiting"
