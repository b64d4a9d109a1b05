"""aws_command_line: AWS's own command line, in a virtual environment of its own: it brings a botocore of its own, and pins old libraries."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LOCK = Path(__file__).with_name("requirements.lock")


def program() -> Path:
    """The program `aws`: installed once from the locked packages, each with its hash."""
    made = ROOT / ".run" / "aws_command_line" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    made.mkdir(parents=True, exist_ok=True)
    with (made / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (made / "done").exists():
            _run(sys.executable, "-m", "venv", "--clear", str(made / "venv"))
            pip = [
                str(made / "venv" / "bin" / "python"),
                "-m",
                "pip",
                "--quiet",
                "--disable-pip-version-check",
                "install",
            ]
            _run(*pip, "--no-compile", "--require-hashes", "--requirement", str(LOCK))
            (made / "done").touch()
    return made / "venv" / "bin" / "aws"


def _run(*command: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
