"""What a stage's action can reach is an input of the stage: else a change of it would be skipped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import grimp
import moto
import pytest

from tasks.infrastructure import secrets
from tasks.infrastructure import stage as infrastructure
from tasks.server import stage as server
from tasks.settings import SettingWrong
from tasks.tarball.build import keys
from tests.clouds import run_in
from tests.conftest import ROOT
from tests.plain import Plain

UNABLE = {
    "tasks.clock": "it tells the time; records and people read it",
    "tasks.console": "it speaks; nothing is decided by what was said",
    "tasks.forms": "it refuses values; what passes is named as it is",
    "tasks.full_disk": "it names a failure",
    "tasks.graph": "it decides whether a stage runs, not what it does",
    "tasks.nearest": "it finds words for a refusal",
    "tasks.process": "it starts and ends children; what they do is decided by who asks for them",
    "tasks.refusal": "it is what a failure says",
    "tasks.run": "values that were typed and set: those that a stage reads are named among its parts",
    "tasks.settings": "the same",
}
"""Rooms that cannot change what a stage leaves, each with the reason. Nothing is looked for behind them."""


def unable(module: str) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in UNABLE)


def reached(graph: grimp.ImportGraph, start: str) -> set[str]:
    """The modules that code of a module can reach, itself included."""
    found: set[str] = set()
    new = {start}
    while new:
        found |= new
        new = {each for module in new for each in graph.find_modules_directly_imported_by(module)} - found
        new = {each for each in new if not unable(each)}
    return found


def path(graph: grimp.ImportGraph, module: str) -> str:
    folder = module.replace(".", "/")
    return f"{folder}/__init__.py" if (ROOT / folder).is_dir() else f"{folder}.py"


def missing(graph: grimp.ImportGraph, start: str, inputs: list[str]) -> list[str]:
    """Modules that are reached and lie in none of the inputs."""
    paths = sorted(path(graph, each) for each in reached(graph, start))
    return [each for each in paths if not any(each == one or each.startswith(f"{one}/") for one in inputs)]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """The imports of tasks/, without those that only the type checker reads."""
    made = grimp.build_graph("tasks", exclude_type_checking_imports=True, cache_dir=None)
    for package in [each for each in made.modules if made.find_children(each)]:
        for upstream in made.find_modules_directly_imported_by(package):  # packages are empty, but tasks/
            made.remove_import(importer=package, imported=upstream)
    return made


@pytest.fixture(scope="module")
def stages() -> dict[str, tuple[str, list[str]]]:
    """Each task of dodo.py: the module of its action, and its inputs."""
    script = (
        "import dodo, json; from doit.loader import load_tasks\n"
        "def home(action): return getattr(action, 'func', action).__module__\n"
        "print(json.dumps({t.name: [home(t.actions[0].args[0]), sorted(t.file_dep)]"
        " for t in load_tasks(vars(dodo)) if t.actions}))"
    )
    answered = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name: (module, inputs) for name, (module, inputs) in json.loads(answered.stdout).items()}


@pytest.mark.promise("an-unlisted-import-fails")
def test_what_an_action_can_reach_is_an_input_of_its_stage(graph, stages):
    # a layer has its inputs by name: see the test below; what all environments share is asked for each time
    by_name = {name for name in stages if name.startswith("tarball:")} - {"tarball:pack"}
    looked_at = set(stages) - by_name - {"infrastructure:shared", "teardown", "rollback"}
    assert looked_at >= {"infrastructure:environment", "tarball:pack", "server", "release", "image"}
    assert {name: missing(graph, *stages[name]) for name in looked_at} == {name: [] for name in looked_at}


@pytest.mark.promise("build-code-is-in-every-key")
def test_what_decides_about_bytes_is_part_of_every_layer_s_key(graph):
    # these carry bytes that a digest verifies
    carriers = ["tasks/bucket", "tasks/cloud"]
    # these name a branch, a remote and who talks to whom, which decide about no byte
    names = ["tasks/ci.py", "tasks/network.py", "tasks/placement.py", "tasks/remote.py"]
    assert missing(graph, "tasks.tarball.build.layers", [*keys.CODE, *carriers, *names]) == []


@pytest.mark.promise("an-unlisted-import-fails")
def test_a_module_that_is_planted_is_found(graph, stages):
    graph.add_module("tasks.planted")
    graph.add_import(importer="tasks.hosts.ssh", imported="tasks.planted")
    try:
        module, inputs = stages["server"]
        assert missing(graph, module, inputs) == ["tasks/planted.py"]
    finally:
        graph.remove_module("tasks.planted")


def test_what_other_rooms_import_has_a_place_among_the_layers(graph):
    """A new stage, which nobody imports, needs no line in the contract; what is shared does."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    placed = {each.strip() for layer in contract["layers"] for each in layer.split("|")}
    rooms = {each.removeprefix("tasks.") for each in graph.find_children("tasks")}
    shared = {
        room
        for room in rooms - placed
        for module in {f"tasks.{room}", *graph.find_descendants(f"tasks.{room}")}
        for importer in graph.find_modules_that_directly_import(module)
        if not importer.startswith(f"tasks.{room}")
    }
    assert shared == set()
    assert placed <= rooms


