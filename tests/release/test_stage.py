"""What is recorded as live is what the hosts say that they run, never what a play was asked for."""

from __future__ import annotations

import dataclasses
import functools
import io

import pytest

from tasks.digest import Digest
from tasks.hooks import HookFailed
from tasks.hosts.hosts import Hosts
from tasks.hosts.phased import Answer
from tasks.hosts.ssh import Host, HostUnreachable
from tasks.process.threads import Threads
from tasks.release.stage import NotLive, accept_late, parts, read_back, variables
from tasks.tarball import stage as tarball
from tasks.tarball.build.layers import Build
from tests.cloud.embedded.conftest import server  # noqa: F401  (a fixture)
from tests.tarball.test_stage import project, start  # noqa: F401  (fixtures)

DIGEST = Digest.of_bytes(b"new")


class Machines(Hosts):
    """Hosts that run the program on this machine's files, each below a folder of its own name."""

    def __init__(self, folder):
        self.folder = folder

    def python(self, host, stage, program):
        printed = io.StringIO()
        names = {"print": functools.partial(print, file=printed)}  # hosts are asked at the same time
        exec(program.replace("/srv/shop", f"{self.folder}/{host.name}"), names)
        return printed.getvalue()


@pytest.fixture
def machines(tmp_path):
    """Two hosts, on both of which the release is live."""
    for name in ("i-1", "i-2"):
        for digest in (DIGEST, Digest.of_bytes(b"old")):
            release = tmp_path / name / "releases" / digest.id
            release.mkdir(parents=True)
            (release / ".complete").write_text(f"{digest}\n")
        (tmp_path / name / "current").symlink_to(f"releases/{DIGEST.id}")
    return Machines(tmp_path)


def hosts():
    return [Host(name=name, address="", user="", key="", host_keys=()) for name in ("i-1", "i-2")]


def test_a_release_that_every_host_runs_is_accepted(machines):
    read_back(Threads(), machines, hosts(), "shop", DIGEST)


@pytest.mark.promise("every-host-is-asked", "recorded-is-what-runs")
def test_a_host_that_still_runs_the_old_release_is_named(machines):
    old = Digest.of_bytes(b"old")
    link = machines.folder / "i-2" / "current"
    link.unlink()
    link.symlink_to(f"releases/{old.id}")
    with pytest.raises(NotLive, match=f"release: i-2 runs {old.id}, not {DIGEST.id}\n    doit release"):
        read_back(Threads(), machines, hosts(), "shop", DIGEST)


@pytest.mark.parametrize("gone", ["current", "releases/{id}/.complete"])
@pytest.mark.promise("every-host-is-asked")
def test_a_host_that_runs_nothing_that_is_complete_is_named(machines, gone):
    (machines.folder / "i-1" / gone.format(id=DIGEST.id)).unlink()
    with pytest.raises(NotLive, match="release: i-1 runs no complete release, not"):
        read_back(Threads(), machines, hosts(), "shop", DIGEST)


@pytest.mark.promise("every-host-is-asked")
def test_a_host_that_cannot_be_asked_is_no_success():
    class Silent(Hosts):
        def python(self, host, stage, program):
            raise HostUnreachable(stage=stage, host=host.name, address="", port=22)

    with pytest.raises(HostUnreachable):
        read_back(Threads(), Silent(), hosts(), "shop", DIGEST)


@pytest.mark.parametrize("name", ["release.keep", "release.static_hours"])
@pytest.mark.promise("settings-that-are-read-are-inputs")
def test_a_setting_that_the_playbook_is_told_is_among_the_parts(project, start, name):  # noqa: F811
    run = start(project)
    digest = Digest(tarball.pack(Build(run)).facts["digest"])
    environment, own = run.environment, name.removeprefix("release.")
    more = dataclasses.replace(environment.release, **{own: getattr(environment.release, own) + 1})
    other = dataclasses.replace(run, environment=dataclasses.replace(environment, release=more))
    told = f"release_{own}"
    assert variables(other, digest)[told] != variables(run, digest)[told]
    assert {each for each, value in parts(other).items() if value != parts(run)[each]} == {name}


@pytest.mark.promise("a-hook-after-is-told")
def test_a_hook_that_failed_once_the_release_was_live_is_the_command_s_failure():
    accept_late([Answer(host="i-1")], "release")
    with pytest.raises(HookFailed) as told:
        accept_late([Answer(host="i-1", late=("hooks/after-open: exit code 3",))], "release")
    assert told.value.text == "release: hooks/after-open: exit code 3; nothing was undone\n    doit release"
