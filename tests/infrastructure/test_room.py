"""The room's floors: a module imports those below it only, at its top."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import ROOT

ROOM = ROOT / "tasks" / "infrastructure"
FLOORS = (
    {"plan", "waiting"},
    {"find", "gone", "hosts", "images", "launches", "memory", "name_servers", "secrets", "written", "zone"},
    {"delegation", "machine"},
    {"apply"},
    {"stage", "throw_away"},
)
"""From the bottom. Modules of one floor may use each other, in no circle."""
COSTLY = ("boto3", "ansible_runner", "git", "cryptography", "dns")
"""What takes long to load, and so may be loaded by those alone who need it."""
MODULES = sorted(path.stem for path in ROOM.glob("*.py") if path.stem != "__init__")


def parsed(path):
    return ast.parse(path.read_text())


def imported(tree):
    """The modules' full names: of `from tasks.infrastructure import plan` it is `tasks.infrastructure.plan`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)


def within(module):
    """The modules of the room that a module of the room imports."""
    names = (each.split(".") for each in imported(parsed(ROOM / f"{module}.py")))
    return {each[2] for each in names if each[:2] == ["tasks", "infrastructure"]}


def floor(module):
    return next(number for number, each in enumerate(FLOORS) if module in each)


def test_every_module_has_its_floor():
    assert set().union(*FLOORS) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_one_above_it(module):
    assert {each for each in within(module) if floor(each) > floor(module)} == set()


@pytest.mark.parametrize("module", MODULES)
def test_there_is_no_circle(module):
    reached, new = set(), {module}
    while new:
        new = set().union(*map(within, new)) - reached
        reached |= new
    assert module not in reached


@pytest.mark.parametrize("module", MODULES)
def test_imports_stand_at_the_top_but_for_what_is_costly(module):
    functions = [
        each for each in ast.walk(parsed(ROOM / f"{module}.py")) if isinstance(each, ast.FunctionDef)
    ]
    inside = {each.partition(".")[0] for function in functions for each in imported(function)}
    assert inside <= set(COSTLY)


@pytest.mark.parametrize("module", MODULES)
def test_no_type_is_left_unproved(module):
    assert "type: ignore" not in (ROOM / f"{module}.py").read_text()


@pytest.mark.parametrize("below", ["bucket", "hosts", "cloud", "process", "console"])
def test_what_lies_below_knows_nothing_of_the_room(below):
    files = list((ROOT / "tasks" / below).rglob("*.py"))
    assert files
    for path in files:
        assert not [each for each in imported(parsed(path)) if each.startswith("tasks.infrastructure")], path
