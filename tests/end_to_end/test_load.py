"""Visitors while PHP is busy, and while it is stuck: what needs no PHP is answered all the same."""

from __future__ import annotations

import http.client
import time

import pytest

from tasks.release import phases
from tests.conftest import until
from tests.end_to_end.crowd import NAMED, Crowd, statuses

pytestmark = pytest.mark.end_to_end

PATIENCE = 8
"""Seconds after which a visitor gives up: that answer has failed."""


@pytest.fixture
def crowd(site) -> Crowd:
    """Visitors who want an answer soon."""
    return site.crowd(patience=PATIENCE)


def headers(crowd: Crowd, path: str) -> http.client.HTTPMessage:
    site = phases.Site(crowd.host_name, *crowd.address, phases.Visitor(https=True, tls=crowd.tls))
    connection = site.connection(PATIENCE)
    connection.request("GET", path, headers=site.headers)
    return connection.getresponse().headers


def age(crowd: Crowd, path: str) -> int:
    """Seconds since PHP made the page."""
    return int(headers(crowd, path)["Age"])


def once(crowd: Crowd, path: str) -> bool:
    """Whether a browser is told once what it must not do."""
    told = headers(crowd, path)
    wanted = {"X-Frame-Options": ["SAMEORIGIN"], "X-Content-Type-Options": ["nosniff"]}
    return {name: told.get_all(name) for name in wanted} == wanted


@pytest.mark.promise("parts-and-long-tags")
def test_a_page_with_12_kb_of_tags_is_kept_and_has_the_menu_that_comes_by_itself(site, crowd):
    until(lambda: headers(crowd, "/")["X-Cache"] == "HIT")
    page = site.get()[1]
    assert 'class="store' in page
    assert "esi:include" not in page


@pytest.mark.promise(
    "php-stuck-takes-nothing-else-down", "headers-come-once", "a-page-while-nothing-answers", "limits"
)
def test_pages_of_the_cache_and_files_are_answered_while_php_is_busy_and_while_it_is_stuck(
    site, crowd, tmp_path
):
    files = [each.decode() for each in NAMED.findall(site.get()[1].encode())]
    assert {each.split("/")[1] for each in files} == {"static", "media"}
    assert all(once(crowd, path) for path in ("/", *files, "/checkout/cart/"))
    with crowd.visiting(page=20, asset=20) as seen:
        with crowd.visiting(search=20) as busy:
            time.sleep(3)
        assert list(statuses(busy)["search"]) == [200], statuses(busy)
        assert age(crowd, "/") < 3  # while PHP answers, no page is older
        site.ssh('systemctl kill --signal=STOP "php@*.service"', tmp=tmp_path)
        try:
            with crowd.visiting(cart=100) as stuck:
                time.sleep(7)
                told = site.get("/checkout/cart/?visitor=0")
        finally:
            site.ssh('systemctl kill --signal=CONT "php@*.service"', tmp=tmp_path)
    assert {kind: list(each) for kind, each in statuses(seen).items()} == {"page": [200], "asset": [200]}
    # told at once: a busy machine sends fewer than 700, and no more than the pool's and its queue's are kept waiting
    assert statuses(stuck)["cart"][0] < 100 < statuses(stuck)["cart"][503], statuses(stuck)
    assert (told[0], "will be back in a moment" in told[1]) == (503, True), told

    def served() -> bool:
        with crowd.visiting(search=5) as after:
            time.sleep(1)
        return set(statuses(after)["search"]) == {200}

    until(served)
    with crowd.visiting(search=80, page=5) as eager:
        time.sleep(2)
    assert {kind: set(each) for kind, each in statuses(eager).items()} == {
        "search": {200, 429},
        "page": {200},
    }
    until(served)
