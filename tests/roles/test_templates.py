"""What the templates render for unusual values."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.rules import configuration

ROLES = Path(__file__).parents[2] / "roles"


def render(role, template, **variables):
    return render_in(ROLES / role / "templates", template, **variables)


def render_in(folder, template, **variables):
    variables["ansible_search_path"] = [str(folder)]
    loader = DataLoader()
    loader.set_basedir(str(folder))  # for what a template imports
    templar = Templar(loader=loader, variables=variables)
    text = trust_as_template((folder / template).read_text())
    return templar.template(text, escape_backslashes=False)  # as the template module does


def test_the_firewall_lets_in_what_is_named_and_nothing_else():
    rules = render(
        "firewall",
        "nftables.conf.j2",
        firewall_egress="open",
        firewall_ssh_from=["192.0.2.0/24", "2001:db8::/32"],
        **configuration.SAMPLES,
    )
    assert configuration.chains(rules) == configuration.CHAINS


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"command": ["php", "x"]}, "* * * * * shop /usr/local/sbin/cron_job php x"),
        ({"minute": "*/5", "command": ["a"]}, "*/5 * * * * shop /usr/local/sbin/cron_job a"),
        (
            {"hour": "3", "minute": "0", "command": ["a", "b c"]},
            "0 3 * * * shop /usr/local/sbin/cron_job a 'b c'",
        ),
        ({"command": ["date", "+%d"]}, "* * * * * shop /usr/local/sbin/cron_job date +\\%d"),
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


@pytest.mark.promise("nothing-begins-in-maintenance")
def test_no_command_begins_by_the_clock_while_the_file_of_maintenance_exists():
    program = render(
        "cron",
        "cron_job.j2",
        cron_unless="var/closed now",
        application_name="shop",
        application_path="/srv/shop",
    )
    assert '"var/closed now" || exit 0' in program


def test_a_job_that_waits_while_data_is_replaced_is_left_out(tmp_path):
    for each in ("releases", "current", "bin"):
        (tmp_path / each).mkdir()
    said = {"cron_unless": "", "application_name": "shop", "application_path": str(tmp_path)}
    program = render("cron", "cron_job.j2", **said)
    assert program.count("--timeout 30 ") == 1
    (tmp_path / "job").write_text(program.replace("--timeout 30 ", "--timeout 0.2 "))
    (tmp_path / "bin" / "systemd-cat").write_text(
        '#!/bin/sh\nshift 2\nexec "$@"\n'
    )  # there is no journal here
    (tmp_path / "bin" / "systemd-cat").chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def job():
        return subprocess.run(
            ["sh", tmp_path / "job", "echo", "ran"], env=path, capture_output=True, text=True, timeout=20
        )

    holder = os.open(tmp_path / "releases", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    left_out = job()
    os.close(holder)
    done = job()
    assert [(each.returncode, each.stdout, each.stderr) for each in (left_out, done)] == [
        (0, "", ""),
        (0, "ran\n", ""),
    ]


@pytest.mark.parametrize(
    ("role", "template", "variable"),
    [("certificates", "site.pem.j2", "certificates_site"), ("nginx", "visitors.j2", "nginx_visitor")],
)
def test_a_file_that_is_one_value_has_its_bytes_and_no_more(role, template, variable):
    """Whether a host has a certificate is told by the digest of the file."""
    for value in ("", "a {{ b }}\n\n", "a"):
        assert render(role, template, **{variable: value}) == value


def test_all_shared_logs_are_rotated_by_one_entry():
    entry = render(
        "shared",
        "logrotate.j2",
        application_user="shop",
        application_web_user="web-shop",
        application_path="/srv/shop",
        shared_directories=["var/log", "var/report"],
    )
    assert entry.split("{")[0].split() == [
        "/srv/shop/shared/var/log/*.log",
        "/srv/shop/shared/var/report/*.log",
    ]


@pytest.mark.promise("nothing-begins-in-maintenance")
def test_a_worker_s_command_reaches_it_word_for_word():
    unit = render(
        "workers",
        "worker.service.j2",
        __workers_unit={"name": "queue", "command": ["php", "a b", 'say "%d"', "$HOME\\"]},
        workers_unless=".closed",
        workers_stop_seconds=9,
        proxy_variables={"http_proxy": "http://127.0.0.1:3128"},
        application_after=["mariadb.service"],
        application_name="shop",
        application_user="shop",
        application_path="/srv/shop",
    ).splitlines()
    assert r'ExecStart="php" "a b" "say \"%%d\"" "$$HOME\\"' in unit
    assert 'Environment="http_proxy=http://127.0.0.1:3128"' in unit, "a change of it restarts the worker"
    assert "ConditionPathExists=!/srv/shop/current/.closed" in unit
    assert "TimeoutStopSec=9" in unit
    assert "After=workers.target network.target mariadb.service" in unit


def test_the_target_wants_every_process_of_every_worker():
    target = render(
        "workers",
        "workers.target.j2",
        workers_units=[
            {"name": "mail", "command": ["a"]},
            {"name": "queue", "command": ["b"], "processes": 2},
        ],
        application_name="shop",
    )
    assert [line.partition("=")[2] for line in target.splitlines() if line.startswith("Wants=")] == [
        "worker-mail@1.service",
        "worker-queue@1.service",
        "worker-queue@2.service",
    ]


@pytest.mark.promise("later-lines-count")
def test_an_environment_file_quotes_values_and_its_variables_come_last():
    lines = render_in(
        ROLES.parent / "applications" / "php",
        "env.j2",
        application_base_url="https://shop.localhost/",
        application_test_data=True,
        database_host="localhost",
        database_name="shop",
        database_user="shop",
        database_password=r'p"@$\ss',
        shared_crypt_key="key",
        shared_variables=["MAIL=a=b c", "APP_DEBUG=1"],
        server_services={
            "mail": {"smtp": {"address": "127.0.0.1", "port": 25}},
            "mariadb": {"sql": {"port": 3306, "elsewhere": False}},
        },
    ).splitlines()
    assert 'MAILER_DSN="smtp://127.0.0.1:25"' in lines
    assert r'DB_PASSWORD="p\"@\$\\ss"' in lines
    assert 'DATABASE_URL="mysql://shop:p%22%40%24%5Css@localhost/shop?charset=utf8mb4"' in lines
    assert lines[-2:] == ['MAIL="a=b c"', 'APP_DEBUG="1"']


@pytest.mark.promise("no-mail-of-test-data")
@pytest.mark.parametrize(
    ("test_data", "catch", "smtp"),
    [
        (True, False, {"disable": "1"}),
        (False, False, {"disable": "0"}),
        # to the host itself, whatever relay the shop's own settings name
        (True, True, {"disable": "0", "transport": "sendmail"}),
        (False, True, {"disable": "0", "transport": "sendmail"}),
    ],
)
def test_a_shop_with_test_data_sends_no_mail_unless_it_is_caught(test_data, catch, smtp, tmp_path):
    written = tmp_path / "env.php"
    told = ("database_host", "database_name", "database_user", "database_password", "shared_crypt_key")
    told += ("search_host", "search_port", "search_prefix", "search_user", "search_password")
    told += (
        "application_host_name",
        "application_base_url",
        "redis_sessions_password",
        "redis_cache_password",
    )
    hosts = {
        "application_hosts": [{"id": "i-1", "address": "10.0.0.1"}],
        "inventory_hostname": "i-1",
        "application_stores": [],
        "application_host_names": ["x"],
        "server_services": configuration.services(ROLES.parent, "magento2", {"nginx_page_cache": True}),
    }
    variables = {**dict.fromkeys(told, "x"), **hosts, "application_test_data": test_data, "mail_catch": catch}
    written.write_text(render_in(ROLES.parent / "applications" / "magento2", "env.php.j2", **variables))
    script = f"echo json_encode((include '{written}')['system']['default']['system']);"
    said = subprocess.run(["php", "-r", script], check=True, capture_output=True, text=True).stdout
    assert json.loads(said) == {
        "full_page_cache": {"caching_application": "2"},
        "smtp": smtp,
    }
