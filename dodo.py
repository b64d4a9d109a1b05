"""The release pipeline: from nothing to a running site, and back to nothing.

    infrastructure ──► server ──┐
                                ├──► release        rollback    teardown
    tarball ────────────────────┘

`doit list` names the stages, `doit info STAGE` shows what one depends on, docs/ has a page for each.
The properties of a stage are explained in tasks/graph/stage.py.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tasks import application, hooks, image, teardown
from tasks.commands import command_line
from tasks.graph.stage import Task, declare, stage
from tasks.infrastructure import stage as infrastructure
from tasks.release import rollback
from tasks.release import stage as release
from tasks.server import drift
from tasks.server import stage as server
from tasks.tarball import signature
from tasks.tarball import stage as tarball
from tasks.tarball.build.layers import Build

RUN = command_line.this_run(Path.cwd())
BUILD = Build(RUN, signature.accept_build)
AS_RECORDED = drift.AsRecorded("server")
APPLICATION = application.place(RUN).path
PROFILE = f"applications/{RUN.pipeline.application.profile}"

# the code that every stage uses; tests/test_inputs.py compares all inputs with the imports
SHARED = [
    "tasks/bucket",
    "tasks/ci.py",
    "tasks/cloud",
    "tasks/digest.py",
    "tasks/environ.py",
    "tasks/mail.py",
    "tasks/network.py",
    "tasks/placement.py",
    "tasks/remote.py",
    "tasks/required_roles.py",
    "tasks/source.py",
    "tasks/version.py",
]

DOIT_CONFIG = {
    "backend": "bucket",
    "reporter": "stages",
    "default_tasks": ["release"],
    # a layer that waits for its turn takes a thread; how many are built at once follows from the cores and what they take
    "num_process": min(64, len(RUN.profile.layers) + 3),
    "par_type": "thread",
    "verbosity": 2,
    "minversion": "0.37.0",
}


def task_infrastructure() -> Iterator[Task]:
    """The machines, their firewall and their DNS name, as the settings ask for them."""
    yield stage(
        RUN,
        infrastructure.share,
        name="shared",
        world=infrastructure.shared_differences,
        meanwhile=[partial(AS_RECORDED.begin, RUN), BUILD.begin],
        speaks=False,
    )
    yield stage(
        RUN,
        partial(infrastructure.converge, baked=image.start),
        name="environment",
        inputs=[
            "tasks/infrastructure",
            "tasks/image.py",
            "tasks/hosts",
            "tasks/search.py",
            "tasks/demands.py",
            "tasks/endpoints.py",
            *SHARED,
        ],
        parts=infrastructure.parts,
        world=infrastructure.differences,
        foresee=infrastructure.foresee,
        after=["infrastructure:shared"],
        leased=True,
    )


def task_tarball() -> Iterator[Task]:
    """The application, built once from its git tree and stored under its digest."""
    for layer in RUN.profile.layers:
        yield stage(
            RUN,
            partial(tarball.layer, name=layer.name),
            name=layer.name,
            subject=BUILD,
            parts=partial(tarball.layer_parts, name=layer.name),
            foresee=partial(tarball.foresee_layer, name=layer.name),
            after=["infrastructure:shared", *(f"tarball:{each}" for each in layer.after)],
            speaks=False,
        )
    yield stage(
        RUN,
        tarball.pack,
        name="pack",
        subject=BUILD,
        inputs=[APPLICATION, PROFILE, "tasks/application.py", "tasks/profile.py", "tasks/tarball", *SHARED],
        parts=tarball.parts,
        world=tarball.differences,
        foresee=tarball.foresee,
        after=["infrastructure:shared", *(f"tarball:{each.name}" for each in RUN.profile.layers)],
    )


def task_server() -> Task:
    """Packages, services and configuration on the machines."""
    return stage(
        RUN,
        server.provision,
        inputs=[
            "playbooks/server.yml",
            *server.folders(RUN),
            PROFILE,
            "tasks/backup/access.py",
            "tasks/server",
            "tasks/hosts",
            "tasks/infrastructure",
            "tasks/search.py",
            "tasks/demands.py",
            "tasks/endpoints.py",
            *SHARED,
        ],
        parts=server.parts,
        world=AS_RECORDED,
        machines="infrastructure:environment",
        leased=True,
    )


def task_release() -> Task:
    """The tarball goes live: fetched, verified, migrated, switched, checked."""
    return stage(
        RUN,
        release.go_live,
        inputs=[
            "playbooks/release.yml",
            "roles/release",
            *hooks.inputs(RUN.root),
            "tasks/hooks.py",
            "tasks/backup/access.py",
            "tasks/release",
            "tasks/server",
            "tasks/hosts",
            "tasks/infrastructure",
            "tasks/search.py",
            "tasks/demands.py",
            "tasks/endpoints.py",
            "tasks/tarball",
            *SHARED,
        ],
        parts=release.parts,
        after=["server"],
        machines="infrastructure:environment",
        tarball="tarball:pack",
        leased=True,
    )


def task_rollback() -> Task:
    """The release before is live again; what is undone goes no further."""
    return stage(RUN, rollback.go_back, always=True, leased=True, recorded=False, voids=["release"])


def task_teardown() -> Task:
    """Delete everything of the environment: machines, name, keys, secrets."""
    return stage(
        RUN,
        teardown.tear_down,
        always=True,
        leased=True,
        recorded=False,
        takes_away=True,
        offered=False,
    )


def task_image() -> Task:
    """A machine image from which new machines start; no release waits for it."""
    return stage(
        RUN,
        image.bake,
        inputs=[
            *image.paths(RUN),
            "tasks/image.py",
            "tasks/backup/access.py",
            "tasks/hosts",
            "tasks/infrastructure",
            "tasks/search.py",
            "tasks/demands.py",
            "tasks/endpoints.py",
            "tasks/server",
            *SHARED,
        ],
        parts=image.parts,
        world=image.differences,
        after=["infrastructure:shared"],
        offered=False,
    )


declare(globals(), RUN)
