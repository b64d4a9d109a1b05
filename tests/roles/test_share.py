"""share: what one user has made in a shared folder, before there were two, the other may change too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = ROOT / "roles" / "shared" / "files" / "share.py"
COMMANDS = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=games"]
"""The commands' user: in the group of both."""
PAGES = ["setpriv", "--reuid=games", "--regid=games", "--clear-groups"]


@pytest.fixture
def folder():
    """Folders as an older pipeline has left them."""
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are root's alone
        top = Path(made)
        for each in ("shared/media/a/b", "releases/one/var", "releases/two/var", "releases/two/code"):
            (top / each).mkdir(parents=True)
            (top / each / "file").write_text("x")
        subprocess.run(["chown", "-R", "nobody:nogroup", top], check=True)
        subprocess.run(["chmod", "-R", "u=rwX,go=rX", top], check=True)
        yield top


def changed(folder):
    """How many were changed."""
    asked = [*COMMANDS, sys.executable, "-IS", "-", "games", f"{folder}/shared/*", f"{folder}/releases/*/var"]
    said = subprocess.run(asked, stdin=PROGRAM.open(), capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return int(said.stdout)


def writable(folder):
    """What pages may write, by its name in the folder."""
    asked = [*PAGES, "find", str(folder), "-writable", "-not", "-type", "l"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return {str(Path(each).relative_to(folder)) for each in said}


@pytest.mark.promise("both-replace-what-the-other-makes")
def test_a_host_of_an_older_pipeline_is_shared_once(folder):
    assert writable(folder) == set()
    media = ("shared/media", "shared/media/a", "shared/media/a/b", "shared/media/a/b/file")
    var = [f"releases/{each}/var{file}" for each in ("one", "two") for file in ("", "/file")]
    assert changed(folder) == len([*media, *var])
    assert writable(folder) == {*media, *var}
    subprocess.run([*PAGES, "touch", f"{folder}/shared/media/a/new"], check=True)
    assert (folder / "shared/media/a/new").group() == "games"
    assert changed(folder) == 0


def test_what_is_not_the_folder_s_own_is_left_alone(folder):
    outside = folder / "outside"
    outside.mkdir(mode=0o700)
    (outside / "secret").write_text("x")
    media = folder / "shared/media"
    (media / "link").symlink_to(outside / "secret")
    (media / "folder").symlink_to(outside)
    os.link(outside / "secret", media / "second")
    (media / "of_root").write_text("x")
    os.mkfifo(media / "pipe")
    for each in ("outside", "outside/secret", "shared/media/pipe"):
        shutil.chown(folder / each, "nobody", "nogroup")
    changed(folder)
    found = {each: (each.stat().st_mode & 0o777, each.group()) for each in (outside, outside / "secret")}
    assert found == {outside: (0o700, "nogroup"), outside / "secret": (0o644, "nogroup")}
    assert (media / "of_root").group() == "root"
    assert changed(folder) == 0
