"""The console where its output cannot be written, and the logs where the checkout cannot."""

from __future__ import annotations

import errno
import io

import pytest

from tasks.boundary import ERRORS
from tasks.console import journal
from tasks.console.console import Console


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_run_goes_on_where_its_output_is_lost_and_knows_why():
    console = Console(Full())
    console.steady = True
    console.line("one")
    console.line("two")
    assert "No space left" in str(console.lost)


def test_another_command_ends_there():
    with pytest.raises(OSError, match="No space left"):
        Console(Full()).line("one")


def test_logs_go_to_the_temporary_folder_where_the_checkout_takes_none(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    made = journal.new(tmp_path / "logs" / "testing-1")
    assert made.is_dir()
    assert tmp_path not in made.parents
    made.rmdir()


def test_tracebacks_are_kept_where_git_does_not_look():
    assert ERRORS.parts[0] == ".run"
