"""Staging is backed up, damaged and restored on its host: every row and every file is as it was."""

from __future__ import annotations

import json

import pytest

from tasks.infrastructure import secrets
from tests.conftest import commit
from tests.end_to_end.conftest import Site

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.long(short="tests/backup/test_host_program.py::test_what_was_backed_up_is_as_it_was_again"),
]

SHARED = "/srv/shop/shared"
RELAY_PASSWORD = "it's # the: relay's"
ROWS = "mariadb-dump --skip-comments --order-by-primary --skip-extended-insert shop"
FILES = f"cd {SHARED}/pub/media && find . -type f -print0 | sort -z | xargs -0 sha256sum && stat -c %U:%n *"
ODD = (
    "CREATE TABLE odd (id INT PRIMARY KEY, word TEXT, raw BLOB, at TIMESTAMP NULL, twice INT AS (id * 2) STORED);"
    "INSERT INTO odd (id, word, raw) SELECT seq, CONCAT(CONVERT(0x69742773F09F98805C USING utf8mb4), seq),"
    " UNHEX(SHA2(seq, 256)) FROM seq_1_to_3000;"
    "CREATE VIEW odd_view AS SELECT id FROM odd;"
    "CREATE TRIGGER odd_trigger BEFORE INSERT ON odd FOR EACH ROW SET NEW.at = NULL;"
)
"""Rows with quotes, emoji, bytes, nothing and what is computed; a view; a trigger."""


@pytest.fixture
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
    assert on_host("stat -c %U:%G:%a /etc/postfix/relay_password") == "root:root:600\n"
    assert on_host("cat /etc/postfix/relay_password") == f"[smtp.example.com]:587 shop:{RELAY_PASSWORD}\n"
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

    assert column() == {"newest": "", "restored": ""}
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
    told = staging.run.store.read("restored/staging.json").value
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
    again = staging.run.store.read("restored/staging.json").value
    assert {name: told[name] for name in ("tables", "files", "snapshot")} == {
        name: again[name] for name in ("tables", "files", "snapshot")
    }

    # as the timer does it
    on_host("systemctl start backup.service")
    assert "MB of them new" in on_host("journalctl --unit backup.service --output cat")
    assert staging.doit("backup", "--forget").stdout.strip() == "1 backups are left of staging"
    refused = staging.doit("restore", "2000-01-01")
    assert refused.returncode == 1
    assert f"restore: {staging.host.name}: no backup is from 2000-01-01 or before" in refused.stderr
    on_host("systemctl start cron")
    assert staging.stages("server")["server"] == "unchanged"
