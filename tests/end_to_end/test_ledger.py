"""A skip of `server` is proved by the host: drift is named and put right, leftovers go, and nothing else does."""

from __future__ import annotations

import io
import json
import time

import pytest

from tasks.console.console import Console
from tasks.hosts import ansible
from tasks.infrastructure import stage as infrastructure
from tasks.server import drift, ledger
from tasks.server import stage as server
from tests.clouds import secrets_of
from tests.conftest import commit, until
from tests.end_to_end.conftest import Site, replace
from tests.roles.others import shelf
from tests.roles.test_required_role import TOLD, fetch

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("ledger")]


@pytest.fixture
def ssh(site, tmp_path):
    """Run a command on the site's machine."""
    return lambda *command: site.ssh(*command, tmp=tmp_path)


def said(answered):
    return [line for line in answered.stdout.splitlines() if line.startswith("  server ")]


@pytest.mark.promise("skip-is-measured", "drift-is-named-and-corrected", "corrected-file-is-read-again")
def test_what_a_hand_has_changed_is_named_and_put_right(site, ssh):
    assert site.stages("release")["server"] == "unchanged"
    changes = [
        "echo >> /etc/nginx/nginx.conf",
        "systemctl disable --now redis-server",
        "apt-get -qq remove php8.2-bcmath",
        "chmod 600 /etc/cron.d/shop",
        "chown daemon /etc/varnish/default.vcl",
    ]
    reasons = [
        "/etc/nginx/nginx.conf",
        "active of unit redis-server",
        "enabled of unit redis-server",
        "package php8.2-bcmath is gone",
        "mode of /etc/cron.d/shop",
        "owner of /etc/varnish/default.vcl",
    ]
    workers = set(ssh("pidof nginx").split())
    ssh("; ".join(changes), "2>&1")
    explained = site.doit("info", "server")
    assert explained.returncode == 0
    answered = site.doit("release")
    assert answered.returncode == 0, answered.stderr
    for reason in reasons:
        assert f"host drifted: {reason}" in explained.stdout
        assert any(line.endswith(f"host drifted: {reason}") for line in said(answered)), answered.stdout
    assert len([line for line in said(answered) if "host drifted" in line]) == len(reasons)
    assert set(ssh("pidof nginx").split()) & workers != workers  # it was reloaded
    assert ssh("systemctl is-active redis-server; systemctl is-enabled redis-server").split() == [
        "active",
        "enabled",
    ]
    assert ssh("stat -c %a,%U /etc/cron.d/shop /etc/varnish/default.vcl").split() == ["644,root", "644,root"]
    assert "install ok" in ssh("dpkg-query -W -f=\\${Status} php8.2-bcmath")
    assert site.stages("release")["server"] == "unchanged"
    assert site.get()[0] == 200


@pytest.mark.long(short="tests/server/test_ledger.py::test_an_unknown_file_is_reported_and_is_no_drift")
@pytest.mark.promise("foreign-file-is-reported")
def test_a_file_added_by_hand_is_reported_and_runs_nothing(site, ssh):
    ssh("mkdir -p /etc/nginx/conf.d; touch /etc/cron.d/by-hand /etc/nginx/conf.d/x.conf")
    try:
        for arguments in [("release",), ("release",), ("forget", "server"), ("release",), ("release",)]:
            answered = site.doit(*arguments)
            assert answered.returncode == 0
            for path in ("/etc/cron.d/by-hand", "/etc/nginx/conf.d/x.conf"):
                assert (f"not ours: {path}" in answered.stdout) is (arguments == ("release",))
        assert "nothing to do" in answered.stdout
    finally:
        ssh("rm /etc/cron.d/by-hand /etc/nginx/conf.d/x.conf")
    assert "not ours" not in site.doit("release").stdout


@pytest.mark.long(
    short="tests/hosts/test_ssh_answers.py::test_why_a_program_did_not_run_is_found_by_asking_the_host"
)
def test_a_host_that_does_not_answer_is_one_sentence(site, ssh):
    soon = "systemd-run --timer-property=AccuracySec=100ms"  # timers are a minute late else
    ssh(f"{soon} --on-active=40 systemctl start ssh; {soon} --on-active=1 systemctl stop ssh")
    time.sleep(3)
    answered = site.doit("release")
    assert answered.returncode == 1
    assert "does not answer on port 22" in answered.stderr
    assert "Traceback" not in answered.stderr + answered.stdout
    until(lambda: site.doit("release").returncode == 0)


