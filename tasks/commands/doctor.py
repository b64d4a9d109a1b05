"""doctor: `doit doctor`: what a first release needs and has not, each thing with what to type."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tasks.commands.base import AS_JSON, Command, json_of, run_of
from tasks.console.console import WIDTH
from tasks.doctor import examination
from tasks.doctor.finding import Examined
from tasks.infrastructure import name_servers
from tasks.refusal import FAILED


class DoctorCommand(Command):
    """`doit doctor`: looks for everything that a first release needs; changes nothing."""

    name = "doctor"
    doc_purpose = "say what a first release needs and has not, and what to type"
    doc_description = (
        "It asks the account with the credentials that a release would use, and changes nothing. Exit code 1 if something is "
        "missing. What the credentials may not ask is unknown, and not counted. Other environments: doit environment=NAME doctor."
    )
    cmd_options = (AS_JSON,)

    def _execute(self, as_json: bool = False) -> int:
        run, examined = run_of(self.task_list), list[Examined]()
        for each in examination.of(run, os.environ, name_servers.of):
            examined.append(each)
            for line in () if as_json else lines(each):
                self.console.line(line)
        missing = [each for each in examined if each.missing]
        if as_json:
            self.console.line(json_of(examined))
        else:
            what = ", ".join(each.what for each in missing)
            self.console.line(f"missing: {what}" if missing else "nothing is missing")
        return FAILED if missing else 0


def lines(each: Examined) -> Iterator[str]:
    """What a person reads of one thing."""
    state = "missing" if each.missing else "unknown" if each.unknown else "found"
    words = each.missing.sentence if each.missing else each.unknown or each.found
    yield f"{each.what:<{WIDTH}} {state:<8} {words}"
    if each.missing and each.missing.remedy:
        yield f"    {each.missing.remedy}"