def test_every_room_that_is_unable_exists():
    there = {each for each in UNABLE if Path(ROOT, *each.split(".")).with_suffix(".py").exists()}
    assert there | {each for each in UNABLE if Path(ROOT, *each.split(".")).is_dir()} == set(UNABLE)


# --- settings -------------------------------------------------------------------------------------


def changed(value, name=""):
    """Another value of the same type. `name`: its option's, which may ask for another form."""
    if name == "allowed":
        return (*value, "api.example.com:8443")
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return (*value, "10.9.0.0/16") if isinstance(value, tuple) else f"{value}x"


def variants(settings, path=""):
    """The same settings with one value changed, each with the path of that value."""
    for each in dataclasses.fields(settings):
        here, value = f"{path}{each.name}", getattr(settings, each.name)
        if dataclasses.is_dataclass(value):
            others = variants(value, f"{here}.")
        elif isinstance(value, Mapping):
            others = (
                (f"{here}.{role}.{name}", {**value, role: {**told, name: changed(told[name], name)}})
                for role, told in value.items()
                for name in told
            )
        else:
            others = [(here, changed(value))]
        yield from ((name, dataclasses.replace(settings, **{each.name: other})) for name, other in others)


def variables(run):
    """Without the certificate: for the names of a variant, which are among these variables, another one is made."""
    return {name: value for name, value in server.variables(run).items() if name != "certificates_site"}


TELLS = {
    "server": (variables, server.parts),
    "infrastructure": (lambda run: infrastructure.wanted(run, None), infrastructure.parts),
}
"""What a stage tells the machines or the cloud, and what it says that it depends on."""


@pytest.mark.parametrize("stage", TELLS)
@pytest.mark.promise("settings-that-are-read-are-inputs")
def test_a_setting_that_changes_what_a_stage_tells_is_among_its_parts(checkout, stage):
    tells, parts = TELLS[stage]
    # these are in names, which the cloud is asked for each time
    asked = {"infrastructure": {"host_name", "per_branch"}}
    with moto.mock_aws():
        run = run_in(checkout, Plain("eu-central-1"))
        for name in ("relay_password", *(each.secret for each in run.network.services if each.secret)):
            secrets.bring(run.cloud.client("ssm"), run.secrets_folder, name, "of a service elsewhere")
        told, depends = tells(run), parts(run)
        found = {}
        for path, environment in variants(run.environment):
            other = dataclasses.replace(run, environment=environment)
            with contextlib.suppress(SettingWrong):  # without a page cache nobody listens for it
                if tells(other) != told:
                    found[path] = parts(other) != depends
    assert len(found) > 5
    assert {path for path, declared in found.items() if not declared} == asked.get(stage, set())
