"""A machine's way from the cloud through the stage's facts to a login."""

from __future__ import annotations

import json

import pytest

from tasks.cloud.interface import HostDown
from tasks.infrastructure import find, hosts, memory
from tasks.infrastructure import stage as infrastructure
from tests.clouds import secrets_of


@pytest.mark.promise("host-keys-are-pinned")
def test_host_keys_are_pinned_at_first_sight(run):
    facts = infrastructure.converge(run).facts
    run.cloud.host_keys = lambda id, say: ["ssh-ed25519 another"]
    assert hosts.facts(infrastructure.existing(run)) == facts


def test_the_facts_are_the_json_that_earlier_runs_have_recorded():
    recorded = {"hosts": [{"id": "i-1", "address": "10.0.0.1", "host_keys": ["ssh-ed25519 A"]}]}
    (machine,) = found = hosts.parsed(recorded)
    assert (machine.id, machine.address, machine.host_keys) == ("i-1", "10.0.0.1", ("ssh-ed25519 A",))
    assert json.loads(json.dumps(hosts.facts(found))) == recorded


def test_a_record_without_facts_has_no_machines():
    assert hosts.parsed({}) == []


def test_a_machine_is_reached_with_the_deploy_key_and_known_by_its_own(run):
    machines = hosts.parsed(infrastructure.converge(run).facts)
    (host,) = hosts.reachable(run, machines)
    assert (host.name, host.user) == (machines[0].id, run.cloud.login_user)
    assert (host.key, host.host_keys) == (secrets_of(run).deploy_key, machines[0].host_keys)


def test_a_machine_that_was_stopped_meanwhile_is_not_taken_for_another(run):
    machines = hosts.parsed(infrastructure.converge(run).facts)
    run.cloud.client("ec2").stop_instances(InstanceIds=[machines[0].id])
    with pytest.raises(HostDown):
        hosts.reachable(run, machines)


def test_only_running_machines_whose_keys_were_seen_are_known(run):
    facts = infrastructure.converge(run).facts
    assert hosts.facts(hosts.known(run)) == facts
    memory.forget(run.store, run.identity, memory.version(run.store, run.identity))
    assert hosts.known(run) == []
    assert len(find.everything(run).machines) == 1
