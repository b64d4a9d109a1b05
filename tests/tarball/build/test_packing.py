"""A large folder is packed by another process: the same bytes, and the same reasons when it cannot be."""

from __future__ import annotations

import pytest

from tasks.tarball.build import archive, packing, tar
from tasks.tarball.build.tar import UnsafeFile


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    for number in range(20):
        (made / f"file{number}").write_bytes(b"%d" % number * 1000)
    return made


def test_both_processes_make_the_same_archive(folder, tmp_path):
    here = archive.pack(tar.of_folder(folder), tmp_path / "here")
    there = packing.pack(folder, tmp_path / "there", packing.LARGE)
    assert there == here
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


@pytest.mark.parametrize("size", [0, packing.LARGE])
def test_what_must_not_be_packed_is_named_by_either(folder, tmp_path, size):
    (folder / "out").symlink_to("../../etc")
    with pytest.raises(UnsafeFile, match="out"):
        packing.pack(folder, tmp_path / "target", size)
