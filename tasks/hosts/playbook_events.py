"""playbook_events: reads Ansible's events: progress, and one sentence when a play fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.hosts.managed import ManagedListener
from tasks.process import printed
from tasks.refusal import Refusal

LINES = 3
"""Lines of a failed command that go into the sentence."""

HIDDEN = "its output is hidden, because it may hold secrets"


ANYWAY = {"validate_argument_spec", "gather_facts", "setup"}
"""Modules that Ansible runs by itself, also where no task of ours is chosen."""

SKIPPED_WITHIN = 0.3
"""Seconds until a task that a condition skips is reported as skipped."""


class PlaybookFailed(Refusal):
    """A task of a playbook failed on a host."""

    sentence = "{stage}: {host}: {role}: {task}: {message}"
    remedy = "doit {stage}"


class PlaybookBroken(Refusal):
    """Ansible could not begin a playbook."""

    sentence = "{stage}: playbooks/{stage}.yml cannot be played: {message}"
    remedy = "ansible-lint --offline playbooks/{stage}.yml"


class PlaybookIdle(Refusal):
    """A playbook ended well, but ran none of its tasks on a host."""

    sentence = "{stage}: {host} ran no task of playbooks/{stage}.yml"
    remedy = "doit {stage}"


class PlaybookEvents:
    """Listens to ansible-runner's events."""

    def __init__(self, *, playbook: str, say: Callable[[str], None], log: Path | None) -> None:
        self.changed = 0
        self.ok = 0
        self.begun = False
        self.unreachable: set[str] = set()
        self.worked_on: set[str] = set()
        self.notes: list[str] = []
        """What a role wants to be known though it is no failure: the lists of its debug tasks."""
        self.recording = ManagedListener()
        self._playbook = playbook
        self._say = say
        self._log = log
        self._failures: list[Mapping[str, Any]] = []
        self._last_words: list[str] = []
        self._soon = threading.Timer(0, print)

    def hear(self, event: Mapping[str, Any]) -> bool:
        """Read one event; False tells ansible-runner not to write it to a file."""
        self._note(str(event.get("stdout") or ""))
        self.recording.hear(event)
        told = event.get("event_data") or {}
        match event.get("event"):
            case "playbook_on_task_start" | "playbook_on_handler_task_start":
                self.begun = True
                self._begin(": ".join(filter(None, [told.get("role"), told.get("task")])))
            case "runner_on_ok" if _short(told) not in ANYWAY:
                self.worked_on.add(told["host"])
                noted = (told.get("res") or {}).get("msg")
                if _short(told) == "debug" and isinstance(noted, list):
                    self.notes += noted
            case "runner_on_skipped":
                self._soon.cancel()
            case "runner_on_failed" if not told.get("ignore_errors"):
                self._failures.append(told)
            case "runner_on_unreachable":
                self._failures.append(told)
                self.unreachable.add(told["host"])
            case "playbook_on_stats":
                self.changed = sum(told["changed"].values())
                self.ok = sum(told["ok"].values())
        return False

    def _begin(self, words: str) -> None:
        """Show a task, once it can no longer be one that is skipped."""
        self._soon.cancel()
        if "Validating arguments" not in words:  # Ansible's own, of every role
            self._soon = threading.Timer(SKIPPED_WITHIN, self._say, [words])
            self._soon.daemon = True
            self._soon.start()

    def close(self) -> None:
        """Show nothing more."""
        self._soon.cancel()

    def failure(self) -> Refusal:
        """The refusal of a play that failed.

        It names the first failed task. If the role then reports the state of that host by `fail` or `assert`, that
        report is the message.
        """
        if not self._failures:
            return PlaybookBroken(stage=self._playbook, message=" ".join(self._last_words))
        first = self._failures[0]
        own = [told for told in self._failures if told.get("host") == first.get("host")]
        said = [told for told in own if _is_sentence(told)]
        report = message((said[-1] if said else first).get("res") or {})
        return PlaybookFailed(
            stage=self._playbook,
            host=first.get("host", ""),
            role=first.get("role") or self._playbook,
            task=first.get("task", ""),
            message=report,
        )

    def _note(self, output: str) -> None:
        lines = [line.rstrip() for line in output.splitlines() if line.strip()]
        self._last_words = (self._last_words + lines)[-LINES:]
        if self._log and lines:
            with self._log.open("a") as log:
                log.write("\n".join(lines) + "\n")


def message(result: Mapping[str, Any]) -> str:
    """A failed task's reason in one line, without what the task hides."""
    items = [item for item in result.get("results", []) if item.get("failed")]
    result = items[0] if items else result
    if "censored" in result:
        return HIDDEN
    said = str(result.get("msg", "")).splitlines()
    output = str(result.get("stderr") or (result.get("stdout") if result.get("rc") else "") or "")
    lines = printed.reason(output, LINES)
    if not result.get("rc"):  # no command failed: the module's message says what it tried
        lines = said + lines
    lines = lines or said
    return " / ".join(line.strip() for line in lines if line.strip())


def _is_sentence(told: Mapping[str, Any]) -> bool:
    return _short(told) in {"fail", "assert"}


def _short(told: Mapping[str, Any]) -> str:
    """The name of a task's module, without its collection."""
    return str(told.get("task_action", "")).rpartition(".")[2]
