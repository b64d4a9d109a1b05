"""Settings: what is declared is read, what is not is refused by file, line, path and what is known."""

from __future__ import annotations

import pytest

from tasks import settings
from tasks.refusal import Refusal
from tasks.settings import SettingMissing, SettingsBroken, SettingUnknown, SettingWrong
from tests.conftest import ROOT


def load(tmp_path, text, kind=settings.Environment):
    path = tmp_path / "testing.yml"
    path.write_text(text)
    return settings.load(kind, path, tmp_path)


@pytest.mark.parametrize(
    ("text", "refusal", "sentence"),
    [
        (
            "server:\n  nginx:\n    siez: 1",
            SettingUnknown,
            "testing.yml:3: server.nginx.siez: unknown key (known: client_max_body_size)",
        ),
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
    assert load(tmp_path, "") == settings.Environment()


def test_values_reach_their_setting(tmp_path):
    read = load(tmp_path, "stages: [release]\nserver: {php: {memory_limit: 1G}}\nrelease: {keep: 7}")
    assert (read.stages, read.server.php.memory_limit, read.release.keep) == (("release",), "1G", 7)


def test_flat_names_every_setting_by_its_path():
    flat = settings.flat(settings.Environment())
    declared = {path for path, *_ in settings.declared(settings.Environment)}
    assert flat.keys() == declared
    assert flat["server.php.version"] == "8.2"


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "environments").glob("*.yml")))
def test_the_project_s_own_environments_are_right(name):
    settings.load(settings.Environment, ROOT / "environments" / name, ROOT)


def test_a_missing_file_is_a_refusal(tmp_path):
    with pytest.raises(Refusal, match=r"pipeline\.yml: is missing"):
        settings.load(settings.Pipeline, tmp_path / "pipeline.yml", tmp_path)
