"""Staging is backed up, damaged and restored on its host: every row and every file is as it was. A drill restores it elsewhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest

from tasks import drill
from tasks.bucket import layout
from tasks.infrastructure import find, hosts, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import Existing
from tasks.server import ledger
from tests.conftest import DOIT, commit, until
from tests.end_to_end.conftest import Site

pytestmark = pytest.mark.end_to_end

SHARED = "/srv/shop/shared"
RELAY_PASSWORD = "it's # the: relay's"
ROWS = (
    'mariadb-dump --skip-comments --order-by-primary --skip-extended-insert shop | sed -E "s/DEFINER=[^ ]+//"'
)
"""Without who has made views and triggers: what is restored is whose user loads it."""
FILES = f"cd {SHARED}/pub/media && find . -type f -print0 | sort -z | xargs -0 sha256sum && stat -c %U:%n *"
ODD = (
    "CREATE TABLE odd (id INT PRIMARY KEY, word TEXT, raw BLOB, at TIMESTAMP NULL, twice INT AS (id * 2) STORED);"
    "INSERT INTO odd (id, word, raw) SELECT seq, CONCAT(CONVERT(0x69742773F09F98805C USING utf8mb4), seq),"
    " UNHEX(SHA2(seq, 256)) FROM seq_1_to_3000;"
    "CREATE VIEW odd_view AS SELECT id FROM odd;"
    "CREATE TRIGGER odd_trigger BEFORE INSERT ON odd FOR EACH ROW SET NEW.at = NULL;"
)
"""Rows with quotes, emoji, bytes, nothing and what is computed; a view; a trigger."""


DRILLED = (
    "CREATE TABLE drilled (id INT PRIMARY KEY, word TEXT);"
    "INSERT INTO drilled SELECT seq, CONCAT(CONVERT(0x69742773F09F98805C USING utf8mb4), seq) FROM seq_1_to_3000;"
)
BROKEN = """
import importlib.machinery, importlib.util, json, os, shutil
loader = importlib.machinery.SourceFileLoader("backup", "/usr/local/sbin/backup")
backup = importlib.util.module_from_spec(importlib.util.spec_from_loader("backup", loader))
loader.exec_module(backup)
settings = backup.Settings(json.loads(backup.read("/etc/backup.json")))
work = settings.state + "/dump"
backup.restic(settings, "restore", {good!r}, "--target", "/", "--include", work)
with open(work + "/database.sql") as file:
    text = file.read()
begin = text.index("DROP TABLE IF EXISTS `drilled`")
changed = {change}
assert changed != text
backup.write(work + "/database.sql", changed)
there = [each for each in (settings.shared + "/" + name for name in settings.paths) if os.path.exists(each)]
backup.restic(settings, "backup", "--host", settings.host, work + "/noted", work + "/database.sql", *there)
shutil.rmtree(work)
"""
"""On a host: a newest backup that has other rows than it says. It begins with a good one."""


@pytest.fixture(scope="module")
def staging(site):
    """Staging beside the branch's environment, with a relay for mail, released once; its machine stops at the end."""
    made = Site(root=site.root, variables={"environment": "staging"})
    with (site.root / "environments" / "staging.yml").open("a") as file:
        file.write("server:\n  mail: {relay_host: smtp.example.com, relay_user: shop}\n")
    commit(site.root, "a relay")
    assert "server.mail.relay_user: is shop, and there is no password" in made.doit("server").stderr
    run = made.run
    secrets.bring(run.cloud.client("ssm"), run.secrets_folder, "relay_password", RELAY_PASSWORD)
    answered = made.doit("release")
    assert answered.returncode == 0, answered.stdout + answered.stderr
    yield made
    made.run.cloud.client("ec2").stop_instances(InstanceIds=[made.host.name])


def last_record(staging):
    store = staging.run.store
    return store.read(max(store.keys(layout.all_restored("staging")))).value


