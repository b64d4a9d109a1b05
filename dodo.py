"""The release pipeline: from nothing to a running site, and back to nothing.

    infrastructure ──► server ──┐
                                ├──► release        teardown
    tarball ────────────────────┘

`doit list` names the stages, `doit info STAGE` what each depends on, docs/ has a page for each.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import get_args

from tasks import image, run, settings, teardown
from tasks.graph import inputs
from tasks.graph.stage import Task, stage
from tasks.infrastructure import stage as infrastructure
from tasks.release import stage as release
from tasks.server import drift
from tasks.server import stage as server
from tasks.tarball import stage as tarball
from tasks.tarball.build import layers

RUN = run.from_command_line(Path.cwd())
PLAYS = ["tasks/hosts/ansible.py", "tasks/hosts/playbook_events.py", "tasks/hosts/ssh.py"]
LEDGER = ["tasks/server/ledger.py", "tasks/server/ledger_host.py", "tasks/hosts/managed.py"]
AS_RECORDED = drift.AsRecorded("server")
PROFILE = f"applications/{RUN.pipeline.application.profile}"

DOIT_CONFIG = {
    "backend": "bucket",
    "dep_file": RUN,
    "check_file_uptodate": inputs.GitIds,
    "reporter": "stages",
    "default_tasks": ["release"],
    "num_process": 2,
    "par_type": "thread",
    "verbosity": 2,
    "minversion": "0.37.0",
}


def task_infrastructure() -> Iterator[Task]:
    """Machines, their firewall and their name, as the settings ask for them."""
    yield stage(
        RUN,
        infrastructure.share,
        name="shared",
        world=infrastructure.shared_differences,
        meanwhile=[AS_RECORDED.begin, layers.begin],
    )
    yield stage(
        RUN,
        infrastructure.converge,
        name="environment",
        paths=["tasks/infrastructure/apply.py", "tasks/infrastructure/stage.py", "tasks/bucket/create.py"],
        parts=lambda: infrastructure.parts(RUN),
        world=infrastructure.differences,
        after=["infrastructure:shared"],
    )


def task_tarball() -> Iterator[Task]:
    """The application, built once from its git tree and kept under its digest."""
    for layer in RUN.profile.layers:
        yield stage(
            RUN,
            partial(tarball.layer, name=layer.name),
            name=layer.name,
            parts=partial(tarball.layer_parts, RUN, layer.name),
            after=["infrastructure:shared", *(f"tarball:{each}" for each in layer.after)],
        )
    yield stage(
        RUN,
        tarball.build,
        name="pack",
        paths=[
            RUN.pipeline.application.path,
            f"{PROFILE}/profile.yml",
            *layers.CODE,
            "tasks/tarball/stage.py",
        ],
        parts=lambda: tarball.parts(RUN),
        world=tarball.differences,
        after=["infrastructure:shared", *(f"tarball:{each.name}" for each in RUN.profile.layers)],
    )


def task_server() -> Task:
    """Packages, services and configuration on the machines."""
    return stage(
        RUN,
        server.provision,
        paths=[
            "playbooks/server.yml",
            *(f"roles/{role}" for role in server.ROLES),
            PROFILE,
            *PLAYS,
            *LEDGER,
            "tasks/server/stage.py",
        ],
        parts=lambda: server.parts(RUN),
        world=AS_RECORDED,
        infrastructure="infrastructure:environment",
    )


def task_release() -> Task:
    """The tarball goes live: fetched, verified, migrated, switched, checked."""
    return stage(
        RUN,
        release.go_live,
        paths=["playbooks/release.yml", "roles/release", *PLAYS, "tasks/release/stage.py"],
        parts=lambda: release.parts(RUN),
        after=["server"],
        infrastructure="infrastructure:environment",
        tarball="tarball:pack",
    )


def task_teardown() -> Task:
    """Leave nothing of the environment: machines, name, keys, secrets."""
    return stage(RUN, teardown.tear_down, always=True)


def task_image() -> Task:
    """A machine image for new environments to start from; no release waits for it."""
    return stage(
        RUN,
        image.bake,
        paths=[*image.PATHS, *PLAYS, "tasks/image.py"],
        parts=lambda: image.parts(RUN),
        world=image.differences,
        after=["infrastructure:shared"],
    )


# what an environment's file does not name does not exist there
for forbidden in set(get_args(settings.Stage)) - set(RUN.environment.stages):
    del globals()[f"task_{forbidden}"]
