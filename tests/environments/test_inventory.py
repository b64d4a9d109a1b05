"""The project's resources are found by tag or name, and assigned to environments."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.environments import inventory
from tasks.environments.inventory import EnvironmentNames, StoredObject
from tasks.infrastructure import secrets
from tasks.infrastructure import stage as infrastructure
from tasks.run import branch_identity
from tasks.settings import Environment, NamedStore
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixtures)
from tests.clouds import QuietCloud, run_in
from tests.conftest import copy_project

STORES = {"de": NamedStore(code="german")}
NAMES = EnvironmentNames(
    {
        "testing": Environment(per_branch=True, stores=STORES),
        "live": Environment(host_name="www", stores={"at": NamedStore(code="alps")}),
    }
)
SHOP = branch_identity("testing", "shop")


@pytest.mark.parametrize(
    ("key", "identity"),
    [
        ("state/live/release.json", "live"),
        ("ledgers/live/i-1/server.json", "live"),
        ("leases/live.json", "live"),
        ("machines/live.json", "live"),
        ("history/live.json", "live"),
        ("trusted/tarballs/0123.tar.zst", ""),
        ("runs/current.json", ""),
        ("sweep/seen.json", ""),
    ],
)
def test_a_document_says_whose_it_is(key, identity):
    assert StoredObject(key=key, size=1, written=inventory.datetime.datetime.now()).identity == identity


@pytest.mark.parametrize(
    ("label", "identity"),
    [
        ("www", "live"),
        (SHOP, SHOP),
        ("image", "image"),
        ("drill-live", "drill-live"),
        ("live", None),
        ("testing-1", None),
        ("mail", None),
        ("at", "live"),
        (f"de.{SHOP}", SHOP),
        (f"at.{SHOP}", None),
        ("de", None),
        ("de.www", None),
    ],
)
def test_a_name_of_the_zone_is_ours_only_if_we_give_such_names(label, identity):
    assert NAMES.of_label(label) == identity


def test_an_identity_is_of_the_file_that_makes_such():
    assert NAMES.environment("live") == "live"
    assert NAMES.environment(SHOP) == "testing"
    assert NAMES.environment("testing") is None
    assert NAMES.of_branch("shop") == {SHOP}


def test_all_of_an_environment_is_found_and_nothing_when_it_is_gone(server, tmp_path):  # noqa: F811
    cloud = QuietCloud(REGION, server.home.load())
    run = run_in(copy_project(tmp_path / "shop"), cloud, branch="shop")
    assert inventory.survey(run).environments == {}
    infrastructure.share(run)
    infrastructure.converge(run)
    own = inventory.survey(run).environments[SHOP]
    kinds = sorted(each.kind for each in own.resources)
    assert kinds == [
        "instance",
        "key pair",
        "record",
        *["secret"] * len(secrets.ALWAYS),
        "security group",
        "volume",
    ]
    assert [each.key for each in own.objects] == [f"machines/{SHOP}.json"]
    assert own.tags["branch"] == "shop"
    (machine,) = own.instances
    assert (machine.state, machine.more["type"]) == ("running", run.pipeline.instance_type)
    assert machine.made <= inventory.survey(run).at


def test_a_record_is_found_by_the_name_that_it_was_made_with(server, tmp_path):  # noqa: F811
    """Nothing in the settings says any more that this name is ours."""
    cloud = QuietCloud(REGION, server.home.load())
    run = run_in(copy_project(tmp_path / "shop"), cloud, branch="renamed")
    infrastructure.share(run)
    named = dataclasses.replace(run, environment=dataclasses.replace(run.environment, host_name="qa"))
    infrastructure.converge(named)
    (record,) = inventory.survey(run).environments[run.identity].all("record")
    assert record.id == f"qa.{run.pipeline.dns_zone}"
