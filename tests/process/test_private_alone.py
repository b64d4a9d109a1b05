"""Private folders: whose they are, how they are named, and which of them are removed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from tasks.process import children, private
from tasks.process.private import PrivateFolderTaken


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def place(temporary):
    return temporary / f"release-pipeline-{os.getuid()}"


@pytest.mark.promise("private-folders")
def test_the_user_s_folder_is_made_for_this_user_alone_and_used_again(place):
    assert private.root() == place
    assert place.stat().st_mode & 0o777 == 0o700
    (place / "kept").write_text("x")
    assert private.root() == place
    assert (place / "kept").exists()


def _a_file(place):
    place.write_text("x")
    place.chmod(0o600)


def _a_link(place):
    (place.parent / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.parent / "elsewhere")


def _open_to(mode):
    def make(place):
        place.mkdir()
        place.chmod(mode)

    return make


def _another_users(place):
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 12345)


@pytest.mark.parametrize(
    "make", [_a_file, _a_link, _open_to(0o701), _open_to(0o710), _open_to(0o704), _another_users]
)
@pytest.mark.promise("private-folders")
def test_what_others_may_have_made_or_can_open_is_refused(place, make):
    make(place)
    said = rf"^{place}: should be a folder that only this user can open\n    TMPDIR=\"\$HOME\" doit release$"
    with pytest.raises(PrivateFolderTaken, match=said):
        private.root()


def test_a_folder_says_what_it_is_for_and_whose_run_it_is_and_goes_at_the_end(place, monkeypatch):
    monkeypatch.setattr(children, "_marks", ["0123456789ab"])
    monkeypatch.setattr(children, "_watchers", {"0123456789ab": None})
    with private.folder("ssh") as made:
        assert made.parent == place
        assert made.name.startswith("ssh-0123456789ab-")
        assert made.stat().st_mode & 0o777 == 0o700
        (made / "below").mkdir()
        (made / "below" / "key").write_text("secret")
    assert list(place.iterdir()) == []


def test_it_goes_also_where_the_work_has_failed_and_where_it_is_gone_already(place):
    with pytest.raises(ZeroDivisionError), private.folder("ssh"):
        raise ZeroDivisionError
    with private.folder("ssh") as made:
        made.rmdir()
    assert list(place.iterdir()) == []


def test_a_folder_is_locked_as_long_as_it_is_used_and_no_longer(place):
    with private.folder("ssh") as made:
        assert private.lock(made) is None
    made.mkdir()
    held = private.lock(made)
    assert held is not None
    os.close(held)


def test_no_file_stays_open(place):
    def opened():
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    with private.folder("ssh"):
        pass
    before = opened()
    (place / "left").mkdir(mode=0o700)
    with private.folder("ssh") as made:
        for _ in range(3):
            assert private.lock(made) is None
    assert private.lock(place / "none") is None
    assert opened() == before


@pytest.mark.promise("next-run-removes-private-folders")
def test_what_no_process_holds_is_removed_before_another_folder_is_made(place):
    private.root()
    (place / "ssh-killed").mkdir()
    (place / "ssh-killed" / "key").write_text("secret")
    with private.folder("ssh") as first, private.folder("play") as second:
        assert sorted(place.iterdir()) == sorted([first, second])


def test_folders_are_made_by_one_process_at_a_time(place):
    """Another one would remove what is made and not yet locked."""
    private.root()
    code = f"import fcntl, os, sys\nfcntl.flock(os.open({str(place)!r}, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"

    def free():
        return subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True).returncode == 0

    with private.turn(place):
        assert not free()
    assert free()
