"""An empty database, and what the shop writes into its own configuration: as unkind as Magento."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tasks import administrator
from tests.app.conftest import PASSWORD, SECRET

pytestmark = pytest.mark.services

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def configure(app, text):
    (app.path / "app/etc/env.php").write_text(text)


def test_an_empty_database_has_no_status_and_cannot_be_upgraded(empty, render):
    configure(empty, render("env.php.j2"))
    assert empty.magento("setup:db:status").returncode == 1
    assert empty.magento("app:config:status").returncode == 255
    upgraded = empty.magento("setup:upgrade", "--keep-generated")
    assert (upgraded.returncode, upgraded.stderr) == (
        1,
        "the table setup_module does not exist: run setup:install\n",
    )


def test_an_installation_does_not_begin_where_the_configuration_names_a_database(empty, render):
    configure(empty, render("env.php.j2"))
    refused = empty.php(render("install.php.j2"))
    assert refused.returncode == 1
    assert "setup:install writes that file itself" in refused.stderr


def test_an_installation_does_not_begin_without_a_search_engine(empty, render, services):
    services.stop("search")
    try:
        refused = empty.php(render("install.php.j2"))
        assert refused.returncode == 1
        assert "the search engine at 127.0.0.1" in refused.stderr
    finally:
        services.search()


@pytest.mark.promise("only-an-empty-database-is-installed-into")
def test_the_question_tells_an_empty_database_from_a_shop_and_from_half_of_one(empty, render, services):
    configure(empty, render("env.php.j2"))
    assert empty.php(render("empty.php.j2")).returncode == 4
    services.sql("CREATE TABLE shop.catalog_product (id INT)")
    half = empty.php(render("empty.php.j2"))
    assert (half.returncode, half.stderr.startswith("the database has tables, and no administrator")) == (
        1,
        True,
    )
    services.sql("CREATE TABLE shop.admin_user (user_id INT); INSERT INTO shop.admin_user VALUES (1)")
    assert empty.php(render("empty.php.j2")).returncode == 0


def test_a_database_that_does_not_answer_is_not_taken_for_an_empty_one(empty, render):
    configure(empty, render("env.php.j2").replace("db.sock", "nowhere.sock"))
    assert empty.php(render("empty.php.j2")).returncode not in (0, 4)


def test_a_second_installation_goes_on_where_the_first_one_ended(empty, render, services):
    assert empty.php(render("install.php.j2")).returncode == 0
    (empty.path / "app/etc/env.php").unlink()
    services.sql("DELETE FROM shop.admin_user")
    again = empty.php(render("install.php.j2"))
    assert again.returncode == 0, again.stderr
    assert services.sql("SELECT username FROM shop.admin_user") == "admin"


@pytest.mark.promise("the-administrator-signs-in")
def test_the_administrator_signs_in_with_password_and_code(shop):
    def sign_in(**form):
        known = {"user": "admin", "password": PASSWORD, "code": administrator.code(SECRET, time.time())}
        return shop.get("/admin", "POST", urlencode({**known, **form}), **FORM)

    assert shop.get("/admin")[0].status == 200
    answer, page = sign_in()
    assert (answer.status, "Dashboard" in page) == (200, True)
    assert [sign_in(**wrong)[0].status for wrong in ({"password": "x"}, {"code": "x"}, {"user": "x"})] == [
        401
    ] * 3


def test_a_shop_that_has_the_second_factor_off_gets_none(shop, render):
    file = shop.path / "app/etc/config.php"
    file.write_text(
        file.read_text().replace("'modules' => [", "'modules' => ['Magento_TwoFactorAuth' => 0,", 1)
    )
    asked = render("second_factor.php.j2").replace("require 'bin/magento'", "exit(9)")
    assert shop.php(asked).returncode == 0
    file.write_text(
        file.read_text().replace("'Magento_TwoFactorAuth' => 0", "'Magento_TwoFactorAuth' => 1", 1)
    )
    assert shop.php(asked).returncode == 9


def secrets_seen():
    """Which of the two secrets a process list shows."""
    lists = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lists.append(path.read_bytes())
        except OSError:
            continue
    return [each for each in (PASSWORD, SECRET) if any(each.encode() in shown for shown in lists)]


@pytest.mark.promise("passwords-are-no-arguments")
def test_no_process_list_shows_what_an_installation_is_told(empty, render):
    script = render("install.php.j2").replace("require 'bin/magento';", "sleep(9);")
    with subprocess.Popen(["php", "/dev/stdin"], cwd=empty.path, stdin=subprocess.PIPE, text=True) as child:
        child.stdin.write(script)
        child.stdin.close()
        try:
            assert secrets_seen() == []
        finally:
            child.kill()


def test_a_request_of_graphql_and_an_upgrade_write_a_salt_where_there_is_none(shop):
    file = shop.path / "app/etc/env.php"
    given = file.read_text()
    unsalted = re.sub(r" *'graphql' => .*\n", "", given)
    assert unsalted != given
    for ask in (lambda: shop.get("/graphql"), lambda: shop.magento("setup:upgrade", "--keep-generated")):
        file.write_text(unsalted)
        ask()
        assert "id_salt" in file.read_text()
        assert "$prefix" not in file.read_text()  # what was computed is frozen


@pytest.mark.promise("the-template-says-all")
def test_nothing_is_written_into_a_configuration_that_says_all(shop):
    file = shop.path / "app/etc/env.php"
    given = file.read_text()
    assert shop.get("/graphql")[0].status == 200
    assert shop.magento("setup:upgrade", "--keep-generated").returncode == 0
    assert shop.magento("app:config:import").returncode == 0
    assert file.read_text() == given


@pytest.mark.promise("what-is-written-is-named")
def test_what_a_command_has_written_is_named_without_its_value(shop, render):
    file = shop.path / "app/etc/env.php"
    shared = shop.path / "shared/app/etc/env.php"
    shared.parent.mkdir(parents=True)
    shared.write_text(re.sub(r" *'graphql' => .*\n", "", file.read_text()))
    asked = render("written.php.j2", application_path=shop.path)
    file.write_text(shared.read_text())
    assert shop.php(asked).stdout == ""
    shop.magento("setup:upgrade", "--keep-generated")
    assert shop.php(asked).stdout == "app/etc/env.php: cache/graphql/id_salt\n"
