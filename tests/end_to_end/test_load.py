"""Visitors while PHP is busy, and while it is stuck: what needs no PHP is answered all the same."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import http.client
import itertools
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import until

pytestmark = pytest.mark.end_to_end

PATIENCE = 8
"""Seconds after which a visitor gives up: that answer has failed."""
MEDIA = "/media/catalog/product/mug-spring.svg"


async def ask(address: tuple[str, int], name: str, path: str) -> int:
    """The status of an answer that came whole; 0 for none."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*address)
            with contextlib.closing(writer):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                whole = len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")
                return int(head.split(maxsplit=2)[1]) if whole else 0
    except (OSError, TimeoutError, IndexError):
        return 0


class Crowd:
    """Visitors who do not wait for each other."""

    def __init__(self, site) -> None:
        self.address = (site.host.address, 80)
        self.name = site.run.host_name
        self.words = itertools.count(time.monotonic_ns())
        page = site.get()[1]
        style = re.search(r'href="(/static/[^"]+\.css)"', page)
        assert style, page
        self.paths = {"page": ["/", "/en_usd/", "/spring-mug.html"], "file": [style[1], MEDIA]}

    def come(self, *, seconds: float, **rates: int) -> dict[str, collections.Counter[int]]:
        """So many of each kind in every second; how they were answered."""
        return asyncio.run(self._come(seconds, rates))

    async def _come(self, seconds: float, rates: dict[str, int]) -> dict[str, collections.Counter[int]]:
        arrivals = sorted(
            (number / rate, kind, number)
            for kind, rate in rates.items()
            for number in range(round(rate * seconds))
        )
        begun, asked = asyncio.get_running_loop().time(), []
        for at, kind, number in arrivals:
            await asyncio.sleep(max(0, begun + at - asyncio.get_running_loop().time()))
            asked.append((kind, asyncio.ensure_future(ask(self.address, self.name, self.path(kind, number)))))
        seen: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
        for kind, answer in asked:
            seen[kind][await answer] += 1
        return seen

    def path(self, kind: str, number: int) -> str:
        """A page or a file that many ask for; or a page that nobody has asked for yet, and that takes its time."""
        if kind == "search":
            return f"/catalogsearch/result/?q=mug{next(self.words)}"
        return self.paths[kind][number % len(self.paths[kind])]


def headers(crowd: Crowd, path: str) -> http.client.HTTPMessage:
    connection = http.client.HTTPConnection(*crowd.address, timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": crowd.name})
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
def test_a_page_with_12_kb_of_tags_is_kept_and_has_the_menu_that_comes_by_itself(site):
    until(lambda: headers(Crowd(site), "/")["X-Cache"] == "HIT")
    page = site.get()[1]
    assert 'class="store' in page
    assert "esi:include" not in page


@pytest.mark.promise("php-stuck-takes-nothing-else-down", "headers-come-once")
def test_pages_of_the_cache_and_files_are_answered_while_php_is_busy_and_while_it_is_stuck(site, tmp_path):
    crowd = Crowd(site)
    assert all(once(crowd, path) for path in ("/", *crowd.paths["file"], "/checkout/cart/"))
    with ThreadPoolExecutor() as pool:
        before = pool.submit(crowd.come, seconds=12, page=20, file=20)
        busy = crowd.come(seconds=3, search=20)
        assert list(busy["search"]) == [200], busy
        assert age(crowd, "/") < 3  # while PHP answers, no page is older
        site.ssh('systemctl kill --signal=STOP "php@*.service"', tmp=tmp_path)
        try:
            stuck = crowd.come(seconds=7, search=100)
        finally:
            site.ssh('systemctl kill --signal=CONT "php@*.service"', tmp=tmp_path)
        seen = before.result()
    assert [list(seen[kind]) for kind in ("page", "file")] == [[200], [200]], seen
    assert stuck["search"][503] > 600, stuck  # told at once, not kept waiting
    until(lambda: set(crowd.come(seconds=1, search=5)["search"]) == {200})
