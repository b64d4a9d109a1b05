"""A release on AWS says that nobody will find its names, and goes on whatever DNS answers."""

from __future__ import annotations

import dataclasses
import io
import threading

import pytest

from tasks.console.console import Console
from tasks.infrastructure import delegation, zone
from tasks.infrastructure import stage as infrastructure
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in, with_search_engine

ZONE = "shop.example.com"


class Public(QuietCloud):
    """The embedded cloud, as an account that others use too."""

    own = False


@pytest.fixture
def run(checkout, server):  # noqa: F811
    with_search_engine(checkout)
    infrastructure.share(run_in(checkout, QuietCloud(REGION, server.home.load()), branch="x"))
    cloud = Public(REGION, server.home.load())
    if not zone.zone_id(cloud, ZONE):
        zone.make(cloud.client("route53"), ZONE, "shop", anywhere=True)
    made = run_in(
        checkout, cloud, console=Console(stream=io.StringIO()), branch=f"names-{checkout.parent.name}"
    )
    return dataclasses.replace(made, pipeline=dataclasses.replace(made.pipeline, dns_zone=ZONE))


def said(run, ask):
    infrastructure.converge(run, ask=ask)
    return run.console.stream.getvalue()


@pytest.mark.promise("missing-delegation-is-said")
def test_a_new_name_in_a_zone_that_nobody_delegates_is_said_with_the_name_servers(run):
    told = said(run, lambda name: set())
    assert f"nobody finds {ZONE} until the zone example.com has these records:" in told
    servers = zone.name_servers(run.cloud, ZONE)
    assert servers
    assert [line for line in servers if f"{ZONE} NS {line}\n" not in told] == []
    run.console.stream.truncate(0)
    assert "nobody finds" not in said(run, lambda name: set()), "there is no new name"


def silent(name):
    raise TimeoutError("timed out")


@pytest.mark.promise("missing-delegation-is-said")
@pytest.mark.parametrize("ask", [silent, lambda name: threading.Event().wait(60)])
def test_an_answer_that_cannot_be_had_holds_no_release(run, ask, monkeypatch):
    monkeypatch.setattr(delegation, "WITHIN", 0.1)
    assert "nobody finds" not in said(run, ask)


@pytest.mark.promise("missing-delegation-is-said")
def test_a_zone_that_its_parent_delegates_needs_no_words(run):
    assert "nobody finds" not in said(run, lambda name: zone.name_servers(run.cloud, name))
