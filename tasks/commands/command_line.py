"""command_line: make a run from what was typed: read the settings, hand in cloud, hosts, console and clock."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from doit import doit_cmd

from tasks import profile, settings
from tasks.bucket.store import Store
from tasks.clock import SYSTEM, Clock
from tasks.cloud import connect
from tasks.cloud.interface import Cloud
from tasks.console.console import Console
from tasks.hosts.hosts import Hosts
from tasks.nearest import meant, nearest, retyped
from tasks.process.threads import Threads
from tasks.refusal import UNKNOWN, Refusal
from tasks.run import DEFAULT_ENVIRONMENT, Run, accept_names, environment, moved

VARIABLES = ("environment", "branch")
CI_PERSON = ("GITHUB_TRIGGERING_ACTOR", "GITLAB_USER_LOGIN", "BITBUCKET_STEP_TRIGGERER_UUID")


class UnknownVariable(Refusal):
    """A `name=value` on the command line that no stage reads."""

    sentence = "command line: {name}={value}: no such variable ({meant}known: {known})"
    remedy = "doit {typed}"
    exit_code = UNKNOWN


class EmptyVariable(Refusal):
    """A `name=` without a value, as a shell makes of a variable that is not set. It does not mean «this one»."""

    sentence = "command line: {name}= has no value"
    remedy = "doit {name}=NAME plan"
    exit_code = UNKNOWN


def accept(variables: Mapping[str, str]) -> None:
    """Raises UnknownVariable or EmptyVariable for what is none of the command line's variables."""
    for name, value in variables.items():
        if name not in VARIABLES:
            right = nearest(name, VARIABLES)
            again = retyped(f"{name}={value}", right and f"{right}={value}")
            raise UnknownVariable(
                name=name,
                value=value,
                meant=meant(name, VARIABLES),
                known=", ".join(VARIABLES),
                typed=again or "environment=testing release",
            )
        if not value.strip():
            raise EmptyVariable(name=name)


def read(
    root: Path,
    variables: Mapping[str, str],
    *,
    cloud: Cloud | None = None,
    hosts: Hosts | None = None,
    console: Console | None = None,
    clock: Clock = SYSTEM,
) -> Run:
    """The run for these variables. What is not handed in is the real one: the cloud of the settings, its hosts.

    Raises UnknownVariable, EmptyVariable, UnknownEnvironment or a refusal of settings or profile.
    """
    accept(variables)
    began = clock.monotonic()
    name = variables.get("environment") or DEFAULT_ENVIRONMENT
    pipeline = settings.of_pipeline(root)
    kind = profile.load(root, pipeline.application)
    found = environment(root, name, kind.settings, kind.server.groups)
    accept_names(settings.at(pipeline, found), found, name)
    console = console or Console()
    cloud = cloud or connect.to(pipeline.cloud, pipeline.region, console.say("cloud"))
    run = Run(
        root=root,
        pipeline=pipeline,
        environment=found,
        environment_name=name,
        profile=kind,
        named_branch=variables.get("branch"),
        variables=tuple(f"{name}={value}" for name, value in variables.items()),
        cloud=cloud,
        store=Store(cloud=cloud, chosen=pipeline.bucket, project=pipeline.name),
        hosts=hosts or Hosts(),
        console=console,
        threads=Threads(),
        who=who(os.environ),
        clock=clock,
        began=began,
    )
    return moved(run, pipeline)


def who(environ: Mapping[str, str]) -> str:
    """The user's name, for display; in CI, the user who started the job."""
    named = next((environ[name] for name in CI_PERSON if environ.get(name)), None)
    return named or f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container that runs with any uid
        return f"uid-{os.getuid()}"


def typed() -> dict[str, str]:
    """The `name=value` arguments of this doit process."""
    return dict(doit_cmd._CMDLINE_VARS or {})


def this_run(root: Path, *, cloud: Cloud | None = None, hosts: Hosts | None = None) -> Run:
    """The run of this doit process. A refusal goes through dodo.py to the command that loads it, which tells it."""
    return read(root, typed(), cloud=cloud, hosts=hosts)


def variables() -> list[str]:
    """The `name=value` words of this doit process, as they were typed."""
    return [f"{name}={value}" for name, value in typed().items()]
