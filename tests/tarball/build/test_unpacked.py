"""Unpacked layers: kept from one run to the next, believed while nobody has touched them, bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tasks.digest import Digest
from tasks.tarball.build import unpacked
from tests.conftest import ROOT

ONE, TWO = Digest.of_bytes(b"one"), Digest.of_bytes(b"two")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "unpacked"


def made(place, digest, name="layer"):
    """A folder of a run that has ended: nobody holds it."""
    code = "import sys; from pathlib import Path; from tasks.digest import Digest; from tasks.tarball.build import unpacked\n"
    code += "folder = unpacked.new(Path(sys.argv[1]), sys.argv[2]); (folder / 'a').mkdir()\n"
    code += "(folder / 'a' / 'file').write_text('text'); (folder / 'run').write_text('do'); (folder / 'link').symlink_to('run')\n"
    code += "sys.argv[3] and unpacked.keep(folder, Digest(sys.argv[3])); print(folder)"
    words = [sys.executable, "-c", code, place, name, digest or ""]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return type(place)(done.stdout.strip())


def kept(place, digest=ONE):
    return unpacked.kept(place, digest, os.geteuid())


def test_a_sealed_folder_stands_for_its_archive_and_no_other(place):
    folder = made(place, ONE)
    assert kept(place) == folder
    assert kept(place, TWO) is None
    assert unpacked.kept(place, ONE, os.geteuid() + 1) is None


def same_size_and_date(folder):
    before = (folder / "run").stat()
    (folder / "run").write_text("DO")
    os.utime(folder / "run", ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(folder):
    before = (folder / "a" / "file").stat()
    (folder / "new").write_text("TEXT")
    os.utime(folder / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "new").rename(folder / "a" / "file")


@pytest.mark.parametrize(
    "touch",
    [
        same_size_and_date,
        replaced,
        lambda folder: (folder / "a" / "file").unlink(),
        lambda folder: (folder / "a" / "more").write_text(""),
        lambda folder: (folder / "empty").mkdir(),
        lambda folder: (folder / "run").chmod(0o755),
        lambda folder: (folder / "a").chmod(0o700),
        lambda folder: ((folder / "link").unlink(), (folder / "link").symlink_to("a")),
        lambda folder: (folder / "a").rename(folder / "b"),
    ],
)
@pytest.mark.promise("unpacked-layers-are-sealed")
def test_a_folder_that_somebody_has_touched_is_not_believed(place, touch):
    folder = made(place, ONE)
    assert kept(place) == folder
    touch(folder)
    assert kept(place) is None
    assert kept(place) is None


@pytest.mark.parametrize(
    "seal", ["", "[]", "{}", '{"folder": 1}', '{"folder": "../x", "seal": "x", "size": 1}']
)
def test_a_broken_seal_is_none(place, seal):
    folder = made(place, ONE)
    (place / f"{ONE}{unpacked.SEAL}").write_text(seal)
    assert kept(place) is None
    unpacked.sweep(place, time.time())
    assert not folder.exists()


@pytest.mark.promise("unpacked-layers-are-bounded")
def test_what_is_old_too_much_or_a_killed_run_s_goes_and_what_is_held_stays(place, monkeypatch):
    old, fresh, killed = made(place, ONE, "old"), made(place, TWO, "fresh"), made(place, None, "killed")
    held = unpacked.new(place, "held")
    now = time.time()
    os.utime(place / f"{ONE}{unpacked.SEAL}", (now - 8 * 86400,) * 2)
    unpacked.sweep(place, now)
    assert [each.exists() for each in (old, fresh, killed, held)] == [False, True, False, True]
    assert kept(place, ONE) is None
    assert {each.name for each in place.iterdir()} == {fresh.name, held.name, f"{TWO}{unpacked.SEAL}"}
    younger = made(place, ONE, "younger")
    os.utime(place / f"{TWO}{unpacked.SEAL}", (now - 60,) * 2)
    monkeypatch.setattr(unpacked, "ROOM", 10)  # each has 6 bytes, and a link
    unpacked.sweep(place, now)
    assert [each.exists() for each in (fresh, younger)] == [False, True]


def test_a_use_makes_it_young(place):
    made(place, ONE)
    seal = place / f"{ONE}{unpacked.SEAL}"
    os.utime(seal, (1, 1))
    assert kept(place)
    assert seal.stat().st_mtime > 1


def test_what_a_killed_sweep_has_left_goes_with_the_next(place):
    (place / f"layer.1{unpacked.GONE}" / "a").mkdir(parents=True)
    unpacked.sweep(place, time.time())
    assert list(place.iterdir()) == []
