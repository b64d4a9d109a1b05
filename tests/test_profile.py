"""Profiles: each key is declared; what is not is refused by file, line, path and what is known, as in settings."""

from __future__ import annotations

import dataclasses
import shutil
import typing
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tasks import profile, settings
from tasks.refusal import Refusal
from tasks.settings import (
    Application,
    RoleUnlisted,
    SettingMissing,
    SettingsBroken,
    SettingsMissing,
    SettingUnknown,
    SettingWrong,
)
from tests.conftest import ROOT

SITE = """\
packages: [tidy]
options:
  themes: [plain, child]
tools:
  shell: [sh, -c, echo 1]
inherits:
  theme:
    file: "themes/{theme}/parent"
    match: (.+)
layers:
  - name: library
    files: [library.txt]
    commands:
      - [mkdir, lib]
    outputs: [lib]
  - name: style
    after: [library]
    for_each:
      theme: themes
    environment:
      LEVEL: "1"
    tools: [shell]
    commands: [[mkdir, out]]
    outputs: [out]
    promises: [out/*]
stamps:
  out/version: [style]
exclude: [var]
sbom: composer.lock
migrations: ["*/Setup/*"]
server:
  roles:
    base:
    web:
      site: site.j2
      root: pub
      workers: 4
    jobs:
      table:
        - minute: "5"
          command: [php, cron]
  connects: [{to: internet, ports: [443]}]
release:
  health_path: /health
  migration:
    due: [php, due]
    due_exit: 2
    run: [php, run]
  configuration:
    due: [php, due]
    due_exit: 2
    run: [php, import]
  maintenance:
    active_file: var/closed
    on: [php, "on"]
    off: [php, "off"]
  after_switch:
    - [php, flush]
  restart: [workers.target]
  unit: php@.service
  install:
    interpreter: [php]
    due: site.j2
    due_exit: 4
    run: site.j2
    then: [site.j2]
    administrator: admin
    page: /admin
    lent: [etc, pub]
  written:
    interpreter: [php]
    names: site.j2
  pages: [/]
  static: {folder: pub/static, version: pub/version}
  writable: [var]
  lent: [etc]
  copy: [copy_it]
  online: online.sha256
  late: [[php, reindex]]
"""
LAYER = (
    "known: name, for_each, files, present, unseen, after, tools, variables, credentials, caches, network, "
    "environment, commands, outputs, promises, seconds)"
)
ROLES = {
    "base": "{}",
    "web": """
      web_site: {type: path, required: true, description: Template of the site.}
      web_root: {type: str, required: true, description: Folder that visitors see.}
      web_workers: {type: int, default: 2, description: Requests at a time.}
      web_mode: {type: str, choices: [fast, safe], default: fast, description: How.}
""",
    "jobs": """
      jobs_table:
        type: list
        elements: dict
        required: true
        description: Commands.
        options:
          minute: {type: str, description: As in crontab.}
          command: {type: list, elements: str, required: true, description: The command.}
""",
}
"""The options of roles that only these tests have."""
FILE = "known: packages, options, tools, inherits, layers, stamps, exclude, forbidden, sbom, migrations, server, release)"


def load(root, text, **application):
    folder = root / "applications" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.j2").touch()
    for name, options in ROLES.items():
        specs = root / "roles" / name / "meta" / "argument_specs.yml"
        specs.parent.mkdir(parents=True, exist_ok=True)
        help = f"    short_description: The {name}"
        specs.write_text(f"argument_specs:\n  main:\n{help}\n    options: {options}\n")
    (folder / "profile.yml").write_text(text)
    return profile.load(root, Application(profile="tiny", **application))


