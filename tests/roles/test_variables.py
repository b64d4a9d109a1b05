"""Variables of roles and playbooks: Ansible accepts a misspelt name silently, these tests do not."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
import yaml
from jinja2 import nodes

from tasks.server import stage as server
from tasks.settings import of_roles

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
EXPRESSIONS = {"when", "that", "until", "failed_when", "changed_when"}
"""Keys whose values are Jinja without braces."""


def options(role):
    specs = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    return yaml.safe_load(specs.read_text())["argument_specs"]["main"]["options"]


def documents(role):
    return [
        yaml.safe_load(path.read_text())
        for folder in ("tasks", "handlers", "vars")
        for path in sorted((ROOT / "roles" / role / folder).glob("*.yml"))
    ]


def names(text):
    parsed = jinja2.Environment(autoescape=True, extensions=["jinja2.ext.do"]).parse(text)
    return {node.name for node in parsed.find_all(nodes.Name)}


def read(value, key=None):
    """Names of the variables that a part of a YAML document reads."""
    if isinstance(value, dict):
        return set().union(*(read(each, name) for name, each in value.items()))
    if isinstance(value, list):
        return set().union(*(read(each, key) for each in value))
    if not isinstance(value, str):
        return set()
    return names("{{ " + value + " }}" if key in EXPRESSIONS else value)


def made(value):
    """Names of the variables that a part of a YAML document makes."""
    if isinstance(value, list):
        return set().union(*(made(each) for each in value))
    if not isinstance(value, dict):
        return set()
    here = {value[key] for key in ("register", "loop_var") if isinstance(value.get(key), str)}
    for key in ("vars", "ansible.builtin.set_fact"):
        here |= set(value.get(key) or {})
    return here.union(*(made(each) for each in value.values()))


def read_by(role):
    templates = (ROOT / "roles" / role / "templates").glob("*.j2")
    return read(documents(role)).union(*(names(path.read_text()) for path in templates))


def read_by_profiles():
    return set().union(*(names(path.read_text()) for path in ROOT.glob("applications/*/*.j2")))


def made_by(role):
    file = ROOT / "roles" / role / "vars" / "main.yml"
    own = set(yaml.safe_load(file.read_text())) if file.exists() else set()
    return own | made(documents(role))


DECLARED = set().union(*(options(role) for role in ROLES))
PUBLIC = re.compile(rf"({'|'.join(ROLES)})_")


@pytest.mark.parametrize("role", ROLES)
def test_a_public_variable_is_required_typed_and_described(role):
    for name, option in options(role).items():
        assert name.startswith(f"{role}_"), name
        assert option.get("required") is True or "default" in option, name  # Ansible refuses both together
        assert option["type"], name
        assert option["description"].endswith("."), name


@pytest.mark.parametrize("role", ROLES)
def test_a_variable_that_a_role_reads_is_declared(role):
    assert {name for name in read_by(role) if PUBLIC.match(name)} <= DECLARED


def test_a_variable_that_a_profile_reads_is_declared():
    assert {name for name in read_by_profiles() if PUBLIC.match(name)} <= DECLARED


@pytest.mark.parametrize("role", ROLES)
def test_a_role_makes_every_internal_variable_that_it_reads(role):
    assert {name for name in read_by(role) if name.startswith("__")} <= made_by(role)


@pytest.mark.parametrize("role", ROLES)
def test_an_internal_variable_bears_its_roles_name_and_is_read(role):
    used = read_by(role) | read(yaml.safe_load((ROOT / "playbooks" / "server.yml").read_text()))
    assert all(name.startswith(f"__{role}_") for name in made_by(role))
    assert made_by(role) <= used


def test_a_declared_variable_is_read():
    assert set().union(read_by_profiles(), *map(read_by, ROLES)) >= DECLARED


def test_a_setting_is_the_variable_of_a_role_that_the_server_has():
    roles = of_roles(ROOT)
    assert set(roles) <= set(server.ROLES)
    assert {f"{role}_{name}" for role, names in roles.items() for name in names} == {
        name for role in ROLES for name, option in options(role).items() if "default" in option
    }


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_a_playbook_is_a_sentence_and_its_roles(playbook):
    (play,) = yaml.safe_load(playbook.read_text())
    known = {
        "name",
        "hosts",
        "become",
        "gather_facts",
        "force_handlers",
        "module_defaults",
        "vars_files",
        "roles",
    }
    assert set(play) <= known


def test_the_playbook_of_a_stage_has_the_roles_that_the_stage_depends_on():
    (play,) = yaml.safe_load((ROOT / "playbooks" / "server.yml").read_text())
    assert tuple(each["role"] for each in play["roles"]) == server.ROLES


@pytest.mark.parametrize("playbook", ["server", "image"])
def test_the_packages_of_every_role_are_installed(playbook):
    (play,) = yaml.safe_load((ROOT / "playbooks" / f"{playbook}.yml").read_text())
    (packages,) = (each for each in play["roles"] if each["role"] == "packages")
    listed = read(packages["vars"]["packages_wanted"])
    assert listed == {
        f"__{role}_packages" for role in server.ROLES if (ROOT / "roles" / role / "vars").exists()
    }
