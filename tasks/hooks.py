"""hooks: scripts of the repository that run before and after a phase of a release, on its hosts, or a stage, here.

A file `hooks/before-PHASE` or `hooks/after-PHASE`: docs/release.md. Its first line names what reads it: `#!/bin/sh`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from doit.exceptions import TaskFailed

from tasks import environ
from tasks.nearest import meant, nearest
from tasks.process import bounds, children
from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from tasks.run import Run

FOLDER = "hooks"
PHASES = ("bring", "live", "open", "settle", "ready", "undo", "rehearse", "discard")
"""The phases of `tasks/release/phases.py`; a test compares them."""
MUST = ("live", "open")
"""Phases that are undone where a hook after them must end well."""
NAME = re.compile(r"(?P<when>before|after)-(?P<of>[a-z]+)(?P<words>(?:\.[a-z]+)*)")


class HookUnknown(Refusal):
    """A file of `hooks/` that is no hook: it would never run, or not as its name says."""

    sentence = "hooks/{name}: {problem}"
    remedy = "{remedy}"
    exit_code = UNKNOWN


class HookFailed(Refusal):
    """A script of `hooks/` did not end well, here or on a host. What visitors have stays, unless the sentence says more."""

    sentence = "{stage}: {problem}"
    remedy = "doit {stage}"


@dataclass(frozen=True, kw_only=True)
class Hook:
    """One script. `of`: a phase, or a stage; `root`: a host runs it as root; `must`: without it the phase has failed."""

    path: str
    when: str
    of: str
    root: bool
    must: bool

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name


def inputs(root: Path) -> list[str]:
    """The folder, where there is one: what a release depends on."""
    return [FOLDER] if (root / FOLDER).is_dir() else []


def found(root: Path, stages: Iterable[str]) -> list[Hook]:
    """The hooks of a repository, those of one phase by name. `stages`: those that hooks may name. Raises HookUnknown."""
    known = _names(tuple(stages))
    return [_hook(each, tuple(stages)) for each in _files(root) if _is_meant(each.name, known)]


def _files(root: Path) -> list[Path]:
    """A page about them may be there too."""
    return sorted(each for each in (root / FOLDER).glob("*") if each.suffix != ".md")


def _names(stages: tuple[str, ...]) -> list[str]:
    return [f"{when}-{of}" for when in ("before", "after") for of in (*PHASES, *stages)]


def _is_meant(name: str, known: Iterable[str]) -> bool:
    """Whether a name is a hook's, or a misspelt one. A team may have its own files there, such as git's hooks."""
    return name.startswith(("before-", "after-")) or nearest(name, known) is not None


def _hook(path: Path, stages: tuple[str, ...]) -> Hook:
    known, said = _names(stages), NAME.fullmatch(path.name)
    name = f"{said['when']}-{said['of']}" if said else path.name
    if not said or name not in known:
        right = nearest(name, known)
        names = f"before- or after-, and one of {', '.join((*PHASES, *stages))}"
        remedy = f"git mv {FOLDER}/{path.name} {FOLDER}/{right}" if right else f"ls {FOLDER}"
        raise HookUnknown(
            name=path.name, problem=f"is no hook ({meant(name, known)}known: {names})", remedy=remedy
        )
    words = said["words"].split(".")[1:]
    allowed = [] if said["of"] in stages else ["root"]
    allowed += ["must"] if said["when"] == "after" and said["of"] in MUST else []
    for each in words:
        if each not in allowed or words.count(each) > 1:
            problem = f"{each} cannot be said of it (can: {', '.join(allowed) or 'nothing'})"
            raise HookUnknown(
                name=path.name, problem=problem, remedy=f"git mv {FOLDER}/{path.name} {FOLDER}/{name}"
            )
    if not path.is_file() or not path.read_bytes().startswith(b"#!"):
        problem = "is no script: its first line does not say what reads it, such as #!/bin/sh"
        raise HookUnknown(name=path.name, problem=problem, remedy=f"$EDITOR {FOLDER}/{path.name}")
    return Hook(
        path=f"{FOLDER}/{path.name}",
        when=said["when"],
        of=said["of"],
        root="root" in words,
        must="must" in words,
    )


def for_hosts(root: Path) -> list[dict[str, object]]:
    """The hooks of phases, with their texts, as a plan has them. Raises HookUnknown."""
    named = [(each, NAME.fullmatch(each.name)) for each in _files(root)]
    hooks = [_hook(each, ()) for each, said in named if said and said["of"] in PHASES]
    return [
        {
            "name": each.name,
            "when": each.when,
            "phase": each.of,
            "root": each.root,
            "must": each.must,
            "text": (root / each.path).read_text(errors="surrogateescape"),
        }
        for each in hooks
    ]


def run_here(run: Run, hook: Hook) -> TaskFailed | None:
    """Run a stage's hook on this machine, as an action of its doit task."""
    stage = hook.of
    said = {"STAGE": stage, "ENVIRONMENT": run.identity, "COMMIT": run.commit, "BRANCH": run.branch}
    run.console.event(stage, hook.path)
    reader = (run.root / hook.path).read_bytes().partition(b"\n")[0].decode()[2:].split(None, 1)
    try:
        with run.log(stage).open("ab") as log:
            children.run(
                [*reader, str(run.root / hook.path)],
                cwd=run.root,
                env={**environ.of(), **variables(said)},
                say=run.console.say(stage),
                log=log,
                seconds=bounds.HOOK,
            )
    except Refusal as refusal:
        if isinstance(refusal, children.Cancelled):
            raise
        return TaskFailed(HookFailed(stage=stage, problem=refusal.text).told(run.variables))
    return None


def variables(said: Mapping[str, str]) -> dict[str, str]:
    """What a hook is told, as environment variables."""
    return {f"RELEASE_{name}": str(value) for name, value in said.items()}