def refused(root, before, after, refusal):
    assert SITE.count(before) == 1, before
    with pytest.raises(refusal) as caught:
        load(root, SITE.replace(before, after))
    assert caught.value.exit_code == 3
    text, path = caught.value.text, "applications/tiny/profile.yml"
    assert text.endswith(f"\n    $EDITOR {path}")
    return text.removeprefix(path).partition("\n")[0]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("packages:", "package:", f":1: package: unknown key (did you mean packages? {FILE}"),
        ("migrations:", "migration_paths:", ":30: migration_paths: unknown key (did you mean migrations? "),
        ("    match:", "    mach:", ":9: inherits.theme.mach: unknown key (did you mean match? known: file, match)"),
        ("    files:", "    fils:", f":12: layers[0].fils: unknown key (did you mean files? {LAYER}"),
        ("promises:", "promise:", f":25: layers[1].promise: unknown key (did you mean promises? {LAYER}"),
        ("  roles:", "  rolls:", ":32: server.rolls: unknown key (did you mean roles? known: roles, groups, tried_with, connects)"),
        ("    web:", "    wep:", ":34: server.roles.wep: unknown key (did you mean web? known: base, jobs, web)"),
        ("    base:", "    release:", ":33: server.roles.release: unknown key (known: base, jobs, web)"),
        ("    base:\n", "    base: {sites: a}\n", ":33: server.roles.base.sites: unknown key (known: none)"),
        ("      workers:", "      worker:", ":37: server.roles.web.worker: unknown key (did you mean workers? known: site, root, workers, mode)"),
        ("minute:", "minut:", ":40: server.roles.jobs.table[0].minut: unknown key (did you mean minute? known: minute, command)"),
        ("health_path:", "health:", ":44: release.health: unknown key (did you mean health_path? known: health_path, pages, static, writable, lent, install, written, migration, online, copy, configuration, maintenance, after_switch, late, restart, unit)"),
        ("    due_exit: 2\n    run: [php, run]", "    due_exits: 2\n    run: [php, run]", ":47: release.migration.due_exits: unknown key (did you mean due_exit? known: due, due_exit, run)"),
        ("    run: [php, import]", "    runs: [php, import]", ":52: release.configuration.runs: unknown key (did you mean run? known: due, due_exit, run)"),
        ("    page:", "    pages:", ":68: release.install.pages: unknown key (did you mean page? known: interpreter, due, due_exit, run, then, lent, administrator, page)"),
        ("active_file:", "activ_file:", ":54: release.maintenance.activ_file: unknown key (did you mean active_file? known: active_file, on, off)"),
    ],
)  # fmt: skip
@pytest.mark.promise("profile-typos-are-refused")
def test_a_misspelt_key_is_refused_where_it_is(tmp_path, before, after, sentence):
    assert refused(tmp_path, before, after, SettingUnknown).startswith(sentence)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("[tidy]", "tidy", ":1: packages: should be a list, each a text, not 'tidy'"),
        ("[tidy]", "[8.2]", ":1: packages[0]: should be a text, not '8.2'"),
        ("\n  themes: [plain, child]", " [plain]", ":2: options: should be a mapping of names to values, not a list or a mapping"),
        ("[plain, child]", "plain", ":3: options.themes: should be a list, each a text, not 'plain'"),
        ("[plain, child]", "[de, no]", ":3: options.themes[1]: should be a text, not 'no'"),
        ("[sh, -c, echo 1]", "sh", ":5: tools.shell: should be a list, each a text, not 'sh'"),
        ("[sh, -c, echo 1]", "[sh, -c, 1]", ":5: tools.shell[2]: should be a text, not '1'"),
        ("\n    file: \"themes/{theme}/parent\"\n    match: (.+)", " file", ":7: inherits.theme: should be a mapping of names to values, not 'file'"),
        ("(.+)", "[a]", ":9: inherits.theme.match: should be a text, not a list or a mapping"),
        ("  - name: library", "  - library\n  - name: library", ":11: layers[0]: should be a mapping of names to values, not 'library'"),
        ("library.txt", "7", ":12: layers[0].files[0]: should be a text, not '7'"),
        ("[mkdir, lib]", "mkdir lib", ":14: layers[0].commands[0]: should be a list, each a text, not 'mkdir lib'"),
        ("[mkdir, lib]", "[mkdir, 1]", ":14: layers[0].commands[0][1]: should be a text, not '1'"),
        ("[[mkdir, out]]", "mkdir", ":23: layers[1].commands: should be a list, each a list, each a text, not 'mkdir'"),
        ("\n      theme: themes", " [themes]", ":18: layers[1].for_each: should be a mapping of names to values, not a list"),
        ("theme: themes", "theme: [themes]", ":19: layers[1].for_each.theme: should be a text, not a list"),
        ('LEVEL: "1"', "LEVEL: 1", ":21: layers[1].environment.LEVEL: should be a text, not '1'"),
        ("[out/*]", "true", ":25: layers[1].promises: should be a list, each a text, not 'true'"),
        ("out/version: [style]", "out/version: style", ":27: stamps.out/version: should be a list, each a text, not 'style'"),
        ("sbom: composer.lock", "sbom: [composer.lock]", ":29: sbom: should be a text, not a list or a mapping"),
        ("    base:\n    web:\n", "  - web:\n", ":33: server.roles: should be a mapping of names to values, not a list or a mapping"),
        ("    base:\n", "    base: yes\n", ":33: server.roles.base: should be a mapping of names to values, not 'yes'"),
        ("[site.j2]", "[sight.j2]", ":66: release.install.then[0]: should be a template in applications/tiny (did you mean site.j2? known: site.j2), not 'sight.j2'"),
        ("site: site.j2", "site: sight.j2", ":35: server.roles.web.site: should be a template in applications/tiny (did you mean site.j2? known: site.j2), not 'sight.j2'"),
        ("site: site.j2", "site: [site.j2]", ":35: server.roles.web.site: should be a template, not a list or a mapping"),
        ("root: pub", "root: 1", ":36: server.roles.web.root: should be a text, not '1'"),
        ("workers: 4", "workers: four", ":37: server.roles.web.workers: should be a whole number, not 'four'"),
        ("workers: 4", "mode: slow", ":37: server.roles.web.mode: should be one of fast, safe, not 'slow'"),
        ("        - minute: \"5\"\n          command: [php, cron]", "        minute: x", ":40: server.roles.jobs.table: should be a list, each a section, not a list or a mapping"),
        ("- minute: \"5\"\n          command: [php, cron]", "- x", ":40: server.roles.jobs.table[0]: should be a mapping of names to values, not 'x'"),
        ('"5"', "5", ":40: server.roles.jobs.table[0].minute: should be a text, not '5'"),
        ("[php, cron]", "php cron", ":41: server.roles.jobs.table[0].command: should be a list, each a text, not 'php cron'"),
        ("[php, cron]", "[php, 1]", ":41: server.roles.jobs.table[0].command[1]: should be a text, not '1'"),
        ("/health", "200", ":44: release.health_path: should be a text, not '200'"),
        ("due_exit: 2\n    run: [php, run]", "due_exit: two", ":47: release.migration.due_exit: should be a whole number, not 'two'"),
        ("\n    due: [php, due]\n    due_exit: 2\n    run: [php, import]", " [php]", ":49: release.configuration: should be a mapping of names to values, not a list"),
        ('[php, "on"]', '["php", on]', ":55: release.maintenance.on[1]: should be a text, not 'on'"),
        ("[php, flush]", "php flush", ":58: release.after_switch[0]: should be a list, each a text, not 'php flush'"),
    ],
)  # fmt: skip
@pytest.mark.promise("wrong-profiles-are-refused")
def test_a_wrong_type_is_refused_where_it_is(tmp_path, before, after, sentence):
    assert refused(tmp_path, before, after, SettingWrong).startswith(sentence)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("  - name: library\n    files:", "  - files:", ":11: layers[0].name: is missing (its name"),
        ("    outputs: [out]\n", "", ":16: layers[1].outputs: is missing (what is kept"),
        ("\n    match: (.+)", "", ":8: inherits.theme.match: is missing (regular expression"),
        ("server:\n  roles:\n    base:", "server:\n  {}\nnothing:\n  also:\n    base:", ":32: server.roles: is missing (the roles"),
        ("      root: pub\n", "", ":35: server.roles.web.root: is missing (Folder that visitors see)"),
        ("      site: site.j2\n      root: pub\n      workers: 4\n", "", ":34: server.roles.web.site: is missing (Template of the site)"),
        ("\n          command: [php, cron]", "", ":40: server.roles.jobs.table[0].command: is missing (The command)"),
        ("    active_file: var/closed\n", "", ":54: release.maintenance.active_file: is missing (file"),
    ],
)  # fmt: skip
@pytest.mark.promise("what-nobody-tells-is-refused")
def test_what_must_be_said_is_named_with_its_help(tmp_path, before, after, sentence):
    assert refused(tmp_path, before, after, SettingMissing).startswith(sentence)


