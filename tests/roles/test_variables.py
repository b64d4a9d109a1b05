"""Variables of roles and playbooks: Ansible accepts a misspelt name silently, these tests do not."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import moto
import pytest
import yaml
from jinja2 import nodes

from tasks import image, profile, settings
from tasks.infrastructure.hosts import MachineFacts
from tasks.server import stage as server
from tests import clouds, plain

ROOT = Path(__file__).parents[2]
PROFILES = [
    profile.load(ROOT, settings.Application(profile=path.parent.name))
    for path in sorted(ROOT.glob("applications/*/profile.yml"))
]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
EXPRESSIONS = {"when", "that", "until", "failed_when", "changed_when"}
"""Keys whose values are Jinja without braces."""
OF_THE_PLAYBOOK = {
    "server_facts",
    "server_roles",
    "server_units_elsewhere",
    "server_services",
}
"""Variables that are no role's."""


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
    here = {value[key] for key in ("register", "loop_var", "index_var") if isinstance(value.get(key), str)}
    for key in ("vars", "ansible.builtin.set_fact"):
        here |= set(value.get(key) or {})
    return here.union(*(made(each) for each in value.values()))


def read_by(role):
    templates = (ROOT / "roles" / role / "templates").glob("*.j2")
    return read(documents(role)).union(*(names(path.read_text()) for path in templates))


def read_by_the_network(role):
    """Options by which its network.yml says where a service is."""
    file = ROOT / "roles" / role / "meta" / "network.yml"
    said = yaml.safe_load(file.read_text()).get("listens", ()) if file.exists() else ()
    return {f"{role}_{each['endpoint']}" for each in said if "endpoint" in each}


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
    playbooks = [yaml.safe_load(path.read_text()) for path in PLAYBOOKS]
    # read by the roles `packages` and `image`, and of the other hosts
    by_name = {f"__{role}_packages", f"__{role}_secrets", f"__{role}_unwanted", f"__{role}_reached"}
    assert all(name.startswith(f"__{role}_") for name in made_by(role))
    assert made_by(role) <= read_by(role) | read(playbooks) | by_name


def test_a_role_with_variables_lists_its_packages():
    for role in settings.role_names(ROOT):
        if (ROOT / "roles" / role / "vars" / "main.yml").exists():
            assert f"__{role}_packages" in made_by(role)


def test_a_declared_variable_is_read():
    of_roles = (*map(read_by, ROLES), *map(read_by_the_network, ROLES))
    assert set().union(read_by_profiles(), *of_roles) >= DECLARED


@pytest.mark.promise("a-default-is-a-setting")
def test_a_setting_is_the_variable_of_a_role_that_the_server_has():
    roles = settings.of_roles(ROOT)
    assert set(roles) <= set(settings.role_names(ROOT))
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
        "vars",
        "roles",
        "tasks",
    }
    assert set(play) <= known


ALONE = {"certificates"}
"""Roles of profiles that a playbook plays by themselves too."""


def named(playbook):
    """The roles that a playbook names."""
    (play,) = yaml.safe_load(playbook.read_text())
    included = [
        value["name"]
        for task in play.get("tasks", ())
        for key, value in task.items()
        if key.endswith("_role")
    ]
    return {each["role"] for each in play.get("roles", ())} | {each for each in included if "{" not in each}


def test_a_profile_lists_the_roles_that_no_playbook_names():
    of_playbooks = set().union(*map(named, PLAYBOOKS)) - ALONE
    assert of_playbooks == set(settings.OF_PLAYBOOKS)
    assert set(settings.role_names(ROOT)) == set(ROLES) - of_playbooks


@pytest.mark.parametrize("profile", PROFILES, ids=lambda each: each.name)
def test_what_the_roles_of_a_profile_read_is_declared_by_one_of_them(profile):
    listed = set(profile.server.roles)
    read_here = set().union(
        *map(read_by, listed), *(names(path.read_text()) for path in profile.folder.glob("*.j2"))
    )
    declared = set().union(
        *map(options, {*listed, "release"})
    )  # a script of an installation is rendered in it
    assert {name for name in read_here if PUBLIC.match(name)} <= declared


@pytest.mark.promise("a-role-notifies-its-own")
def test_a_handler_that_is_notified_is_the_role_s_own_or_a_topic():
    """A role of another profile has no handlers here; and a later role has none yet."""
    for role in ROLES:
        handlers = (
            yaml.safe_load(path.read_text())
            if (path := ROOT / "roles" / role / "handlers" / "main.yml").exists()
            else []
        )
        known = {each["name"] for each in handlers}.union(*map(topics, handlers))
        assert notified(documents(role)) <= known, role


def topics(handler):
    """What a handler listens to."""
    said = handler.get("listen", [])
    return {said} if isinstance(said, str) else {*said}


def notified(value):
    """Names of the handlers that a part of a YAML document notifies."""
    if isinstance(value, list):
        return set().union(*map(notified, value))
    if not isinstance(value, dict):
        return set()
    here = value.get("notify", [])
    return {*([here] if isinstance(here, str) else here)}.union(*map(notified, value.values()))


@pytest.mark.promise("services-reload-after-an-interruption", "all-listen-after-an-interruption")
def test_what_restarts_a_service_does_so_after_an_interrupted_provisioning():
    with_handlers = {path.parts[-3] for path in ROOT.glob("roles/*/handlers/main.yml")}
    timers = {"self_shutdown", "backup"}  # which are not on every host
    assert with_handlers > timers
    for role in with_handlers - timers:
        handlers = yaml.safe_load((ROOT / "roles" / role / "handlers" / "main.yml").read_text())
        assert "The last provisioning was interrupted" in set().union(*map(topics, handlers)), role


@pytest.mark.parametrize("stage", [server.variables, image.variables])
@pytest.mark.promise("what-nobody-tells-is-refused")
def test_the_pipeline_tells_what_it_says_it_tells(stage, checkout):
    with moto.mock_aws():
        run = clouds.run_in(checkout, plain.Plain("eu-central-1"))
        machine = MachineFacts(id="i-1", address="10.0.0.1", host_keys=(), within="10.0.0.1")
        beside = server.beside(run, [machine], machine)
        told = set(stage(run)) | (set(beside) if stage is server.variables else set())
    required = {f"{role}_{name}" for role, names in settings.TOLD.items() for name in names}
    if stage is server.variables:
        assert required <= told
        roles = [options(role) for role in run.profile.server.roles]
        assert {name for each in roles for name in each} == told - OF_THE_PLAYBOOK
    else:
        assert told == {"server_roles", "php_version", "php_extensions"}
