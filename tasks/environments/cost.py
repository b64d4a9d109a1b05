"""cost: estimate what an environment has cost so far and costs in an hour, from its tags and tasks/environments/prices.yml."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tasks.environments.inventory import EnvironmentInventory, Resource, Time
from tasks.settings import LOADER

HOURS_TAG = "hours-before"
"""Tag: hours that a machine ran before its last start. It is written when a machine is put to sleep."""
MONTH = 730
"""Hours."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """tasks/environments/prices.yml."""

    currency: str
    instance_hour: Mapping[str, float]
    disk_gb_month: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """`hours`: of running machines. `money`: the cost of machines and disks so far. `hourly`: the cost of an hour now."""

    hours: float = 0.0
    money: float = 0.0
    hourly: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            hours=self.hours + other.hours,
            money=self.money + other.money,
            hourly=self.hourly + other.hourly,
        )


@functools.cache
def prices() -> Prices:
    """The repository's price table."""
    return Prices(**yaml.load(Path(__file__).with_name("prices.yml").read_text(), Loader=LOADER))  # noqa: S506


def of(own: EnvironmentInventory, at: Time, table: Prices) -> Cost:
    """The cost of an environment's machines and disks until `at`."""
    return total(own.resources, at, table)


def total(resources: Iterable[Resource], at: Time, table: Prices) -> Cost:
    """The cost of machines and disks until `at`; for a machine that is asleep, only its disk."""
    found = Cost()
    for each in resources:
        if each.kind == "instance":
            hourly = table.instance_hour.get(each.more["type"], 0.0)
            awake = each.state in ("pending", "running")
            hours = hours_before(each.tags) + (_hours(each, at) if awake else 0.0)
            found += Cost(hours=hours, money=hours * hourly, hourly=hourly if awake else 0.0)
        elif each.kind == "volume":
            hourly = each.more["gb"] * table.disk_gb_month / MONTH
            found += Cost(money=_hours(each, at) * hourly, hourly=hourly)
    return found


def hours_before(tags: Mapping[str, str]) -> float:
    """The hours in the tag; 0 if the tag is missing or no number."""
    try:
        return float(tags.get(HOURS_TAG, 0))
    except ValueError:
        return 0.0


def _hours(each: Resource, at: Time) -> float:
    return max(0.0, (at - each.made).total_seconds() / 3600) if each.made else 0.0