@pytest.mark.long(short="tests/backup/test_host_program.py::test_what_was_backed_up_is_as_it_was_again")
@pytest.mark.promise(
    "a-restore-brings-all-back",
    "a-restore-keeps-what-was-there",
    "a-failed-backup-is-a-sentence",
    "unrestored-counts-as-none",
    "a-trial-touches-nothing",
)
def test_staging_is_backed_up_damaged_and_restored_row_by_row_and_file_by_file(site, staging, tmp_path):
    def on_host(command):
        return staging.ssh(command, tmp=tmp_path)

    def column():
        return next(
            each["backup"]
            for each in json.loads(staging.doit("status", "--json").stdout)
            if each["environment"] == "staging"
        )

    # its mail goes to the relay alone, with a password that is root's
    assert on_host("postconf -h relayhost default_transport smtp_tls_security_level").split() == [
        "[smtp.example.com]:587",
        "smtp",
        "secure",
    ]
    assert on_host("stat -c %U:%G:%a /etc/postfix/relay_password").strip() == "root:root:600"
    assert (
        on_host("cat /etc/postfix/relay_password").strip() == f"[smtp.example.com]:587 shop:{RELAY_PASSWORD}"
    )
    assert on_host("systemctl is-active postfix caught_mail || true").split() == ["active", "inactive"]
    assert RELAY_PASSWORD not in on_host(
        "journalctl --no-pager; cat /var/lib/release-pipeline/ledger/server.json"
    )

    # whoever backs nothing up has neither timer nor password
    assert (
        site.ssh("ls /etc/backup.json /etc/systemd/system/*backup* 2> /dev/null || true", tmp=tmp_path) == ""
    )
    assert on_host("stat -c %a.%U /etc/backup.json").strip() == "600.root"
    assert on_host("systemctl is-enabled backup.timer && systemctl is-active backup.timer").split() == [
        "enabled",
        "active",
    ]
    on_host("systemctl stop cron workers.target")  # what they do is in no comparison
    on_host(
        f"mkdir -p {SHARED}/pub/media/catalog && cp /bin/ls {SHARED}/pub/media/catalog/it\\ has\\ \\ blanks.jpg"
    )
    on_host(f"for each in $(seq 50); do echo $each > {SHARED}/pub/media/catalog/$each; done")
    on_host(f"chown -R shop: {SHARED}/pub/media")
    on_host(f'mariadb shop --execute "{ODD}"')
    rows, files, page = on_host(ROWS), on_host(FILES), staging.get()
    assert rows.count("INSERT INTO") > 3000
    assert page[0] == 200

    assert (column()["newest"], column()["restored"]) == ("", "")
    backed_up = staging.doit("backup")
    assert backed_up.returncode == 0, backed_up.stdout + backed_up.stderr
    assert "MB of them new" in backed_up.stdout
    assert (bool(column()["newest"]), column()["restored"]) == (True, "")

    # beside what is there, in a server of its own
    tried = staging.doit("restore", "--try")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "51 files" in tried.stdout
    assert column()["restored"]
    there = json.loads(on_host("backup measure"))
    told = last_record(staging)
    assert (told["tables"], told["files"]) == (there["tables"], there["files"])
    assert on_host("ls /srv/shop/trial 2> /dev/null || true; pgrep --count mariadbd").split() == ["1"]

    # an empty database, files that are gone, others that came
    on_host('mariadb --execute "DROP DATABASE shop; CREATE DATABASE shop"')
    on_host(f"rm -r {SHARED}/pub/media/catalog && echo new > {SHARED}/pub/media/new.jpg")
    restored = staging.doit("restore")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert on_host(ROWS) == rows
    assert on_host(FILES) == files
    assert staging.get() == page
    aside = restored.stdout.partition("what was there is in ")[2].split()[0]
    assert on_host(f"cat {aside}/pub/media/new.jpg") == "new"
    assert on_host("systemctl is-active workers.target").strip() == "active"
    again = last_record(staging)
    assert {name: told[name] for name in ("tables", "files", "snapshot")} == {
        name: again[name] for name in ("tables", "files", "snapshot")
    }

    # as the timer does it
    on_host("systemctl start backup.service")
    assert "MB of them new" in on_host("journalctl --unit backup.service --output cat")
    assert staging.doit("backup", "--forget").stdout.strip() == "2 backups are left of staging"
    refused = staging.doit("restore", "2000-01-01")
    assert refused.returncode == 1
    assert f"restore: {staging.host.name}: no backup is from 2000-01-01 or before" in refused.stderr
    on_host("systemctl start cron")
    assert staging.stages("server")["server"] == "unchanged"


