"""Hosts go through the phases of a program together, and what one of them says is told in one sentence."""

from __future__ import annotations

import io
import json
import re

import pytest

from tasks.console.console import Console
from tasks.console.journal import Journal
from tasks.hosts import phased
from tasks.hosts.phased import PhaseFailed, Program
from tasks.hosts.ssh import Host, HostUnreachable
from tasks.process.children import Cancelled, CommandFailed
from tasks.refusal import Refusal


def a_host(name):
    return Host(name=name, address="", user="", key="", host_keys=())


def an_answer(**more):
    return f"Fetch\n{json.dumps({'changed': True, 'closed': False, 'migrated': None, 'online': False, 'downtime': 0, 'notes': [], 'late': [], 'steps': [], 'phases': [], 'failed': None, **more})}"


FAILED = {
    "step": "Check",
    "reason": "/ answers 503, not 200",
    "output": "",
    "outcome": "went back to old",
    "undone": True,
    "remedy": "",
}


ORDER = ("bring", "live", "open", "settle")


class Two:
    """Two hosts that answer as they are told, by host and phase; `asked`: what they were, in order."""

    def __init__(self, tmp_path, **answers):
        (tmp_path / "program.py").write_text("def main(plan): ...\n")
        self.program = Program(path=tmp_path / "program.py", undone=("live", "open"))
        self.answers, self.asked = answers, []

    def ask(self, host, text):
        plan = json.loads(json.loads(re.search(r"main\(json\.loads\((.*)\)\)$", text.strip())[1]))
        assert text.startswith("def main")
        self.asked.append((host.name, *plan["phases"]))
        answer = self.answers.get(f"{host.name}_{plan['phases'][0]}", an_answer())
        if isinstance(answer, Exception):
            raise answer
        return answer

    def perform(self, *names, order=ORDER):
        return phased.perform(
            self.program, order, {"id": 'a"b'}, stage="release", hosts=[*map(a_host, names)], ask=self.ask
        )


def test_one_host_alone_gets_all_phases_in_one_call(tmp_path):
    told = Two(tmp_path)
    assert [each.changed for each in told.perform("a")] == [True]
    assert told.asked == [("a", "bring", "live", "open", "settle")]


@pytest.mark.promise("all-hosts-or-none")
def test_no_host_begins_a_phase_before_all_are_through_the_one_before(tmp_path):
    told = Two(tmp_path)
    told.perform("a", "b")
    assert [{each[1] for each in told.asked[place : place + 2]} for place in range(0, 8, 2)] == [
        {"bring"},
        {"live"},
        {"open"},
        {"settle"},
    ]


GONE = HostUnreachable(stage="release", host="b", address="10.0.0.1", port=22)


STOPPED = CommandFailed(command="ssh", code=1, tail="    | line 1\n    | KeyError: 'id'", status=1)


STUCK = {**FAILED, "outcome": "and it could not be undone: php@old does not start", "undone": False}
GIVES_WAY = an_answer(failed={**FAILED, "step": "Go back", "reason": "another one is not well"})
SAYS = "; a: Check: / answers 503, not 200; and it could not be undone: php@old does not start"


@pytest.mark.promise("all-hosts-or-none")
@pytest.mark.parametrize(
    ("answer", "also"),
    [
        (GIVES_WAY, ""),
        (an_answer(failed=STUCK), SAYS),
        (STOPPED, "; a: the program stopped: KeyError: 'id'; the next one goes on with it"),
        (
            HostUnreachable(stage="release", host="a", address="10.0.0.1", port=22),
            "; a (10.0.0.1) does not answer on port 22",
        ),
    ],
    ids=["undone", "stuck", "stopped", "gone"],
)
@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (an_answer(failed=FAILED), "release: b: Check: / answers 503, not 200; went back to old"),
        (GONE, "release: b (10.0.0.1) does not answer on port 22"),
    ],
    ids=["failed", "gone"],
)
def test_a_host_that_has_not_undone_what_another_one_failed_in_is_named(
    tmp_path, failure, said, answer, also
):
    told = Two(tmp_path, b_live=failure, a_undo=answer)
    log = tmp_path / "log"
    with pytest.raises(Refusal) as refused:
        phased.accept(told.perform("a", "b"), stage="release", console=Console(io.StringIO()), log=log)
    text, remedy = refused.value.text.splitlines()
    assert text.startswith(said)
    assert also in text
    assert ("; a" in text) is bool(also)
    assert remedy.strip().startswith("doit ")
    assert "release: a" in log.read_text()


