"""mutmut_driver: mutmut in one module's folder: make its mutants, run the tests against each, say what became of them.

`mutate.py` starts it there, in a process of its own: mutmut reads its settings from the folder that it is in.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mutmut import __main__ as mutmut
from mutmut.mutation import mutators
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
"""Mutants that are tried at once: the machine has other work, and a test that waits for a processor may end by its time limit."""
STATS = Path("mutants", "mutmut-stats.json")
TRIED_AGAIN = ("survived", "no tests", "timeout", "suspicious", "segfault", "check was interrupted by user")


def main(module: str, *, tests_changed: bool) -> None:
    """Try the module's mutants that are not yet tried; where the tests have changed, also those that they did not notice."""
    leave_out_sentences()
    if tests_changed:
        forget_survivors(module)
    begin_with_the_quickest()
    adopt_orphans()
    try:
        mutmut._run((), AT_ONCE)
    finally:
        end_children()
    if untried(module):
        sys.exit(130)  # mutmut takes an interruption for an end
    Path("outcome.json").write_text(json.dumps(outcome(module)))


def untried(module: str) -> bool:
    """Whether there are mutants that have not been tried."""
    data = SourceFileMutationData(path=module)
    data.load()
    return None in data.exit_code_by_key.values()


def adopt_orphans() -> None:
    """Become the parent of what a test has started and left behind: one that is ended by its time limit cleans up nothing."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def end_children() -> None:
    """End every process that is left, and those that come to us by that."""
    while children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def leave_out_sentences() -> None:
    """Leave texts with a space alone: what a person reads, no test should spell."""

    def strings(node: Any) -> Iterable[Any]:
        return () if " " in getattr(node, "value", "") else mutators.operator_string(node)

    mutators.mutation_operators[:] = [
        (kind, strings if operator is mutators.operator_string else operator)
        for kind, operator in mutators.mutation_operators
    ]


def begin_with_the_quickest() -> None:
    """Run a mutant's tests in the order of their durations: the first that fails is the last that runs."""
    run = PytestRunner.run_tests

    def in_order(self: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        seconds = state().duration_by_test
        return run(
            self, mutant_name=mutant_name, tests=sorted(tests, key=lambda name: (seconds.get(name, 0), name))
        )

    PytestRunner.run_tests = in_order  # type: ignore[method-assign]


def forget_survivors(module: str) -> None:
    """Make mutmut try again what no test noticed, with the tests as they are now."""
    STATS.unlink(missing_ok=True)
    data = SourceFileMutationData(path=module)
    data.load()
    if not data.exit_code_by_key:
        return
    for name, code in data.exit_code_by_key.items():
        if status_by_exit_code[code] in TRIED_AGAIN:
            data.exit_code_by_key[name] = None
    data.save()


def outcome(module: str) -> list[dict[str, str]]:
    """Each mutant: what became of it, its function, and the lines that it replaces."""
    data = SourceFileMutationData(path=module)
    data.load()
    found = []
    for name, code in data.exit_code_by_key.items():
        function, within = orig_function_and_class_names_from_key(name)
        said = {
            # mutmut takes 255 for a timeout; a test process that could not begin ends with it, too
            "status": "not checked" if code == 255 else status_by_exit_code[code],
            "function": f"{within}.{function}" if within else function,
        }
        if said["status"] != "killed":
            lines = get_diff_for_mutant(name, path=module).splitlines()[3:]
            for key, sign in (("line", "-"), ("becomes", "+")):
                said[key] = "\n".join(line[1:].strip() for line in lines if line.startswith(sign))
        found.append(said)
    return found


if __name__ == "__main__":
    main(sys.argv[1], tests_changed=sys.argv[2] == "changed")