@pytest.mark.parametrize(
    ("before", "after", "refusal", "sentence"),
    [
        ("match: (.+)", "match: (.+", SettingWrong, ":9: inherits.theme.match: should be a regular expression, not '(.+'"),
        ("health_path: /health", "health_path: health", SettingWrong, ":44: release.health_path: should be a path that begins with /, not 'health'"),
        ("after: [library]", "after: [libary]", SettingWrong, ":17: layers[1].after[0]: should be a layer above this one (did you mean library? known: library), not 'libary'"),
        ("after: [library]", "after: [style]", SettingWrong, ":17: layers[1].after[0]: should be a layer above this one (known: library), not 'style'"),
        ("files: [library.txt]", "after: [style]", SettingWrong, ":12: layers[0].after[0]: should be a layer above this one (known: none), not 'style'"),
        ("theme: themes", "theme: theme", SettingWrong, ":19: layers[1].for_each.theme: should be an option (did you mean themes? known: themes), not 'theme'"),
        ("tools: [shell]", "tools:\n    - shell\n    - shel", SettingWrong, ":24: layers[1].tools[1]: should be a tool (did you mean shell? known: shell), not 'shel'"),
        ("out/version: [style]", "out/version: [stile]", SettingWrong, ":27: stamps.out/version[0]: should be a layer (did you mean style? known: library, style), not 'stile'"),
        ("inherits:\n  theme:", "inherits:\n  thme:", SettingUnknown, ":7: inherits.thme: unknown key (did you mean theme? known: theme)"),
        ("name: style", "name: library", SettingsBroken, ":16: layers[1].name: library is declared twice"),
        ("sbom: composer.lock", "packages: []", SettingsBroken, ":29: packages: is given twice"),
        ("outputs: [lib]", "name: again", SettingsBroken, ":15: layers[0].name: is given twice"),
        ("sbom: composer.lock", "sbom: [", SettingsBroken, ":31: did not find expected"),
    ],
)  # fmt: skip
@pytest.mark.promise("wrong-profiles-are-refused")
def test_a_name_that_nothing_has_is_refused_where_it_is(tmp_path, before, after, refusal, sentence):
    assert refused(tmp_path, before, after, refusal).startswith(sentence)


