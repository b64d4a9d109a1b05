"""The status of all environments: a site that hangs is shown as such and not waited for."""

from __future__ import annotations

import dataclasses
import datetime
import http.server
import json
import socket
import threading

import pytest

from tasks.backup.restored import BackupAge
from tasks.bucket import lease
from tasks.clock import Clock
from tasks.digest import Digest
from tasks.environments import status
from tasks.infrastructure import apply, find, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.release import history
from tasks.release import stage as release
from tasks.server import certificates
from tasks.version import Version
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.tls import secure

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)


class Site(http.server.BaseHTTPRequestHandler):
    """Ten sites: healthy, ill or silent, by the first word of their names."""

    def do_GET(self):
        if self.server.together:
            self.server.together.wait(4)  # nobody is answered before all are asked
        if self.headers["Host"] == self.server.silent:
            self.server.over.wait(60)  # until it has been given up
        self.send_response(503 if self.headers["Host"] == self.server.ill else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def sites():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    made.daemon_threads, made.silent, made.ill, made.over = True, "", "", threading.Event()
    made.together = None
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.over.set()
    made.shutdown()


@pytest.fixture
def run(checkout, server, sites):  # noqa: F811
    settings = checkout / "pipeline.yml"
    settings.write_text(settings.read_text().replace("name: shop", f"name: shop{sites.server_port}"))
    cloud = QuietCloud(REGION, server.home.load())
    cloud.http_address = lambda name, https: ("127.0.0.1", sites.server_port)
    made = run_in(checkout, cloud, branch="main")
    infrastructure.share(made)
    secure(sites, made.cloud.client("ssm"), made.authority_folder, made.pipeline.dns_zone)
    return made


def environment(run, branch):
    """An environment of that branch, as a release leaves it."""
    made = run_in(run.root, run.cloud, branch=branch)
    facts = infrastructure.converge(made).facts
    history.add(made, Digest("5d8c628c510ad252" + "0" * 48))
    release.tag(made, [each["id"] for each in facts["hosts"]], made.commit)
    return made


@pytest.mark.promise("status-of-every-environment", "silent-sites-are-not-waited-for", "ill-and-unreachable")
def test_the_status_of_ten_environments_does_not_wait_for_one_that_is_silent(run, sites):
    made = [environment(run, f"branch-{number}") for number in range(10)]
    sites.silent, sites.ill = made[3].host_name, made[4].host_name
    sites.together = threading.Barrier(len(made))
    hours = [{"Key": "hours-before", "Value": "100"}]
    own = [each.id for each in find.everything(made[0]).machines]
    run.cloud.client("ec2").create_tags(Resources=own, Tags=hours)
    found = {
        each.environment: each for each in status.look(run, patience=6)
    }  # a busy machine is no silent site
    assert found.keys() == {each.identity for each in made}
    health = {name: each.health.partition(":")[0] for name, each in found.items()}
    assert health.pop(made[3].identity) == "unreachable"
    assert health.pop(made[4].identity) == "ill"
    assert set(health.values()) == {"healthy"}
    one = found[made[0].identity]
    assert (one.branch, one.commit, one.owner) == ("branch-0", made[0].commit, "web")
    assert one.digest.startswith("5d8c628c510ad252")
    assert one.machines[0].endswith(" running")
    assert one.expires > "2026"
    assert one.url == made[0].url
    assert one.cost > 1 > found[made[1].identity].cost, "a machine of a hundred hours, and one of seconds"
    assert status.PATIENCE == 1.5


@pytest.mark.promise("status-of-every-environment")
def test_each_store_s_own_host_name_is_asked_and_shown(run, sites):
    file = run.root / "environments/testing.yml"
    file.write_text(file.read_text() + "stores:\n  de: {code: german}\n  fr: {code: french}\n")
    made = environment(run, "stores")
    sites.ill = f"de.{made.host_name}"
    (found,) = [each for each in status.look(made) if each.environment == made.identity]
    german, french = (f"https://{each}.{made.host_name}" for each in ("de", "fr"))
    assert {url.rpartition(":")[0]: health.partition(":")[0] for url, health in found.stores.items()} == {
        german: "ill",
        french: "healthy",
    }
    assert found.health.startswith("healthy")
    told = status.lines([found], NOW)
    assert [german in each for each in told] == [False, False, True, False]


@pytest.mark.promise("ill-and-unreachable")
def test_a_host_that_refuses_connections_is_unreachable(run):
    made = environment(run, "main")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        run.cloud.http_address = lambda name, https: free.getsockname()
        (found,) = [each for each in status.look(run) if each.environment == made.identity]
    assert found.health.startswith("unreachable: ")


@pytest.mark.promise("ill-and-unreachable")
def test_a_site_of_whose_certificate_browsers_warn_is_ill(run):
    ssm, name = run.cloud.client("ssm"), f"a.{run.pipeline.dns_zone}"
    asked = [status.Sites(of="testing", https=True, names=(name,))]
    assert status.health(run, asked, 9)[name].startswith("healthy: 200 ")
    another = certificates.make_authority("another", run.pipeline.dns_zone, run.clock.now())
    secrets.found_authority(ssm, run.authority_folder, another, instead=True)
    assert status.health(run, asked, 9)[name].startswith("ill: browsers warn of its certificate: ")


@pytest.mark.promise("an-ending-certificate-is-said")
@pytest.mark.parametrize(("left", "said"), [(22, False), (20, True)])
def test_a_certificate_that_ends_soon_is_said(run, left, said):
    name, now = f"a.{run.pipeline.dns_zone}", datetime.datetime.now(datetime.UTC)
    ends = now + certificates.LASTS
    later = dataclasses.replace(run, clock=Clock(now=lambda: ends - datetime.timedelta(days=left)))
    found = status.health(later, [status.Sites(of="testing", https=True, names=(name,))], 9)[name]
    assert found.startswith("healthy: 200 ")
    assert found.endswith(f" s, its certificate ends on {ends:%Y-%m-%d}" if said else " s")


@pytest.mark.promise("status-of-every-environment")
def test_the_holder_of_an_environment_is_shown(run):
    made = environment(run, "held")
    held = lease.Lease(made)
    held.take()
    (found,) = [each for each in status.look(run) if each.environment == made.identity]
    held.free()
    assert made.who in found.busy
    assert f"held by {found.busy}" in "\n".join(status.lines([found], NOW))


def test_a_stopped_machine_is_not_asked_for_its_health(run, sites):
    made = environment(run, "asleep")
    (machine,) = find.everything(made).machines
    apply.stop(made, machine.id)
    (found,) = [each for each in status.look(run) if each.environment == made.identity]
    assert (found.machines, found.health) == ((f"{machine.id} stopped",), "")


def test_without_a_bucket_there_is_no_environment(checkout, server):  # noqa: F811
    settings = checkout / "pipeline.yml"
    settings.write_text(settings.read_text().replace("name: shop", "name: nobodys"))
    found = status.look(run_in(checkout, QuietCloud(REGION, server.home.load()), branch="main"))
    assert status.lines(found, NOW) == ["there is no environment"]


@pytest.mark.parametrize(
    ("since", "shown"),
    [
        ("", ""),
        ("2026-11-24T11:48:00+00:00", "12 min"),
        ("2026-11-24T07:00:00+00:00", "5 h"),
        ("2026-11-21T11:00:00+00:00", "3 d"),
    ],
)
def test_an_age_is_shown_in_its_largest_unit(since, shown):
    assert status.age(since, NOW) == shown


def test_a_line_for_each_environment_in_columns():
    found = [
        status.EnvironmentStatus(environment="staging", branch="main", commit=Version("3fa9c2e71"), digest=Digest("5d8c"), machines=("i-1 running",),
                      since="2026-11-24T07:00:00+00:00", owner="web", cost=0.21, health="healthy: 200 in 0.02 s", url="http://staging/",
                      backup=BackupAge(newest="2026-11-24T09:00:00+00:00")),
        status.EnvironmentStatus(environment="testing-0d6e4079e3", stores={"http://de/": ""}),
    ]  # fmt: skip
    assert status.lines(found, NOW) == [
        "environment         branch  commit   release  age  machine      health                  backup               owner  USD",
        "staging             main    3fa9c2e  5d8c     5 h  i-1 running  healthy: 200 in 0.02 s  none restored (3 h)  web    0.21  http://staging/",
        "testing-0d6e4079e3  -       -        -        -    none         -                       -                    -      0.00",
        "  a store                                                       -                                                         http://de/",
        "staging: the newest backup, of 2026-11-24 09:00 UTC, was never restored: it counts as none",
    ]


@pytest.mark.parametrize(
    ("backup", "shown"),
    [
        (None, ""),
        (BackupAge(), "none"),
        (BackupAge(newest="2026-11-24T09:00:00+00:00"), "none restored (3 h)"),
        (
            BackupAge(newest="2026-11-24T09:00:00+00:00", restored="2026-11-20T09:00:00+00:00"),
            "3 h, restored: 4 d",
        ),
    ],
)
@pytest.mark.promise("unrestored-counts-as-none")
def test_a_backup_that_was_not_restored_counts_as_none(backup, shown):
    assert status.backed_up(backup, NOW) == shown


@pytest.mark.promise("json-for-programs")
def test_a_status_is_json_for_programs():
    from tasks.commands.base import json_of

    (told,) = json.loads(
        json_of([status.EnvironmentStatus(environment="staging", machines=("i-1 running",))])
    )
    assert told["environment"] == "staging"
    assert told["machines"] == ["i-1 running"]
