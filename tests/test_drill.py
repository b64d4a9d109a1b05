"""A restore drill: its throw-away host, what that may read, what is recorded, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
import shutil
import uuid
import zlib
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tasks import drill
from tasks.backup import access, host, restored
from tasks.backup.host import BackupFailed, BackupOff, BackupsElsewhere
from tasks.bucket import layout
from tasks.bucket.lease import EnvironmentHeld, Lease
from tasks.commands.backup import BackupCommand
from tasks.commands.drill import DrillCommand
from tasks.console.console import Console
from tasks.drill import BackupsLate, DrillFailed, DrillUnreachable
from tasks.hosts.playbook_events import PlaybookFailed
from tasks.infrastructure import find, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import Existing
from tasks.process import children
from tasks.refusal import Refusal
from tasks.required_roles import RoleNotFetched
from tasks.server import ledger
from tasks.server import stage as provisioning
from tasks.settings import required_roles
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixtures)
from tests.clouds import Killed, QuietCloud, run_in
from tests.conftest import ROOT, sampled
from tests.paper import RestoringHosts

NOW = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)


@pytest.fixture
def staging(checkout, server, request):  # noqa: F811
    """Staging of a project of its own, which has backed up once."""
    shutil.copytree(ROOT / "playbooks", checkout / "playbooks")

    def made(hosts=None, **variables):
        run = run_in(
            checkout,
            QuietCloud(REGION, server.home.load()),
            hosts or RestoringHosts(),
            Console(stream=io.StringIO()),
            **(variables or {"environment": "staging", "branch": "main"}),
        )
        name = f"shop-{zlib.crc32(request.node.name.encode()):08x}"
        return dataclasses.replace(
            run,
            pipeline=dataclasses.replace(run.pipeline, name=name),
            store=dataclasses.replace(run.store, project=name),
        )

    run = made()
    infrastructure.share(run)
    secrets.ensure(run.cloud.client("ssm"), run.secrets_folder, ["backup"])
    for name in ("staging", "production"):
        key = layout.backups(name, f"snapshots/{RestoringHosts.MEASURES['snapshot']}")
        run.store.put(key, b"a snapshot")
    return made


def nothing_of_the_host(run):
    there = drill.throw_away_host(run)
    assert find.everything(there) == Existing()
    assert ledger.stored(there.store, there.identity) == []


def shown(run):
    return restored.look(run.store, run.identity, 7)


@pytest.mark.promise("a-drill-restores-elsewhere", "a-drill-is-recorded", "unrestored-counts-as-none")
def test_a_backup_that_was_restored_is_recorded_and_nothing_of_the_host_stays(staging):
    run = staging()
    assert "was never restored: it counts as none" in shown(run).words(NOW)
    assert drill.hold(run) == "staging: 01234567 can be restored"
    nothing_of_the_host(run)
    (key,) = run.store.keys(layout.all_restored("staging"))
    told = run.store.read(key).value
    assert {name: told[name] for name in RestoringHosts.MEASURES} == RestoringHosts.MEASURES
    assert (told["how"], told["whole_seconds"] > 0) == ("drill", True)
    found = shown(run)
    assert (found.proved, found.failed) == (True, "")
    assert " was restored on " in found.words(NOW)
    assert " in 12.5 s" in found.words(NOW)
    drill.hold(staging())
    assert len(list(run.store.keys(layout.all_restored("staging")))) == 2, "one more, and the first as it was"
    assert run.store.read(key).value == told


@pytest.mark.promise("a-drill-s-host-is-walled-in", "a-drill-s-host-ends")
def test_the_host_has_testing_s_walls_tags_and_an_end_and_nothing_that_mails(staging):
    run, launched = staging(), []
    run.cloud.client("ec2").meta.events.register(
        "before-parameter-build.ec2.RunInstances", lambda params, **_: launched.append(params)
    )
    drill.hold(run)
    (params,) = launched
    tags = {each["Key"]: each["Value"] for each in params["TagSpecifications"][0]["Tags"]}
    assert (tags["environment"], tags["project"]) == ("drill-staging", run.pipeline.name)
    hours = datetime.datetime.fromisoformat(tags["expires"]) - run.clock.now()
    assert datetime.timedelta(hours=drill.HOURS - 1) < hours <= datetime.timedelta(hours=drill.HOURS)
    assert params["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert not params["DisableApiTermination"]
    played = run.hosts.played
    assert set(played["server_roles"]) == {*drill.ROLES, "mariadb"}
    assert (played["firewall_egress"], played["self_shutdown_enabled"]) == ("listed", True)
    bucket = f"{run.cloud.s3_endpoint.rpartition('/')[2]}"
    assert (played["proxy_allowed"], played["proxy_listed"]) == ([], [bucket])
    ways = {
        (port, user)
        for each in played["firewall_lets_out"]
        for port in each["ports"]
        for user in each["users"]
    }
    assert {user for port, user in ways if port == run.cloud.bucket_port} == {"proxy"}
    assert not {port for port, _ in ways} & {25, 465, 587}
    stopped = set(played["server_units_elsewhere"])
    assert {"nginx.service", "postfix.service"} <= stopped
    assert not {"ssh.service", "mariadb.service", "squid.service"} & stopped
    assert played["backup_at"] == "", "it backs nothing up"


@pytest.mark.promise("a-drill-reads-backups-only")
def test_its_key_reads_this_environment_s_backups_and_writes_nothing(staging):
    run, calls = staging(), []
    for service, name in (("ec2", "RunInstances"), ("sts", "AssumeRole")):
        run.cloud.client(service).meta.events.register(
            f"before-parameter-build.{service}.{name}", lambda model, **_: calls.append(model.name)
        )
    drill.hold(run)
    assert calls[-2:] == ["RunInstances", "AssumeRole"], "it ends within an hour"
    assert calls[0] == "AssumeRole", "who may not is refused before there is a host"
    told, endpoint = run.hosts.played, run.cloud.client("s3").meta.endpoint_url
    theirs = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=told["backup_key_id"],
        aws_secret_access_key=told["backup_key_secret"],
        aws_session_token=told["backup_key_token"],
    )

    def code(call, **more):
        try:
            getattr(theirs, call)(Bucket=run.bucket, **more)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return ""

    snapshot = f"snapshots/{RestoringHosts.MEASURES['snapshot']}"
    own, other = (layout.backups(name, snapshot) for name in ("staging", "production"))
    assert code("get_object", Key=own) == ""
    assert {
        code("get_object", Key=other),
        code("put_object", Key=own, Body=b""),
        code("delete_object", Key=own),
        code("put_object", Key=layout.history("production"), Body=b""),
        code("get_object", Key=layout.machines("drill-staging")),
    } == {"AccessDenied"}


@pytest.mark.promise("a-broken-backup-is-refused")
@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (RestoringHosts(1, "backup: the table odd is missing"), "the table odd is missing"),
        (RestoringHosts(compared=False), "nothing says what was in it: it is of a former version"),
    ],
)
def test_a_backup_that_is_not_whole_counts_as_none_and_the_exit_code_says_so(staging, hosts, words):
    run = staging(hosts)
    with pytest.raises(
        DrillFailed, match=f"^drill: the newest backup of staging counts as none: {words}"
    ) as failed:
        drill.hold(run)
    assert failed.value.exit_code == 1
    nothing_of_the_host(run)
    (key,) = run.store.keys(layout.all_restored("staging"))
    assert key.endswith(".failed.json")
    found = shown(run)
    assert (found.proved, found.failed) == (False, words)
    assert found.words(NOW).endswith(f"it counts as none; the last try failed: {words}")
    drill.hold(staging())
    assert (shown(run).proved, shown(run).failed) == (True, "")


@pytest.mark.promise("a-host-that-backs-up-no-more-is-noticed")
@pytest.mark.parametrize(
    ("days", "state", "fails"), [(1, "", False), (3, "", True), (3, "running", True), (3, "stopped", False)]
)
def test_a_newest_backup_that_is_whole_and_old_fails_unless_the_environment_sleeps(
    staging, days, state, fails
):
    made = f"{datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days, hours=2):%Y-%m-%dT%H:%M:%S}"
    run = staging(RestoringHosts(time=made))
    if state:
        ec2 = run.cloud.client("ec2")
        image = ec2.describe_images(Owners=["self", "amazon", "136693071363"])["Images"][0]["ImageId"]
        tags = {"project": run.pipeline.name, "environment": "staging"}
        spec = {"ResourceType": "instance", "Tags": find.tag_list(tags)}
        (one,) = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[spec])[
            "Instances"
        ]
        if state == "stopped":
            ec2.stop_instances(InstanceIds=[one["InstanceId"]])
    words = f"drill: the newest backup of staging, of {made} UTC, can be restored, but none has been made for 3 days"
    with pytest.raises(BackupsLate, match=f"^{words}") if fails else contextlib.nullcontext():
        assert drill.hold(run) == "staging: 01234567 can be restored"
    nothing_of_the_host(run)
    assert (shown(run).proved, shown(run).failed) == (True, "")


@pytest.mark.promise("a-drill-s-host-ends")
def test_a_host_that_cannot_be_provisioned_is_ended_and_that_is_recorded(staging):
    run = staging()

    def fail(*_, **__):
        raise PlaybookFailed(stage="server", host="i-1", role="mariadb", task="do it", message="no")

    run.hosts.play = fail
    with pytest.raises(PlaybookFailed):
        drill.hold(run)
    nothing_of_the_host(run)
    assert "mariadb" in shown(run).failed


@pytest.mark.parametrize("calls", sampled([1, 5, 9, 13]))
@pytest.mark.promise("a-drill-s-host-ends")
def test_a_drill_killed_after_any_call_is_cleaned_up_by_the_next(staging, calls, monkeypatch):
    run = staging()
    with monkeypatch.context() as dying:
        dying.setattr(drill, "_end", _only_alive(drill._end, run))
        run.cloud.calls.clear()
        run.cloud.dies_after = calls
        with contextlib.suppress(Killed):
            drill.hold(run)
    run.cloud.dies_after = None
    assert "can be restored" in drill.hold(run)
    nothing_of_the_host(run)


def _only_alive(end, run):
    """A killed process runs no `finally`."""

    def ended(there):
        if len(run.cloud.calls) > run.cloud.dies_after:
            raise Killed
        end(there)

    return ended


def test_another_drill_of_the_environment_is_not_disturbed_and_fails_nothing(staging):
    run = staging()
    busy = Lease(dataclasses.replace(drill.throw_away_host(run), id=uuid.uuid4().hex), ttl=3600)
    busy.take()
    here = dataclasses.replace(run, clock=dataclasses.replace(run.clock, since_boot=_hasty()))
    with pytest.raises(EnvironmentHeld, match="drill-staging"):
        drill.hold(here)
    busy.free()
    assert list(run.store.keys(layout.all_restored("staging"))) == []


def _hasty():
    """A clock that runs fast."""
    at = iter(range(0, 10**9, 40))
    return lambda: float(next(at))


def command(run, kind=DrillCommand):
    made = kind(task_loader=None)
    made.task_list = [SimpleNamespace(meta={"run": run})]
    return made


def test_without_an_environment_each_one_that_backs_up_is_tried_and_one_failure_hides_none(staging):
    run = staging(branch="main")  # testing, which does not back up
    with pytest.raises(access.BackupKeyMissing):
        command(run)._execute()  # production was never provisioned
    assert shown(staging()).proved
    said = run.console.stream.getvalue()
    assert "server: production backs up" in said
    assert "staging: 01234567 can be restored" in said
    secrets.ensure(run.cloud.client("ssm"), f"/{run.pipeline.name}/production", ["backup"])
    assert command(run)._execute() == 0
    assert restored.look(run.store, "production", 7).proved


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ServiceUnavailable", "Message": "no"}}, "AssumeRole"),
        EndpointConnectionError(endpoint_url="https://sts"),
        ValueError("odd"),
    ],
)
def test_what_fails_in_one_environment_ends_no_drill_of_another_whatever_it_is(staging, error, monkeypatch):
    run, tried = staging(branch="main"), []
    secrets.ensure(run.cloud.client("ssm"), f"/{run.pipeline.name}/production", ["backup"])

    def fail(*_, **__):
        tried.append(1)
        raise error

    run.cloud.client("sts").meta.events.register_first("before-call.sts.AssumeRole", fail)
    monkeypatch.chdir(run.root)
    with pytest.raises(Refusal):
        command(run)._execute()
    assert len(tried) == 2
    for name in ("production", "staging"):
        assert restored.look(run.store, name, 7).failed


def test_an_interruption_begins_no_drill_of_another_and_fails_no_backup(staging):
    run, played = staging(branch="main"), []
    secrets.ensure(run.cloud.client("ssm"), f"/{run.pipeline.name}/production", ["backup"])

    def interrupted(*_, **__):
        played.append(1)
        children.interrupt()
        raise children.Cancelled(stage="drill")

    run.hosts.play = interrupted
    with pytest.raises(children.Cancelled):
        command(run)._execute()
    assert played == [1]
    for name in ("production", "staging"):
        assert list(run.store.keys(layout.all_restored(name))) == []


def test_what_cannot_be_forgotten_in_one_environment_is_no_reason_to_keep_all_in_another(staging):
    run = staging(branch="main")
    for name in ("production", "staging"):  # whose first has no repository
        run.store.client.delete_object(Bucket=run.bucket, Key=layout.backups(name, "config"))
    with pytest.raises(BackupFailed):
        command(run, BackupCommand)._execute(forget=True)
    assert [f"backups/{name}:" in said(run) for name in ("production", "staging")] == [True, True]


def test_environments_elsewhere_are_named_and_nothing_tried_is_no_success(staging):
    run = staging(branch="main")

    def tried():
        return list(host.of_each(run, "drill", lambda each: each.environment_name))

    def move(name):
        path = run.root / "environments" / f"{name}.yml"
        path.write_text(f"{path.read_text()}\nregion: us-east-1\n")

    assert tried() == ["production", "staging"]
    move("production")
    assert tried() == ["staging", "production is elsewhere: doit environment=production drill"]
    move("staging")
    with pytest.raises(BackupsElsewhere, match=r"^drill: production, staging: "):
        command(run)._execute()
    assert "staging is elsewhere: doit environment=staging drill\n" in said(run)


def said(run):
    return run.console.stream.getvalue()


def test_a_role_that_is_not_fetched_is_refused_before_anything_is_played(staging):
    run, odd = (
        staging(),
        {"name": "odd", "version": "1.0.0", "src": "https://example.org/odd", "sha256": "0" * 64},
    )
    (run.root / "requirements.yml").write_text(json.dumps({"roles": [odd]}))
    required_roles.cache_clear()
    with pytest.raises(RoleNotFetched):
        provisioning.provision(run)


def test_an_environment_that_does_not_back_up_is_a_sentence(staging):
    with pytest.raises(BackupOff, match=r"^drill: testing does not back up"):
        command(staging(environment="testing", branch="main"))._execute()
    run = staging()
    through = dataclasses.replace(run.environment.infrastructure, ssh_through="session-manager")
    there = dataclasses.replace(run.environment, infrastructure=through)
    with pytest.raises(DrillUnreachable):
        drill.hold(dataclasses.replace(run, environment=there))


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (
            "2026-11-28T05:17:00+00:00",
            "was restored on 2026-11-28 05:17 UTC in 92 s; none has been made for 8 days",
        ),
        (
            "2026-11-20T05:17:00+00:00",
            "none has been made for 8 days; none was restored for more than 7 days (backup.drill_days)",
        ),
    ],
)
@pytest.mark.promise("old-drills-are-said")
def test_a_restore_that_is_too_old_is_said(at, words):
    made = restored.BackupAge(
        newest="2026-11-20T03:30:00+00:00",
        restored="2026-11-20T03:30:00+00:00",
        at=at,
        seconds=92,
        proved=True,
        days=7,
    )
    assert made.words(NOW).endswith(words)
    newer = dataclasses.replace(made, newest="2026-11-28T03:30:00+00:00", proved=False)
    assert newer.words(NOW).startswith(
        "the newest backup, of 2026-11-28 03:30 UTC, was never restored: it counts as none; the one of 2026-11-20 03:30 UTC was"
    )


@pytest.mark.promise("a-host-that-backs-up-no-more-is-noticed")
@pytest.mark.parametrize(("hours", "words"), [(47, ""), (49, "; none has been made for 2 days")])
def test_a_newest_backup_that_is_too_old_is_said(hours, words):
    newest = (NOW - datetime.timedelta(hours=hours)).isoformat()
    proved = restored.BackupAge(newest=newest, restored=newest, at=newest, seconds=92, proved=True, days=7)
    assert proved.words(NOW).endswith(f" in 92 s{words}")
    never = restored.BackupAge(newest=newest, days=7)
    assert never.words(NOW).endswith(f"it counts as none{words}")


def test_a_record_that_cannot_be_read_counts_as_none(staging):
    run = staging()
    drill.hold(run)
    (key,) = run.store.keys(layout.all_restored("staging"))
    run.store.client.put_object(Bucket=run.bucket, Key=key, Body=json.dumps([]).encode())
    assert "counts as none" in shown(run).words(NOW)