def keys(kind, node, path="", roles=None):
    """Each key that a section of a file has: its path and its node."""
    if dataclasses.is_dataclass(kind) or isinstance(kind, settings.Section):
        known = settings._settings(kind)
        for name, child in node.value or ():
            yield f"{path}.{name.value}".lstrip("."), name
            yield from keys(known[name.value].type, child, f"{path}.{name.value}", roles)
    elif kind is settings.RolesTold:
        yield from keys(roles, node, path)
    elif typing.get_origin(kind) is tuple:
        for number, child in enumerate(node.value):
            yield from keys(typing.get_args(kind)[0], child, f"{path}[{number}]", roles)
    elif typing.get_origin(kind) is Mapping:
        for name, child in node.value:
            yield from keys(typing.get_args(kind)[1], child, f"{path}.{name.value}", roles)


@pytest.mark.promise("profile-typos-are-refused")
def test_every_key_is_refused_once_it_is_misspelt(tmp_path):
    load(tmp_path, SITE)
    every_key_is_refused(tmp_path, "tiny")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("applications/*/profile.yml")))
def test_every_key_of_the_project_s_own_profiles_is_refused_once_it_is_misspelt(tmp_path, name):
    for folder in (f"applications/{name}", "roles"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    every_key_is_refused(tmp_path, name)


def every_key_is_refused(root, name):
    """Each key of a profile in its turn, in a copy of it."""
    file = root / "applications" / name / "profile.yml"
    text, roles = file.read_text(), settings.every_role(root)
    found = list(keys(profile.ProfileFile, yaml.compose(text), roles=roles))
    for path, key in found:
        start, end = key.start_mark.index, key.end_mark.index
        file.write_text(f"{text[:start]}{key.value}x{text[end:]}")
        with pytest.raises(SettingUnknown) as caught:
            profile.load(root, Application(profile=name))
        line = key.start_mark.line + 1
        known = f"unknown key (did you mean {key.value}? known: "
        assert f"profile.yml:{line}: {path}x: {known}" in caught.value.text
    assert any(path.startswith("server.roles.") for path, _ in found)


def test_the_site_of_these_tests_has_every_section(tmp_path):
    load(tmp_path, SITE)
    roles = settings.every_role(tmp_path)
    paths = {path for path, _ in keys(profile.ProfileFile, yaml.compose(SITE), roles=roles)}
    lists = settings.declared(profile.ProfileFile, {}, listed=roles)
    rows = {path.replace(".NAME.", ".theme.").replace("[].", "[0].") for path, *_ in lists}
    holders = {path.rpartition(".")[0] for path in rows}
    assert holders == {path.rpartition(".")[0].replace("[1]", "[0]") for path in paths}


def test_a_profile_that_is_missing_is_a_refusal(tmp_path):
    with pytest.raises(SettingsMissing, match=r"applications/none/profile\.yml: is missing"):
        profile.load(tmp_path, Application(profile="none"))
    with pytest.raises(SettingMissing, match=r"profile\.yml:1: layers: is missing"):
        load(tmp_path, "")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("applications/*/profile.yml")))
