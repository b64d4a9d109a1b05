"""A theme whose stylesheet is made by a program of Node: a layer of its own, which other shops do not have."""

from __future__ import annotations

import shutil

import pytest

from tasks.tarball import verify
from tasks.tarball.build import keys, layers, tar
from tasks.tarball.build.layers import Build
from tests.cloud.embedded.conftest import server  # noqa: F401  (a fixture)
from tests.conftest import EXAMPLE, ROOT, commit, copy_project
from tests.tarball.test_stage import start  # noqa: F401  (a fixture)

FOLDER = "app/design/frontend/Shop/tailwind"


@pytest.fixture
def shop(tmp_path):
    """The example with one more theme."""
    root = copy_project(tmp_path / "shop")
    shutil.copytree(ROOT / "tests/examples/theme", root / "app/app", dirs_exist_ok=True)
    config = root / "app/app/etc/config.php"
    told = config.read_text().replace("'themes' => [", "'themes' => [\n" + THEME)
    config.write_text(told)
    settings = root / "pipeline.yml"
    options = (
        "profile: magento2\n  options: {themes: [Shop/tailwind], themes.adminhtml: [], node: [Shop/tailwind]}"
    )
    settings.write_text(settings.read_text().replace(EXAMPLE, options))
    commit(root)
    return root


THEME = """'frontend/Shop/tailwind' => [
    'parent_id' => 'Shop/base', 'theme_path' => 'Shop/tailwind', 'theme_title' => 'Utilities', 'area' => 'frontend',
    'code' => 'Shop/tailwind',
],
"""


def content(build, name):
    with layers.ensure(build, name).path.open("rb") as file:
        return {
            each.name: b"".join(each.content).decode()
            for each in tar.of_archive(file)
            if each.kind == tar.FILE
        }


@pytest.mark.promise("node-makes-a-theme")
def test_a_theme_is_built_by_npm_and_deployed_with_what_it_made(shop, start):  # noqa: F811
    build = Build(start(shop))
    assert content(build, "node-Shop-tailwind") == {
        f"{FOLDER}/web/css/utilities.css": ".text-leaf{color:#2f6d45}\n"
    }
    deployed = content(build, "static-frontend-Shop-tailwind-en_US")
    assert (
        deployed["pub/static/frontend/Shop/tailwind/en_US/css/utilities.css"] == ".text-leaf{color:#2f6d45}\n"
    )
    assert {"node", "npm"} <= keys.tools(build.run.profile).keys()


def test_a_template_builds_it_again_and_a_class_of_php_does_not(shop, start):  # noqa: F811
    before = Build(start(shop)).keys["node-Shop-tailwind"].key
    (shop / "app/app/code/Shop/Catalog/Added.php").write_text("<?php\n")
    commit(shop)
    assert Build(start(shop)).keys["node-Shop-tailwind"].key == before
    (shop / f"app/{FOLDER}/Shop_Catalog/templates/more.phtml").write_text("text-sand\n")
    commit(shop)
    assert Build(start(shop)).keys["node-Shop-tailwind"].key != before


@pytest.mark.long(
    short="tests/tarball/test_node.py::test_a_theme_is_built_by_npm_and_deployed_with_what_it_made"
)
def test_it_has_the_same_bytes_and_reads_what_it_declares(shop, start):  # noqa: F811
    build = Build(start(shop))
    (node,) = [each for each in verify.verdicts(build, verify.means(build)) if each.declared == "node"]
    assert (node.differing, node.undeclared) == ((), ())


@pytest.mark.promise("no-node-without-a-theme")
def test_a_shop_without_such_a_theme_has_no_such_layer_and_needs_no_node(checkout, start):  # noqa: F811
    run = start(checkout)
    assert not any("node" in each.name for each in run.profile.layers)
    assert keys.tools(run.profile).keys() == {"zstd", "php", "composer"}
