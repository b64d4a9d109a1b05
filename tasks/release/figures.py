"""figures: the four figures of delivery (DORA) of an environment: how often, how soon, how often wrong, how soon right again.

As https://dora.dev/guides/dora-metrics-four-keys/ defines them.
"""

from __future__ import annotations

import datetime
import itertools
import statistics
from dataclasses import dataclass

from tasks.clock import stamped
from tasks.release.history import KEPT, History, LiveRelease

DAYS = 90
"""Days that count; fewer where the history does not reach so far."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """`days`: those that count; `lead` and `restored`: medians; None where there is nothing to measure. `failed`: a share from 0 to 1."""

    days: int
    a_week: float
    lead: datetime.timedelta | None
    failed: float
    restored: datetime.timedelta | None

    def words(self) -> str:
        """A line for people."""
        lead, restored = (_words(each) if each is not None else "-" for each in (self.lead, self.restored))
        return (
            f"in {self.days} days: {self.a_week:.1f} releases a week, {lead} from commit to live, "
            f"{self.failed:.0%} failed, {restored} until the next one was live"
        )


def figures(found: History, now: datetime.datetime) -> Figures:
    """The figures of the last days. A time to restore lasts from the first failure to the next release.

    A rollback is no release. What it undid has failed, since it was live.
    """
    begin = now - datetime.timedelta(days=DAYS)
    for kept in (found.releases, found.failures):
        if len(kept) >= KEPT:  # older ones are gone, and were as many
            begin = max(begin, stamped(kept[0].at))
    days = max(1, (now - begin).days)
    live = [(at, each) for each in found.releases if (at := stamped(each.at)) >= begin]
    releases = [(at, each) for at, each in live if not each.undid]
    failures = [at for each in found.failures if (at := stamped(each.at)) >= begin]
    undone = [(_since(each, live[:number]), at) for number, (at, each) in enumerate(live) if each.undid]
    leads = [at - stamped(each.committed) for at, each in releases if each.committed]
    tried = len(releases) + len(failures)
    wrong = len(failures) + len(undone)
    ended = [(failed, after) for failed in failures for after, _ in live if after >= failed]
    return Figures(
        days=days,
        a_week=len(releases) * 7 / days,
        lead=_median(leads),
        failed=wrong / max(tried, wrong, 1),
        restored=_restored([*ended, *undone]),
    )


def _since(rollback: LiveRelease, before: list[tuple[datetime.datetime, LiveRelease]]) -> datetime.datetime:
    """When the release that a rollback has undone went live."""
    live = itertools.takewhile(lambda each: each[1].digest == rollback.undid, reversed(before))
    return min((at for at, _ in live), default=stamped(rollback.at))


def _restored(spans: list[tuple[datetime.datetime, datetime.datetime]]) -> datetime.timedelta | None:
    """Of each failure what came next; of several failures before that, the first one."""
    after: dict[datetime.datetime, datetime.datetime] = {}
    for failed, well in sorted(spans, key=lambda each: each[1]):
        after.setdefault(failed, well)
    first: dict[datetime.datetime, datetime.datetime] = {}
    for failed, well in after.items():
        first[well] = min(failed, first.get(well, failed))
    return _median([well - failed for well, failed in first.items()])


def _median(spans: list[datetime.timedelta]) -> datetime.timedelta | None:
    seconds = [each.total_seconds() for each in spans]
    return datetime.timedelta(seconds=statistics.median(seconds)) if seconds else None


def _words(span: datetime.timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} days"
