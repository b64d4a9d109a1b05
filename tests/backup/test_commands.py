"""`doit backup` and `doit restore`: what is refused before a host is asked, and where nothing can be backed up."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from tasks.backup.host import BackupOff
from tasks.commands.backup import BackupCommand, RestoreCommand, RestoreUnconfirmed
from tasks.commands.base import WordsNotTaken
from tasks.console.console import Console
from tasks.infrastructure.stage import NoMachine, NoMachineFound
from tasks.promotion.rules import Frozen
from tasks.settings import SettingWrong
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import IdleHosts, QuietCloud, run_in


@pytest.fixture
def typed(checkout, server):  # noqa: F811
    def typed(command, *words, environment="staging", **options):
        run = run_in(
            checkout,
            QuietCloud(REGION, server.home.load()),
            IdleHosts(),
            Console(stream=io.StringIO()),
            environment=environment,
            branch="main",
        )
        made = command(task_loader=None)
        made.task_list = [SimpleNamespace(meta={"run": run})]
        more = {"pos_args": list(words)} if words else {}
        return made._execute(**options, **more)

    return typed


def test_where_nothing_is_backed_up_there_is_nothing_to_restore(typed):
    words = r"testing does not back up \(environments/testing.yml: backup.at, "
    for command in (BackupCommand, RestoreCommand):
        with pytest.raises(BackupOff, match=words):
            typed(command, environment="testing")
    with pytest.raises(BackupOff, match=words):
        typed(BackupCommand, environment="testing", forget=True)


@pytest.mark.promise("a-restore-is-confirmed")
def test_what_customers_see_is_replaced_by_who_types_its_name_and_not_in_a_freeze(typed, checkout):
    again = "doit restore --confirm production.shop.localhost 2026-11-28"
    for confirm in ("", "production", "staging.shop.localhost"):
        with pytest.raises(RestoreUnconfirmed, match=again):
            typed(RestoreCommand, "2026-11-28", environment="production", confirm=confirm)
    right = {"environment": "production", "confirm": "production.shop.localhost"}
    with pytest.raises(NoMachineFound):
        typed(RestoreCommand, **right)
    path = checkout / "environments" / "production.yml"
    path.write_text(f"{path.read_text()}freezes: [2020-01-01/2090-01-01]\n")
    with pytest.raises(Frozen, match=r"^restore: production is frozen"):
        typed(RestoreCommand, **right)


def test_staging_is_restored_without_a_confirmation(typed):
    with pytest.raises(NoMachine):
        typed(RestoreCommand)
    with pytest.raises(WordsNotTaken):
        typed(RestoreCommand, "newest", "2026-11-28")


@pytest.mark.promise("no-backup-where-teardown-is")
def test_what_a_teardown_would_make_unreadable_is_not_backed_up(typed, checkout):
    path = checkout / "environments" / "testing.yml"
    path.write_text(path.read_text().replace("egress: listed", 'egress: open\nbackup: {at: "03:30"}'))
    with pytest.raises(SettingWrong, match=r"backup.at: should be empty where `stages` or `also`"):
        typed(BackupCommand, environment="testing")
