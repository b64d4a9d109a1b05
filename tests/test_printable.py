"""What others wrote is shown, and changes nothing of what a reader sees beside it."""

from __future__ import annotations

import dataclasses
import io

import pytest

from tasks import source
from tasks.console import terminal
from tasks.console.console import Console
from tasks.console.journal import Journal
from tasks.graph import summary
from tasks.printable import code, in_one_line, markdown, printable
from tasks.promotion import rules
from tasks.refusal import Refusal
from tests.clouds import QuietCloud, run_in
from tests.conftest import git
from tests.graph.test_summary import CONTENT

FOREIGN = "fix\x1b[2K\x1b[1A it \u202egnihton\x9b \x1c3fa9c2e  kim  fine"
"""It erases a line, goes up one, turns the direction of writing, and looks like another commit."""


class Declined(Refusal):
    sentence = "release: {why}"
    remedy = "doit release {name}"


def shown(text: str) -> None:
    assert "fix" in text
    assert not {"\x1b", "\u202e", "\x9b", "\x1c"} & set(text), repr(text)


@pytest.fixture
def subject(tmp_path):
    """A repository with two commits, the last one with a subject that is not as it seems."""
    git(tmp_path, "init", "-q", "-b", "main")
    for words in ("begin", FOREIGN):
        git(
            tmp_path,
            "-c",
            "user.name=k",
            "-c",
            "user.email=k@x",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            words,
        )
    return tmp_path


def test_a_commit_stays_one_line_of_the_list(subject):
    found = source.commits(subject, None, "HEAD")
    assert len(found) == 2
    assert "fine" in found[0]


@pytest.mark.parametrize("say", [Console.line, lambda console, text: console.event("release", text)])
def test_the_console_shows_no_foreign_control_character(say):
    out = io.StringIO()
    say(Console(out), FOREIGN)
    shown(out.getvalue())
    assert out.getvalue().count("\n") == 1


def test_what_was_written_in_lines_is_one_line_of_an_event_and_of_a_terminal():
    out = io.StringIO()
    Console(out).event("release", "one\n  lease         broken")
    assert out.getvalue().count("\n") == 1
    line = terminal._line("release", 0.0, f"one\n{FOREIGN}")
    shown(line)
    assert "\n" not in line


def test_a_log_shows_none(tmp_path):
    console = Console(io.StringIO())
    console.journal = Journal(tmp_path)
    console.event("release", FOREIGN)
    shown((tmp_path / "release.log").read_text())


def test_a_refusal_shows_none():
    shown(Declined(why=FOREIGN, name=FOREIGN).text)
    shown(str(Declined(why=FOREIGN, name=FOREIGN)))


def test_a_file_name_with_a_line_break_is_no_line_of_its_own():
    (line,) = rules.lines({"application": ["a\nother, which reaches no machine: 1 file"]})
    assert "\n" not in line


def test_the_report_shows_what_was_written_and_no_markup():
    bad = "`rm` <img src=x> [here](x) | *b* _u_ & \\ " + FOREIGN
    text = summary.page(
        {
            **CONTENT,
            "command": f"doit release branch={bad}",
            "by": bad,
            "stages": {"server": {"outcome": "done", "words": bad, "seconds": 1, "why": [bad]}},
            "failures": [bad],
        }
    )
    shown(text)
    heading, *rest = text.splitlines()
    assert heading.count("`") == 2
    cells = [line for line in rest if line.startswith("|")]
    assert len(cells) > 4
    assert all(
        r"\`rm\` &lt;img src=x> \[here\](x) \| \*b\* \_u\_ &amp; \\" in line
        for line in cells[-1:] + cells[3:4]
    )
    assert any(line.startswith("    `rm` <img") for line in rest), (
        "a failure is code, in which nothing has a meaning"
    )


def test_the_report_of_a_command_shows_what_was_written_and_no_markup(checkout):
    run = dataclasses.replace(run_in(checkout, QuietCloud("eu-central-1", None)), who=f"<b> {FOREIGN}")
    summary.of_lines(run, f"stop branch=`x`\n{FOREIGN}", [FOREIGN])
    text = (checkout / ".run" / "report.md").read_text()
    shown(text)
    heading, _, line = text.splitlines()
    assert heading.count("`") == 2
    assert "&lt;b>" in heading
    assert line.startswith("    fix")


def test_plain_text_is_left_alone():
    assert printable("größe — 日本\nzwei") == "größe — 日本\nzwei"
    assert in_one_line("a\nb") == "a b"
    assert (markdown("a-b.c"), code("a`b\nc")) == ("a-b.c", "`a'b c`")
