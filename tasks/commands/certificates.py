"""certificates: `doit certificates`: order what ends soon of an ACME authority, and bring it to the hosts. CI's schedule types it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks import boundary
from tasks import run as runs
from tasks.bucket import lease
from tasks.commands.base import Command, flag, run_of
from tasks.environments import inventory
from tasks.infrastructure import name_servers
from tasks.process.children import Cancelled
from tasks.refusal import Refusal
from tasks.server import renewal

if TYPE_CHECKING:
    from tasks.run import Run


class CertificatesIncomplete(Refusal):
    """A certificate was not ordered, or did not get to a host. What is served stays, and the next call tries again."""

    sentence = "certificates: {number} failed, first: {why}"
    remedy = "{remedy}"
    any_environment = True


class CertificatesCommand(Command):
    """`doit certificates`: renews the certificates of every environment that has `certificates: acme`."""

    name = "certificates"
    doc_purpose = (
        "order certificates of an ACME authority that are missing or end soon, and bring them to the hosts"
    )
    doc_description = (
        "For every environment whose file has certificates: acme. It orders one that is missing, or of whose life less than a third "
        "is left, and gives it to the running hosts that have another one."
    )
    cmd_options = (
        flag("anew", "order them whatever is kept, as after a key was lost; mind the authority's limits"),
    )
    look = staticmethod(name_servers.texts)

    def _execute(self, anew: bool = False) -> int:
        run, problems, orders = run_of(self.task_list), list[Refusal](), False
        for path in sorted((run.root / "environments").glob("*.yml")):
            with self._alone(path.stem, problems):
                there = runs.elsewhere(run, path.stem)
                if there.environment.certificates != renewal.ORDERED:
                    continue
                orders = True
                with self._alone(path.stem, problems):
                    self._say(path.stem, renewal.order(there, renewal.RENEWED, self.look, anew=anew))
                for identity in inventory.running(there):
                    with self._alone(identity, problems):
                        self._say(identity, _deliver(dataclasses.replace(there, named_identity=identity)))
        if problems:
            first, _, remedy = problems[0].text.partition("\n")
            remedy = remedy.strip() or "doit certificates"
            raise CertificatesIncomplete(number=len(problems), why=first, remedy=remedy)
        if not orders:
            self.console.line(
                "no environment orders its certificate (environments/NAME.yml: certificates: acme)"
            )
        return 0

    @contextlib.contextmanager
    def _alone(self, what: str, problems: list[Refusal]) -> Iterator[None]:
        """A step of an environment: what fails in it is kept, and holds up no other."""
        try:
            yield
        except Cancelled:
            raise
        except Exception as error:
            problems.append(boundary.told(error))
            self._say(what, problems[-1].text.splitlines()[0])

    def _say(self, what: str, said: str) -> None:
        self.console.line(f"{what}: {said}")


def _deliver(run: Run) -> str:
    with lease.held(run, "certificates"):
        given = renewal.deliver(run)
    return f"{', '.join(given)} has the new one" if given else "its hosts have it"
