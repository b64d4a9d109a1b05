"""The shop on real services: pages, carts, health, migrations, maintenance."""

from __future__ import annotations

import json

import pytest

from tests.conftest import until

pytestmark = pytest.mark.services

PATCH = """<?php
namespace Shop\\Catalog\\Setup\\Patch\\Schema;
final class AddWeight implements \\Shop\\Framework\\Setup\\Patch {
    public function __construct(private readonly \\Shop\\Framework\\Connection $connection) {}
    public static function getDependencies(): array { return [AddQuantity::class]; }
    public function apply(): void { $this->connection->rows('ALTER TABLE catalog_product ADD COLUMN weight INT'); }
}
"""


def upgrade(shop):
    done = shop.magento("setup:upgrade", "--keep-generated")
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(shop):
    """Whether database and configuration are behind."""
    return shop.magento("setup:db:status").returncode, shop.magento("app:config:status").returncode


@pytest.mark.promise("migrations-run-once")
def test_upgrade_is_due_once(shop):
    assert status(shop) == (0, 0)
    assert "applied" not in upgrade(shop)
    (shop.path / "app/code/Shop/Catalog/Setup/Patch/Schema/AddWeight.php").write_text(PATCH)
    assert shop.magento("setup:di:compile").returncode == 0
    assert status(shop) == (2, 0)
    assert "applied Shop\\Catalog\\Setup\\Patch\\Schema\\AddWeight" in upgrade(shop)
    assert status(shop) == (0, 0)
    environment = shop.path / "app/etc/env.php"
    environment.write_text(environment.read_text().replace("http://localhost/", "http://other/"))
    assert status(shop) == (0, 2)
    assert shop.magento("app:config:import").returncode == 0
    assert status(shop) == (0, 0)


@pytest.mark.promise("a-price-shows")
def test_pages_show_what_mariadb_has(shop):
    upgrade(shop)
    answer, page = shop.get("/")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, max-age=0, s-maxage=1")
    assert "Set-Cookie" not in answer.headers
    assert "€14.90" in page
    assert "/static/versionv1/frontend/Shop/spring/en_US/css/styles.css" in page
    shop.services.sql("UPDATE shop.catalog_product SET price = 77.77 WHERE sku = 'mug-spring'")
    assert "€77.77" in shop.get("/")[1]
    german = shop.get("/de/spring-mug.html")[1]
    assert "Frühlingsbecher" in german
    assert "77,77\u00a0€" in german
    assert shop.get("/media/catalog/product/mug-spring.svg")[0].status == 200
    assert shop.get("/no-such-mug.html")[0].status == 404


@pytest.mark.promise("a-host-name-shows-its-store")
def test_a_store_and_a_website_are_shown_under_host_names_of_their_own(variables, request):
    variables["application_stores"] = [
        {"host_name": "de.localhost", "base_url": "http://de.localhost/", "code": "de", "type": "store"},
        {"host_name": "us.localhost", "base_url": "http://us.localhost:81/", "code": "overseas", "type": "website"},
    ]  # fmt: skip
    shop = request.getfixturevalue("shop")
    german = {"Host": "de.localhost", "Test-Run-Code": "de"}
    answer, page = shop.get("/spring-mug.html", **german)
    assert (answer.status, "Frühlingsbecher" in page, 'href="/"' in page) == (200, True, True)
    stores = shop.get("/page_cache/block/esi/menu/", **german)[1]
    assert 'href="http://localhost/"' in stores
    assert 'href="http://us.localhost:81/"' in stores
    overseas = {"Host": "us.localhost:81", "Test-Run-Code": "overseas", "Test-Run-Type": "website"}
    assert "$14.90" in shop.get("/", **overseas)[1]
    assert "€14.90" in shop.get("/")[1]
    # as Magento does: who comes by another name is sent to the store's own
    for path, name, to in (
        ("/x", "de.localhost", "http://localhost/x"),
        ("/de/x", "localhost", "http://de.localhost/x"),
    ):
        answer, _ = shop.get(path, Host=name)
        assert (answer.status, answer.headers["Location"]) == (302, to)
    assert shop.get("/", Host="de.localhost", **{"Test-Run-Code": "none"})[0].status == 404


@pytest.mark.promise("urls-are-https")
def test_a_shop_whose_address_is_https_shows_no_page_without_tls_and_marks_its_cookies(variables, request):
    variables["application_base_url"] = "https://localhost/"
    shop = request.getfixturevalue("shop")
    answer, _ = shop.get("/spring-mug.html")
    assert (answer.status, answer.headers["Location"]) == (302, "https://localhost/spring-mug.html")
    assert shop.get("/health_check.php")[0].status == 200
    answer, _ = shop.get(
        "/checkout/cart/add",
        "POST",
        "sku=mug-spring",
        **{"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-Proto": "https"},
    )
    cookies = answer.headers.get_all("Set-Cookie")
    assert cookies
    assert all("; secure" in each.lower() for each in cookies)
    assert shop.get("/", **{"X-Forwarded-Proto": "https"})[0].status == 200


