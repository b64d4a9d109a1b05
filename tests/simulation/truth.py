"""truth: what has really happened in a simulated world, and what must hold after each step."""

from __future__ import annotations

import datetime
import json

from tasks.bucket import layout
from tasks.environments import expiry
from tasks.promotion.record import OPEN
from tasks.promotion.rules import MAY_CONTINUE
from tests.simulation.scheduler import Killed, Process

LEASED = ("release", "server", "infrastructure:environment")
"""The tasks of an environment whose records say what is on its machines."""


FIXED = ("staging", "production")
GRACE, LATE = 3600.0, 15.0
"""Seconds: of a sweep's grace time; in which EC2 shows a tag at last."""


class Violation(AssertionError):
    """An invariant does not hold."""


class Truth:
    """Hears of each change at the moment it takes effect. `trusted`: processes whose commit is on the default branch."""

    def __init__(self) -> None:
        self.world = None
        self.trusted: set[str] = set()
        self.built: dict[str, str] = {}
        """Who has built a tarball, by its digest."""
        self.lived: dict[str, set[str]] = {"staging": set()}
        """The tarballs that were live in an environment."""
        self.at_work: dict[tuple[str, str], Process] = {}
        """Who acts in an environment with a playbook."""
        self.gone: dict[str, float] = {}
        """When an environment was torn down."""
        self.took: dict[str, float] = {}
        """When a process has taken its lease."""
        self.sweepers: set[str] = set()
        self.fenced: set[str] = set()
        """Processes that have seen their lease since they wrote a record."""
        self.commits: dict[str, str] = {}
        self.unlockers: set[str] = set()
        self.branch_gone: float | None = None
        """Since when the branch is not on the remote."""
        self.pushed = -1e9
        self.seized: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        self.begun: dict[str, tuple[str, Process]] = {}
        """Where the run of a commit is at work, and who has begun it."""
        self.followed: dict[str, tuple[str, int]] = {}
        """Whose run a process has to supersede, and how many steps that one had."""
        self.noted: dict[tuple[str, str, str], str] = {}
        """Who has written an entry of an environment's document."""

    def fail(self, words: str) -> None:
        """The history ends here."""
        scheduler = self.world.scheduler
        scheduler.note(f"VIOLATION: {words}")
        scheduler.failure = scheduler.failure or Violation(words)
        raise Killed

    def holds(self, what: object, words: str) -> None:
        if not what:
            self.fail(words)

    # --- the bucket ---

    def written(self, process: Process, key: str, stored, after: bytes | None) -> None:
        """An object was replaced; after None it is deleted."""
        parsed, before = layout.parse(key), stored and stored.body
        self.processes[process.name] = process
        if parsed.kind != "lease":
            process.acted = self.world.scheduler.now
        old, new = (json.loads(each) if each and each[:1] == b"{" else None for each in (before, after))
        if parsed.kind == "blob" and not after:
            used = [
                each.id
                for each in self.world.instances.values()
                if each.ended is None and each.live == parsed.name
            ]
            self.holds(not used, f"{process.name} sweeps the tarball that {used} run")
            run = self.world.value(layout.CURRENT_RUN)
            waiting = self.world.value(layout.commit_run(run["commit"])) if run else None
            waits = waiting and waiting["state"] == "waiting" and waiting["digest"] == parsed.name
            self.holds(not waits, f"{process.name} sweeps the tarball that waits")
        match parsed.kind:
            case "lease":
                self._lease(process, parsed.identity, old, new, stored and stored.at)
            case "state":
                self._state(process, parsed, new)
            case "machines":
                self._machines(process, parsed.identity, old or {}, new or {})
            case "current run":
                self._follows(process, old)
            case "history":
                self._history(process, parsed.identity, old, new)
            case "run":
                self._promotion(process, old, new)
            case "record" | "blob" | "beside" if after:
                self.holds(
                    parsed.zone != layout.TRUSTED or process.name in self.trusted,
                    f"{process.name}, which is not on the default branch, writes {key}",
                )

    def read(self, process: Process, key: str, body: bytes) -> None:
        """A document is read."""
        if key.startswith("leases/") and json.loads(body).get("run") == process.name:
            self.fenced.add(process.name)

    def _lease(self, process: Process, identity: str, old: dict | None, new: dict | None, at: float) -> None:
        former, holder = (each.get("run") if each else None for each in (old, new))
        if holder and holder != former:
            self.took[holder] = self.world.scheduler.now
        if not former or former == holder:
            return
        if former == process.name:
            former = self.seized.pop(identity, None)
        elif process.name in self.unlockers and holder:
            self.seized[identity] = former
            return
        else:
            age = self.world.scheduler.now - at
            self.holds(age > old["ttl"] - 2, f"{process.name} takes the lease of {former}, {age:.0f} s old")
        self._stopped(former, f"{process.name} takes the lease of {former}, which still works")

    def _stopped(self, name: str | None, words: str) -> None:
        """A former holder knows that it is one, or cannot do anything."""
        former = self.processes.get(name)
        self.holds(former is None or self._at_rest(former), words)

    def _at_rest(self, process: Process) -> bool:
        """Whether it knows that it has lost its lease, or has done nothing under it yet, or cannot do anything."""
        idle = process.acted <= self.took.get(process.name, 0.0)
        return process.dead or process.interrupted or process.over or idle or self._thawing(process)

    def _thawing(self, process: Process) -> bool:
        """Whether it stands still, or has only just gone on."""
        return process.frozen > self.world.scheduler.now - 5

    def over(self, process: Process) -> None:
        """A process ends by itself."""
        taken = process.end.startswith("RecordTaken") and f"by {process.name} " in process.end
        self.holds(not taken, f"{process.name} takes itself for another run: {process.end}")

    def _state(self, process: Process, key, new: dict | None) -> None:
        if new:
            self.holds(
                process.name in self.fenced, f"{process.name} writes {key.name} and did not look at its lease"
            )
            self.fenced.discard(process.name)
        done = new and new["doit"].get("_values_:")
        if not done or key.name.replace(".", ":") not in LEASED:
            return
        identity, task = key.identity, key.name.replace(".", ":")
        self.holds(
            self.gone.get(identity, -1.0) < self.took.get(process.name, 0.0),
            f"{process.name} records {task} in {identity}, which is gone since it began",
        )
        other = self.at_work.get((identity, task))
        self.holds(
            other in (None, process), f"{process.name} records {task} while {other and other.name} does it"
        )
        there = self.world.hosts(identity)
        if task == "server":
            wanted = done["inputs"]["commit"]
            wrong = [each.id for each in there if each.server != wanted]
        elif task == "release":
            wrong = [each.id for each in there if each.live != done["digest"]]
        else:
            return
        self.holds(there, f"a record of {task} in {identity}, which has no machine")
        self.holds(not wrong, f"a record of {task} in {identity} claims what is not on {wrong}")

    def _history(self, process: Process, identity: str, old: dict | None, new: dict | None) -> None:
        before = old["releases"] if old else []
        if not new:
            writer = before[-1]["run"] if before else ""
            later = self.took.get(writer, 0.0) > self.took.get(process.name, 0.0)
            self.holds(not later, f"{process.name} deletes the history of {writer}, which began later")
            return
        self.holds(new["releases"][: len(before)] == before, f"the history of {identity} lost a release")
        if not new["releases"]:
            return
        self.holds(
            self.gone.get(identity, -1.0) < self.took.get(process.name, 0.0),
            f"{process.name} writes the history of {identity}, which is gone since it began",
        )
        claimed = new["releases"][-1]
        wrong = [each.id for each in self.world.hosts(identity) if each.live != claimed["digest"]]
        self.holds(
            not wrong, f"the history of {identity} says {claimed['digest'][:6]}, and {wrong} has another"
        )

    def _machines(self, process: Process, identity: str, old: dict, new: dict) -> None:
        """What is noted of machines: a host key stays as long as the document; nobody drops what a later run has noted."""
        before, after = _entries(old), _entries(new)
        mine, whole = self.took.get(process.name), not after
        for place in before.keys() - after.keys() if not whole or mine is None else ():
            writer = self.noted.get((identity, *place), "")
            lost = mine is None or place[0] == "host_keys" or self.took.get(writer, 0.0) > mine
            self.holds(not lost, f"{process.name} drops {' '.join(place)}, which {writer} has noted")
        for place, value in after.items():
            if before.get(place) != value:
                self.noted[identity, *place] = process.name

    def _follows(self, process: Process, old: dict | None) -> None:
        """The newest run is another one: that before it, if it is open, will be superseded."""
        former = self.world.value(layout.commit_run(old["commit"])) if old else None
        if former and former["state"] in OPEN:
            self.followed[process.name] = old["commit"], len(former["steps"])

    def _superseded(self, process: Process) -> None:
        """A run that proceeds has superseded the one before it."""
        commit, number = self.followed.pop(process.name, ("", 0))
        if commit:
            later = [each["state"] for each in self.world.value(layout.commit_run(commit))["steps"][number:]]
            self.holds(
                set(later) - set(OPEN), f"{process.name} goes on, and the run before it is not superseded"
            )

    def _stopped_at_rest(self, process: Process, commit: str) -> None:
        """A run is stopped only while nobody is at work on it."""
        where, worker = self.begun.get(commit, ("", None))
        stored = self.world.objects.get(layout.lease(where)) if worker else None
        lease = json.loads(stored.body) if stored else {}
        held = (
            lease.get("run") == worker.name and self.world.scheduler.now - stored.at < lease["ttl"] - 2
            if worker
            else False
        )
        self.holds(
            not held or worker.dead, f"{process.name} stops the run at which {worker and worker.name} works"
        )

    def _promotion(self, process: Process, old: dict | None, new: dict | None) -> None:
        before, after = (each["steps"] if each else [] for each in (old, new))
        self.holds(after[: len(before)] == before, "a promotion record lost a step")
        state = before[-1]["state"] if before else ""
        for each in after[len(before) :]:
            if each["state"] in ("started", "continuing"):
                where = "staging" if each["state"] == "started" else "production"
                lease = self.world.value(layout.lease(where)) or {}
                holds = lease.get("run") == process.name or self._thawing(process)
                self.holds(holds, f"{process.name} begins without the lease")
                self.begun[new["commit"]] = where, process
            if each["state"] == "continuing":
                self.holds(state in MAY_CONTINUE, f"a run continues that is {state}")
            if each["state"] == "stopped":
                self.holds(state in (*OPEN, "continuing"), f"a run is stopped that is {state}")
                self._stopped_at_rest(process, new["commit"])
            if each["state"] in ("built", "staged", "failed"):
                self._superseded(process)
            if each["state"] in ("staged", "waiting", "live"):
                where = "production" if each["state"] == "live" and state == "continuing" else "staging"
                self.holds(
                    new["digest"] in self.lived.get(where, ()),
                    f"a promotion record says {each['state']}, and {where} never ran its tarball",
                )
            state = each["state"]

    # --- the cloud and the hosts ---

    def made(self, process: Process, identity: str) -> None:
        """Something was made in an environment."""

    def launched(self, process: Process, identity: str) -> None:
        """A machine was launched; each environment wants one."""
        there = [each.id for each in self.world.hosts(identity)]
        self.holds(len(there) == 1, f"{process.name} launches another machine: {there}")

    def removed(self, process: Process, identity: str) -> None:
        """Something of an environment was removed: by a teardown or a sweep, its records are void."""

    def ends(self, process: Process, instance) -> None:
        """A machine is ended."""
        if self._thawing(process):  # the request was under way when it froze, and EC2 knows no lease
            return
        identity = instance.truly["environment"]
        for task in LEASED:
            self._void(identity, task, f"{process.name} ends {instance.id}")
        if process.name in self.sweepers:
            self._swept(process, instance)

    def _swept(self, process: Process, instance) -> None:
        """A sweep may end what no branch owns for the grace time, and what has expired for so long."""
        now, taken = self.world.scheduler.now, self.took[process.name]
        # EC2 shows tags late
        tags = next((tags for at, tags in reversed(instance.tagged) if at < taken - LATE), {})
        wall = self.world.scheduler.wall
        until = expiry.kept_until(tags)
        self.holds(
            not until or until <= wall, f"{process.name} sweeps {instance.id}, which is kept until {until}"
        )
        self.holds(instance.truly["environment"] not in FIXED, f"{process.name} sweeps a fixed environment")
        living = "feature" in self.world.branches and self.pushed < taken
        gone = not living and self.branch_gone is not None and self.branch_gone <= now - GRACE
        end = expiry.moment(tags.get("expires", ""))
        expired = end is not None and end + datetime.timedelta(seconds=GRACE) <= wall
        unfinished = end is None and instance.born <= now - GRACE
        self.holds(
            gone or expired or unfinished, f"{process.name} sweeps {instance.id}, which is in use or young"
        )

    def begins(self, process: Process, identity: str, playbook: str) -> None:
        """A playbook begins to change the machines."""
        self._void(identity, playbook, f"{process.name} begins")
        self.at_work[identity, playbook] = process

    def _void(self, identity: str, task: str, words: str) -> None:
        value = self.world.value(layout.state(identity, task))
        self.holds(not (value and value["doit"]), f"{words}, and the record of {task} still says it is done")

    def goes_live(self, process: Process, identity: str, digest: str) -> None:
        """A tarball goes live."""
        if identity == "production":
            self.holds(digest in self.lived["staging"], "production runs what staging never ran")
            self._claims(process)
        if identity in ("staging", "production"):
            self.holds(
                self.built.get(digest) in self.trusted, f"{identity} runs what another branch has built"
            )
        self.lived.setdefault(identity, set()).add(digest)

    def _claims(self, process: Process) -> None:
        """Its commit's run continues, and nobody has stopped that since."""
        steps = self.world.value(layout.commit_run(self.commits[process.name]))["steps"]
        claims = [
            at for at, each in enumerate(steps) if (each["state"], each["by"]) == ("continuing", process.name)
        ]
        since = [each["state"] for each in steps[claims[-1] :]] if claims else []
        holds = claims and "stopped" not in since
        self.holds(holds, f"{process.name} goes live in production, and its run is {steps[-1]['state']}")

    def torn_down(self, process: Process, identity: str) -> None:
        """A teardown says that nothing is left; a former holder of the lease says nothing."""
        if (self.world.value(layout.lease(identity)) or {}).get("run") == process.name:
            self.gone[identity] = self.world.scheduler.now

    def ended(self, process: Process) -> None:
        """A process is over."""
        for key in [key for key, who in self.at_work.items() if who is process]:
            del self.at_work[key]


def _entries(document: dict) -> dict[tuple[str, str], object]:
    """The entries of an environment's document, by part and name."""
    return {
        (part, name): value
        for part, named in document.items()
        if isinstance(named, dict)
        for name, value in named.items()
    }
