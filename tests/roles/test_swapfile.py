"""swapfile: as much swap as is declared, made once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = ROOT / "roles" / "base" / "files" / "swapfile"


@pytest.fixture
def made(tmp_path):
    """Run the program where the kernel takes no swap: what it would be given is noted. Sparse files are enough."""
    for name, text in {
        "swapon": f"echo $1 >> {tmp_path}/on",
        "fallocate": "truncate --size $2 $3",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    file = tmp_path / "swapfile"

    def made(*size):
        environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(["bash", PROGRAM, file, *size], env=environ, check=True, capture_output=True)
        return file if file.exists() else None

    made.on = tmp_path / "on"
    return made


@pytest.mark.promise("swap-by-declaration")
def test_swap_has_the_size_that_is_declared_and_is_made_once(made):
    file = made("1M")
    first = file.stat()
    assert (first.st_size, first.st_mode & 0o777) == (1 << 20, 0o600)
    assert b"SWAPSPACE2" in file.read_bytes()
    again = made("1M").stat()  # reading it may change its st_atime
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert made("2M").stat().st_size == 2 << 20
    assert made.on.read_text().split() == [str(file)] * 3
    assert made("0") is None
    assert made.on.read_text().split() == [str(file)] * 3


@pytest.mark.promise("swap-by-declaration")
def test_without_a_size_it_is_a_quarter_of_the_memory_and_two_gibibytes_at_most(made):
    (total,) = [
        line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal:" in line
    ]
    quarter = int(total) * 1024 // 4 // (1 << 20) * (1 << 20)
    assert made().stat().st_size == min(quarter, 2 << 30)


def test_a_file_that_a_killed_run_left_half_made_is_not_taken(made):
    file = made("0") or made.on.parent / "swapfile"
    file.with_name("swapfile.new").write_bytes(b"x" * 4096)
    assert b"SWAPSPACE2" in made("1M").read_bytes()
    assert not file.with_name("swapfile.new").exists()
