"""A site is asked while a release goes live: what visitors had is measured, or said not to be."""

from __future__ import annotations

import io
import socket
import time
from types import SimpleNamespace

import pytest

from tasks.bucket.store import Document
from tasks.console.console import Console
from tasks.console.journal import Journal
from tasks.hosts.phased import Answer
from tasks.release import probe, stage
from tasks.release.phases import Site
from tasks.release.probe import Probe, Question, Visited, visited
from tests.listener import listening


def asked(*told):
    """Questions: path, begin, end, and what came: well, bad (an error of the site) or none (no answer)."""
    return [
        Question(path=path, began=began, ended=ended, reached=what != "none", well=what == "well")
        for path, began, ended, what in told
    ]


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ([("/", 1, 1.1, "well"), ("/", 2, 2.5, "well")], Visited(downtime=0, slowest=0.5)),
        # down until the next question that is answered well
        (
            [("/", 1, 1.1, "well"), ("/", 2, 2.1, "bad"), ("/", 3, 3.1, "well")],
            Visited(downtime=1, slowest=0.1),
        ),
        (
            [("/", 2, 2.1, "bad"), ("/", 3, 3.1, "none"), ("/", 4, 4.1, "well")],
            Visited(downtime=2, slowest=0.1),
        ),
        # still down at the end, which is 9
        ([("/", 1, 1.1, "well"), ("/", 5, 5.1, "none")], Visited(downtime=4, slowest=0.1)),
        # another path that is well does not make up for it, and two that are down are down once
        (
            [("/", 1, 1.1, "bad"), ("/a", 2, 2.1, "well"), ("/", 3, 3.1, "well")],
            Visited(downtime=2, slowest=0.1),
        ),
        (
            [("/", 1, 1.1, "bad"), ("/a", 2, 2.1, "bad"), ("/", 3, 3.1, "well"), ("/a", 4, 4.1, "well")],
            Visited(downtime=3, slowest=0.1),
        ),
        # down twice
        (
            [("/", 1, 1.1, "bad"), ("/", 2, 2.1, "well"), ("/", 5, 5.1, "bad"), ("/", 6, 6.1, "well")],
            Visited(downtime=2, slowest=0.1),
        ),
        # nothing of the site was reached, or nothing was asked
        ([("/", 1, 1.1, "none"), ("/", 2, 2.1, "none")], None),
        ([], None),
    ],
)
@pytest.mark.promise("visitors-are-measured")
def test_downtime_and_the_slowest_answer_follow_from_the_questions(told, wanted):
    seen = visited(asked(*told), 9.0)
    assert seen == (wanted and Visited(downtime=wanted.downtime, slowest=pytest.approx(wanted.slowest)))


@pytest.fixture
def site():
    with listening() as told:
        yield told


def asking(port, paths=("/health", "/")):
    return Probe(Site("shop.localhost", "127.0.0.1", port), paths)


def until(site, number):
    """Wait until it was asked so often."""
    for _ in range(400):
        if len(site.heard) >= number:
            return
        time.sleep(0.05)
    raise AssertionError(f"asked {len(site.heard)} times")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(probe, "EVERY", 0.02)


@pytest.mark.promise("visitors-are-measured")
def test_a_site_that_is_away_meanwhile_is_seen(site, quick):
    watch = asking(site.port)
    until(site, 4)
    site.status = 503
    until(site, 8)
    site.status = 200
    until(site, 14)
    watch.stop()
    assert watch.seen.downtime > 0
    assert [each.path for each in site.heard[:4]] == ["/health", "/", "/health", "/"]
    assert site.heard[0].headers["Host"] == "shop.localhost"
    number = len(site.heard)
    until(site, number)
    assert len(site.heard) <= number + 1, "one question may have been on its way"


@pytest.mark.promise("visitors-are-measured")
def test_a_site_that_is_well_has_no_downtime(site, quick):
    watch = asking(site.port)
    until(site, 6)
    watch.stop()
    assert watch.seen.downtime == 0


@pytest.mark.promise("visitors-are-measured")
@pytest.mark.parametrize("lost", [0.1, 60.0])
def test_a_question_without_an_answer_is_not_waited_for_and_counts(site, quick, monkeypatch, lost):
    monkeypatch.setattr(probe, "LOST", lost)
    watch = asking(site.port)
    until(site, 4)
    site.held.clear()
    until(site, 5)
    number = len(site.heard)
    time.sleep(0.3)
    watch.stop()
    assert watch.seen.downtime > 0.2 or lost > 1
    assert watch.seen.downtime == 0 or lost < 1
    assert watch.seen.slowest > 0.2
    assert len(site.heard) <= number + 1


@pytest.mark.promise("not-measured-is-said")
def test_a_site_that_cannot_be_reached_is_not_measured(quick, tmp_path):
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        watch = asking(nobody.getsockname()[1])
        time.sleep(0.2)
        watch.stop()
    assert watch.seen is None
    assert stage.measured([Answer(host="a", downtime=4.0)], watch).slowest is None
    assert stage.measured([Answer(host="a", downtime=4.0)], watch).downtime == 4.0
    said = io.StringIO()
    console = Console(said)
    console.journal = Journal(tmp_path)
    run = SimpleNamespace(console=console)
    stage.tell(run, "release", [Answer(host="a")], watch)
    assert said.getvalue() == "", "nothing has changed for visitors"
    stage.tell(run, "release", [Answer(host="a", changed=True)], watch)
    assert "visitors: not measured: the site cannot be asked from here" in said.getvalue()
    assert console.journal.content["facts"] == {"visitors": probe.NOT_MEASURED}


def test_before_the_first_release_nothing_is_asked(site, quick):
    release = SimpleNamespace(health_path="/health", pages=("/", "/more"))
    run = SimpleNamespace(
        profile=SimpleNamespace(release=release),
        host_name="shop.localhost",
        https=False,
        protected=False,
        cloud=SimpleNamespace(http_address=lambda name, https: ("127.0.0.1", site.port)),
    )
    with stage.watched(run, Document(value={"releases": []}, etag="", age=0.0)) as watch:
        assert watch is None
    with stage.watched(run, Document(value={"releases": [{}]}, etag="", age=0.0)) as watch:
        until(site, 3)
    assert {each.path for each in site.heard} == {"/health", "/"}
    assert watch.seen.downtime == 0
