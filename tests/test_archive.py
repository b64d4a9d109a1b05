"""The tarball's bytes: the same for the same content, and nothing in them that a server must not unpack."""

from __future__ import annotations

import os
import subprocess
import tarfile

import pytest
import zstandard

from tasks import archive
from tasks.refusal import UnsafeFile


def tree(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def members(path):
    with path.open("rb") as raw, tarfile.open(fileobj=zstandard.open(raw, "rb"), mode="r|") as packed:
        return {each.name: each for each in packed}


def test_order_times_modes_owner_and_umask_leave_no_trace(tmp_path):
    one = tree(tmp_path / "one", {"b/x": "1", "a": "2", "c.sh": "3"})
    two = tree(tmp_path / "two", {"c.sh": "3", "a": "2", "b/x": "1"})
    (one / "c.sh").chmod(0o755)
    (two / "c.sh").chmod(0o700)
    (two / "a").chmod(0o600)
    os.utime(two / "a", (1, 1))
    os.chown(two / "a", 12, 13)
    packed = [
        archive.pack(each, tmp_path / f"{each.name}.zst", exclude=(), date=1_000_000_001)
        for each in (one, two)
    ]
    assert packed[0] == packed[1]
    assert (tmp_path / "one.zst").read_bytes() == (tmp_path / "two.zst").read_bytes()
    found = members(tmp_path / "one.zst")
    assert {n: (oct(m.mode), m.uid, m.mtime) for n, m in found.items()} == {
        "a": ("0o644", 0, 1_000_000_001),
        "b": ("0o755", 0, 1_000_000_001),
        "b/x": ("0o644", 0, 1_000_000_001),
        "c.sh": ("0o755", 0, 1_000_000_001),
    }


def test_the_digest_is_that_of_the_file(tmp_path):
    packed = archive.pack(tree(tmp_path / "t", {"a": "x"}), tmp_path / "t.zst", exclude=(), date=1)
    printed = subprocess.run(["sha256sum", tmp_path / "t.zst"], capture_output=True, text=True).stdout
    assert printed.split()[0] == packed.digest
    assert packed.size == (tmp_path / "t.zst").stat().st_size
    assert (packed.files, packed.content_size) == (1, 1)


def test_what_is_excluded_is_left_out_with_everything_below_it(tmp_path):
    folder = tree(tmp_path / "t", {"var/log/x": "", "variable": "", "app/env.php": "", "app/config.php": ""})
    archive.pack(folder, tmp_path / "t.zst", exclude=("var", "app/env.php"), date=1)
    assert sorted(members(tmp_path / "t.zst")) == ["app", "app/config.php", "variable"]


def test_links_inside_stay_links(tmp_path):
    folder = tree(tmp_path / "t", {"a/b": "x"})
    (folder / "a" / "link").symlink_to("../a/b")
    (folder / "folder").symlink_to("a")
    archive.pack(folder, tmp_path / "t.zst", exclude=(), date=1)
    found = members(tmp_path / "t.zst")
    assert (found["a/link"].linkname, found["folder"].linkname) == ("../a/b", "a")
    assert "folder/b" not in found


@pytest.mark.parametrize(
    ("target", "problem"), [("/etc/passwd", "absolute link"), ("../../x", "leaves the application")]
)
def test_a_link_to_elsewhere_is_refused(tmp_path, target, problem):
    folder = tree(tmp_path / "t", {"a/b": "x"})
    (folder / "a" / "link").symlink_to(target)
    with pytest.raises(UnsafeFile, match=problem):
        archive.pack(folder, tmp_path / "t.zst", exclude=(), date=1)


def test_a_pipe_is_refused_and_setuid_is_dropped(tmp_path):
    folder = tree(tmp_path / "t", {"a": "x"})
    (folder / "a").chmod(0o4755)
    archive.pack(folder, tmp_path / "t.zst", exclude=(), date=1)
    assert members(tmp_path / "t.zst")["a"].mode == 0o755
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnsafeFile, match="pipe: is neither"):
        archive.pack(folder, tmp_path / "t.zst", exclude=(), date=1)


def test_dates_are_past_and_differ_between_trees():
    one, two = archive.date_of("0000000" + "a" * 33), archive.date_of("fffffff" + "a" * 33)
    assert one != two
    assert max(one, two) < 1_300_000_000
