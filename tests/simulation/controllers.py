"""controllers: what a person or a CI starts: a release, a control, a teardown, an unlock, each in a process of its own.

The parts that decide are the pipeline's own. What is written here stands for doit (`execute`), for `tasks/commands/run.py`
(`under_lease`), and for the work itself: a build, a playbook.
"""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tasks import profile, settings, teardown
from tasks.bucket import cache, layout
from tasks.bucket.lease import Lease
from tasks.bucket.store import Store
from tasks.commands import controls
from tasks.console.console import Console
from tasks.digest import Digest
from tasks.environments import expiry, inventory
from tasks.graph import stage as graph
from tasks.graph.stage import Outcome
from tasks.graph.state import LAST_KEY, BucketState, Records
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.promotion import gate
from tasks.promotion.gate import Proof
from tasks.refusal import Refusal
from tasks.release import stage as release
from tasks.run import Run, branch_identity
from tasks.source import Reason
from tasks.sweep import apply, references
from tasks.sweep import plan as sweeping
from tasks.tarball import stage as tarball
from tasks.version import Version
from tests.conftest import ROOT
from tests.simulation.cloud import SimulatedCloud, SimulatedHosts, World
from tests.simulation.scheduler import Interrupted, Process
from tests.simulation.truth import LEASED

COMMITS = tuple(Version(str(number) * 40) for number in range(1, 10))
"""The history of the repository, the oldest first."""
BRANCH = "feature"
TESTING = branch_identity("testing", BRANCH)
ENVIRONMENTS = {
    "testing": "per_branch: true\nalso: [teardown]\nuncommitted: allowed\nrelease: {expires_after_days: 2}\n",
    "staging": "{}\n",
    "production": "stages: [infrastructure, server, release]\ntakes_from: staging\n",
}
PIPELINE = """
name: shop
application: {path: app, profile: static}
sweep: {grace_hours: 1}
"""
MOMENT = 300.0
"""Seconds."""
LOOKS = 30
"""How often a person looks for a machine."""
Command = Callable[["SimulatedRun"], None]
EXPECTED = (Refusal, BotoCoreError, ClientError, Interrupted)
"""How a run may end, besides well."""


class Quiet(Console):
    """Says nothing."""

    def event(self, stage, words):
        pass

    def line(self, text):
        pass

    def progress(self, stage, words):
        pass

    def once(self, stage, words):
        pass

    def logs(self, folder):
        return folder


@functools.cache
def project() -> tuple[Path, settings.Pipeline, profile.Profile, dict[str, settings.Environment]]:
    """The settings of the simulated project."""
    root = Path(tempfile.mkdtemp(prefix="simulation-"))
    (root / "environments").mkdir()
    (root / "pipeline.yml").write_text(PIPELINE)
    for name, text in ENVIRONMENTS.items():
        (root / "environments" / f"{name}.yml").write_text(text)
    found = {
        name: settings.load(settings.Environment, root / "environments" / f"{name}.yml", root)
        for name in ENVIRONMENTS
    }
    pipeline = settings.load(settings.Pipeline, root / "pipeline.yml", root)
    return root, pipeline, profile.load(ROOT, pipeline.application), found


@dataclass(frozen=True, kw_only=True)
class SimulatedRun(Run):
    """A run whose checkout is a number: that of its commit."""

    checked_out: int
    trusted: bool

    @property
    def branch(self):
        return "main" if self.trusted else BRANCH

    @property
    def on_default_branch(self):
        return self.trusted

    @property
    def commit(self):
        return COMMITS[self.checked_out]

    @property
    def origin(self):
        return "example.com/shop"

    @property
    def pushed(self):
        return not self.trusted

    @property
    def reason(self):
        return Reason()

    def contains(self, old):
        return COMMITS.index(old) <= self.checked_out


def run_of(world: World, process: Process, environment: str, checked_out: int) -> SimulatedRun:
    """A run in an environment, of a commit."""
    root, pipeline, kind, environments = project()
    cloud = SimulatedCloud(world, process)
    trusted = environment != "testing"
    if trusted:
        world.truth.trusted.add(process.name)
    world.truth.commits[process.name] = COMMITS[checked_out]
    return SimulatedRun(
        root=root,
        pipeline=pipeline,
        environment=environments[environment],
        environment_name=environment,
        profile=kind,
        cloud=cloud,
        store=Store(
            cloud=cloud,
            chosen="shop-releases",
            pause=world.scheduler.pause,
            nonce=lambda: str(next(world.numbers)),
        ),
        hosts=SimulatedHosts(world, process),
        console=Quiet(io.StringIO()),
        threads=process.threads,
        who=process.name,
        clock=process.clock,
        id=process.name,
        checked_out=checked_out,
        trusted=trusted,
    )


# --- what stands for the work ---------------------------------------------------------------------