def test_no_page_is_answered_until_a_changed_configuration_is_imported(shop):
    file = shop.path / "app/etc/env.php"
    file.write_text(file.read_text().replace("'use_rewrites' => '1'", "'use_rewrites' => '0'"))
    assert shop.get("/")[0].status == 500
    assert shop.get("/health_check.php")[0].status == 200  # Magento's sees nothing of it either
    assert shop.magento("app:config:import").returncode == 0
    assert shop.get("/")[0].status == 200


@pytest.mark.promise("carts-are-private")
def test_cart_is_the_visitors_own(shop):
    upgrade(shop)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer, _ = shop.get("/checkout/cart/add", "POST", "sku=mug-spring", **form)
    assert answer.status == 303
    cookies = "; ".join(line.split(";")[0] for line in answer.headers.get_all("Set-Cookie"))
    answer, cart = shop.get("/checkout/cart/", Cookie=cookies)
    assert "Spring Mug" in cart
    assert "private" in answer.headers["Cache-Control"]
    assert '"count": 1' in shop.get("/checkout/cart/summary", Cookie=cookies)[1]
    assert "Your cart is empty" in shop.get("/checkout/cart/")[1]
    assert shop.get("/checkout/cart/add")[0].status == 404
    assert shop.get("/checkout/cart/add", "POST", "sku=nothing", **form)[0].status == 404


@pytest.mark.promise("test-data-where-wanted")
def test_test_data_only_where_it_is_wanted(shop):
    shop.services.sql("DELETE FROM shop.catalog_product")
    environment = shop.path / "app/etc/env.php"
    environment.write_text(environment.read_text().replace("'test_data' => true", "'test_data' => false"))
    assert "sample data" not in upgrade(shop)
    assert "Nothing is for sale yet." in shop.get("/")[1]
    assert shop.magento("sampledata:deploy").stdout == "sample data: 9 products added\n"
    assert "Nothing is for sale yet." in shop.get("/")[1]  # the index is not told
    assert shop.magento("cron:run").returncode == 0
    until(lambda: "Spring Mug" in shop.get("/")[1])  # the index is a background process's
    shop.services.sql("UPDATE shop.catalog_product SET price = 77.77 WHERE sku = 'mug-spring'")
    assert shop.magento("sampledata:deploy").stdout == "sample data: 0 products added\n"
    assert "€77.77" in shop.get("/")[1]


@pytest.mark.promise("health-in-maintenance")
def test_maintenance_closes_the_shop_but_not_its_health_check(shop):
    upgrade(shop)
    shop.magento("maintenance:enable")
    answer, _ = shop.get("/")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "120")
    assert shop.get("/health_check.php")[0].status == 200
    assert "is active" in shop.magento("maintenance:status").stdout
    shop.magento("maintenance:enable", "--ip=127.0.0.1")
    assert shop.get("/")[0].status == 200
    shop.magento("maintenance:disable")
    assert "not active" in shop.magento("maintenance:status").stdout


@pytest.mark.parametrize(
    ("service", "failing"), [("mariadb", ["database"]), ("cache", ["cache"]), ("sessions", ["session"])]
)
@pytest.mark.promise("health-names-what-fails")
def test_health_check_names_what_is_down(shop, service, failing):
    answer, _ = shop.get("/health_check.php")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    shop.services.stop(service)
    try:
        answer, body = shop.get("/health_check.php")
        assert answer.status == 503
        assert all(f'"{name}"' in body.split("failing", 2)[2] for name in failing)
    finally:
        getattr(shop.services, service)()


def test_housekeeping(shop):
    upgrade(shop)
    messages = {"file": "now"}, {"file": "no/folder"}
    for each in map(json.dumps, messages):
        shop.services.sql(
            f"INSERT INTO shop.queue_message (topic_name, body) VALUES ('exportProcessor', '{each}')"
        )
    (shop.path / "var/export").mkdir(parents=True)
    log = shop.path / "var/log"
    assert shop.magento("cron:run").returncode == 0
    assert "catalog_stock: 9 products, 1 sold out" in (log / "cron.log").read_text()
    until(lambda: "reindex_all_invalid: the index is up to date" in (log / "cron.log").read_text())
    until((log / "system.log").exists)
    assert "message has been rejected" in (log / "system.log").read_text()
    assert len((shop.path / "var/export/now.csv").read_text().splitlines()) == 9
    (log / "system.log").unlink()
    shop.get("/")
    flushed = shop.magento("cache:flush")
    assert (flushed.returncode, flushed.stdout) == (0, "Flushed cache: redis, pages\n")
    assert "was not purged" in flushed.stderr
    shop.services.stop("cache")
    try:
        assert "€14.90" in shop.get("/")[1]
        assert shop.magento("cache:flush").returncode == 1
    finally:
        shop.services.cache()
