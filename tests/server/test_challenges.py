"""Challenges: an authority is asked only once every name server shows what it looks for, and nothing of it stays."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from types import SimpleNamespace

import moto
import pytest
from botocore.exceptions import ClientError
from moto.route53.models import Route53Backend

from tasks.clock import Clock
from tasks.cloud.embedded import moto_patches
from tasks.cloud.embedded.faults import LATE
from tasks.console.console import Console
from tasks.infrastructure import zone
from tasks.infrastructure.zone import ZoneMissing
from tasks.process.threads import Threads
from tasks.server import challenges
from tasks.server.challenges import ChallengeTaken, ChallengeUnseen
from tests.clouds import run_in
from tests.plain import Plain

ZONE = "branches.example.com"
NAME = f"_acme-challenge.{ZONE}"
ONE, TWO = "1-" * 21 + "1", "2_" * 21 + "2"
VALUES = {ZONE: [TWO, ONE]}


class CountedWaits(Threads):
    """Nobody waits; it is noted how long it would have been. `at`: what happens at which wait."""

    def __init__(self):
        self.seconds, self.at = 0.0, {}

    def wait(self, seconds, stage):
        self.seconds += seconds
        for when in sorted(each for each in self.at if each <= self.seconds):
            self.at.pop(when)()


@pytest.fixture
def run(checkout):
    with moto.mock_aws():
        made = run_in(checkout, Plain("eu-central-1"), console=Console(stream=io.StringIO()), branch="x")
        zone.make(made.cloud.client("route53"), ZONE, "shop", anywhere=True)
        waits = CountedWaits()
        yield dataclasses.replace(
            made,
            pipeline=dataclasses.replace(made.pipeline, dns_zone=ZONE),
            threads=waits,
            clock=Clock(monotonic=lambda: waits.seconds),
        )


def there(run):
    """The TXT values of the challenge's name in Route 53."""
    id = zone.zone_id(run.cloud, ZONE)
    found = run.cloud.client("route53").list_resource_record_sets(HostedZoneId=id)["ResourceRecordSets"]
    return [value["Value"] for each in found if each["Type"] == "TXT" for value in each["ResourceRecords"]]


class Servers:
    """The zone's name servers: each shows what Route 53 has had, at its own time. `silent`: looks that get no answer."""

    def __init__(self, run):
        self.run, self.asked, self.silent = run, [], 0
        self.behind = set()

    def __call__(self, name, servers):
        self.asked.append((name, tuple(servers)))
        if self.silent:
            self.silent -= 1
            raise OSError(f"the name servers of {name} do not answer: timed out")
        values = [each.strip('"') for each in there(self.run)]
        return {each: [] if each in self.behind else values for each in servers}


def test_a_block_has_its_records_seen_and_leaves_none(run):
    look = Servers(run)
    with challenges.shown(run, VALUES, look):
        assert there(run) == [f'"{ONE}"', f'"{TWO}"']
    assert there(run) == []
    assert look.asked == [(NAME, tuple(zone.name_servers(run.cloud, ZONE)))]
    assert len(look.asked[0][1]) == 4


def test_an_authority_waits_for_the_last_name_server(run):
    look, servers = Servers(run), zone.name_servers(run.cloud, ZONE)
    look.behind = set(servers[1:3])
    run.threads.at = {3.0: lambda: look.behind.remove(servers[1]), 9.0: look.behind.clear}
    with challenges.shown(run, VALUES, look):
        assert run.threads.seconds >= 9
    look.behind = {servers[2]}
    with pytest.raises(ChallengeUnseen) as caught, challenges.shown(run, VALUES, look):
        raise AssertionError("nothing was seen")
    assert caught.value.text == (
        f"certificates: {NAME} is in Route 53, and after 300 s {servers[2]} does not have it\n"
        "    doit doctor  # whether the zone is delegated to these name servers"
    )
    assert there(run) == []


def test_where_no_name_server_can_be_asked_route_53_s_word_counts(run):
    look = Servers(run)
    look.silent = challenges.SILENT - 1
    with challenges.shown(run, VALUES, look):
        assert "Route 53's word counts" not in run.console.stream.getvalue()
    look.silent = 100
    with challenges.shown(run, VALUES, look):
        assert there(run) == [f'"{ONE}"', f'"{TWO}"']
    assert run.console.stream.getvalue().endswith(
        f"Route 53's word counts\nthe name servers of {NAME} do not answer: timed out\n"
    )


def test_what_is_not_in_sync_is_asked_of_nobody(run):
    look = Servers(run)
    states = iter(["PENDING"] * 3)
    route53 = run.cloud.client("route53")
    asked = SimpleNamespace(
        get_change=lambda Id: {"ChangeInfo": {"Status": next(states, "INSYNC")}},  # noqa: N803
        change_resource_record_sets=route53.change_resource_record_sets,
        list_resource_record_sets=route53.list_resource_record_sets,
        list_hosted_zones_by_name=route53.list_hosted_zones_by_name,
    )
    run.cloud._clients["route53"] = asked
    with challenges.shown(run, VALUES, look):
        assert run.threads.seconds == pytest.approx(3 * run.cloud.dns_poll())
        assert len(look.asked) == 1


@pytest.mark.promise("no-challenge-stays")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_ends_the_block_its_records_go_and_no_others(run, error):
    route53, id = run.cloud.client("route53"), zone.zone_id(run.cloud, ZONE)
    other = {"Name": f"x.{ZONE}", "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": '"kept"'}]}
    change = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": other}]}
    route53.change_resource_record_sets(HostedZoneId=id, ChangeBatch=change)
    with pytest.raises(error), challenges.shown(run, VALUES, Servers(run)):
        raise error
    assert there(run) == ['"kept"']


