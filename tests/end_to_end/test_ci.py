"""A branch's environment made by the line of one runner, and taken away by that of another."""

from __future__ import annotations

import pytest

from tests.conftest import git
from tests.runners import Runner, line

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.long(short="tests/test_ci.py::test_what_one_runner_has_made_another_one_takes_away"),
]


@pytest.mark.parametrize("provider", ["github", "gitlab", "bitbucket"])
def test_one_runner_starts_what_another_one_stops(project, tmp_path, provider):
    git(project, "branch", f"ci/{provider}")
    role = "BRANCH_ROLE" if provider == "bitbucket" else ""
    output = {"GITHUB_OUTPUT": str(tmp_path / "output")} if provider == "github" else {}
    first = Runner(tmp_path / "first", project, provider, f"ci/{provider}", **output)
    started = first.type(line(provider, "start", role))
    assert started.returncode == 0, started.stderr
    url = next(each for each in started.stdout.splitlines() if each.startswith("https://"))
    assert (first.root / ".run" / "report.env").read_text() == f"URL={url}\n"
    assert not output or (tmp_path / "output").read_text() == f"url={url}\n"
    report = (first.root / ".run" / "report.md").read_text()
    assert f"| URL | {url} |" in report
    assert git(first.root, "rev-parse", "HEAD") in report
    second = Runner(tmp_path / "second", project, provider, "main", CI_COMMIT_REF_NAME=f"ci/{provider}")
    stopped = second.type(
        line(provider, "stop", "branch=")
        if provider != "bitbucket"
        else "build/ci/run branch=ci/bitbucket stop",
        BRANCH=f"ci/{provider}",
    )
    assert stopped.returncode == 0, stopped.stderr
    assert "is gone" in stopped.stdout