def pack(run: SimulatedRun) -> Outcome:
    """Build the tarball of a commit, unless it is stored. Its bytes are others each time: that must not matter."""
    world, kept = run.cloud.world, cache.of(run)
    inputs = Digest.of_value([run.commit])
    found = next(kept.records("keys", inputs), None)
    digest = Digest(found.value["digest"]) if found else None
    if not digest or not kept.blob("tarballs", digest):
        world.scheduler.pause(6.0)
        digest = Digest.of_value([run.commit, next(world.numbers)])
        world.truth.built[digest] = run.id
        run.store.put(layout.blob(kept.writes, "tarballs", digest), digest.encode())
        kept.keep("keys", inputs, {"digest": digest}, instead=found)
    tarball._point(run, digest)
    return Outcome(facts={"digest": str(digest)}, done="built", unchanged="built")


def provision(run: SimulatedRun, machines) -> Outcome:
    """Play the server's playbook."""
    found = hosts.parsed(machines)
    reached = hosts.reachable(run, found)
    run.hosts.play("server", hosts=reached, variables={"commit": run.commit}, console=run.console)
    return Outcome(facts={"machines": [each.id for each in found]}, done="played", unchanged="played")


# --- what stands for doit -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SimulatedTask:
    """A task of the graph. `inputs`: what it depends on. `world`: where the world differs."""

    name: str
    inputs: dict
    action: Callable[[], Outcome]
    world: Callable[[], list[str]] = list


def execute(run: SimulatedRun, state: BucketState) -> dict[str, dict]:
    """Run the tasks that are due, each after the one before it. Returns the values of those that ran or were found unchanged."""
    values: dict[str, dict] = {}
    try:
        for make in _tasks(run):
            task = make(values)
            before = (state.get(task.name, "_values_:") or {}) if state.in_(task.name) else {}
            if before.get("inputs") == task.inputs and not task.world():
                values[task.name] = before
                continue
            try:
                outcome = graph.act(state, [task.name], task.action)
            except Exception:
                state.remove(task.name)
                raise
            told = {"done": outcome.done, "changed": outcome.changed, "unchanged": outcome.unchanged}
            values[task.name] = {**outcome.facts, **told, "inputs": task.inputs}
            run.cloud.world.truth.ended(run.threads.process)
            state.set(task.name, "_values_:", values[task.name])
            state.set(task.name, LAST_KEY, [])
    finally:
        state.dump()
    return values


def _tasks(run: SimulatedRun):
    commit = str(run.commit)
    yield lambda values: SimulatedTask(
        name="infrastructure:environment",
        inputs={"commit": commit},
        action=lambda: infrastructure.converge(run),
        world=lambda: infrastructure.differences(run),
    )
    builds = run.environment.has("tarball")
    if builds:
        yield lambda values: SimulatedTask(
            name="tarball:pack",
            inputs={"commit": commit},
            action=lambda: pack(run),
            world=lambda: [] if tarball.stored.pointer(run, run.commit) else ["no pointer"],
        )
    yield lambda values: SimulatedTask(
        name="server",
        inputs={"commit": commit, "machines": _machines(values)},
        action=lambda: provision(run, values["infrastructure:environment"]),
    )
    yield lambda values: SimulatedTask(
        name="release",
        inputs={
            "machines": _machines(values),
            "digest": values["tarball:pack"]["digest"] if builds else release._tarball_of_commit(run),
        },
        action=lambda: release.go_live(
            run,
            tarball=values["tarball:pack"] if builds else None,
            machines=values["infrastructure:environment"],
        ),
    )


def _machines(values: dict[str, dict]) -> list[str]:
    return [each["id"] for each in values["infrastructure:environment"]["hosts"]]


# --- what stands for the commands -----------------------------------------------------------------


def under_lease(run: SimulatedRun, work: Callable[[BucketState, Lease], None]) -> None:
    """Work under the environment's lease, as `doit run` does."""
    process = run.threads.process
    records = Records(run=run, unrecorded=frozenset({"teardown"}))
    state, clean = BucketState(records, None), False
    for task in LEASED:  # the plan is read before the lease is taken
        state.in_(task)
    lease = Lease(run, on_lost=process.stop)
    try:
        lease.take()
        state.lease = lease
        state.read_anew()
        if lease.unclean:
            run.hosts.end_sessions(hosts.known(run))
            lease.unclean = False
        work(state, lease)
        clean = True
    except BaseException:
        process.signalled = True  # a second signal must not interrupt the clean-up
        process.threads.interrupt()
        raise
    finally:
        process.over = True
        lease.free(unclean=not clean)


def release_to(run: SimulatedRun) -> None:
    """`doit release`."""
    _release(run, "run")


def start(run: SimulatedRun) -> None:
    """`doit start`."""
    _release(run, "start")


def go_on(run: SimulatedRun) -> None:
    """`doit continue --yes`."""
    if refused := gate.refusal(run):
        raise refused
    _release(run, "continue")


