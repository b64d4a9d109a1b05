"""A repository of backups opens by another password, and the bucket is reached by another key; the former ones end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tasks.backup import access, repository
from tasks.backup.host import BackupFailed
from tasks.infrastructure import secrets
from tasks.infrastructure import stage as infrastructure
from tasks.rotation import rotate
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import ROOT
from tests.paper import PaperHosts


@pytest.fixture
def run(checkout, server):  # noqa: F811
    shutil.copytree(ROOT / "playbooks", checkout / "playbooks")
    made = run_in(
        checkout, QuietCloud(REGION, server.home.load()), PaperHosts(), environment="staging", branch="main"
    )
    infrastructure.share(made)
    infrastructure.converge(made)
    access.variables(made, secrets.ensure(made.cloud.client("ssm"), made.secrets_folder, ["backup"]))
    return made


def opens(run, password):
    try:
        repository.restic(run, password, "cat", "config", "--no-lock")
    except BackupFailed:
        return False
    return True


def kept(run):
    return secrets.known(run.cloud.client("ssm"), run.secrets_folder)


@pytest.mark.promise("the-former-backup-password-ends", "a-rotation-goes-on")
def test_what_was_backed_up_is_there_and_opens_by_the_new_password_only(run, tmp_path):
    first = kept(run).backup_password
    assert not repository.open_by(run, first, "another"), "nothing was backed up yet"
    repository.restic(run, first, "init")
    (tmp_path / "file").write_text("content\n")
    repository.restic(run, first, "backup", str(tmp_path / "file"))
    # cut off after the repository was told
    cut_off = "value-of-a-rotation-that-was-cut-off"
    secrets.settle(run.cloud.client("ssm"), run.secrets_folder, {"backup_password_next": cut_off})
    assert repository.open_by(run, first, cut_off)
    assert opens(run, first)
    (line,) = rotate.rotate(run, "backup_password")
    assert line == "backup_password: the repository opens by another one only"
    after = kept(run)
    assert (after.backup_password, after.backup_password_next) == (cut_off, "")
    assert not opens(run, first)
    (backup,) = json.loads(repository.restic(run, cut_off, "snapshots", "--json", "--no-lock"))
    assert backup["paths"] == [str(Path(tmp_path / "file"))]


@pytest.mark.promise("the-former-backup-key-ends")
def test_the_user_of_backups_has_the_new_access_key_only(run):
    iam, name = run.cloud.client("iam"), access.user("shop", "staging")
    first = kept(run).backup_key_id
    iam.create_access_key(UserName=name)  # of a rotation that was cut off
    list(rotate.rotate(run, "backup_key"))
    (left,) = iam.list_access_keys(UserName=name)["AccessKeyMetadata"]
    assert left["AccessKeyId"] == kept(run).backup_key_id != first
