"""The four figures of delivery, of histories that somebody has counted by hand."""

from __future__ import annotations

import datetime

import pytest

from tasks.digest import Digest
from tasks.release.figures import figures
from tasks.release.history import KEPT, FailedRelease, History, LiveRelease
from tasks.version import Version

NOW = datetime.datetime(2026, 11, 27, 12, 0, tzinfo=datetime.UTC)


def live(at, committed="", digest="d", undid=""):
    digest, undid = Digest(digest * 64), undid * 64
    return LiveRelease(
        digest=digest, commit=Version("c"), branch="main", by="a", at=f"2026-11-{at} UTC", run="r",
        undid=undid, committed=committed and f"2026-11-{committed} UTC",
    )  # fmt: skip


def failed(at):
    return FailedRelease(at=f"2026-11-{at} UTC", commit="c", by="a", run="r", sentence="release: it failed")


@pytest.mark.promise("four-figures")
@pytest.mark.parametrize(
    ("releases", "failures", "words"),
    [
        ([], [], "in 90 days: 0.0 releases a week, - from commit to live, 0% failed, - until the next one was live"),
        (
            [live("20 10:00", "20 09:30"), live("21 10:00", "21 09:00"), live("22 10:00", "20 10:00")],
            [],
            "in 90 days: 0.2 releases a week, 1.0 h from commit to live, 0% failed, - until the next one was live",
        ),
        # two failures before one release: it took from the first of them
        (
            [live("20 10:00"), live("21 10:00"), live("22 10:30")],
            [failed("20 11:00"), failed("20 12:00"), failed("22 10:00")],
            "in 90 days: 0.2 releases a week, - from commit to live, 50% failed, 11.8 h until the next one was live",
        ),
        # what was undone has failed since it was live, and the rollback is no release
        (
            [live("20 10:00"), live("21 10:00", "21 09:00", "e"), live("21 10:30", "20 09:00", undid="e"), live("22 10:00", "22 08:00", "f")],
            [],
            "in 90 days: 0.2 releases a week, 1.5 h from commit to live, 33% failed, 30 min until the next one was live",
        ),
        # of one tarball, the second commit does not begin it anew
        (
            [live("20 10:00"), live("21 10:00", digest="e"), live("21 11:00", digest="e"), live("21 12:00", undid="e")],
            [failed("21 13:00")],
            "in 90 days: 0.2 releases a week, - from commit to live, 50% failed, 2.0 h until the next one was live",
        ),
        # nothing has followed yet
        ([live("20 10:00")], [failed("21 10:00")], "in 90 days: 0.1 releases a week, - from commit to live, 50% failed, - until the next one was live"),
    ],
)  # fmt: skip
def test_the_figures_are_those_of_the_history(releases, failures, words):
    found = History(releases=tuple(releases), failures=tuple(failures))
    assert figures(found, NOW).words() == words


def test_what_is_older_than_the_days_that_count_counts_no_more():
    found = History(releases=(live("20 10:00"),), failures=(failed("20 09:00"),))
    assert figures(found, NOW + datetime.timedelta(days=100)).a_week == 0
    assert figures(found, NOW + datetime.timedelta(days=100)).failed == 0


def test_a_history_that_has_dropped_its_oldest_entries_tells_of_fewer_days():
    """100 releases in ten days are 70 a week, not 8."""
    begun = NOW - datetime.timedelta(days=10)
    times = [begun + datetime.timedelta(hours=each * 2.4) for each in range(KEPT)]
    releases = tuple(live(f"{each:%d %H:%M}", digest=f"{number:03}") for number, each in enumerate(times))
    found = figures(History(releases=releases), NOW)
    assert (found.days, found.a_week) == (10, 70.0)