@pytest.fixture
def exact(run, monkeypatch):
    """A run whose Route 53 is as exact as that of the embedded cloud."""
    unkind = "change_resource_record_sets"
    monkeypatch.setattr(Route53Backend, unkind, getattr(Route53Backend, unkind))  # it is as before afterwards
    moto_patches._records()
    return run


@pytest.mark.promise("no-challenge-stays")
def test_what_a_killed_order_has_left_is_removed(exact):
    run = exact
    block = challenges.shown(run, VALUES, Servers(run))
    block.__enter__()
    assert challenges.clear(run, [NAME]) == [NAME]
    assert there(run) == []
    assert challenges.clear(run, [NAME]) == []
    block.__exit__(None, None, None)  # somebody else was faster
    assert "stays" not in run.console.stream.getvalue()


@pytest.mark.promise("records-are-exact")
def test_a_cname_is_alone_at_its_name(exact):
    refused = pytest.raises(ClientError, match="conflicting RRSet of type")
    put(exact, "TXT", f'"{ONE}"')
    with refused:
        put(exact, "CNAME", "x.example.")
    challenges.clear(exact, [NAME])
    put(exact, "CNAME", "x.example.")
    with refused:
        put(exact, "TXT", f'"{ONE}"')


def test_without_a_zone_it_says_so(run):
    away = dataclasses.replace(run, pipeline=dataclasses.replace(run.pipeline, dns_zone="no.example.com"))
    with pytest.raises(ZoneMissing, match=r"no public hosted zone no\.example\.com"):
        challenges.clear(away, [NAME])


def put(run, kind, *values, ttl=challenges.TTL):
    """Somebody writes a record at the challenge's name."""
    record = {"Name": NAME, "Type": kind, "TTL": ttl, "ResourceRecords": [{"Value": each} for each in values]}
    change = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    id = zone.zone_id(run.cloud, ZONE)
    run.cloud.client("route53").change_resource_record_sets(HostedZoneId=id, ChangeBatch=change)


@pytest.mark.promise("another-s-record-stays")
@pytest.mark.parametrize(
    ("kind", "value", "ttl"),
    [("TXT", '"somebody"', 60), ("TXT", f'"{ONE}"', 300), ("CNAME", "x.example.", 60)],
)
def test_a_record_of_somebody_else_is_named_and_stays(run, kind, value, ttl):
    put(run, kind, value, ttl=ttl)
    with pytest.raises(ChallengeTaken) as caught:
        challenges.clear(run, [NAME])
    assert caught.value.text == (
        f"certificates: {NAME} is somebody's {kind} record already, and there the authority looks ({value})\n"
        f"    doit certificates  # once it is removed from the zone {ZONE}"
    )
    if kind == "TXT":
        assert there(run) == [value]


class LateLists:
    """Route 53 whose lists show what was so many changes before, at first."""

    def __init__(self, route53):
        self.route53, self.exceptions = route53, route53.exceptions
        self.versions, self.reads = [[]], 0

    def __getattr__(self, name):
        return getattr(self.route53, name)

    def change_resource_record_sets(self, **told):
        done = self.route53.change_resource_record_sets(**told)
        listed = self.route53.list_resource_record_sets(HostedZoneId=told["HostedZoneId"])
        self.versions.append(listed["ResourceRecordSets"])
        self.reads = 0
        return done

    def list_resource_record_sets(self, **asked):
        if asked.get("StartRecordName") != NAME:
            return self.route53.list_resource_record_sets(**asked)
        behind = LATE[self.reads] if self.reads < len(LATE) else 0
        self.reads += 1
        return {"ResourceRecordSets": self.versions[-1 - min(behind, len(self.versions) - 1)]}


@pytest.fixture
def late(exact):
    """Whose lists are late as well."""
    exact.cloud._clients["route53"] = LateLists(exact.cloud.client("route53"))
    return exact


@pytest.mark.promise("no-challenge-stays", "records-are-exact")
def test_where_lists_are_late_nothing_stays(late):
    with challenges.shown(late, VALUES, Servers(late)):
        assert there(late) == [f'"{ONE}"', f'"{TWO}"']
    assert there(late) == []
    assert "stays" not in late.console.stream.getvalue()
    for number in range(max(LATE) + 1):  # the first list shows values that it has no more
        put(late, "TXT", f'"{number}{ONE[1:]}"')
    assert challenges.clear(late, [NAME]) == [NAME]
    assert there(late) == []
    assert challenges.clear(late, [NAME]) == []  # the list shows it still


@pytest.mark.promise("no-challenge-stays", "records-are-exact")
@pytest.mark.parametrize("ends", [False, True])
def test_a_removal_that_fails_is_said_and_hides_nothing(late, ends):
    def somebody_else_s():
        with challenges.shown(late, VALUES, Servers(late)):
            put(late, "TXT", f'"{ONE}"')
            if ends:
                raise ValueError("of the order")

    with pytest.raises(ValueError, match="of the order") if ends else contextlib.nullcontext():
        somebody_else_s()
    said = late.console.stream.getvalue()
    assert f"{NAME} stays, and the next order removes it:" in said
    assert "the values provided do not match the current values" in said
    assert there(late) == [f'"{ONE}"']
