"""A value that is planted is found: in an archive, and in the arguments of a process."""

from __future__ import annotations

import subprocess

import pytest
import zstandard

from tests.conftest import until
from tests.leaks import ProcessLists, leaked, plain

PLANTED = "planted-value-that-nobody-has"


@pytest.mark.promise("secrets-are-nowhere-else")
def test_a_planted_value_is_found_in_a_file_and_in_every_part_of_an_archive():
    frames = [
        zstandard.compress(each)
        for each in (b"x" * 1000, " ".join([*map(str, range(2000)), PLANTED]).encode(), b"y" * 1000)
    ]
    frames.insert(
        1, b"\x50\x2a\x4d\x18\x04\x00\x00\x00name"
    )  # one that zstd leaves out, as a layer's archive has
    assert PLANTED.encode() not in b"".join(frames), "compressed, it does not show"
    assert leaked([PLANTED], b"".join(frames))
    assert leaked([PLANTED], PLANTED.encode())
    assert not leaked([PLANTED], b"".join(frames[:2]))
    assert plain(b"".join(frames)).startswith(b"xxx")


@pytest.mark.promise("passwords-are-no-arguments")
def test_a_planted_argument_of_a_process_is_seen():
    with ProcessLists().watching() as lists:
        child = subprocess.Popen(["sh", "-c", "read line", "sh", PLANTED], stdin=subprocess.PIPE)
        try:
            until(lambda: any(leaked([PLANTED], each) for each in [*lists.seen]))
        finally:
            child.communicate(b"\n")
