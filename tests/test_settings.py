"""Settings: what is declared is read, what is not is refused by file, line, path and what is known."""

from __future__ import annotations

import pytest

from tasks import settings
from tasks.refusal import Refusal
from tasks.settings import SettingMissing, SettingsBroken, SettingUnknown, SettingWrong
from tests.conftest import ROOT

ROLES = settings.of_roles(ROOT)


def load(tmp_path, text, kind=settings.Environment):
    if not (tmp_path / "roles").exists():
        (tmp_path / "roles").symlink_to(ROOT / "roles")
    path = tmp_path / "testing.yml"
    path.write_text(text)
    return settings.load(kind, path, tmp_path)


@pytest.mark.parametrize(
    ("text", "refusal", "sentence"),
    [
        (
            "server:\n  nginx:\n    siez: 1",
            SettingUnknown,
            "testing.yml:3: server.nginx.siez: unknown key (known: client_max_body_size, page_cache)",
        ),
        (
            "server: {php: {version: '8.3', memory_limit: 512}}",
            SettingWrong,
            "testing.yml:1: server.php.memory_limit: should be a text, not '512'",
        ),
        (
            "server:\n  varnis: {}",
            SettingUnknown,
            "testing.yml:2: server.varnis: unknown key (did you mean varnish? known: leftovers, base, ",
        ),
        ("server: {roles: {}}", SettingUnknown, "testing.yml:1: server.roles: unknown key"),
        ("server: {php: 8.2}", SettingWrong, "testing.yml:1: server.php: should be a mapping of names"),
        (
            "sevrer: {}",
            SettingUnknown,
            "testing.yml:1: sevrer: unknown key (did you mean server? known: per_branch, host_name",
        ),
        (
            "release: {keep: three}",
            SettingWrong,
            "testing.yml:1: release.keep: should be a whole number, not 'three'",
        ),
        ("release: {keep: true}", SettingWrong, "release.keep: should be a whole number, not 'true'"),
        ("release: {keep: [1]}", SettingWrong, "release.keep: should be a whole number, not a list"),
        ("per_branch: maybe", SettingWrong, "per_branch: should be true or false, not 'maybe'"),
        ("uncommitted: some", SettingWrong, "uncommitted: should be one of allowed, refused, not 'some'"),
        ("stages: release", SettingWrong, "stages: should be a list"),
        ("server: [1]", SettingWrong, "testing.yml:1: server: should be a mapping"),
        (
            "stages:\n- server\n- 7",
            SettingWrong,
            "testing.yml:3: stages[1]: should be a text, not '7'",
        ),
        ("stages: [[server]]", SettingWrong, "stages[0]: should be a text, not a list or a mapping"),
        ("{[per_branch]: true}", SettingWrong, "testing.yml:1: the file: should be a mapping of names"),
        ("host_name: !any thing", SettingWrong, "host_name: should be a text, not 'thing'"),
        ("host_name: 2026-13-45", SettingWrong, "host_name: should be a text, not '2026-13-45'"),
        ("a: b: c", SettingsBroken, "testing.yml:1: mapping values are not allowed"),
        ("release: {}\nrelease: {}", SettingsBroken, "testing.yml:2: release: is given twice"),
    ],
)
def test_a_wrong_environment_is_refused_where_it_is_wrong(tmp_path, text, refusal, sentence):
    with pytest.raises(refusal) as caught:
        load(tmp_path, text)
    assert sentence in caught.value.text
    assert caught.value.exit_code == 3


def test_a_missing_value_is_named_with_its_help(tmp_path):
    with pytest.raises(SettingMissing, match=r"testing\.yml:2: application\.profile: is missing"):
        load(tmp_path, "name: shop\napplication: {path: app}", settings.Pipeline)
    with pytest.raises(SettingMissing, match=r"testing\.yml:1: name: is missing"):
        load(tmp_path, "application: {profile: x}", settings.Pipeline)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "testing.yml").write_bytes(b"host_name: \xff")
    with pytest.raises(SettingsBroken, match=r"testing\.yml:1: is not UTF-8"):
        settings.load(settings.Environment, tmp_path / "testing.yml", tmp_path)


