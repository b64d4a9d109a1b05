"""What a change of a Magento shop builds: by its profile, on the example."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks import profile, source
from tasks.settings import Application
from tasks.tarball.build import keys
from tests.clouds import run_in
from tests.conftest import ROOT, commit, copy_project
from tests.plain import Plain

THEMES = {"static": 4}
"""Layers of `static`: two themes, each in two languages."""
MODULE = "app/app/code/Shop/Catalog"


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    return copy_project(tmp_path_factory.mktemp("shop") / "checkout")


def keyed(shop: Path) -> Mapping[str, str]:
    source._snapshot.cache_clear()
    return {name: each.key for name, each in keys.keyed(run_in(shop, Plain("eu-central-1"))).items()}


@pytest.mark.parametrize(
    ("name", "built"),
    [
        ("etc/db_schema.xml", {"generated": 1}),
        ("etc/adminhtml/menu.xml", {"generated": 1}),
        ("etc/di.xml", {"generated": 1, **THEMES}),
        ("etc/frontend/di.xml", {"generated": 1, **THEMES}),
        ("etc/config.xml", {"generated": 1, **THEMES}),
        ("etc/module.xml", {"generated": 1, **THEMES}),
        ("view/frontend/web/js/new.js", THEMES),
        ("Model/New.php", {"generated": 1}),
    ],
)
@pytest.mark.promise("static-is-built-of-what-it-reads")
def test_a_module_s_file_builds_the_layers_that_read_it(shop, name, built):
    before = keyed(shop)
    path = shop / MODULE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{path.read_text() if path.exists() else ''}<!-- {name} -->\n")
    commit(shop)
    after = keyed(shop)
    changed = [each.partition("-")[0] for each in before if before[each] != after[each]]
    assert {each: changed.count(each) for each in changed} == built


def test_the_command_sees_all_of_a_module_s_settings():
    layers = profile.load(ROOT, Application(profile="magento2")).layers
    assert all("app/code/*/*/etc" in each.present for each in layers if each.declared == "static")
