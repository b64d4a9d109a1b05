"""sweep: `doit sweep`: show what no branch owns; with --yes, delete it."""

from __future__ import annotations

import math
from functools import partial

from tasks import forms, source
from tasks.commands.base import Command, flag, number, run_of
from tasks.console.console import WIDTH
from tasks.environments import cost, inventory
from tasks.graph import summary
from tasks.refusal import Refusal
from tasks.sweep import apply, references
from tasks.sweep import plan as sweep


class SweepTooMuch(Refusal):
    """The sweep would delete a larger share of all items than the settings allow."""

    sentence = "sweep: would take {share} % of everything, more than {most} % (pipeline.yml: sweep.share)"
    remedy = "doit sweep --share {share}"


class SweepIncomplete(Refusal):
    """Some items were not deleted: the cloud refused, or a run holds their environment."""

    sentence = "sweep: {number} of {all} could not be taken: {why}"
    remedy = "doit sweep"


class SweepCommand(Command):
    """`doit sweep`: shows what no branch owns; with `--yes`, deletes it."""

    name = "sweep"
    doc_purpose = "find what no branch owns; with --yes, give it back"
    doc_description = "Nothing is taken at first sight: only a sweep with --yes remembers what it has seen."
    cmd_options = (
        flag("yes", "take it, and remember what was seen for the first time", short="y"),
        {
            "name": "share",
            "short": "",
            "long": "share",
            "type": number(forms.between(0, 100)),
            "default": None,
            "help": "percent of everything that may go at once [pipeline.yml: sweep.share]",
        },
    )

    def _execute(self, yes: bool = False, share: int | None = None) -> int:
        run = run_of(self.task_list)
        ask = partial(source.remote_branches, run.root, run.pipeline.default_branch)
        branches = ask()
        found = inventory.survey(run)
        memory, etag = apply.remembered(run.store)
        known = sweep.Known(
            remote=source.origin(run.root),
            branches=branches,
            referred=references.of(run, found, branches),
            memory=memory,
        )
        plan = sweep.plan(found, known, run.pipeline.sweep)
        told = list(sweep.lines(plan, found, cost.prices()))
        for line in told:
            self.console.line(line)
        summary.of_lines(run, f"sweep{' --yes' if yes else ''}", told)
        most = run.pipeline.sweep.share if share is None else share
        if plan.share > most:
            raise SweepTooMuch(share=math.ceil(plan.share), most=most)
        if not yes or not (found.resources or found.objects):
            return 0
        apply.remember(run, plan.memory, etag)
        problems = apply.carry_out(run, found, plan, ask)
        for name, why in problems.items():
            self.console.line(f"{'kept':<{WIDTH}} {name}: {why}")
        if problems:
            raise SweepIncomplete(
                number=len(problems), all=len(plan.groups), why=next(iter(problems.values()))
            )
        return 0