def test_an_empty_environment_has_the_declared_defaults(tmp_path):
    read = load(tmp_path, "")
    told = {role: {name: each.default for name, each in names.items()} for role, names in ROLES.items()}
    assert read == settings.Environment(server=settings.Server(roles=told))
    assert read == load(tmp_path, "server: {php: }")
    assert read == load(tmp_path, "server: {php: null}") == load(tmp_path, "server: ~")


def test_values_reach_their_setting(tmp_path):
    read = load(tmp_path, "stages: [release]\nserver: {php: {memory_limit: 1G}}\nrelease: {keep: 7}")
    assert (read.stages, read.server.roles["php"]["memory_limit"], read.release.keep) == (
        ("release",),
        "1G",
        7,
    )


def test_flat_names_every_setting_by_its_path(tmp_path):
    flat = settings.flat(load(tmp_path, ""))
    declared = {path for path, *_ in settings.declared(settings.Environment, ROLES)}
    assert flat.keys() == declared
    assert flat["server.php.version"] == "8.2"


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "environments").glob("*.yml")))
def test_the_project_s_own_environments_are_right(name):
    settings.load(settings.Environment, ROOT / "environments" / name, ROOT)


def test_a_missing_file_is_a_refusal(tmp_path):
    with pytest.raises(Refusal, match=r"pipeline\.yml: is missing"):
        settings.load(settings.Pipeline, tmp_path / "pipeline.yml", tmp_path)


SEARCH = """
argument_specs:
  main:
    options:
      search_heap:
        type: str
        choices: [1g, 2g]
        default: 1g
        description: Memory of the heap.
      search_nodes:
        type: list
        elements: str
        default: [a]
        description: Its neighbours.
      search_secret:
        type: str
        required: true
        description: What the stage tells.
"""


def with_search(root, specs=SEARCH):
    folder = root / "roles" / "search" / "meta"
    folder.mkdir(parents=True)
    (folder / "argument_specs.yml").write_text(specs)


def test_a_new_role_brings_its_settings_without_a_line_of_python(tmp_path):
    with_search(tmp_path)
    assert load(tmp_path, "").server.roles == {"search": {"heap": "1g", "nodes": ("a",)}}
    read = load(tmp_path, "server: {search: {heap: 2g, nodes: [b, c]}}")
    assert settings.flat(read.server) == {
        "leftovers": "remove",
        "search.heap": "2g",
        "search.nodes": ["b", "c"],
    }
    rows = [
        row
        for row in settings.declared(settings.Environment, settings.of_roles(tmp_path))
        if "search" in row[0]
    ]
    assert rows[0] == ("server.search.heap", "one of 1g, 2g", "`1g`", "Memory of the heap")
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("text", "refusal", "sentence"),
    [
        ("{heep: 2g}", SettingUnknown, ":3: server.search.heep: unknown key (did you mean heap? known: heap, nodes)"),
        ("{heap: 3g}", SettingWrong, ":3: server.search.heap: should be one of 1g, 2g, not '3g'"),
        ("{nodes: [1]}", SettingWrong, ":3: server.search.nodes[0]: should be a text, not '1'"),
        ("{secret: x}", SettingUnknown, ":3: server.search.secret: unknown key"),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_a_new_role_is_refused_where_it_is(tmp_path, text, refusal, sentence):
    with_search(tmp_path)
    with pytest.raises(refusal) as caught:
        load(tmp_path, f"server:\n  search:\n    {text}")
    assert f"testing.yml{sentence}" in caught.value.text


@pytest.mark.parametrize(("right", "wrong"), [("default: 1g", "default: 3g"), ("default: [a]", "default: a"), ("elements: str", "elements: dict")])  # fmt: skip
def test_a_default_that_is_no_setting_is_refused_in_the_role(tmp_path, right, wrong):
    with_search(tmp_path, SEARCH.replace(right, wrong))
    with pytest.raises(
        SettingsBroken, match=r"roles/search/meta/argument_specs\.yml:(5|10): search_\w+: the default"
    ):
        load(tmp_path, "")
