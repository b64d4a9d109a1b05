"""Visitors of every kind while releases go by: none of them notices."""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tasks.release import history
from tests.conftest import commit, until
from tests.end_to_end.conftest import Site, replace
from tests.end_to_end.crowd import CLOSED, Crowd
from tests.end_to_end.test_rollback import DUE, _released, go_live, migration  # noqa: F401  (fixtures)

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("ledger")]

RATES = {"page": 80, "asset": 130, "cart": 5, "search": 5}
"""Requests in a second. Two cores have to bear them beside a release."""
FEW = {"page": 10, "asset": 10, "cart": 1, "search": 1}
SEARCH, STYLE = (
    "app/app/code/Shop/Catalog/Controller/Search.php",
    "app/app/design/frontend/Shop/spring/web/css/source/_extend.less",
)
PATCHES = "app/code/Shop/Catalog/Setup/Patch/Schema"
MIGRATES = 5
"""Seconds that a migration takes."""
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


CHANGES = itertools.count(1000)
"""Numbers of changes that no test makes."""


def change(site: Site, number: int) -> None:
    """Another style sheet and another page."""
    style = site.root / STYLE
    style.write_text(f"{style.read_text()}\n.release-{number} {{ order: {number}; }}\n")
    commit(site.root, f"release {number}")


def version(site: Site) -> str:
    """That of the static files which the front page names."""
    return re.search(r"/static/version([\w-]+)/", site.get()[1])[1]


def shown(site: Site, wanted: str) -> float:
    """When visitors have that version, by the monotonic clock."""
    until(lambda: version(site) == wanted)
    return time.monotonic()


@pytest.fixture
def crowd(site):
    """Visitors of the shop, one of whom always waits for a page of 20 s, which ends in the release in which it began. No test's own release is live."""
    search = site.root / SEARCH
    if "usleep(self::MICROSECONDS);" in search.read_text():
        replace(search, {"usleep(self::MICROSECONDS);": WAITS})
        commit(site.root, "a search that takes as long as it is asked to")
    change(site, next(CHANGES))  # what a test has undone goes no further
    release(site)
    return site.crowd(long="/catalogsearch/result/?q=mug&seconds=20")


def told(crowd: Crowd, alone: float, releases: list[Released]) -> dict[str, object]:
    """Figures, for who runs a test with `-s`, and for who reads why it failed."""
    figures = {
        "requests": len(crowd.visits),
        "failed": len(crowd.failures()),
        "closed": sum(each.says == CLOSED for each in crowd.visits),
        "answered inside the phases": [len(crowd.during(each.begun, each.ended)) for each in releases],
        "seconds of the phases": [round(each.ended - each.begun, 1) for each in releases],
        "seconds of the commands": [round(each.command, 1) for each in releases],
        "slowest answer": round(crowd.slowest(), 2),
        "without a release": round(alone, 2),
    }
    sys.stdout.write(f"{figures}\n")
    return figures


def alone(crowd: Crowd) -> float:
    """Seconds of the slowest answer while nothing is released."""
    with crowd.visiting(**RATES):
        time.sleep(8)
    slowest, crowd.visits = crowd.slowest(), []
    return slowest


@pytest.mark.long(short="tests/end_to_end/test_rollback.py::test_a_release_of_other_code_drops_no_request")
def test_ten_releases_of_code_lose_no_visitor(site, crowd):
    before, releases = alone(crowd), []
    enough = time.monotonic() + 60  # a quick machine releases more often, until ten thousand have come
    with crowd.visiting(**RATES):
        while len(releases) < 10 or time.monotonic() < enough:
            change(site, len(releases))
            releases.append(release(site))
        time.sleep(2)
    figures = told(crowd, before, releases)
    assert crowd.failures() == [], (figures, crowd.failures()[:5])
    assert figures["closed"] == 0, figures
    assert len(crowd.visits) > 10_000, figures
    for each in releases:  # 300, or as many as come in phases that take less than two seconds
        wanted = min(300, 150 * (each.ended - each.begun))
        assert len(crowd.during(each.begun, each.ended)) >= wanted, figures
    assert len({path for path in crowd.assets if path.endswith("/styles.css")}) >= 10, figures


