"""Which versions fit: read from the lock file and the profile's table, and refused before anything is built."""

from __future__ import annotations

import json

import pytest

from tasks import settings
from tasks.tarball import compatibility
from tasks.tarball import stage as tarball
from tasks.tarball.build.layers import Build
from tasks.tarball.compatibility import Table, VersionsDoNotFit
from tests.cloud.embedded.conftest import server  # noqa: F401  (a fixture)
from tests.conftest import ROOT, commit
from tests.tarball.test_stage import start  # noqa: F401  (a fixture)

PACKAGE = "magento/product-community-edition"


@pytest.fixture
def locked(checkout, start):  # noqa: F811
    """A function that locks packages, writes settings, and starts a run."""

    def wrote(packages, php="8.2", search=""):
        about = {"packages": [{"name": name, "version": version} for name, version in packages.items()]}
        (checkout / "app" / "composer.lock").write_text(json.dumps(about))
        path = checkout / "environments" / "testing.yml"
        said = path.read_text().partition("\nserver:")[0]
        path.write_text(f'{said}\nserver:\n  php: {{version: "{php}"}}\n  search: {{version: "{search}"}}\n')
        commit(checkout, "again")
        return start(checkout)

    return wrote


@pytest.mark.parametrize(
    ("version", "php", "refused", "remedy"),
    [
        ("2.4.7-p3", "8.2", "mariadb 10.2, 10.3, 10.4, 10.5, 10.6, and there is 10.11 (by the role mariadb)", ":2.4.7-p7 &&"),
        ("2.4.7", "8.2", "mariadb 10.2, ", ":2.4.7-p7 &&"),
        ("v2.4.6", "8.2", "mariadb 10.2, ", ":2.4.7-p7 &&"),
        ("2.4.5-p3", "8.1", "mariadb 10.2, ", ":2.4.7-p7 &&"),
        ("2.4.8-p3", "8.3", "mariadb 10.2, ", "versions.yml"),
        ("2.4.7-p7", "8.4", "php 8.1, 8.2, 8.3, and there is 8.4 (server.php.version of testing)", ":2.4.8 &&"),
        ("2.4.8-p4", "8.1", "php 8.2, 8.3, 8.4, and there is 8.1", "$EDITOR environments/testing.yml"),
        ("2.4.7-p7", "8.2", "", ""),
        ("2.4.7-p20", "8.3", "", ""),
        ("2.4.7-p4", "8.2", "", ""),  # not known
        ("2.4.8-p4", "8.3", "", ""),
        ("2.4.7-beta1", "8.2", "", ""),  # of 2.4.6's last line
        ("2.5.0", "9.0", "", ""),
        ("2.3.7", "7.4", "", ""),
        ("dev-main", "8.2", "", ""),
    ],
)  # fmt: skip
@pytest.mark.promise("versions-that-do-not-fit-are-refused")
def test_a_version_is_held_against_what_there_is(locked, version, php, refused, remedy):
    run = locked({PACKAGE: version}, php=php)
    if not refused:
        assert compatibility.accept(run)
        return
    with pytest.raises(VersionsDoNotFit) as caught:
        compatibility.accept(run)
    assert f"{PACKAGE} {version} works with {refused}" in caught.value.text
    assert remedy in caught.value.text


@pytest.mark.parametrize(
    ("version", "search", "wanted"),
    [("2.4.7-p7", "3.1", "2"), ("2.4.7-p7", "2.19", ""), ("2.4.7-p7", "", ""), ("2.4.8-p4", "3.1", "")],
)
@pytest.mark.promise("versions-that-do-not-fit-are-refused")
def test_the_search_engine_s_version_counts_where_a_setting_says_it(locked, version, search, wanted):
    run = locked({PACKAGE: version}, search=search)
    if not wanted:
        assert ("opensearch" in compatibility.accept(run)) == bool(search)
        return
    with pytest.raises(VersionsDoNotFit) as caught:
        compatibility.accept(run)
    assert (
        f"works with opensearch {wanted}, and there is {search} (server.search.version of"
        in caught.value.text
    )


@pytest.mark.promise("versions-that-do-not-fit-are-refused")
def test_nothing_is_built_of_what_does_not_fit(locked):
    with pytest.raises(VersionsDoNotFit):
        tarball.pack(Build(locked({PACKAGE: "2.4.7-p3"})))


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        ({"magento/magento2-base": "2.4.7-p7"}, "magento/magento2-base 2.4.7-p7 works with php 8.2, mariadb 10.11, composer 2."),
        ({PACKAGE: "2.4.7-p7", "magento/product-enterprise-edition": "2.4.7-p8"}, "magento/product-enterprise-edition 2.4.7-p8 works"),
        ({"shop/framework": "1.0.0"}, "composer.lock names nothing that versions.yml knows"),
    ],
)  # fmt: skip
def test_the_package_that_counts_is_the_first_that_is_there(locked, packages, said):
    assert compatibility.accept(locked(packages)).startswith(said)


@pytest.mark.parametrize("lacks", ["the table", "a lock file"])
def test_a_profile_without_a_table_or_a_lock_file_knows_nothing(locked, checkout, lacks):
    folder = checkout / "applications" / "magento2"
    if lacks == "the table":
        (folder / "versions.yml").unlink()
    else:
        profile = folder / "profile.yml"
        profile.write_text(profile.read_text().replace("sbom: composer.lock", "sbom: ''"))
    said = "the profile magento2 has no versions.yml, or names no lock file"
    assert compatibility.accept(locked({PACKAGE: "2.4.7-p3"})) == said


def test_the_table_s_lines_are_in_order_and_name_what_there_is():
    table = settings.read(Table, ROOT / "applications" / "magento2" / "versions.yml", ROOT).said
    orders = [compatibility.order(each.since) for each in table.wanted]
    assert None not in orders
    assert orders == sorted(set(orders))
    services = {name for each in table.wanted for name in each.works_with}
    assert services - {"elasticsearch"} == set(table.there)  # no role installs a search engine yet
