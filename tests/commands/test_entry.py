"""The program `doit`: whatever is around it, an answer is a sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DOIT, copy_project, git


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of this repository."""
    return copy_project(tmp_path_factory.mktemp("project") / "shop")


def shell(project: Path, line: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in the project; `$DOIT` is the program."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "DOIT": str(DOIT), **environ},
        capture_output=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("$DOIT list >&-", 0, ""),
        ("$DOIT list <&- >&- 2>&-", 0, ""),
        ("$DOIT list > /dev/full", 1, "stdout: No space left on device\n    cat .run/errors/"),
        ("$DOIT docs > /dev/full", 1, "stdout: No space left on device"),
        ("$DOIT help > /dev/full", 1, "stdout: No space left on device"),
        ("$DOIT relaese 2> /dev/full", 3, ""),
        ("set -o pipefail; $DOIT docs | true", 141, ""),
        (r"$DOIT branch=$'caf\xe9' plan", 3, r"git: caf\udce9: no branch can be called that"),
        (r"$DOIT $'caf\xe9'", 3, r"no task or command named caf\udce9"),
        ("$DOIT ''", 3, "command line: an argument is empty"),
        ("$DOIT list ''", 3, "command line: an argument is empty"),
        ("$DOIT run --db-file x", 3, "command line: option --db-file not recognized"),
        ("$DOIT list --backend sqlite3", 3, "command line: option --backend not recognized"),
        ("$DOIT run --reporter json", 3, "command line: option --reporter not recognized"),
        ("$DOIT --file nosuch list", 3, "command line: option --file not recognized"),
        ("$DOIT run -n -1 tarball", 3, "command line: --num_process: should be a whole number from 0 to 64, not '-1'"),
        ("DOIT_FILE=nosuch $DOIT list", 0, ""),
        ("PYTHONIOENCODING=ascii $DOIT branch=caf\u00e9 relaese", 3, "did you mean release?"),
        ("env -u HOME -u XDG_STATE_HOME $DOIT list", 0, ""),
        ("XDG_STATE_HOME=/dev/null $DOIT cloud start", 1, "cloud: /dev/null/release-pipeline/cloud cannot be made: Not a directory"),
        ("XDG_STATE_HOME=/dev/null $DOIT status", 1, "cloud: /dev/null/release-pipeline/cloud cannot be made: Not a directory"),
    ],
)  # fmt: skip
def test_an_odd_caller_gets_a_sentence_and_the_right_exit_code(project, line, code, sentence):
    answered = shell(project, line)
    said = (answered.stdout + answered.stderr).decode(errors="replace")
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert answered.returncode == code, said
    assert sentence in said


@pytest.mark.parametrize(
    ("file", "more", "code", "sentence"),
    [
        ("dodo.py", "<<<<<<< HEAD\n", 2, "this is a bug of the pipeline: SyntaxError: invalid syntax (dodo.py, line "),
        ("dodo.py", "1 / 0\n", 2, "dodo.py:{end}: this is a bug of the pipeline: ZeroDivisionError: division by zero"),
        ("pyproject.toml", "<<<<<<< HEAD\n", 0, ""),
        ("doit.cfg", "=\n", 0, ""),
        ("pipeline.yml", "# caf\udce9\n", 3, "pipeline.yml:{end}: is not UTF-8"),
        ("roles/php/meta/argument_specs.yml", "# caf\udce9\n", 3, "roles/php/meta/argument_specs.yml:{end}: is not UTF-8"),
        ("roles/php/meta/argument_specs.yml", "<<<<<<< HEAD\n", 3, "roles/php/meta/argument_specs.yml:3"),
    ],
)  # fmt: skip
def test_a_file_of_the_project_that_is_broken_gets_a_sentence(project, file, more, code, sentence):
    path = project / file
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(before + more.encode(errors="surrogateescape"))
    try:
        answered = shell(project, "$DOIT list")
    finally:
        path.write_bytes(before)
        git(project, "clean", "-qfd", "doit.cfg") if file == "doit.cfg" else None
    said = answered.stderr.decode()
    assert "Traceback" not in said
    assert answered.returncode == code, said
    line = before.count(b"\n") + 1
    assert sentence.replace("{end}", str(line)) in said
    if code == 2:
        log = Path(project, said.rpartition("cat ")[2].strip())
        assert "Traceback" in log.read_text()


def test_output_is_escaped_where_the_stream_cannot_encode_it(project):
    answered = shell(project, "PYTHONIOENCODING=ascii $DOIT $'caf\\u00e9'", LC_ALL="C.UTF-8")
    assert answered.returncode == 3
    assert rb"no task or command named caf\xe9" in answered.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_user_without_an_entry_in_passwd_has_a_name_and_is_told_what_is_missing(project):
    script = (
        "import os; from tasks.commands import command_line; from tasks.cloud.embedded import home\n"
        "os.setuid(54321); print(command_line.who({}))\n"
        "try: home.of({})\n"
        "except home.HomeUnknown as refusal: print(refusal.text)"
    )
    line = f"env -u HOME -u USER -u LOGNAME -u LNAME -u USERNAME {sys.executable} -c '{script}'"
    said = shell(project, line).stdout.decode()
    assert said.startswith("uid-54321@")
    assert "no folder for the cloud: HOME is not set, and uid 54321 has no entry in passwd" in said
