"""hypothesis_settings: how Hypothesis makes examples here: as many as are asked for, no clock, no memory of former runs, one failure, shrunk."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings


def so_many(number: int) -> settings:
    """The settings of a test that tries so many examples."""
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