@pytest.mark.long(
    short="tests/end_to_end/test_rollback.py::test_a_rollback_shows_the_page_before_and_drops_no_request"
)
def test_a_rollback_loses_no_visitor(site, crowd):
    before = alone(crowd)
    for number, rates in enumerate((FEW, RATES), 100):
        former = version(site)
        change(site, number)
        release(site)
        assert version(site) != former
        with crowd.visiting(**rates), ThreadPoolExecutor(1) as looking:
            begun = time.monotonic()
            seen = looking.submit(shown, site, former)
            back = release(site, "rollback")
            seconds = seen.result() - begun
            time.sleep(5)
        figures = told(crowd, before, [back])
        sys.stdout.write(f"{rates}: visitors have the release before {seconds:.1f} s after the command\n")
        assert crowd.failures() == [], (figures, crowd.failures()[:5])
        assert figures["closed"] == 0, figures


@pytest.mark.long(
    short="tests/end_to_end/test_php.py::test_an_application_is_released_unchanged_changed_migrated_and_torn_down"
)
def test_a_migration_closes_the_shop_for_its_own_length(site, crowd, go_live):  # noqa: F811
    go_live("before")
    before = alone(crowd)
    with crowd.visiting(**RATES):
        time.sleep(1)
        begun = time.monotonic()
        go_live("after", commands=migration(due=DUE, run=["sleep", f"{MIGRATES}"]))
        done = Released(begun=begun, ended=time.monotonic(), command=0)
        time.sleep(2)
    figures = told(crowd, before, [done])
    assert crowd.failures() == [], (figures, crowd.failures()[:5])
    closed = [each.ended for each in crowd.visits if each.says == CLOSED]
    assert closed, figures
    assert max(closed) - min(closed) < MIGRATES + 1, (max(closed) - min(closed), figures)


@pytest.mark.long(
    short="tests/end_to_end/test_php.py::test_an_application_is_released_unchanged_changed_migrated_and_torn_down"
)
def test_an_online_migration_loses_no_visitor_and_code_goes_back_after_it(site, crowd):
    patches = site.root / "app" / PATCHES
    text = (patches / "AddQuantity.php").read_text()
    for word, other in {
        "AddQuantity": "AddWeight",
        "quantity INT": "weight INT",
        "DEFAULT 100');": f"DEFAULT 100');\n        $this->connection->rows('SELECT SLEEP({MIGRATES})');",
    }.items():
        assert word in text
        text = text.replace(word, other)
    (patches / "AddWeight.php").write_text(text)
    declared = f"{hashlib.sha256(text.encode()).hexdigest()}  {PATCHES}/AddWeight.php\n"
    (site.root / "app/online_migrations.sha256").write_text(declared)
    commit(site.root, "a weight, with which the code before works")
    before = alone(crowd)
    with crowd.visiting(**RATES):
        done = release(site)
        migrated = history.read(site.run.store, site.run.identity)[-1]
        back = release(site, "rollback")
        time.sleep(2)
    figures = told(crowd, before, [done, back])
    assert (migrated.migrated, migrated.online, migrated.downtime) == (True, True, 0), migrated
    assert done.ended - done.begun > MIGRATES, figures
    assert crowd.failures() == [], (figures, crowd.failures()[:5])
    assert figures["closed"] == 0, figures


@pytest.mark.long(
    short="tests/end_to_end/test_php.py::test_an_application_is_released_unchanged_changed_migrated_and_torn_down"
)
def test_settings_of_php_lose_no_visitor(site, crowd):
    replace(
        site.root / "environments" / "testing.yml",
        {"stores:\n": "server: {php: {memory_limit: 300M}}\nstores:\n"},
    )
    commit(site.root, "less memory")
    before = alone(crowd)
    with crowd.visiting(**RATES):
        changed = release(site, "server")
        time.sleep(2)
    figures = told(crowd, before, [changed])
    assert crowd.failures() == [], (figures, crowd.failures()[:5])
    assert figures["closed"] == 0, figures
    assert crowd.slowest() < 2, figures
