"""firewall: whoever provisions a host is not locked out by its rules: before they are written, its address is looked up in them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT

ROLE = ROOT / "roles" / "firewall"
FOLLOWS = "Let the kernel follow the connections that there are"


@pytest.mark.parametrize(
    ("address", "networks", "admitted"),
    [
        ("192.0.2.7", ["198.51.100.0/24", "192.0.2.0/24"], True),
        ("192.0.2.7", ["192.0.2.7/32"], True),
        ("192.0.2.7", ["198.51.100.0/24"], False),
        ("192.0.2.7", [], False),
        ("2001:db8::7", ["192.0.2.0/24", "2001:db8::/32"], True),
        ("2001:db8::7", ["0.0.0.0/0"], False),
        # through an agent of the host's own, as AWS Session Manager's
        ("127.0.0.1", ["192.0.2.0/24"], True),
        ("127.0.0.1", [], True),
        ("::1", ["192.0.2.0/24"], True),
    ],
)
@pytest.mark.promise("the-firewall-locks-nobody-out")
def test_a_connection_that_the_rules_do_not_admit_is_a_failure(address, networks, admitted):
    program = (ROLE / "files" / "admitted.py").read_text()
    connection = f"{address} 50000 203.0.113.1 22"
    answered = subprocess.run(
        [sys.executable, "-", *networks], input=program, env={"SSH_CONNECTION": connection}, capture_output=True, text=True
    )  # fmt: skip
    assert (answered.returncode == 0) is admitted, answered.stderr


@pytest.mark.promise("the-firewall-locks-nobody-out")
def test_the_connection_is_looked_up_before_the_rules_are_written():
    looks, writes, *_ = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text())
    asked = looks["ansible.builtin.command"]
    assert "'admitted.py'" in asked["stdin"]
    assert "firewall_ssh_from" in asked["argv"]
    assert (looks["become"], looks["check_mode"]) == (
        False,
        False,
    )  # sudo hides the connection; a preview asks too
    assert not looks.keys() & {"when", "ignore_errors", "failed_when"}
    assert writes["ansible.builtin.template"]["dest"] == "/etc/nftables.conf"


@pytest.mark.promise("the-firewall-stands-in-no-connection-s-way")
def test_the_kernel_follows_the_connections_in_a_task_before_the_rules():
    everything = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text())
    names = [each["name"] for each in everything]
    begins = everything[names.index(FOLLOWS) + 1]["ansible.builtin.systemd_service"]
    assert (begins["name"], begins["state"]) == ("nftables", "started")
    assert "ct state" in everything[names.index(FOLLOWS)]["vars"]["__firewall_follows"]
    assert "\nflush ruleset\n" in (ROLE / "templates" / "nftables.conf.j2").read_text(), "nothing of it stays"
