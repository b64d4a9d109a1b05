"""The build: what each command makes, refuses, and makes again to the byte."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from tasks.process import printed

from .conftest import PROFILE, build


def contents(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for folder in ("vendor", "generated", "pub/static")
        for file in (path / folder).rglob("*")
        if file.is_file()
    }


@pytest.mark.long(
    short="tests/tarball/test_stage.py::test_two_clones_at_different_places_give_the_same_bytes"
)
def test_two_builds_in_different_folders_are_the_same_bytes(built, tmp_path):
    again = build(tmp_path / "elsewhere" / "shop")
    first, second = contents(built.path), contents(again.path)
    assert first == second
    assert not [name for name, data in first.items() if str(built.path).encode() in data]


def test_themes_differ_only_in_what_the_child_says(built):
    static = built.path / "pub/static/frontend/Shop"
    base, spring = ((static / theme / "de_DE/css/styles.css").read_text() for theme in ("base", "spring"))
    assert "#3d7a50" in spring
    assert "#3d7a50" not in base
    assert ".products{list-style:none" in base
    assert ".products{list-style:none" in spring
    for name in ("Shop_Catalog/js/page.js", "Shop_Checkout/js/cart.js"):
        assert (static / "base/en_US" / name).read_bytes() == (static / "spring/de_DE" / name).read_bytes()
    assert json.loads((static / "spring/de_DE/js-translation.json").read_text()) == {
        "%1 things in your cart": "%1 Dinge in Ihrem Warenkorb"
    }


@pytest.mark.promise("version-is-in-one-file")
def test_version_is_in_no_file_of_a_theme(source):
    before = contents(source.path)
    source.magento(
        *("setup:static-content:deploy", "-f", "-t", "Shop/spring", "-l", "de_DE", "-l", "en_US"),
        "--content-version=v2",
    )
    changed = {name for name, data in contents(source.path).items() if before[name] != data}
    assert changed == {"pub/static/deployed_version.txt"}


def test_container_makes_what_was_compiled(source):
    factory = source.path / "generated/code/Shop/Catalog/ProductFactory.php"
    assert "function create" in factory.read_text()
    metadata = source.path / "generated/metadata/crontab.php"
    metadata.write_text(
        metadata.read_text().replace("'Shop\\\\Framework\\\\Maintenance' => \n", "'No' => \n")
    )
    refused = source.magento("maintenance:status")
    assert (refused.returncode, refused.stderr) == (
        1,
        "Shop\\Framework\\Maintenance is not compiled: run bin/magento setup:di:compile\n",
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["setup:nonsense"], "bin/magento has no command setup:nonsense: bin/magento list shows what it has"),
        (["setup:db:status"], "app/etc/env.php is missing: this command needs db/connection/default from it"),
        (["cache:flush", "--nonsense"], "unknown option --nonsense"),
        (["setup:static-content:deploy"], "say so with -f"),
        (["setup:static-content:deploy", "-f", "--theme"], "option --theme needs a value"),
        (
            ["setup:static-content:deploy", "-f", "--theme", "Shop/no"],
            "theme Shop/no does not exist (known: Shop/base, Shop/spring)",
        ),
        (["setup:static-content:deploy", "-f", "deutsch"], "deutsch is no language"),
    ],
)
def test_refusal_is_one_sentence(built, words, sentence):
    refused = built.magento(*words)
    assert refused.returncode == 1
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("public function __construct(\\Shop\\No $no) {}", "needs Shop\\No, which does not exist"),
        pytest.param(
            "public function __construct(\\Shop\\Framework\\Cron\\Job $job) {}",
            "is an interface without a preference",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "public function __construct(Broken $self) {}",
            "need each other: Shop\\Catalog\\Broken > Shop\\Catalog\\Broken",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "abstract function nothing();",
            "app/code/Shop/Catalog/Broken.php cannot be loaded: ",
            marks=pytest.mark.long,
        ),
    ],
)
def test_compile_names_the_class_that_cannot_be_made(source, body, sentence):
    (source.path / "app/code/Shop/Catalog/Broken.php").write_text(
        f"<?php\nnamespace Shop\\Catalog;\nfinal class Broken {{ {body} }}\n"
    )
    refused = source.magento("setup:di:compile")
    assert refused.returncode == 1
    assert sentence in refused.stderr


def test_a_new_class_leaves_vendor_as_it_is(source):
    (source.path / "app/code/Shop/Catalog/Added.php").write_text(
        "<?php\nnamespace Shop\\Catalog;\nclass Added {}\n"
    )
    before = contents(source.path)
    command = ["composer", "dump-autoload", "--optimize", "--no-dev", "--quiet"]
    subprocess.run(
        command,
        cwd=source.path,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(source.path.parent), "COMPOSER_ALLOW_SUPERUSER": "1"},
    )
    assert contents(source.path) == before


@pytest.mark.promise("packages-end-in-any-order")
def test_what_composer_writes_has_one_order_however_packages_ended_unpacking(built, source):
    for each in (built, source):
        listed = (each.path / "vendor/composer/installed.php").read_text()
        provided = re.findall(r"\d+ => '(1\.\d\.0)'", listed.partition("console-implementation")[2])
        assert provided == ["1.0.0", "1.1.0", "1.2.0"]


def hotfixes():
    """The command of the profile that applies them."""
    profile = yaml.safe_load((PROFILE / "profile.yml").read_text())
    (found,) = [each for each in profile["layers"][0]["commands"] if "m2-hotfixes" in each[-1]]
    return found


@pytest.mark.promise("hotfixes-are-applied")
def test_hotfixes_are_applied_in_order_and_one_that_does_not_fit_fails(tmp_path):
    (tmp_path / "vendor").mkdir()
    (tmp_path / "m2-hotfixes").mkdir()
    (tmp_path / "vendor" / "text").write_text("one\n")
    assert subprocess.run(hotfixes(), cwd=tmp_path).returncode == 0  # there are none

    def patch(name, before, after, lines="1", also=""):
        told = f"--- a/vendor/text\n+++ b/vendor/text\n@@ -{lines} +{lines} @@\n-{before}\n+{after}\n{also}"
        (tmp_path / "m2-hotfixes" / name).write_text(told)

    patch("b.patch", "two", "three")
    patch("a.patch", "one", "two")
    assert subprocess.run(hotfixes(), cwd=tmp_path, capture_output=True).returncode == 0
    assert (tmp_path / "vendor" / "text").read_text() == "three\n"
    patch("a.patch", "three", "four")
    patch("b.patch", "other", "five", also="@@ -9 +9 @@\n-more\n+less\n")
    refused = subprocess.run(hotfixes(), cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1
    assert printed.reason(refused.stdout, 4) == [
        "@@ -1 +1 @@",
        "-other",
        "+five",
        "m2-hotfixes/b.patch does not apply: the first hunk that was rejected is above",
    ]
    left = [each.name for each in (tmp_path / "vendor").iterdir()]
    assert left == ["text"]
    (tmp_path / "vendor" / "text").write_text("two\n")  # the first one does not fit, and the second one would
    patch("a.patch", "other", "five")
    patch("b.patch", "two", "three")
    assert subprocess.run(hotfixes(), cwd=tmp_path, capture_output=True).returncode == 1
    assert (tmp_path / "vendor" / "text").read_text() == "two\n"
    assert [each.name for each in (tmp_path / "vendor").glob("text.orig")] == []


def test_the_hotfix_of_the_example_mends_its_package(built):
    one = built.path / "pub/static/frontend/Shop/spring/en_US"
    found = json.loads((one / "sri-hashes.json").read_text())
    of_one = [each for each in found if each.startswith("frontend/Shop/spring/")]
    assert of_one == sorted(of_one)
    assert "frontend/Shop/spring/en_US/css/styles.css" in found


def test_the_digests_of_all_themes_and_languages_are_in_one_file(built):
    static = built.path / "pub" / "static"
    found = json.loads((static / "frontend" / "sri-hashes.json").read_text())
    files = {
        each.relative_to(static).as_posix()
        for each in (static / "frontend").rglob("*")
        if each.is_file() and each.name != "sri-hashes.json"
    }
    assert found.keys() == files
    assert {each.split("/")[2] for each in files} == {"base", "spring"}
