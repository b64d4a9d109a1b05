"""figures: the four figures of delivery (DORA) of an environment: how often, how soon, how often wrong, how soon right again.

As https://dora.dev/guides/dora-metrics-four-keys/ defines them.
"""

from __future__ import annotations

import datetime
import statistics
from dataclasses import dataclass

from tasks.clock import stamped
from tasks.release.history import History, LiveRelease

DAYS = 90
"""Days that count."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """`lead` and `restored`: medians; None where there is nothing to measure. `failed`: a share from 0 to 1."""

    a_week: float
    lead: datetime.timedelta | None
    failed: float
    restored: datetime.timedelta | None

    def words(self) -> str:
        """A line for people."""
        lead, restored = (_words(each) if each is not None else "-" for each in (self.lead, self.restored))
        return (
            f"in {DAYS} days: {self.a_week:.1f} releases a week, {lead} from commit to live, "
            f"{self.failed:.0%} failed, {restored} until the next one was live"
        )


def figures(found: History, now: datetime.datetime) -> Figures:
    """The figures of the last days. A time to restore lasts from the first failure to the next release."""
    begin = now - datetime.timedelta(days=DAYS)
    releases = [(stamped(each.at), each) for each in found.releases if stamped(each.at) >= begin]
    failures = [at for each in found.failures if (at := stamped(each.at)) >= begin]
    leads = [at - stamped(each.committed) for at, each in releases if each.committed]
    tried = len(releases) + len(failures)
    return Figures(
        a_week=len(releases) * 7 / DAYS,
        lead=_median(leads),
        failed=len(failures) / tried if tried else 0.0,
        restored=_restored(releases, failures),
    )


def _restored(
    releases: list[tuple[datetime.datetime, LiveRelease]], failures: list[datetime.datetime]
) -> datetime.timedelta | None:
    first: dict[datetime.datetime, datetime.datetime] = {}
    for failed in failures:
        if after := next((at for at, _ in releases if at >= failed), None):
            first[after] = min(failed, first.get(after, failed))
    return _median([after - failed for after, failed in first.items()])


def _median(spans: list[datetime.timedelta]) -> datetime.timedelta | None:
    seconds = [each.total_seconds() for each in spans]
    return datetime.timedelta(seconds=statistics.median(seconds)) if seconds else None


def _words(span: datetime.timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.1f} days"