def test_the_proof_takes_less_than_a_person_notices(site):
    run = site.run
    found = infrastructure.existing(run)
    world = drift.AsRecorded("server")
    answers = world._ask(run, found)
    assert answers == {found[0].id: ([], [])}
    print(f"one round trip to the host: {world.seconds:.2f} s (wanted: 0.3 s or less)")  # noqa: T201


@pytest.mark.promise("compare-servers", "compare-exit-code", "equal-servers-compare-equal")
@pytest.mark.promise("second-teardown-finds-nothing", "teardown-leaves-nothing", "teardown-removes-it-all")
def test_another_branch_has_a_host_name_data_and_settings_of_its_own(site, ssh, tmp_path):
    other = Site(root=site.root, variables={"branch": "feature/twin"})
    settings = site.root / "environments" / "testing.yml"
    text = settings.read_text()
    try:
        assert other.doit("release").returncode == 0
        assert other.run.host_name != site.run.host_name
        assert other.host.address != site.host.address
        assert {each.partition(" ")[0] for each in other.left()} == {
            "machine",
            "key",
            "group",
            "secret",
            "name",
        }
        ssh('mysql shop -e "UPDATE catalog_product SET price = 1111.11"')
        assert other.get()[0] == 200
        (tmp_path / "other").mkdir()
        prices = other.ssh('mysql -N shop -e "SELECT price FROM catalog_product"', tmp=tmp_path / "other")
        assert "1111.11" not in prices
        same = site.doit("compare", "main", "feature/twin")
        assert (same.returncode, same.stdout.splitlines()[:-1]) == (0, []), same.stdout + same.stderr
        settings.write_text(
            text + "server:\n  base:\n    timezone: Europe/Berlin\n  varnish:\n    memory: 64m\n"
        )
        commit(site.root)
        assert other.doit("server").returncode == 0
        differ = site.doit("compare", "main", "feature/twin")
        assert differ.returncode == 1
        names = [line.partition(": ")[0] for line in differ.stdout.splitlines()[:-1]]
        assert names == [
            "file /etc/localtime target",
            "file /etc/php/8.2/cli/conf.d/99-limits.ini",
            "file /etc/php/8.2/fpm/conf.d/99-limits.ini",
            "file /etc/systemd/system/varnish.service.d/override.conf",
            "file /etc/timezone",
            "setting server.base.timezone",
            "setting server.varnish.memory",
        ]
        assert "Europe/Berlin" in differ.stdout
    finally:
        if settings.read_text() != text:
            settings.write_text(text)
            commit(site.root, "back")
        left = other.doit("teardown")
        assert left.returncode == 0, left.stderr
    assert "end machine" in left.stdout
    assert other.left() == []
    assert site.get()[0] == 200
    assert "nothing of" in other.doit("teardown").stdout
    unknown = site.doit("compare", "main", "nowhere")
    assert unknown.returncode == 1
    assert "has no ledger" in unknown.stderr


@pytest.mark.long(
    short="tests/roles/test_required_role.py::test_a_clone_without_it_says_what_to_type_and_with_it_the_stage_depends_on_it"
)
def test_a_role_of_others_is_provisioned_once_and_goes_with_its_line(site, ssh, tmp_path):
    files = [site.root / "requirements.yml", site.root / "applications" / "magento2" / "profile.yml"]
    before = [each.read_text() for each in files]
    try:
        with shelf(tmp_path / "shelf") as served:
            served.require(site.root, served.put())
            fetch(site.root)
        files[1].write_text(before[1].replace("    self_shutdown:", f"{TOLD}    self_shutdown:"))
        commit(site.root, "a role of others")
        assert site.stages("server")["server"] == "done"
        assert ssh("cat /etc/greeting") == "good day, shop"
        assert site.stages("server")["server"] == "unchanged"
        ssh("rm /etc/greeting")
        assert "host drifted: /etc/greeting is gone" in site.doit("server").stdout
        assert ssh("cat /etc/greeting") == "good day, shop"
    finally:
        for each, text in zip(files, before, strict=True):
            each.write_text(text)
        fetch(site.root)
        commit(site.root, "back")
        left = site.doit("server")
    assert "leftover file /etc/greeting: removed" in left.stdout, left.stdout + left.stderr
    assert ssh("ls /etc/greeting 2>/dev/null || echo none") == "none"