def test_the_project_s_own_profiles_are_right(name):
    assert profile.load(ROOT, Application(profile=name)).layers


def test_values_reach_their_key_and_a_layer_is_one_for_each_value(tmp_path):
    read = load(tmp_path, SITE, options={"themes": ("child",)}, commands={"library": ("true",)})
    assert [each.name for each in read.layers] == ["library", "style-child"]
    assert (read.layers[0].commands, read.layers[1].commands) == ((("true",),), (("mkdir", "out"),))
    assert read.layers[1].chosen == {"theme": "child"}
    assert read.server.roles["jobs"] == {"table": ({"minute": "5", "command": ("php", "cron")},)}


@pytest.mark.promise("roles-of-the-profile", "profile-gives-other-defaults")
def test_a_profile_lists_its_roles_in_its_order_and_gives_their_settings_other_defaults(tmp_path):
    read = load(tmp_path, SITE)
    assert list(read.server.roles) == ["base", "web", "jobs"]
    assert read.server.roles["web"]["site"] == Path("site.j2"), "beside the profile, wherever the checkout is"
    defaults = {name: each.default for name, each in read.settings["web"].items()}
    assert defaults == {"workers": 4, "mode": "fast"}
    (tmp_path / "here.yml").write_text("server:\n  web: {mode: safe}\n")
    told = settings.load(settings.Environment, tmp_path / "here.yml", tmp_path, read.settings)
    assert told.server.roles == {"base": {}, "web": {"workers": 4, "mode": "safe"}, "jobs": {}}


def test_a_setting_of_a_role_that_the_profile_does_not_list_is_refused(tmp_path):
    read = load(
        tmp_path, SITE.replace("    web:\n      site: site.j2\n      root: pub\n      workers: 4\n", "")
    )
    (tmp_path / "here.yml").write_text("server:\n  web: {mode: safe}\n")
    with pytest.raises(RoleUnlisted) as caught:
        settings.load(settings.Environment, tmp_path / "here.yml", tmp_path, read.settings)
    assert caught.value.text.startswith(
        "here.yml:2: server.web: is a role that the profile does not list (listed: base, jobs)"
    )
    assert caught.value.exit_code == 3


def test_the_role_release_gets_what_the_profile_says(tmp_path):
    read = load(tmp_path, SITE)
    said = yaml.safe_load(SITE.replace("    on:", '    "on":').replace("    off:", '    "off":'))
    assert settings.plain(read.release) == said["release"]


@pytest.mark.promise("wrong-profiles-are-refused")
def test_every_refusal_of_a_profile_ends_with_the_same_exit_code(tmp_path):
    for text in ("a: b: c", "- 1", "layers: 1", "", SITE + "again: 1"):
        with pytest.raises(Refusal) as caught:
            load(tmp_path, text)
        assert caught.value.exit_code == 3
