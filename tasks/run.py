"""run: one call of the pipeline: which environment, of which branch, in which cloud."""

from __future__ import annotations

import gc
import getpass
import hashlib
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks import profile, settings, source
from tasks.bucket.store import Store
from tasks.cloud import interface as cloud
from tasks.console import journal
from tasks.graph import reporter
from tasks.refusal import Refusal, UncommittedChanges, UnknownEnvironment, UnknownVariable
from tasks.tarball.build import layers, overlay

VARIABLES = ("environment", "branch")
DEFAULT_ENVIRONMENT = "testing"
CI_PERSON = ("GITHUB_TRIGGERING_ACTOR", "GITLAB_USER_LOGIN", "BITBUCKET_STEP_TRIGGERER_UUID")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that a stage may ask. What costs time is found out when it is asked for."""

    root: Path
    pipeline: settings.Pipeline
    environment: settings.Environment
    environment_name: str
    named_branch: str | None = None

    @cached_property
    def id(self) -> str:
        """Names this run in its lease, its records and its processes; no other run has it."""
        return uuid.uuid4().hex[:12]

    @cached_property
    def branch(self) -> str:
        """The branch that is released."""
        branch: str = self.named_branch or source.branch(self.root, os.environ)
        return branch

    @cached_property
    def identity(self) -> str:
        """The environment's own name: `testing-` and ten hex digits of the branch's hash, or `staging`."""
        if not self.environment.per_branch:
            return self.environment_name
        return f"{self.environment_name}-{branch_id(self.branch)}"

    @cached_property
    def host_name(self) -> str:
        """The site's full host name."""
        return f"{self.environment.host_name or self.identity}.{self.pipeline.dns_zone}"

    @property
    def url(self) -> str:
        """The address of the site."""
        return self.cloud.url(self.host_name)

    @property
    def bucket(self) -> str:
        """The bucket for tarballs and records."""
        return self.pipeline.bucket or f"{self.pipeline.name}-releases"

    @cached_property
    def cloud(self) -> cloud.Cloud:
        """The cloud, started if it is the embedded one and does not run."""
        return cloud.connect(name=self.pipeline.cloud, region=self.pipeline.region, say=self.say("cloud"))

    @property
    def store(self) -> Store:
        """The bucket's objects."""
        return Store(client=self.cloud.client("s3"), bucket=self.bucket)

    @cached_property
    def profile(self) -> profile.Profile:
        """The application's profile with this project's options."""
        return profile.load(self.root, self.pipeline.application)

    @cached_property
    def layers(self) -> Mapping[str, layers.Keyed]:
        """The parts of the application's build, in order, each with its key."""
        return layers.keyed(self)

    @cached_property
    def bench(self) -> tempfile.TemporaryDirectory[str]:
        """A folder to build in, gone when this process ends."""
        return overlay.place(self.root)

    @cached_property
    def who(self) -> str:
        """Who runs this, for display: in CI, who started the job."""
        named = next((os.environ[name] for name in CI_PERSON if os.environ.get(name)), None)
        return named or f"{getpass.getuser()}@{socket.gethostname()}"

    def say(self, stage: str) -> Callable[[str], None]:
        """A function that tells what the stage is doing now."""
        return lambda words: reporter.console.progress(stage, words)

    def warn(self, stage: str, words: str) -> None:
        """Tell what a person should know, in a line of its own."""
        reporter.console.event(stage, words)

    @cached_property
    def journal(self) -> Path:
        """The folder of what this run leaves: run.json and a log for each stage."""
        return journal.new(self.root / ".run" / "logs" / self.identity)

    def log(self, stage: str) -> Path:
        """The file that gets the whole output of a stage."""
        return self.journal / f"{stage}.log"

    @cached_property
    def commit(self) -> str:
        """The checked-out commit, as tags and records name it."""
        return source.snapshot(self.root).version

    def accept_source(self, stage: str) -> None:
        """Refuse uncommitted changes where the environment does, and name them elsewhere. Raises UncommittedChanges."""
        if self.environment.uncommitted == "refused" and (changed := source.uncommitted(self.root)):
            files = ", ".join(changed[:8]) + (" …" if len(changed) > 8 else "")
            raise UncommittedChanges(stage=stage, environment=self.environment_name, files=files)
        _ = self._named_uncommitted

    @cached_property
    def _named_uncommitted(self) -> bool:
        """Said once in a run."""
        changed = source.uncommitted(self.root)
        if changed:
            self.warn("tarball", f"takes {len(changed)} uncommitted files: {', '.join(changed[:3])}")
        return bool(changed)


def branch_id(branch: str) -> str:
    """Ten hex digits (40 bits) that no other branch of a project shares."""
    return hashlib.sha256(branch.encode()).hexdigest()[:10]


def read(root: Path, variables: Mapping[str, str]) -> Run:
    """The run that the command line asks for. Raises UnknownVariable, UnknownEnvironment or a setting's refusal."""
    for name, value in variables.items():
        if name not in VARIABLES:
            raise UnknownVariable(name=name, value=value, known=", ".join(VARIABLES))
    name = variables.get("environment") or DEFAULT_ENVIRONMENT
    known = sorted(each.stem for each in (root / "environments").glob("*.yml"))
    if name not in known:
        raise UnknownEnvironment(name=name, known=", ".join(known))
    return Run(
        root=root,
        pipeline=settings.load(settings.Pipeline, root / "pipeline.yml", root),
        environment=settings.load(settings.Environment, root / "environments" / f"{name}.yml", root),
        environment_name=name,
        named_branch=variables.get("branch"),
    )


def from_command_line(root: Path) -> Run:
    """The run of this doit process; a refusal ends the process with its sentence and exit code.

    doit itself would show a traceback: while it loads dodo.py it knows its own errors only.
    """
    from doit import doit_cmd

    gc.set_threshold(100_000)  # a fifth of the time that boto3 takes to load goes into looking for cycles
    variables = doit_cmd._CMDLINE_VARS or {}
    Refusal.variables = tuple(f"{name}={value}" for name, value in variables.items())
    try:
        return read(root, variables)
    except Refusal as refusal:
        sys.stderr.write(f"{refusal.text}\n")
        raise SystemExit(refusal.exit_code) from None
