"""Where egress is listed no longer, nobody is led to the proxy, and then it stops."""

from __future__ import annotations

import pytest
import yaml

from tests.conftest import ROOT
from tests.roles.plays import played

OPEN = {"server_services": {}, "proxy_listed": [], "proxy_variables": {}}
LED = {
    "etc/apt/apt.conf.d/95proxy": 'Acquire::http::Proxy "http://127.0.0.1:3128";\n',
    "etc/environment": "http_proxy=http://127.0.0.1:3128\n",
    "etc/sudoers.d/environment": "Defaults env_file=/etc/environment\n",
}


def files(folder):
    return {path: (folder / path).read_text() for path in LED if (folder / path).exists()}


@pytest.fixture
def host(tmp_path):
    """A folder with what leads to the proxy, as far as it is given."""

    def made(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(LED[path])
        return tmp_path

    return made


@pytest.mark.promise("open-leads-nobody-to-the-proxy")
def test_where_egress_is_open_again_nobody_is_led_to_the_proxy(host):
    folder = host(*LED)
    for changed in (2, 0):
        said = played("proxy", folder, OPEN)
        assert said.returncode == 0, said.stdout + said.stderr
        assert f"changed={changed} " in said.stdout
        assert files(folder) == {"etc/environment": ""}


def test_what_somebody_else_has_told_logins_stays(host):
    """On a host whose egress was never listed."""
    folder = host("etc/environment")
    assert played("proxy", folder, OPEN).returncode == 0
    assert files(folder) == {"etc/environment": LED["etc/environment"]}


def test_nobody_is_led_to_a_proxy_that_was_stopped_or_does_not_run_yet():
    off, on = yaml.safe_load((ROOT / "roles" / "proxy" / "tasks" / "main.yml").read_text())
    assert off["block"][-1]["ansible.builtin.systemd_service"]["state"] == "stopped"
    names = [str(each) for each in on["block"]]
    (starts,) = (at for at, each in enumerate(names) if "'started'" in each)
    (mark,) = (at for at, each in enumerate(names) if "/etc/sudoers.d/environment" in each)
    told = [at for at, each in enumerate(names) if "/etc/environment'" in each or "95proxy" in each]
    assert starts < min(told)
    assert mark < max(told), "a play that is cut off between them is undone too"
