"""runners: CI runners: a clean clone at a commit, the provider's variables, no terminal. They share only the cloud."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests import leftovers
from tests.conftest import ROOT, git

FILES = {
    "github": ".github/workflows/pipeline.yml",
    "gitlab": ".gitlab-ci.yml",
    "bitbucket": "bitbucket-pipelines.yml",
}
CONTROL = r'build/ci/run (?:(?:"branch=\$\w+"|branch=main|environment=staging|environment=production) )?(tarball|start|continue|rollback|stop|sweep --yes|certificates|drill|backup --forget|image|verify)'
BRANCH = {
    "github": {"GITHUB_REF": "refs/heads/{0}", "GITHUB_REF_NAME": "{0}", "GITHUB_REF_TYPE": "branch", "GITHUB_SHA": "{1}"},
    "gitlab": {"CI_COMMIT_BRANCH": "{0}", "CI_COMMIT_REF_NAME": "{0}", "CI_COMMIT_SHA": "{1}"},
    "bitbucket": {"BITBUCKET_BRANCH": "{0}", "BITBUCKET_COMMIT": "{1}"},
}  # fmt: skip
"""What each provider says of a branch's job: the branch and its commit."""
PERSON = {
    "github": "GITHUB_TRIGGERING_ACTOR",
    "gitlab": "GITLAB_USER_LOGIN",
    "bitbucket": "BITBUCKET_STEP_TRIGGERER_UUID",
}


def content(path: str) -> dict:
    """A YAML file of the project, every value a text."""
    return yaml.load((ROOT / path).read_text(), Loader=yaml.BaseLoader)


def lines(found: object) -> list[str]:
    """Every line that a runner would run."""
    if isinstance(found, list):
        return [line for each in found for line in lines(each)]
    if not isinstance(found, dict):
        return []
    typed = found.get("script", found.get("run", []))
    typed = [typed] if isinstance(typed, str) else typed if isinstance(typed, list) else []
    return [*typed, *(line for each in found.values() for line in lines(each))]


def line(provider: str, control: str, containing: str = "") -> str:
    """The provider's first line for a control."""
    return next(
        each
        for each in lines(content(FILES[provider]))
        if re.search(CONTROL, each) and each.endswith(control) and containing in each
    )


class Runner:
    """A provider's runner that has just cloned the project. It uses what this machine has installed."""

    def __init__(self, folder: Path, project: Path, provider: str, ref: str, **variables: str) -> None:
        self.root, self.provider = folder, provider
        git(project, "clone", "--quiet", "--no-local", str(project), str(folder))
        git(folder, "checkout", "--quiet", "--detach", f"origin/{ref}")
        self._lend()
        head = git(folder, "rev-parse", "HEAD")
        self.environ = {
            "CI": "true",
            "HOME": str(folder.parent),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(folder),  # the installed project is another checkout
            "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"],
            leftovers.MARK: os.environ[leftovers.MARK],
            **{name: words.format(ref, head) for name, words in BRANCH[provider].items()},
            PERSON[provider]: f"kim-at-{provider}",
            **variables,
        }

    def type(self, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a line as the provider's shell does."""
        return subprocess.run(
            ["bash", "-e", "-c", line],
            cwd=self.root,
            env={**self.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
        )

    def _lend(self) -> None:
        (self.root / ".run").mkdir()
        (self.root / ".run" / "venv").symlink_to(Path(sys.executable).parents[1])
        build = self.root / "build" / "ci"
        files = [build / "packages", self.root / "requirements.lock", self.root / "pyproject.toml"]
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in files))
        digest.update(f"{sys.version} {self.root}".encode())
        (self.root / ".run" / "installed-release").write_text(digest.hexdigest())
