"""ahead: while somebody decides, the hosts bring the release, which nobody notices. Without a yes they remove it again."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tasks import boundary
from tasks.console.console import Console
from tasks.infrastructure import hosts
from tasks.release import history, stage
from tasks.server import stage as server
from tasks.tarball import stored

if TYPE_CHECKING:
    from tasks.hosts.phased import Answer
    from tasks.run import Run

AHEAD, AWAY = ("bring", "rehearse"), ("discard",)
"""Phases of `phases.py`: what nobody notices, and what undoes it."""


@contextlib.contextmanager
def brought(run: Run) -> Iterator[None]:
    """Meanwhile the hosts bring the commit's tarball; at the end they have. They remove it where the block fails.

    What fails is told at once, to who decides, and refuses nothing: the release does it again.
    The caller holds the lease, and the gate lets the commit go on.
    """
    with run.threads.pool(1) as pool:
        bringing = pool.submit(_bring, run)
        try:
            yield
        except BaseException:
            bringing.result()  # nothing comes after the removal
            _discard(run)
            raise


def _bring(run: Run) -> None:
    try:
        answers = _perform(run, AHEAD, stage.variables(run, stored.existing(run)))
    except Exception as problem:
        run.console.event("release", f"not ready ahead: {_told(run, problem)}")
        return
    if any(each.changed for each in answers):
        seconds = max(sum(seconds for _, seconds in each.steps) for each in answers)
        run.console.event("release", f"ready ahead, in {seconds:.1f} s")


def _discard(run: Run) -> None:
    """Remove what was brought, unless it was live before."""
    try:
        digest = stored.existing(run)
        if all(each.digest != digest for each in history.read(run.store, run.identity)):
            _perform(run, AWAY, stage.variables_here(run, digest))
    except Exception as problem:
        # a host that does not answer, a lost lease: what is complete there is used or removed by a later release
        run.console.event("release", f"what is ready ahead stays there: {_told(run, problem)}")


def _told(run: Run, problem: Exception) -> str:
    """What failed. A bug of the pipeline is told as one, and its traceback is kept."""
    return boundary.told(problem, run.root / boundary.ERRORS).told(run.variables)


def _perform(run: Run, phases: Sequence[str], told: Mapping[str, object]) -> list[Answer]:
    """Run the phases without a word, as somebody is being asked, on the machines that a playbook may run on."""
    found = hosts.known(run)
    released = server.released(run, found, "release") if found else []
    if not (reached := hosts.reachable(run, released)):
        return []
    plan, log = stage.plan({**told, **stage.here(run, found, released)}), run.log("release")
    quiet = Console(io.StringIO())
    return run.hosts.phases(
        stage.PROGRAM, phases, stage="release", hosts=reached, plan=plan, console=quiet, log=log
    )