@pytest.mark.long(
    short="tests/end_to_end/test_unmanaged.py::test_what_no_role_manages_any_more_goes_and_nothing_else_does"
)
@pytest.mark.promise("leftover-is-removed", "equal-servers-compare-equal")
def test_a_host_that_loses_a_role_is_as_one_that_never_had_it(site, ssh):
    files = [
        site.root / "applications" / "magento2" / "profile.yml",
        site.root / "environments" / "testing.yml",
    ]
    before = [each.read_text() for each in files]
    other = Site(root=site.root, variables={"branch": "feature/fresh"})
    parts = "\n".join(
        [
            "systemctl list-units --all --plain --no-legend --type=service | grep -E postfix\\|caught",
            "dpkg-query -W -f=\\${db:Status-Abbrev}\\${Package}\\\\n postfix libsasl2-modules | grep ^ii",
            "ls /etc/postfix/main.cf /etc/postfix/master.cf /etc/caught_mail.json /usr/local/sbin/caught_mail",
            "ss -Hltn | grep -E :25\\|:8025",
        ]
    )
    assert len(ssh(f"({parts}) 2>/dev/null || true").splitlines()) >= 8
    try:
        profile = {"    mail:\n": "", "    - to: mail.smtp\n": "", "php, mail, backup]": "php, backup]"}
        settings = {"mail: caught # every mail, whatever its recipient: doit open mail\n": ""}
        for path, words in zip(files, (profile, settings), strict=True):
            replace(path, words)
        commit(site.root, "an application that sends no mail")
        left = site.doit("server")
        assert left.returncode == 0, left.stdout + left.stderr
        assert ssh(f"({parts}) 2>/dev/null || true") == ""
        assert other.doit("release").returncode == 0
        same = site.doit("compare", "main", "feature/fresh")
        assert (same.returncode, same.stdout.splitlines()[:-1]) == (0, []), same.stdout + same.stderr
    finally:
        for path, text in zip(files, before, strict=True):
            path.write_text(text)
        commit(site.root, "back")
        back = [site.doit("server"), other.doit("teardown")]
    assert [each.returncode for each in back] == [0, 0], back


@pytest.mark.promise("ledger-is-for-root", "secret-files-are-in-the-ledger")
def test_no_secret_is_in_a_ledger_and_only_root_reads_it(site, ssh):
    run, path = site.run, "/var/lib/release-pipeline/ledger/server.json"
    known = secrets_of(run)
    for text in (
        json.dumps(ledger.read(run.store, run.identity, site.host.name, "server").as_dict()),
        ssh(f"cat {path}"),
    ):
        for path_of_role in ("/etc/nginx/nginx.conf", "/etc/nginx/visitors", "/etc/ssl/site.pem"):
            assert f"file {path_of_role}" in text
        assert known.database_password not in text
        assert known.crypt_key not in text
    assert ssh(f"stat -c %a,%U {path}").strip() == "600,root"


@pytest.mark.promise("both-strategies-record-the-same")
def test_both_strategies_record_the_same(site):
    run, host = site.run, site.host
    (machine,) = infrastructure.existing(run)
    told = {**server.variables(run), **server.beside(run, [machine], machine)}
    first, second = (
        ansible.play(
            "server",
            hosts=[host],
            variables={**told, "server_roles": ["nginx", "shared"]},
            strategy=strategy,
            console=Console(io.StringIO()),
            log=None,
        )
        .recorded[host.name]
        .resources
        for strategy in ("mitogen_linear", "linear")
    )
    assert {name: each["task"] for name, each in first.items()} == {
        name: each["task"] for name, each in second.items()
    }
    assert {name.partition(" ")[0] for name in first} == {"file", "package", "unit"}
    assert "file /srv/shop/shared/app/etc/env.php" in first
    assert "package nginx" in first
