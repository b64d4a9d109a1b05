"""The report of a run, where each CI system shows it."""

from __future__ import annotations

import json

import pytest

from tasks.commands import command_line
from tasks.graph import summary
from tests.conftest import doit
from tests.graph.test_reporter import project  # noqa: F401  (a fixture)

CONTENT = {
    "command": "doit release",
    "environment": "testing-0d6e4079e3",
    "by": "kim",
    "commit": "3fa9c2e",
    "budget": 300,
    "at": "2026-11-24T12:00:00+00:00",
    "seconds": 85.14,
    "outcome": "done",
    "stages": {
        "tarball": {"outcome": "unchanged", "words": "tree 8c1d0aa is stored", "seconds": 0.2, "why": []},
        "server": {
            "outcome": "done",
            "words": "9 tasks",
            "seconds": 40.1,
            "why": ["roles/nginx changed", "a | b"],
        },
    },
}


@pytest.mark.promise("a-report-says-why")
def test_a_page_says_what_ran_and_why_how_long_and_where():
    assert (
        summary.page(CONTENT, url="http://shop/")
        == """\
## `doit release`: done, testing-0d6e4079e3

|  |  |
| --- | --- |
| URL | http://shop/ |
| commit | 3fa9c2e |
| by | kim |
| took | 85.1 s (budget 300 s), from 2026-11-24T12:00:00+00:00 |

| stage | outcome | what | why | seconds |
| --- | --- | --- | --- | --- |
| tarball | unchanged | tree 8c1d0aa is stored |  | 0.2 |
| server | done | 9 tasks | roles/nginx changed; a \\| b | 40.1 |
"""
    )


def test_a_failure_is_shown_whole_and_as_plain_text():
    failed = {**CONTENT, "outcome": "failed", "failures": ["server: no\n    doit server"]}
    assert summary.page(failed).endswith("\n    server: no\n        doit server\n")


@pytest.mark.promise("each-ci-finds-the-report")
def test_each_ci_finds_the_report_where_it_looks(tmp_path):
    step_summary, output = tmp_path / "summary", tmp_path / "output"
    step_summary.write_text("before\n")
    environ = {"GITHUB_STEP_SUMMARY": str(step_summary), "GITHUB_OUTPUT": str(output)}
    summary.publish(tmp_path, "## report\n", url="http://shop/", environ=environ)
    assert step_summary.read_text() == "before\n## report\n"
    assert output.read_text() == "url=http://shop/\n"
    assert (tmp_path / ".run" / "report.md").read_text() == "## report\n"
    assert (tmp_path / ".run" / "report.env").read_text() == "URL=http://shop/\n"


@pytest.mark.promise("a-copy-beside-the-logs")
def test_a_run_leaves_its_report_beside_its_logs(project):  # noqa: F811
    doit(project, "machine", GITHUB_TRIGGERING_ACTOR="kim")
    (folder,) = (project / ".run" / "logs").glob("*/*")
    text = (folder / "report.md").read_text()
    assert "| by | kim |" in text
    assert "| machine | done | 30 tasks | has not run here yet |" in text
    assert (project / ".run" / "report.md").read_text() == text


@pytest.mark.promise("a-report-says-why")
def test_a_report_says_which_paths_have_changed(project):  # noqa: F811
    text = (project / "dodo.py").read_text()
    (project / "dodo.py").write_text(
        text.replace("provision, parts", 'provision, inputs=["README.md"], parts')
    )
    (project / "dodo.py").write_text(
        (project / "dodo.py")
        .read_text()
        .replace(
            '"reporter"',
            '"check_file_uptodate": __import__("tasks.graph.inputs").graph.inputs.GitIds, "reporter"',
        )
    )
    doit(project, "machine")
    (project / "README.md").write_text("another\n")
    answered = doit(project, "machine")
    assert answered.returncode == 0, answered.stderr
    found = [
        json.loads(each.read_text()) for each in sorted((project / ".run" / "logs").glob("*/*/run.json"))
    ]
    assert found[-1]["stages"]["machine"]["why"] == ["README.md changed"]


def test_a_command_without_stages_reports_what_it_has_said(checkout):
    run = command_line.read(checkout, {})
    summary.of_lines(run, "sweep --yes", ["take  a", "leave b"])
    text = (checkout / ".run" / "report.md").read_text()
    assert text == f"## `doit sweep --yes`, by {run.who}\n\n    take  a\n    leave b\n"
