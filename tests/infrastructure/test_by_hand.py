"""What people did by hand: every kind of rule is seen whole, and a name that is somebody else's is left."""

from __future__ import annotations

import dataclasses
import io

import pytest

from tasks import teardown
from tasks.console.console import Console
from tasks.infrastructure import apply, find, plan, zone
from tasks.infrastructure import stage as infrastructure
from tests.clouds import run_in

EVERYBODY = [{"CidrIp": "0.0.0.0/0"}]
RULES = {
    "all traffic for 0.0.0.0/0": {"IpProtocol": "-1", "IpRanges": EVERYBODY},
    "udp 53 for 0.0.0.0/0": {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "IpRanges": EVERYBODY},
    "udp 22 for 0.0.0.0/0": {"IpProtocol": "udp", "FromPort": 22, "ToPort": 22, "IpRanges": EVERYBODY},
    "tcp 22-9000 for 0.0.0.0/0": {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 9000, "IpRanges": EVERYBODY},
    "port 22 for 2001:db8::/32": {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "2001:db8::/32"}]},
    "port 22 for 10.9.0.0/16": {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.9.8.7/16", "Description": "me"}]},
    "tcp 22 for pl-0123456789abcdef0": {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "PrefixListIds": [{"PrefixListId": "pl-0123456789abcdef0"}]},
}  # fmt: skip


@pytest.mark.parametrize("words", RULES)
@pytest.mark.promise("hand-made-rules-are-closed")
def test_a_rule_made_by_hand_is_closed_and_the_wanted_ones_stay(run, words):
    infrastructure.converge(run)
    before = find.everything(run)
    ec2 = run.cloud.client("ec2")
    ec2.authorize_security_group_ingress(GroupId=before.group, IpPermissions=[RULES[words]])
    assert infrastructure.differences(run) == [f"close {words}"]
    infrastructure.converge(run)
    assert find.everything(run) == before
    assert infrastructure.differences(run) == []


def test_a_description_changes_nothing(run):
    infrastructure.converge(run)
    found = find.everything(run)
    described = {**RULES["port 22 for 10.9.0.0/16"], "IpRanges": [{**EVERYBODY[0], "Description": "all"}]}
    ec2 = run.cloud.client("ec2")
    apply.apply(run, plan.ClosePort(port=22, network="0.0.0.0/0"))
    ec2.authorize_security_group_ingress(GroupId=found.group, IpPermissions=[described])
    assert infrastructure.differences(run) == []


@pytest.mark.promise("networks-are-normalised")
def test_a_network_of_the_settings_is_the_one_that_the_cloud_keeps(checkout, run):
    path = checkout / "environments" / "testing.yml"
    text = path.read_text()
    path.write_text(
        text.replace("infrastructure:\n", "infrastructure:\n  ssh_from: [10.1.2.3/16, '2001:DB8::1/32']\n", 1)
    )
    told = run_in(checkout, run.cloud, branch=run.branch)
    assert told.environment.infrastructure.ssh_from == ("10.1.0.0/16", "2001:db8::/32")
    infrastructure.converge(told)
    assert infrastructure.differences(told) == []
    assert {(22, "10.1.0.0/16"), (22, "2001:db8::/32")} <= find.everything(told).rules


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"Type": "A", "AliasTarget": {"HostedZoneId": "Z215JYRZR1TBD5", "DNSName": "lb-1.eu-central-1.elb.amazonaws.com.", "EvaluateTargetHealth": False}}, "an alias of lb-1.eu-central-1.elb.amazonaws.com"),
        ({"Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": "www.example.net."}]}, "a CNAME of www.example.net"),
        ({"Type": "A", "TTL": 60, "SetIdentifier": "half", "Weight": 1, "ResourceRecords": [{"Value": "10.0.0.1"}]}, "a record with a routing policy (half)"),
    ],
)  # fmt: skip
@pytest.mark.promise("an-alias-stays")
def test_a_name_that_is_somebody_elses_is_left_and_named(run, record, words):
    run = dataclasses.replace(run, console=Console(stream=io.StringIO()))
    route53 = run.cloud.client("route53")
    id = zone.zone_id(run.cloud, run.pipeline.dns_zone)
    entry = {"Action": "CREATE", "ResourceRecordSet": {"Name": run.host_name, **record}}
    route53.change_resource_record_sets(HostedZoneId=id, ChangeBatch={"Changes": [entry]})
    infrastructure.converge(run)
    assert infrastructure.differences(run) == []
    teardown.tear_down(run)
    assert f"leaves {run.host_name}, {words}" in run.console.stream.getvalue()
    (left,) = [
        each
        for each in route53.list_resource_record_sets(HostedZoneId=id)["ResourceRecordSets"]
        if each["Name"] == f"{run.host_name}."
    ]
    assert left["Type"] == record["Type"]