def test_all_that_could_not_be_undone_are_named_where_several_fail_or_all_go_back(tmp_path):
    both = {each: an_answer(failed=STUCK) for each in ("a_live", "b_live", "a_undo", "b_undo")}
    for order in (ORDER, ("undo",)):
        text = Two(tmp_path, **both).perform("a", "b", order=order)[-1].refusal.text
        assert text.count("could not be undone") == 2
        assert text.startswith("release: a: Check: ")


def test_who_interrupts_is_told_so_whatever_the_others_say(tmp_path):
    told = Two(tmp_path, b_live=Cancelled(stage="release"), a_undo=an_answer(failed=STUCK))
    assert isinstance(told.perform("a", "b")[-1].refusal, Cancelled)


@pytest.mark.promise("one-failing-host-stops-all", "all-hosts-or-none")
@pytest.mark.parametrize("failure", [an_answer(failed=FAILED), GONE, STOPPED])
@pytest.mark.parametrize(
    ("phase", "then"),
    [("bring", set()), ("live", {("a", "undo")}), ("open", {("a", "undo")}), ("settle", set())],
)
def test_where_one_fails_the_others_undo_what_visitors_would_see(tmp_path, failure, phase, then):
    told = Two(tmp_path, **{f"b_{phase}": failure})
    answers = told.perform("a", "b")
    order = ORDER
    assert (
        set(told.asked) == {(host, each) for host in "ab" for each in order[: order.index(phase) + 1]} | then
    )
    assert answers[-1].host == "b"
    assert answers[-1].refusal


def test_a_program_that_stops_is_told_with_its_last_line_and_host(tmp_path):
    refusal = Two(tmp_path, a_bring=STOPPED).perform("a")[-1].refusal
    assert refusal.text.startswith(
        "release: a: the program stopped: KeyError: 'id'; the next one goes on with it"
    )


def test_of_two_that_fail_the_first_one_is_told(tmp_path):
    other = {**FAILED, "reason": "another"}
    told = Two(tmp_path, a_live=an_answer(failed=FAILED), b_live=an_answer(failed=other))
    assert told.perform("a", "b")[-1].refusal.text == (
        "release: a: Check: / answers 503, not 200; went back to old\n    doit release"
    )
    assert ("a", "undo") not in told.asked


def test_a_program_may_know_better_what_to_type_than_the_same_again(tmp_path):
    told = Two(tmp_path, a_bring=an_answer(failed={**FAILED, "remedy": "git revert 1a2b3c4"}))
    assert told.perform("a")[-1].refusal.text.endswith("; went back to old\n    git revert 1a2b3c4")


def test_the_reason_of_a_command_is_what_it_threw_and_the_log_has_all(tmp_path):
    output = "Modules:\n\n\x1b[31mthe table is locked\x1b[0m\n" + "".join(
        f"#{n} a.php(1): b()\n" for n in range(9)
    )
    failed = {**FAILED, "step": "Migrate", "reason": "sh: exit code 1", "output": output}
    told = Two(
        tmp_path, a_bring=an_answer(failed=failed, steps=[["Fetch", 1.5]], notes=["a key was written"])
    )
    stream, log = io.StringIO(), tmp_path / "log"
    with pytest.raises(PhaseFailed, match=r"^release: a: Migrate: the table is locked; went back to old"):
        phased.accept(told.perform("a"), stage="release", console=Console(stream), log=log)
    assert "a key was written" in stream.getvalue()
    assert log.read_text().startswith("a: Fetch: 1.50 s\nModules:")
    assert "#8 a.php" in log.read_text()


def test_a_step_is_shown_and_an_answer_is_not():
    shown = []
    for line in an_answer().splitlines():
        phased.progress(line, shown.append)
    assert shown == ["Fetch"]


def test_the_phases_of_each_host_are_in_the_journal_with_their_times(tmp_path):
    failed = {**FAILED, "outcome": "went back"}
    two = Two(tmp_path, a_bring=an_answer(phases=[["bring", 1.0], ["live", 2.0]], failed=failed))
    console = Console(io.StringIO())
    console.journal = Journal(tmp_path)
    (answer,) = answers = two.perform("a")
    with pytest.raises(PhaseFailed):
        phased.accept(answers, stage="release", console=console, log=None)
    bring, live = console.journal.content["phases"]
    assert (bring["phase"], bring["host"], bring["stage"], bring["problem"]) == ("bring", "a", "release", "")
    assert live["problem"] == "release: a: Check: / answers 503, not 200; went back"
    assert live["began"] == pytest.approx(bring["began"] + 1.0)
    assert live["began"] + live["seconds"] == pytest.approx(answer.at, abs=0.01)