@pytest.mark.long(
    short="tests/test_drill.py::test_a_backup_that_was_restored_is_recorded_and_nothing_of_the_host_stays"
)
@pytest.mark.promise(
    "a-drill-restores-elsewhere",
    "a-drill-s-host-is-walled-in",
    "a-drill-s-host-ends",
    "a-broken-backup-is-refused",
)
def test_the_newest_backup_is_restored_on_a_host_of_its_own_and_a_broken_one_is_refused(staging, tmp_path):
    run = staging.run
    there = drill.throw_away_host(run)
    staging.ssh(f'mariadb shop --execute "{DRILLED}"', tmp=tmp_path)
    staging.ssh(
        f"mkdir -p {SHARED}/pub/media/catalog && cp /bin/ls {SHARED}/pub/media/catalog/a.jpg", tmp=tmp_path
    )
    assert staging.doit("backup").returncode == 0
    good = json.loads(staging.ssh("backup list", tmp=tmp_path))[-1]["id"]

    # a drill that is killed: its host has nothing but a way to the bucket, and says when it ends
    with (tmp_path / "said").open("w") as said:
        child = subprocess.Popen(
            [DOIT, "environment=staging", "drill"],
            cwd=staging.root,
            env={**os.environ, "PYTHONPATH": str(staging.root)},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    until(lambda: ledger.stored(there.store, there.identity) or child.poll() is not None, 300)
    child.send_signal(signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL, (tmp_path / "said").read_text()
    assert "starts from the baked image" in (tmp_path / "said").read_text()
    (left,) = find.everything(there).machines
    assert left.tags["environment"] == "drill-staging"
    assert left.tags["expires"]
    (host,) = hosts.reachable(there, infrastructure.existing(there))

    def inside(command):
        program = f"import subprocess; print(subprocess.run({command!r}, shell=True, capture_output=True, text=True).stdout)"
        return run.hosts.python(host, "test", program).strip()

    bucket = run.cloud.s3_endpoint
    asks = "curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5"
    proxy = "--proxy http://127.0.0.1:3128"
    assert inside(f"{asks} {proxy} {bucket}/") == "403", "the bucket answers by the proxy"
    assert inside(f"{asks} --noproxy '*' {bucket}/") == "000", "and by no other way"
    assert inside(f"{asks} {proxy} http://example.com/") == "403"
    assert "TCP_DENIED" in inside("journalctl -t squid --no-pager")
    listening = inside("ss --no-header --tcp --listening --numeric").splitlines()
    assert {line.split()[3].rpartition(":")[2] for line in listening} == {"22", "53", "3128", "3306"}
    assert inside("systemctl is-active self_shutdown.timer; ls /etc/systemd/system/backup.timer") == "active"

    tried = staging.doit("drill")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert re.search(
        r"^staging: [0-9a-f]{8} of .+ UTC can be restored: \d+ tables with \d+ rows, \d+ files, in ",
        tried.stdout,
        re.M,
    )
    told = last_record(staging)
    assert (told["snapshot"], told["how"], told["compared"]) == (good, "drill", True)
    assert told["tables"] == json.loads(staging.ssh("backup measure", tmp=tmp_path))["tables"]
    assert told["tables"]["drilled"][0] == 3000
    assert " was restored on " in staging.doit("status").stdout
    assert find.everything(there) == Existing()

    changes = {
        "the table drilled is missing": "text[:begin] + text[text.index('UNLOCK TABLES', begin) :]",
        "rows of the table drilled differ": "text[:begin] + text[begin:].replace('(7,', '(-7,', 1)",
    }
    for words, change in changes.items():
        run.hosts.python(staging.host, "test", BROKEN.format(good=good, change=change))
        refused = staging.doit("drill")
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert words in refused.stderr
        assert f"it counts as none; the one of {told['time'][:10]}" in staging.doit("status").stdout
        assert find.everything(there) == Existing()

    assert staging.doit("backup").returncode == 0
    packs = {
        key: run.store.open(key).read() for key in run.store.keys(layout.backups("staging", "data/"))
    }  # any of them may be one that this backup needs
    for key, content in packs.items():
        run.store.client.put_object(Bucket=run.bucket, Key=key, Body=content[: len(content) // 2])
    refused = staging.doit("drill")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "the newest backup of staging counts as none: " in refused.stderr
    for key, content in packs.items():
        run.store.client.put_object(Bucket=run.bucket, Key=key, Body=content)
    assert staging.doit("drill").returncode == 0
    assert find.everything(there) == Existing()