def _release(run: SimulatedRun, control: str) -> None:
    """Release, and say so in the promotion record."""

    def work(state: BucketState, lease: Lease) -> None:
        finish, failed, values = gate.begin(run, control, ["release"]), None, {}
        try:
            values = execute(run, state)
        except (Refusal, BotoCoreError, ClientError) as error:
            failed = error
        if finish:
            lease.check()
            refused = finish(_proof(run, values))
            failed = failed or refused
        if failed:
            raise Failed(failed)

    under_lease(run, work)


class Failed(Exception):
    """A stage has failed; the run has ended as it should."""


def _proof(run: SimulatedRun, values: dict[str, dict]) -> Proof:
    digest = values.get("release", {}).get("digest")
    stages = ("infrastructure:environment", *(["tarball:pack"] if run.environment.has("tarball") else []))
    idle = [each for each in (*stages, "server", "release") if each not in values]
    return Proof(digest=Digest(digest) if digest else None, idle=idle)


def stop(run: SimulatedRun) -> None:
    """`doit teardown`."""

    def work(state: BucketState, lease: Lease) -> None:
        graph.act(state, [*reversed(LEASED), "teardown"], lambda: teardown.tear_down(run))
        run.cloud.world.truth.torn_down(run.threads.process, run.identity)

    under_lease(run, work)


def build(run: SimulatedRun) -> None:
    """`doit tarball`, which takes no lease."""
    pack(run)


def unlock(run: SimulatedRun) -> None:
    """`doit unlock --yes`."""
    run.cloud.world.truth.unlockers.add(run.id)
    Lease(run).seize(lambda words: None)


def end_waiting(run: SimulatedRun) -> None:
    """`doit stop` on the default branch."""
    controls._end(run)


def log_in(run: SimulatedRun) -> None:
    """`doit logs`, again until there is a machine: it pins host keys, and takes no lease."""
    for _ in range(LOOKS):
        try:
            hosts.reachable(run, infrastructure.existing(run))
        except infrastructure.NoMachine:
            run.cloud.world.scheduler.pause(0.5)
        else:
            return


def keep(run: SimulatedRun) -> None:
    """`doit keep 30`."""
    expiry.extend(run, 30)


def sweep(run: SimulatedRun) -> None:
    """`doit sweep --yes`."""
    run.cloud.world.truth.sweepers.add(run.id)

    def ask() -> dict[str, str]:
        run.cloud.world.scheduler.pause(0.2)
        return dict(run.cloud.world.branches)

    branches = ask()
    found = inventory.survey(run)
    memory, etag = apply.remembered(run.store)
    known = sweeping.Known(
        remote=run.origin,
        branches=branches,
        referred=references.of(run, found, branches),
        memory=memory,
    )
    plan = sweeping.plan(found, known, run.pipeline.sweep)
    if plan.share > run.pipeline.sweep.share:
        return
    apply.remember(run, plan.memory, etag)
    problems = apply.carry_out(run, found, plan, ask)
    run.cloud.world.scheduler.note(f"swept {sorted(plan.groups)}, kept {sorted(problems)}")


def delete_branch(run: SimulatedRun) -> None:
    """The branch is deleted on the remote."""
    truth, now = run.cloud.world.truth, run.cloud.world.scheduler.now
    # what is pushed for a moment only, no sweep need have seen
    if run.cloud.world.branches.pop(BRANCH, None) and now - truth.pushed > MOMENT:
        truth.branch_gone = now


def push_branch(run: SimulatedRun) -> None:
    """The branch is pushed again."""
    run.cloud.world.branches[BRANCH] = str(COMMITS[7])
    truth, now = run.cloud.world.truth, run.cloud.world.scheduler.now
    truth.pushed = now


def launch(
    world: World,
    name: str,
    run: Command,
    *,
    environment: str,
    checked_out: int,
    after: float = 0.0,
    ahead: float = 0.0,
    again: int = 0,
) -> Process:
    """Start a process. Its `end` says how it ended: empty while it runs, and if it was killed.

    `ahead`: seconds that its wall clock is wrong. `again`: how often somebody types the command again at once when it has failed.
    """
    process = Process(world.scheduler, name)
    process.ahead = ahead
    made = run_of(world, process, environment, checked_out)

    def main() -> None:
        try:
            world.scheduler.pause(after)
            world.scheduler.note(f"{run.__name__} {environment} at {checked_out}")
            run(made)
            process.end = "well"
        except Failed as failed:
            process.end = _shown(failed.args[0])
        except EXPECTED as error:
            process.end = _shown(error)
        finally:
            world.truth.ended(process)
        world.truth.over(process)
        world.scheduler.note(process.end)
        if again and process.end != "well":
            launch(
                world,
                f"{name}+",
                run,
                environment=environment,
                checked_out=checked_out,
                ahead=process.ahead,
                again=again - 1,
            )
        world.scheduler.kill(process)  # with the main thread the others end

    world.scheduler.start(process, "main", main)
    return process


def _shown(error: BaseException) -> str:
    said = str(error).partition("\n")[0].partition(" on ")[0]  # the rest names this machine and this process
    return f"{type(error).__name__}: {said}"
