"""How SSH gets to a host without an address here. OpenSSH itself says what it has understood; the tunnel runs in end_to_end."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess

import pytest

from tasks.hosts import ansible, proxy, ssh
from tests.hosts.test_ssh import HOST

REGION = "eu-central-1"
THROUGH = {
    "admin@jump.example.com": "ssh -o BatchMode=yes -o ConnectTimeout=10 -W '[%h]:%p' admin@jump.example.com",
    "jump:2222": "ssh -o BatchMode=yes -o ConnectTimeout=10 -p 2222 -W '[%h]:%p' jump",
    "session-manager": (
        "aws ssm start-session --region eu-central-1 --target i-1 --document-name AWS-StartSSHSession "
        "--parameters portNumber=%p"
    ),
}


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.promise("ssh-through")
def test_a_login_and_a_play_go_through_what_the_settings_name(tmp_path, through):
    host = dataclasses.replace(HOST, proxy=proxy.command(through, "i-1", REGION))
    inventory = ansible._inventory(tmp_path, [host], {}, {})
    told = ansible.json.loads(inventory.read_text())["all"]["hosts"]["i-1"]
    with ssh.login(host) as command:
        for words in (command, ["ssh", *shlex.split(told["ansible_ssh_common_args"]), "127.0.0.1"]):
            shown = subprocess.run(["ssh", "-G", *words[1:]], capture_output=True, text=True, check=True)
            assert f"proxycommand {THROUGH[through]}" in shown.stdout.splitlines()


def test_without_the_setting_there_is_no_proxy():
    assert proxy.command("", "i-1", REGION) == ""
    with ssh.login(HOST) as command:
        assert "ProxyCommand" not in " ".join(command)


def test_a_proxy_that_leads_nowhere_is_a_host_that_does_not_answer():
    host = dataclasses.replace(HOST, proxy="false")
    assert ssh.offered(host.address, proxy=host.proxy) == []
    assert isinstance(ssh.refusal("server", host), ssh.HostUnreachable)
