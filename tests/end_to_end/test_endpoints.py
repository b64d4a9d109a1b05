"""An environment whose database and Redis are elsewhere: a host that had them loses them, and its shop uses the others by TLS."""

from __future__ import annotations

import contextlib
import os

import pytest

from tasks.cloud.embedded import home, lifecycle
from tasks.hosts import ssh
from tasks.infrastructure import secrets
from tests.conftest import commit
from tests.end_to_end.conftest import Site
from tests.test_endpoints import PASSWORD, PASSWORDS, started

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("endpoints"),
    pytest.mark.long(
        short="tests/test_endpoints.py::test_an_endpoint_that_does_not_answer_is_refused_before_a_host_is_touched"
    ),
]

OWN = """stages: [infrastructure, tarball, server, release, teardown]
uncommitted: allowed
release: {test_data: true, expires_after_days: 1}
"""
ELSEWHERE = """server:
  mariadb: {{endpoint: "{at}:{sql}"}}
  redis: {{sessions_endpoint: "{at}:{redis}", cache_endpoint: "{at}:{redis}"}}
  endpoints:
    authorities: |
{authority}
"""
HAS = """
import json, os, subprocess
listed = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n"], capture_output=True, text=True).stdout
ours = {"mariadb-server", "redis-server"}
units = subprocess.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "mariadb*", "redis*"], capture_output=True, text=True).stdout
print(json.dumps({
    "packages": sorted(name for name, state in map(str.split, listed.splitlines()) if name in ours and state == "installed"),
    "units": [line for line in units.splitlines() if " active " in line],
    "listens": [port for port in ("3306", "6379", "6380") if f":{port} " in subprocess.check_output(["ss", "-tlnH"], text=True)],
    "begun": os.path.exists("/var/lib/provisioning"),
    "data": os.path.exists("/var/lib/mysql/ibdata1"),
}))
"""
COPY = "import subprocess; print(subprocess.check_output(['database_copy', 'dump']).count(b'CREATE TABLE'))"


@contextlib.contextmanager
def environment(project, name):
    lifecycle.start(lambda words: None)
    made = Site(root=project, variables={"environment": name})
    yield made
    assert made.doit("teardown").returncode == 0


@pytest.fixture(scope="module")
def rented(project):
    with environment(project, "rented") as made:
        yield made


def settle(site, text):
    (site.root / "environments" / f"{site.variables['environment']}.yml").write_text(OWN + text)
    commit(site.root, "where the data are")


@contextlib.contextmanager
def served(site, at):
    """The services elsewhere, whose passwords the environment has, and the words of its file for them."""
    with started(at) as elsewhere:
        run = site.run
        for name in PASSWORDS:
            secrets.bring(run.cloud.client("ssm"), run.secrets_folder, name, PASSWORD)
        authority = "".join(f"      {line}\n" for line in elsewhere.ca.read_text().splitlines())
        yield elsewhere, {"at": at, "redis": elsewhere.redis, "authority": authority}


def on(site, program):
    return ssh.python(site.host, "server", program).strip()


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint", "backups-work-over-an-endpoint")
def test_a_host_s_data_are_elsewhere_and_nothing_of_the_services_is_left_on_it(rented):
    at = home.of(os.environ).load().gateway
    settle(rented, "")
    assert rented.doit("infrastructure").returncode == 0  # a bridge has its address while a host runs
    with served(rented, at) as (elsewhere, words):
        settle(rented, ELSEWHERE.format(sql=1, **words))
        refused = rented.doit("server")
        assert (
            refused.returncode,
            f"mariadb.sql at {at}:1 cannot be used: Connection refused" in refused.stderr,
        ) == (1, True), refused.stderr
        assert '"begun": false' in on(rented, HAS), "nothing was changed on the host"

        settle(rented, "")
        assert rented.doit("server").returncode == 0
        local = on(rented, HAS)
        assert '"packages": ["mariadb-server", "redis-server"]' in local
        assert '"listens": ["3306", "6379", "6380"]' in local

        settle(rented, ELSEWHERE.format(sql=1, **words))
        refused = rented.doit("server")  # the firewall of the earlier settings lets it ask
        assert f"mariadb.sql at {at}:1 cannot be used: Connection refused" in refused.stderr
        assert on(rented, HAS) == local

        settle(rented, ELSEWHERE.format(sql=elsewhere.sql, **words))
        answered = rented.doit("release")
        assert answered.returncode == 0, answered.stdout + answered.stderr
        status, page = rented.get()
        assert (status, "/static/version" in page) == (200, True)
        left = on(rented, HAS)
        assert '"packages": [], "units": [], "listens": []' in left
        assert '"data": true' in left, "what it had is nobody's to delete"
        assert int(on(rented, COPY)) > 5, "and a copy of the database comes from there"

        assert rented.doit("forget", "server").returncode == 0
        again = rented.doit("server")
        assert ", 0 changed" in again.stdout, again.stdout + again.stderr


@pytest.mark.promise("groups-have-machines", "a-service-is-a-role-or-an-endpoint")
def test_data_are_elsewhere_and_the_rest_is_on_two_machines(project, rented):
    at = home.of(os.environ).load().gateway
    with environment(project, "apart") as site:
        settle(site, "")
        with served(site, at) as (elsewhere, words):
            text = ELSEWHERE.format(sql=elsewhere.sql, **words)
            settle(site, f"{text}infrastructure: {{placement: {{web: [ingress, cache], app: [app]}}}}\n")
            answered = site.doit("release")
            assert answered.returncode == 0, answered.stdout + answered.stderr
            status, page = site.get()
            assert (status, "/static/version" in page) == (200, True)
            assert len(site.hosts) == 2
            for host in site.hosts:
                assert '"units": [], "listens": []' in ssh.python(host, "server", HAS)

            settle(
                site,
                text.replace(f":{elsewhere.sql}", ":1")
                + "infrastructure: {placement: {web: [ingress, cache], app: [app]}}\n",
            )
            refused = site.doit("server")
            assert f"mariadb.sql at {at}:1 cannot be used: Connection refused" in refused.stderr
            assert site.get()[0] == 200
