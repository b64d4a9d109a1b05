"""drift: asks the hosts whether they are still as their ledgers say, before a provisioning is skipped."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from doit import Globals

from tasks.cloud.interface import HostDown
from tasks.graph.inputs import Unasked
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.hosts import MachineFacts
from tasks.refusal import Refusal
from tasks.server import ledger, ledger_host, renewal

if TYPE_CHECKING:
    from tasks.hosts.ssh import Host
    from tasks.run import Run
    from tasks.server.ledger import Ledger

UPSTREAM = "infrastructure:environment"


class AsRecorded:
    """A stage's `world`: compares every host with what the last provisioning left, and its certificate with the one that is kept.

    `begin` asks in a thread, so that the answer is there when it is needed. `unknown_files`: files in folders that the roles
    fill, which neither a role nor a package has written.
    """

    announced = True

    def __init__(self, playbook: str) -> None:
        self.playbook = playbook
        self.unknown_files: list[str] = []
        self.seconds = 0.0
        self._early: Future[tuple[list[str], Answers]] | None = None

    def begin(self, run: Run) -> None:
        """Start to ask the hosts that the last successful run has recorded."""
        if self._early is None:
            early: Future[tuple[list[str], Answers]] = Future()
            self._early = early
            # a daemon: a run that does not need the answer does not wait for it
            threading.Thread(target=self._ahead, args=[run, early], daemon=True).start()

    def __call__(self, run: Run) -> list[str]:
        """What has drifted, a sentence each. Raises HostUnreachable and other refusals of SSH."""
        found = _hosts(run)
        asked, answers = self._early_answers()
        if not found or asked != _ids(found):
            try:
                answers = self._ask(run, found)
            except HostDown:  # a plan asks before `infrastructure` has started the machine
                answers = self._ask_those_up(run, found)
        self.unknown_files = [each for answer in answers.values() for each in answer[1]]
        for each in self.unknown_files:
            run.console.event(self.playbook, f"not ours: {each}, in a folder that the roles fill")
        reasons = [each for answer in answers.values() for each in answer[0]]
        return reasons + renewal.differences(run) if found else ["there is no machine yet"]

    def _ahead(self, run: Run, early: Future[tuple[list[str], Answers]]) -> None:
        try:
            found = _recorded_hosts()
            early.set_result((_ids(found), self._ask(run, found)))
        except BaseException as error:  # `__call__` asks again
            early.set_exception(error)

    def _early_answers(self) -> tuple[list[str], Answers]:
        try:
            return self._early.result() if self._early else ([], {})
        except Exception:  # a machine may have been started since
            return [], {}

    def _ask_those_up(self, run: Run, found: Sequence[MachineFacts]) -> Answers:
        answers: Answers = {}
        for each in found:
            try:
                answers |= self._ask(run, [each])
            except HostDown as down:
                answers[each.id] = ([Unasked(down.text.splitlines()[0])], [])
        return answers

    def _ask(self, run: Run, found: Sequence[MachineFacts]) -> Answers:
        recorded = {id: ledger.read(run.store, run.identity, id, self.playbook) for id in _ids(found)}
        answers: Answers = {id: ([f"{id} has no ledger yet"], []) for id in recorded}
        if any(recorded.values()):
            reachable = hosts.reachable(run, found)
            asked = [(each, kept) for each in reachable if (kept := recorded[each.name])]
            begun = time.monotonic()
            with ThreadPoolExecutor(max_workers=len(asked)) as pool:
                probed = pool.map(lambda each: self._probe(run, *each), asked)
                answers |= {host.name: answer for (host, _), answer in zip(asked, probed, strict=True)}
            self.seconds = time.monotonic() - begun
        return answers

    def _probe(self, run: Run, host: Host, known: Ledger) -> tuple[list[str], list[str]]:
        request = {"names": list(known.resources), "folders": known.folders, "files": known.files}
        answer = ledger.ask(run.hosts, host, self.playbook, ledger_host.probe, request)
        drifted = ledger.differences(known.resources, answer["facts"])
        return [f"host drifted: {each}" for each in drifted], answer["strange"]


Answers = dict[str, tuple[list[str], list[str]]]
"""For each host: why it must be provisioned, and its unknown files."""


def _recorded_hosts() -> list[MachineFacts]:
    return hosts.parsed(Globals.dep_manager.get_values(UPSTREAM))


def _hosts(run: Run) -> list[MachineFacts]:
    """The recorded machines; the existing ones where there is no record, or no stage `infrastructure` that makes one."""
    has = run.environment.has("infrastructure")
    if has and (recorded := _recorded_hosts()):
        return recorded
    try:
        if has:  # it was forgotten or interrupted: it will find the machines that are there
            return hosts.known(run, also_stopped=True)
        return infrastructure.existing(run)
    except Refusal:
        return []  # the stage raises it as well


def _ids(found: Sequence[MachineFacts]) -> list[str]:
    return sorted(each.id for each in found)
