"""What a change of a Magento shop builds: by its profile, on the example."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks import profile, source
from tasks.settings import Application
from tasks.tarball.build import keys
from tasks.tarball.build.tar import PathFilter
from tests.clouds import run_in
from tests.conftest import EXAMPLE, ROOT, commit, copy_project
from tests.plain import Plain

THEMES = {"static": 2, "hashes": 1}
"""Layers of `static`: a theme, with its parent, in two languages; and what they have together."""
MODULE = "app/app/code/Shop/Catalog"
THEME = "../../../design/frontend/Shop/spring"
"""From a module."""


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
        ("view/frontend/requirejs-config.js", THEMES),
        ("view/base/web/template/new.html", THEMES),
        ("view/frontend/templates/list.phtml", {}),
        ("view/frontend/email/new.html", {}),
        ("view/frontend/layout/default.xml", {}),
        ("view/frontend/ui_component/new.xml", {}),
        ("Model/New.php", {"generated": 1}),
        (f"{THEME}/Shop_Catalog/templates/list.phtml", {}),
        (f"{THEME}/Shop_Catalog/layout/default.xml", {}),
        (f"{THEME}/Shop_Catalog/web/css/source/_module.less", THEMES),
        (f"{THEME}/requirejs-config.js", THEMES),
        (f"{THEME}/etc/view.xml", THEMES),
        (f"{THEME}/i18n/de_DE.csv", THEMES),
        (f"{THEME}/theme.xml", THEMES),
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


@pytest.mark.promise("admin-has-its-own-languages", "a-theme-has-its-own-languages")
def test_the_admin_and_a_theme_have_languages_of_their_own():
    options = {
        "themes": ("Shop/de", "Shop/fr"),
        "themes.adminhtml": ("Magento/backend",),
        "locales": ("de_DE",),
        "locales.Shop/fr": ("fr_FR", "fr_CH"),
    }
    layers = profile.load(ROOT, Application(profile="magento2", options=options)).layers
    static = [each for each in layers if each.declared == "static"]
    assert [each.name for each in static] == [
        "static-frontend-Shop-de-de_DE",
        "static-frontend-Shop-fr-fr_FR",
        "static-frontend-Shop-fr-fr_CH",
        "static-adminhtml-Magento-backend-en_US",
    ]
    assert layers[-1].after == tuple(each.name for each in static)


@pytest.mark.parametrize("name", ["locales.Shop/sprnig", "locales.", "locals.Shop/spring", "locales.en_US"])
def test_languages_of_a_theme_that_is_not_there_are_refused(name):
    with pytest.raises(profile.ProfileOptionUnknown):
        profile.load(ROOT, Application(profile="magento2", options={name: ("de_DE",)}))


@pytest.mark.promise("static-is-built-of-what-it-reads")
def test_a_theme_of_the_admin_is_built_of_the_admin_s_files_and_of_its_parents(tmp_path):
    root = copy_project(tmp_path / "checkout")
    folder = root / "app/app/design/adminhtml/Shop"
    for name, parent in {"admin": "Shop/plain", "plain": "Magento/backend"}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "theme.xml").write_text(f"<theme><parent>{parent}</parent></theme>\n")
    settings = root / "pipeline.yml"
    options = "profile: magento2\n  options: {themes: [Shop/spring], themes.adminhtml: [Shop/admin]}"
    settings.write_text(settings.read_text().replace(EXAMPLE, options))
    commit(root)
    admin, front = {"static-adminhtml-Shop-admin-en_US"}, {"static-frontend-Shop-spring-en_US"}
    for name, built in {
        f"{MODULE}/view/frontend/web/js/page.js": front,
        f"{MODULE}/view/adminhtml/web/js/x.js": admin,
        f"{MODULE}/view/base/web/x.js": admin | front,
        "app/app/design/adminhtml/Shop/plain/web/x.css": admin,
    }.items():
        before = keyed(root)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("// changed\n")
        commit(root)
        after = keyed(root)
        assert {each for each in admin | front if before[each] != after[each]} == built, name


@pytest.mark.parametrize("path", ["dev/tests/x.php", "vendor/magento/magento2-base/dev/tests/x.php"])
def test_tests_and_tools_of_developers_are_in_no_tarball(path):
    found = profile.load(ROOT, Application(profile="magento2"))
    assert not PathFilter(found.exclude, [""])(path)
    assert PathFilter(found.exclude, [""])(path.replace("dev/", "developer/"))


def test_the_command_sees_all_of_a_module_s_settings():
    layers = profile.load(ROOT, Application(profile="magento2")).layers
    assert all("app/code/*/*/etc" in each.present for each in layers if each.declared == "static")


READS = """
namespace Shop\\Framework;
require $argv[1] . '/app/packages/framework/src/Configuration.php';
var_export((new Configuration('/nowhere'))->get('queue/consumers_wait_for_messages'));
"""


@pytest.mark.promise("consumers-wait")
def test_the_number_that_tells_a_consumer_to_wait_reaches_it_as_a_number():
    """Magento compares it with 1 by type: the text of an environment variable of its own does not count."""
    (unit,) = profile.load(ROOT, Application(profile="magento2")).server.roles["workers"]["units"]
    given = dict(word.split("=", 1) for word in unit["command"] if word.startswith("MAGENTO_DC_"))
    read = ["php", "-r", READS, "--", str(ROOT)]
    said = subprocess.run(
        read, env={"PATH": os.environ["PATH"], **given}, capture_output=True, text=True, check=True
    )
    assert said.stdout == "1"
    text = {"MAGENTO_DC_QUEUE__CONSUMERS_WAIT_FOR_MESSAGES": "1"}
    said = subprocess.run(
        read, env={"PATH": os.environ["PATH"], **text}, capture_output=True, text=True, check=True
    )
    assert said.stdout == "'1'"
