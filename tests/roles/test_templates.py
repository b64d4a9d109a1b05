"""What the templates render for unusual values."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).parents[2] / "roles"


def render(role, template, **variables):
    folder = ROLES / role / "templates"
    variables["ansible_search_path"] = [str(folder)]
    templar = Templar(loader=DataLoader(), variables=variables)
    text = trust_as_template((folder / template).read_text())
    return templar.template(text, escape_backslashes=False)  # as the template module does


def test_the_firewall_lets_in_what_is_named_and_nothing_else():
    rules = render(
        "firewall",
        "nftables.conf.j2",
        firewall_ssh_from=["192.0.2.0/24", "2001:db8::/32"],
        firewall_http_from=[],
    )
    assert "policy drop" in rules
    assert "ip saddr 192.0.2.0/24 tcp dport { 22 } accept" in rules
    assert "ip6 saddr 2001:db8::/32 tcp dport { 22 } accept" in rules
    assert "443" not in rules


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"command": ["php", "x"]}, "* * * * * shop cd /srv/shop/current && php x"),
        ({"minute": "*/5", "command": ["a"]}, "*/5 * * * * shop cd /srv/shop/current && a"),
        (
            {"hour": "3", "minute": "0", "command": ["a", "b c"]},
            "0 3 * * * shop cd /srv/shop/current && a 'b c'",
        ),
        ({"command": ["date", "+%d"]}, "* * * * * shop cd /srv/shop/current && date +\\%d"),
    ],
)
def test_a_command_runs_by_the_clock_as_the_applications_user(entry, line):
    table = render(
        "cron",
        "cron.j2",
        cron_jobs=[entry],
        application_user="shop",
        application_path="/srv/shop",
    )
    assert line in table.splitlines()


def test_all_shared_logs_are_rotated_by_one_entry():
    entry = render(
        "shared",
        "logrotate.j2",
        application_user="shop",
        application_path="/srv/shop",
        shared_directories=["var/log", "var/report"],
    )
    assert entry.split("{")[0].split() == [
        "/srv/shop/shared/var/log/*.log",
        "/srv/shop/shared/var/report/*.log",
    ]
