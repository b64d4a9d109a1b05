"""Visitors of every kind while releases go by: none of them notices."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import pytest

from tests.conftest import commit, until
from tests.end_to_end.conftest import Site, replace
from tests.end_to_end.crowd import CLOSED, Crowd

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("rollback")]

RATES = {"page": 50, "asset": 80, "cart": 5, "search": 5}
"""Requests in a second. Two cores have to bear them beside a release."""
SEARCH, STYLE = "app/app/code/Shop/Catalog/Controller/Search.php", "app/app/design/frontend/Shop/spring/web/css/source/_extend.less"
WAITS = """$until = hrtime(true) + (int) (1e9 * (float) ($request->query['seconds'] ?? 0.3));
        while (hrtime(true) < $until) { // a signal ends a sleep early
            usleep(20_000);
        }"""


@dataclass(frozen=True, kw_only=True)
class Released:
    """One release: when its own phases began and ended, by the monotonic clock; `command`: seconds of the whole command."""

    begun: float
    ended: float
    command: float


def release(site: Site, *words: str) -> Released:
    """Release what is committed."""
    begun = time.monotonic()
    answered = site.doit(*(words or ("release",)))
    ended = time.monotonic()
    assert answered.returncode == 0, answered.stdout + answered.stderr
    seconds = re.search(r"^release +done .* ([\d.]+) s$", answered.stdout, re.M)
    return Released(begun=ended - float(seconds[1]) if seconds else begun, ended=ended, command=ended - begun)


def change(site: Site, number: int) -> None:
    """Another style sheet and another page."""
    style = site.root / STYLE
    style.write_text(f"{style.read_text()}\n.release-{number} {{ order: {number}; }}\n")
    commit(site.root, f"release {number}")


@pytest.fixture
def crowd(site):
    """Visitors of the shop, one of whom always waits for a page of 20 s, which ends in the release in which it began."""
    search = site.root / SEARCH
    if "usleep(self::MICROSECONDS);" in search.read_text():
        replace(search, {"usleep(self::MICROSECONDS);": WAITS})
        commit(site.root, "a search that takes as long as it is asked to")
        release(site)
    return Crowd(
        (site.host.address, 80),
        site.run.host_name,
        pages=("/", "/en_usd/", "/spring-mug.html"),
        long="/catalogsearch/result/?q=mug&seconds=20",
    )


@pytest.mark.parametrize(
    "times",
    [2, pytest.param(10, marks=pytest.mark.long(short="tests/end_to_end/test_visitors.py::test_releases_of_code_lose_no_visitor[2]"))],
)
@pytest.mark.promise("no-visitor-notices")
def test_releases_of_code_lose_no_visitor(site, crowd, times):
    until(lambda: site.get()[0] == 200)
    with crowd.visiting(**RATES):
        time.sleep(5)
    alone, crowd.visits = crowd.slowest(), []
    releases = []
    with crowd.visiting(**RATES):
        for number in range(times):
            change(site, number)
            releases.append(release(site))
        time.sleep(2)
    inside = [len(crowd.during(each.begun, each.ended)) for each in releases]
    told = {
        "requests": len(crowd.visits),
        "failed": len(crowd.failures()),
        "closed": sum(each.says == CLOSED for each in crowd.visits),
        "inside phases": inside,
        "phases": [round(each.ended - each.begun, 1) for each in releases],
        "commands": [round(each.command, 1) for each in releases],
        "slowest": (round(crowd.slowest(), 2), round(alone, 2)),
    }
    print(told)  # noqa: T201  for who runs it alone
    assert crowd.failures() == [], (told, crowd.failures()[:5])
    assert told["closed"] == 0, told
    assert len(crowd.assets) > times, told
