"""phased: runs a program's phases on several hosts. All of them get through a phase before any begins the next one.

The program is a file of standard Python with a function `main`, which takes the plan and prints its answer as the last line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.console.console import Console
from tasks.hosts.ssh import Host
from tasks.process import printed
from tasks.process.children import Cancelled, CommandFailed
from tasks.refusal import Refusal

UNDO = "undo"
"""The phase in which a host undoes what it has done, where another host has failed."""
LINES = 3
"""Lines of a failed command that go into the sentence."""

Ask = Callable[[Host, str], str]
"""Runs a program on a host and returns what it prints; raises a refusal."""


class PhaseFailed(Refusal):
    """A step of a program failed on a host. The sentence ends with where the host stands."""

    sentence = "{stage}: {host}: {step}: {reason}; {outcome}"
    remedy = "{remedy}"


class OthersNotUndone(Refusal):
    """A step of a program failed on a host, and other hosts have not undone what they had done, or do not say so."""

    sentence = "{first}; {others}"
    remedy = "{remedy}"


@dataclass(frozen=True, kw_only=True)
class Program:
    """`undone`: phases that a host undoes, by its phase `undo`, where another host has failed in them."""

    path: Path
    undone: tuple[str, ...]

    def text(self, plan: Mapping[str, Any], phases: Sequence[str]) -> str:
        """What a host's Python reads."""
        said = json.dumps(json.dumps({**plan, "phases": phases}))
        return f"{self.path.read_text()}\n\nmain(json.loads({said}))\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a host did. `closed`: whether visitors are kept out; `migrated`: whether data was, None where nobody asked; `online`: while it was open; `downtime`: seconds of the
    maintenance that it has ended; `notes`: what is to be known though it is no failure; `late`: what failed once visitors had the release; `steps`, `phases`: names and seconds; `at`: when it
    answered, in seconds since the epoch; `undone`: whether it has undone what failed, or what it was to undo."""

    host: str
    changed: bool = False
    closed: bool = False
    migrated: bool | None = None
    online: bool = False
    downtime: float = 0.0
    notes: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    steps: tuple[tuple[str, float], ...] = ()
    phases: tuple[tuple[str, float], ...] = ()
    at: float = 0.0
    output: str = ""
    undone: bool = False
    refusal: Refusal | None = None

    def lines(self) -> list[str]:
        """For a log: what was done, how long it took, and what failed."""
        done = [f"{self.host}: {name}: {seconds:.2f} s" for name, seconds in self.steps]
        return [*done, *self.output.splitlines(), *([self.refusal.text] if self.refusal else [])]


def perform(
    program: Program,
    phases: Sequence[str],
    plan: Mapping[str, Any],
    *,
    stage: str,
    hosts: Sequence[Host],
    ask: Ask,
) -> list[Answer]:
    """Run the phases; the answers of all hosts. Where one fails, the others undo, and the first one that failed is the last answer.

    One host alone gets all phases at once, as nobody waits for it.
    """
    rounds = [phases] if len(hosts) == 1 else [(each,) for each in phases]
    answers: list[Answer] = []
    with ThreadPoolExecutor(max_workers=len(hosts) or 1, thread_name_prefix="phase") as pool:

        def on_each(some: Sequence[Host], these: Sequence[str]) -> list[Answer]:
            texts = {host.name: program.text({**plan, "host": host.name}, these) for host in some}
            return [*pool.map(lambda host: _answer(host, stage, texts[host.name], ask), some)]

        for those in rounds:
            came = on_each(hosts, those)
            failed = [each for each in came if each.refusal]
            answers += [each for each in came if not each.refusal]
            if failed:
                well = {each.host for each in came} - {each.host for each in failed}
                others = failed[1:]
                if well and those[0] in program.undone:
                    others += on_each([host for host in hosts if host.name in well], [UNDO])
                if those[0] in (*program.undone, UNDO):
                    failed[0] = _with_others(failed[0], others, stage)
                return [*answers, *others[::-1], failed[0]]
    return answers


def _with_others(first: Answer, others: Sequence[Answer], stage: str) -> Answer:
    """The answer of the host that failed first; its refusal also names those that stand where they should not, or nobody knows where."""
    refusal = first.refusal
    said = [each.refusal.text.splitlines()[0] for each in others if each.refusal and not each.undone]
    if not said or not refusal or isinstance(refusal, Cancelled):
        return first
    told = "; ".join(each.removeprefix(f"{stage}: ") for each in said)
    remedy = refusal.remedy.format(**refusal.facts)
    return replace(
        first, refusal=OthersNotUndone(first=refusal.text.splitlines()[0], others=told, remedy=remedy)
    )


def _answer(host: Host, stage: str, text: str, ask: Ask) -> Answer:
    try:
        said = json.loads(ask(host, text).splitlines()[-1])
    except CommandFailed as failed:
        last = str(failed.facts["tail"]).splitlines()[-1:] or failed.text.splitlines()
        return Answer(
            host=host.name,
            refusal=PhaseFailed(
                stage=stage,
                host=host.name,
                step="the program stopped",
                reason=last[0].strip(" |"),
                outcome="the next one goes on with it",
                remedy=f"doit {stage}",
            ),
        )
    except Refusal as refusal:
        return Answer(host=host.name, refusal=refusal)
    return read(host.name, stage, said)


def read(host: str, stage: str, said: Mapping[str, Any]) -> Answer:
    """A program's answer: `changed`, `closed`, `migrated`, `online`, `downtime`, `notes`, `late`, `steps`, `phases`, and `failed`: nothing, or `step`, `reason`, `output`, `outcome`, whether it was `undone`, and `remedy`."""
    refusal, failed = None, said["failed"]
    if failed:
        words = [*printed.reason(failed["output"], LINES)] if failed["output"] else []
        reason = " / ".join(each.strip() for each in (words or [failed["reason"]]))
        refusal = PhaseFailed(
            stage=stage,
            host=host,
            step=failed["step"],
            reason=reason,
            outcome=failed["outcome"],
            remedy=failed["remedy"] or f"doit {stage}",
        )
    return Answer(
        host=host,
        changed=said["changed"],
        closed=said["closed"],
        migrated=said["migrated"],
        online=said["online"],
        downtime=said["downtime"],
        notes=tuple(said["notes"]),
        late=tuple(said["late"]),
        steps=tuple((name, seconds) for name, seconds in said["steps"]),
        phases=tuple((name, seconds) for name, seconds in said["phases"]),
        at=time.time(),
        output=failed["output"] if failed else "",
        undone=bool(failed) and failed["undone"],
        refusal=refusal,
    )


def accept(answers: list[Answer], *, stage: str, console: Console, log: Path | None) -> list[Answer]:
    """Tell what the hosts have done; `log` gets all of it. Raises the refusal of the host that failed first."""
    if log:
        with log.open("a") as file:
            file.write("".join(f"{line}\n" for each in answers for line in each.lines()))
    for each in answers:
        problem = each.refusal.text.splitlines()[0] if each.refusal else ""
        if console.journal:
            console.journal.phases(stage, each.host, each.phases, at=each.at, problem=problem)
    for note in (note for each in answers for note in (*each.notes, *each.late)):
        console.once(stage, note)
    if refusal := answers[-1].refusal:
        raise refusal
    return answers


def progress(line: str, say: Callable[[str], None]) -> None:
    """Show a line that a program prints, unless it is its answer."""
    if not line.startswith("{"):
        say(line)
