"""When a host shuts itself down, and when it does not."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tasks.process import bounds

ROLE = Path(__file__).parents[2] / "roles" / "self_shutdown"
NOW = 1_800_000_000.0
DAY, HOUR = 86400, 3600


@pytest.fixture
def self_shutdown(tmp_path, monkeypatch):
    """The host's program, on a host that started in 1970."""
    specification = importlib.util.spec_from_file_location(
        "self_shutdown", ROLE / "files" / "self_shutdown.py"
    )
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    for name, value in {
        "KEEP": str(tmp_path / "keep-until"),
        "PROVISIONING": str(tmp_path / "provisioning"),
        "LOGS": (str(tmp_path / "access.log"),),
        "started": lambda: 0.0,
    }.items():
        monkeypatch.setattr(made, name, value)
    monkeypatch.setattr(made.glob, "glob", lambda pattern: [])
    return made


def at(path, when):
    """Make a link with this time."""
    path.symlink_to("nowhere")
    os.utime(path, (when, when), follow_symlinks=False)
    return str(path)


@pytest.mark.parametrize(
    ("days", "idle_hours", "released", "seen", "kept", "why"),
    [
        (14, 0, 13 * DAY, 0, None, ""),
        (14, 0, 14 * DAY, 0, None, "14 days have passed since the last release"),
        (14, 0, 14 * DAY, 0, NOW + 1, ""),
        (14, 0, 14 * DAY, 0, NOW - 1, "14 days have passed since the last release"),
        (14, 0, 14 * DAY, 0, "soon", "14 days have passed since the last release"),
        (0, 0, 999 * DAY, 999 * DAY, None, ""),
        (14, 12, DAY, 11 * HOUR, None, ""),
        (14, 12, DAY, 12 * HOUR, None, "idle for 12 hours"),
        (14, 12, DAY, 12 * HOUR, NOW + 1, ""),
        (14, 12, 11 * HOUR, 3 * DAY, None, ""),
    ],
)
@pytest.mark.promise("a-host-ends-itself")
def test_a_host_ends_when_it_is_past_its_time_or_idle_unless_it_is_kept(
    self_shutdown, tmp_path, days, idle_hours, released, seen, kept, why
):
    link = at(tmp_path / "current", NOW - released)
    at(tmp_path / "access.log", NOW - seen)
    if kept is not None:
        Path(self_shutdown.KEEP).write_text(f"{kept}\n")
    assert self_shutdown.reason(NOW, days, idle_hours, link) == why


def test_a_host_without_a_release_has_its_time_from_its_installation_on(self_shutdown, tmp_path):
    installed = os.lstat(self_shutdown.__file__).st_mtime
    nothing = str(tmp_path / "current")
    assert self_shutdown.reason(installed + 13 * DAY, 14, 0, nothing) == ""
    assert self_shutdown.reason(installed + 14 * DAY, 14, 0, nothing) != ""


@pytest.mark.parametrize(("since", "ends"), [(60, False), (2 * HOUR, True)])
@pytest.mark.promise("a-host-ends-itself")
def test_a_host_stays_for_an_hour_while_a_release_runs(self_shutdown, tmp_path, since, ends):
    link = at(tmp_path / "current", NOW - 15 * DAY)
    at(tmp_path / "unfinished.json", NOW - since)
    assert bool(self_shutdown.reason(NOW, 14, 0, link)) == ends


@pytest.mark.promise("a-host-ends-itself")
def test_a_host_with_a_login_is_not_idle(self_shutdown, tmp_path, monkeypatch):
    monkeypatch.setattr(self_shutdown.glob, "glob", lambda pattern: ["/dev/pts/0"])
    assert self_shutdown.reason(NOW, 0, 1, at(tmp_path / "current", 0)) == ""


@pytest.mark.parametrize(
    ("since", "ends"), [(None, True), (0, False), (bounds.PLAY + 60, False), (6 * HOUR, True)]
)
@pytest.mark.promise("no-host-ends-during-provisioning")
def test_a_host_does_not_end_while_it_is_provisioned(self_shutdown, tmp_path, monkeypatch, since, ends):
    """As long as that may take; what a killed one has left keeps no host for ever."""
    off, mark = tmp_path / "off", Path(self_shutdown.PROVISIONING)
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho $1 > {off}\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(self_shutdown.time, "time", lambda: NOW)
    if since is not None:
        mark.touch()
        os.utime(mark, (NOW - since, NOW - since))
    self_shutdown.main("14", "0", at(tmp_path / "current", 1))
    assert off.exists() is ends
