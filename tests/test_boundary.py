"""boundary: what is raised becomes a sentence, with the traceback in a file that it names."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tasks import boundary
from tasks.boundary import OutsideFailed, PipelineBug
from tasks.source import NoCommit


def raised(ask, *arguments):
    try:
        ask(*arguments)
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("ask", "arguments", "kind", "code", "sentence"),
    [
        (Path.read_text, (Path("/nosuch"),), OutsideFailed, 1, "/nosuch: No such file or directory"),
        (b"\xff".decode, (), OutsideFailed, 1, "this machine: a text that cannot be read"),
        ("\udce9".encode, (), OutsideFailed, 1, "this machine: a text that cannot be written"),
        (yaml.safe_load, ("a: [",), OutsideFailed, 1, "this machine: while parsing"),
        (subprocess.check_call, (["false"],), OutsideFailed, 1, "false: Command"),
        (json.loads, ("",), PipelineBug, 2, "this is a bug of the pipeline: JSONDecodeError"),
        ({}.__getitem__, ("x",), PipelineBug, 2, "this is a bug of the pipeline: KeyError: 'x'"),
    ],
)
@pytest.mark.promise("a-bug-leaves-a-file")
def test_an_exception_becomes_a_sentence_and_its_traceback_a_file(tmp_path, ask, arguments, kind, code, sentence):  # fmt: skip
    said = boundary.told(raised(ask, *arguments), tmp_path / "errors")
    assert (type(said), said.exit_code) == (kind, code)
    assert sentence in said.text
    log = Path(said.text.rpartition("cat ")[2])
    assert log.parent == tmp_path / "errors"
    assert log.read_text().startswith("Traceback (most recent call last)")


def test_a_refusal_stays_as_it_is_and_leaves_no_file(tmp_path):
    refusal = NoCommit(name="HEAD")
    assert boundary.told(refusal, tmp_path) is refusal
    assert not list(tmp_path.iterdir())


def test_where_the_checkout_takes_no_file_the_temporary_folder_does(tmp_path):
    (tmp_path / "errors").write_text("in the way")
    said = boundary.told(KeyError("x"), tmp_path / "errors")
    log = Path(said.text.rpartition("cat ")[2])
    assert log.exists()
    log.unlink()


def test_only_the_newest_tracebacks_are_kept(tmp_path):
    for _ in range(25):
        boundary.told(KeyError("x"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 20
