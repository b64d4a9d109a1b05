"""boundary: whatever is raised, a person reads a sentence; the traceback lies in a file that the sentence names."""

from __future__ import annotations

import shlex
import subprocess
import sys
import traceback
from pathlib import Path

from tasks.cloud import errors
from tasks.console import journal
from tasks.refusal import BUG, Refusal

ERRORS = Path(".run", "errors")
"""Where tracebacks are kept, in the checkout."""
LONGEST = 300
"""Characters of an error that a sentence quotes."""


class OutsideFailed(Refusal):
    """Something outside of the pipeline (a file, a stream, a program, the network) failed where nothing else is said about it."""

    sentence = "{what}: {problem}"
    remedy = "cat {log}"


class PipelineBug(Refusal):
    """A bug of the pipeline. The file has the traceback; please report it."""

    sentence = "{where}: this is a bug of the pipeline: {problem}"
    remedy = "cat {log}"
    exit_code = BUG


def told(error: BaseException, folder: Path = ERRORS) -> Refusal:
    """The refusal that an exception becomes. Its traceback is kept in a file of the folder, unless it is a refusal itself."""
    known = error if isinstance(error, Refusal) else errors.refusal_of(error)
    if known:
        return known
    log = shlex.quote(journal.keep(folder, "".join(traceback.format_exception(error))))
    if _outside(error):
        return OutsideFailed(what=_what(error), problem=_short(_problem(error)), log=log)
    return PipelineBug(where=_where(error), problem=_short(f"{type(error).__name__}: {error}"), log=log)


def _outside(error: BaseException) -> bool:
    """Whether the error is about something outside, which no code of ours can prevent."""
    # PyYAML is loaded with the settings; asking for it here would load it for `doit help`
    yaml_error = getattr(sys.modules.get("yaml"), "YAMLError", ())
    kinds = (OSError, UnicodeError, MemoryError, subprocess.SubprocessError, yaml_error)
    return any(isinstance(error, kind) for kind in kinds)


def _what(error: BaseException) -> str:
    named = getattr(error, "filename", None)
    if isinstance(error, subprocess.SubprocessError):
        command = getattr(error, "cmd", "")
        return command if isinstance(command, str) else str(next(iter(command), "a program"))
    return str(named) if isinstance(named, str | Path) else "this machine"


def _problem(error: BaseException) -> str:
    if isinstance(error, UnicodeError):
        return f"a text that cannot be {'read' if isinstance(error, UnicodeDecodeError) else 'written'} ({error})"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _where(error: BaseException) -> str:
    """File and line of the last frame that is ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if "/tasks/" in each.filename or each.filename.endswith("dodo.py")]
    for each in reversed(ours or frames):
        _, found, rest = each.filename.rpartition("/tasks/")
        return f"{'tasks/' if found else ''}{rest if found else Path(each.filename).name}:{each.lineno}"
    return "doit"


def _short(text: str) -> str:
    words = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"
