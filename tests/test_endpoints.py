"""A service is a role or an endpoint: what is elsewhere is reached by TLS with a password, and no host has it."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tasks import demands, drill, endpoints, image, network
from tasks.commands import command_line
from tasks.commands.secrets import SecretsCommand, SecretUnknown
from tasks.endpoints import EndpointPasswordMissing, EndpointUnusable
from tasks.hosts.hosts import Hosts
from tasks.infrastructure import find, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.rotation import known, rotate
from tasks.rotation.rotate import NotRotated
from tasks.server import stage as server
from tasks.settings import SettingWrong
from tests.app.conftest import free_port, listening, need
from tests.cloud.embedded.conftest import REGION
from tests.cloud.embedded.conftest import server as embedded  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in, secrets_of
from tests.conftest import ROOT, until
from tests.rules import configuration, rendering
from tests.tls import context_of, wrap

DATABASE = "mariadb: {endpoint: 'db.example.com:3307'}"
REDIS = "redis: {sessions_endpoint: 'a.example.com:6379', cache_endpoint: 'b.example.com:6390'}"
ELSEWHERE = f"server: {{{DATABASE}, {REDIS}}}"
PASSWORDS = {"database_password", "redis_sessions_password", "redis_cache_password"}


def staging(checkout, text):
    path = checkout / "environments" / "staging.yml"
    kept = path.read_text().replace('backup: {at: "03:30"}\n', "")  # not where egress is listed
    path.write_text(f"{kept}{text}\n")
    return checkout


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"egress: listed\nserver: {{{DATABASE}}}", "server.mariadb.endpoint: should be empty where egress is listed"),
        (f"egress: listed\nserver: {{{REDIS}}}", "server.redis.sessions_endpoint: should be empty where egress is listed"),
        (f"per_branch: true\nserver: {{{DATABASE}}}", "server.mariadb.endpoint: should be empty in environments of branches"),
        ("server: {redis: {cache_endpoint: 'b.example.com:6379'}}", "server.redis.sessions_endpoint: should be given, as cache_endpoint is"),
        ("server: {redis: {sessions_endpoint: 'b.example.com:6379'}}", "server.redis.cache_endpoint: should be given, as sessions_endpoint is"),
        ("server: {mariadb: {endpoint: db.example.com}}", "server.mariadb.endpoint: should be an endpoint such as db.example.com:3306"),
        ("server: {mariadb: {endpoint: 'db.example.com:99999'}}", "server.mariadb.endpoint: should be an endpoint"),
        ("server: {mariadb: {endpoint: 'not_a_name.example.com:3306'}}", "server.mariadb.endpoint: should be an endpoint"),
        ("server: {mariadb: {endpoint: 'mysql://db.example.com:3306'}}", "server.mariadb.endpoint: should be an endpoint"),
        ("server: {endpoints: {authorities: x}}", "server.endpoints.authorities: should be certificates in PEM"),
    ],
)  # fmt: skip
@pytest.mark.promise("a-service-is-a-role-or-an-endpoint", "wrong-values-touch-no-host")
def test_an_endpoint_that_does_not_fit_is_refused(checkout, text, sentence):
    with pytest.raises(SettingWrong) as caught:
        command_line.read(staging(checkout, text), {"environment": "staging"})
    assert re.match(rf"environments/staging.yml:\d+: {re.escape(sentence)}", caught.value.text)


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_two_environments_do_not_have_the_same_data(checkout):
    """Each would take the other's database for its own: they are called the same."""
    (checkout / "environments" / "broken.yml").write_text("[\n")
    (checkout / "environments" / "production.yml").write_text(f"server: {{{DATABASE}}}\n")
    with pytest.raises(SettingWrong, match="another one than that of production, whose data are there"):
        command_line.read(staging(checkout, ELSEWHERE), {"environment": "staging"})
    (checkout / "environments" / "production.yml").write_text("server: {mariadb: {buffer_pool: 1G}}\n")
    command_line.read(checkout, {"environment": "staging"})


@pytest.fixture
def run(checkout):
    return command_line.read(staging(checkout, ELSEWHERE), {"environment": "staging"})


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_a_service_elsewhere_is_on_no_host_and_has_a_way_out_and_no_other(run):
    here = server.roles(run, "")
    assert {"mariadb", "redis"}.isdisjoint(here)
    assert {"database", "search", "mail", "endpoints"} <= set(here)
    assert not {"mariadb", "redis"} & {name.split("_")[0] for name in demands.variables(run, 4096)}
    place = network.topology(run.placement, [("", "10.0.0.1")], ["10.0.0.1"])
    gone = {"mariadb.service", "redis-server.service", "redis-server@cache.service"}
    assert gone <= set(network.elsewhere(run.network, place)), "what an older image has of it is stopped"
    assert gone.isdisjoint(network.after(run.network, place, network.APPLICATION))
    told = network.told(run.network, place)
    assert {
        (name, each["address"], each["port"], each["here"], each["elsewhere"])
        for role in ("mariadb", "redis")
        for name, each in told[role].items()
    } == {
        ("sql", "db.example.com", 3307, False, True),
        ("sessions", "a.example.com", 6379, False, True),
        ("cache", "b.example.com", 6390, False, True),
    }
    ours = {("tcp", 3307), ("tcp", 6379), ("tcp", 6390)}
    assert ours <= network.outward(run.network, 443), "the group's ways out"
    rules = network.firewall(
        run.network,
        place,
        networks={each: ["0.0.0.0/0"] for each in network.OPEN_TO},
        users=["web", "shop"],
        bucket=443,
    )
    ways = {(port, tuple(each["users"])) for each in rules["lets_out"] for port in each["ports"]}
    assert {
        (3307, ("root",)),
        (3307, ("web", "shop")),
        (6379, ("web", "shop")),
        (6390, ("web", "shop")),
    } <= ways
    assert {each["port"] for each in rules["admits"]} == {22, 80, 443}
    assert {3306, 3307, 6379, 6380, 6390}.isdisjoint(each["port"] for each in rules["local"])


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_a_backup_is_tried_on_a_database_of_the_throw_away_host_never_elsewhere(run):
    there = drill.throw_away_host(run)
    assert {str(each) for each in there.network.services if each.host} == set()
    assert "mariadb" in there.placement.roles[""]


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_a_profile_names_no_endpoint(checkout):
    """All environments would have the same data, and a drill would restore into them."""
    path = checkout / "applications" / "magento2" / "profile.yml"
    path.write_text(path.read_text().replace("    mariadb:\n", f"    {DATABASE}\n", 1))
    with pytest.raises(
        SettingWrong, match=r"server\.mariadb\.endpoint: should be given by environments' files"
    ):
        command_line.read(staging(checkout, ""), {"environment": "staging"})


def test_the_same_image_serves_with_an_endpoint_and_is_made_without_its_password(run, checkout):
    own = command_line.read(checkout, {"environment": "testing", "branch": checkout.parent.name})
    assert image.variables(run) == image.variables(own)
    assert "mariadb" in image.variables(run)["server_roles"]
    assert not image._builder(run).environment.has("server")


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
@pytest.mark.parametrize(
    ("elsewhere", "placed", "problem"),
    [
        (ELSEWHERE, "{web: [ingress, cache], app: [app]}", ""),
        (ELSEWHERE, "{web: [ingress], app: [app]}", "should be one with cache, as each"),
        (f"server: {{{DATABASE}}}", "{web: [ingress, cache], app: [app]}", "should be one with data"),
    ],
    ids=["all elsewhere", "another group", "Redis is not"],
)
def test_a_group_whose_services_are_all_elsewhere_needs_no_machine(checkout, elsewhere, placed, problem):
    path = checkout / "environments" / "staging.yml"
    path.write_text(
        path.read_text().replace("infrastructure:\n", f"infrastructure:\n  placement: {placed}\n", 1)
    )
    with pytest.raises(SettingWrong, match=problem) if problem else contextlib.nullcontext():
        run = command_line.read(staging(checkout, elsewhere), {"environment": "staging"})
        at = [(name, f"10.0.0.{number}") for number, name in enumerate(run.placement.groups)]
        told = {
            name: endpoints.asked(run, network.topology(run.placement, at, [own]), "web-shop")
            for name, own in at
        }
        assert {name: len(each) for name, each in told.items()} == {"web": 0, "app": len(PASSWORDS)}


def test_a_profile_whose_hosts_ask_nothing_has_no_endpoint(checkout):
    path = checkout / "applications" / "magento2" / "profile.yml"
    path.write_text(re.sub(r"\n    endpoints:.*", "", path.read_text()))
    with pytest.raises(SettingWrong, match="the profile does not list the role endpoints"):
        command_line.read(staging(checkout, f"server: {{{DATABASE}}}"), {"environment": "staging"})


def test_without_an_endpoint_everything_is_on_the_hosts(checkout):
    run = command_line.read(staging(checkout, ""), {"environment": "staging"})
    assert run.network.absent == frozenset()
    assert server.roles(run, "") == server.roles(run)
    assert (endpoints.of(run), endpoints.passwords(run, str)) == ([], dict.fromkeys(PASSWORDS, ""))


# --- passwords ------------------------------------------------------------------------------------


@pytest.fixture
def bought(checkout, embedded):  # noqa: F811
    """A run whose services are elsewhere, in a cloud whose calls are counted."""
    cloud = QuietCloud(REGION, embedded.home.load())
    made = run_in(staging(checkout, ELSEWHERE), cloud, environment="staging")
    infrastructure.share(made)
    for name in secrets.names(cloud.client("ssm"), made.secrets_folder):  # of the test before
        cloud.client("ssm").delete_parameter(Name=name)
    return made


def bring(run, but=()):
    for name in PASSWORDS - {*but}:
        secrets.bring(run.cloud.client("ssm"), run.secrets_folder, name, f"secret of {name}")


@pytest.mark.parametrize("missing", sorted(PASSWORDS))
@pytest.mark.promise("a-service-is-a-role-or-an-endpoint", "wrong-values-touch-no-host")
def test_without_its_password_there_is_no_host_and_none_is_made_up(bought, missing):
    bring(bought, but=[missing])
    for refused in (infrastructure.converge, server.variables):
        with pytest.raises(
            EndpointPasswordMissing, match=r"environments/staging.yml: server\.\w+\.\w*endpoint: is "
        ) as caught:
            refused(bought)
        assert f"doit environment=staging secrets set {missing}" in caught.value.text
    assert "RunInstances" not in bought.cloud.calls
    assert f"{bought.secrets_folder}/{missing}" not in secrets.names(
        bought.cloud.client("ssm"), bought.secrets_folder
    )


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_what_was_brought_is_told_and_is_listed_and_rotated_by_who_has_the_service(bought):
    bring(bought)
    told = server.variables(bought)
    assert {name: told[name] for name in PASSWORDS} == {name: f"secret of {name}" for name in PASSWORDS}
    listed = {each.name: each for each in known.listed(bought)}
    for name in PASSWORDS:
        assert listed[name].way.startswith(f"doit secrets set {name}, for ")
        with pytest.raises(
            NotRotated,
            match=rf"{name} is not rotated in staging: doit secrets set {name}, for \S+ at \S+example",
        ):
            list(rotate.rotate(bought, name))
    assert listed["redis_cache_password"].users == "who connects to redis.cache"


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_a_password_is_brought_where_its_service_is_elsewhere_and_nowhere_else(bought, checkout, monkeypatch):
    def bring_one(run):
        monkeypatch.setattr("sys.stdin", io.StringIO("geheim\n"))
        command = SecretsCommand(task_loader=None)
        command.task_list = [SimpleNamespace(name="release", meta={"run": run})]
        command._execute(pos_args=["set", "database_password"])

    bring_one(bought)
    assert secrets_of(bought).value("database_password") == "geheim"
    own = run_in(checkout, bought.cloud, environment="testing", branch=checkout.parent.name)
    with pytest.raises(SecretUnknown, match="database_password is no secret that can be brought"):
        bring_one(own)


# --- hosts ask before they are changed ------------------------------------------------------------


class AskedHosts(Hosts):
    """Hosts that run programs on this machine, and count the plays."""

    def __init__(self):
        self.played = []

    def play(self, playbook, **_):
        self.played.append(playbook)
        raise AssertionError("a host is touched")

    def python(self, host, stage, program, **_):
        ran = subprocess.run([sys.executable, "-IS", "-"], input=program, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint", "wrong-values-touch-no-host")
def test_an_endpoint_that_does_not_answer_is_refused_before_a_host_is_touched(checkout, embedded):  # noqa: F811
    hosts, cloud = AskedHosts(), QuietCloud(REGION, embedded.home.load())
    text = "server: {mariadb: {endpoint: 'db.shop.invalid:3306'}}"
    run = run_in(staging(checkout, text), cloud, hosts, environment="staging")
    infrastructure.share(run)
    secrets.bring(cloud.client("ssm"), run.secrets_folder, "database_password", "geheim")
    machines = infrastructure.converge(run).facts
    with pytest.raises(EndpointUnusable) as caught:
        server.provision(run, machines)
    sentence, remedy = caught.value.text.splitlines()
    assert re.fullmatch(
        r"server: mariadb\.sql at db\.shop\.invalid:3306 cannot be used: .*(not known|resolution).*, as i-\w+ sees it",
        sentence,
    )
    assert "doit environment=staging server" in remedy
    assert hosts.played == []


@pytest.mark.promise("what-hosts-use-stays-open")
def test_the_group_lets_out_to_the_former_endpoint_until_hosts_are_provisioned(checkout, embedded):  # noqa: F811
    """Else a new one that is refused would cut them off from the one that they use."""
    cloud = QuietCloud(REGION, embedded.home.load())
    path = checkout / "environments" / "staging.yml"
    before = path.read_text()

    def at(port):
        path.write_text(before)
        text = f"server: {{mariadb: {{endpoint: 'db.example.com:{port}'}}}}"
        return run_in(staging(checkout, text), cloud, environment="staging")

    def converged(run):
        infrastructure.converge(run)
        assert infrastructure.differences(run) == []
        return {rule.first for rule in find.everything(run).outward} & {3307, 3308}

    first = at(3307)
    infrastructure.share(first)
    secrets.bring(cloud.client("ssm"), first.secrets_folder, "database_password", "geheim")
    assert converged(first) == {3307}
    infrastructure.provisioned(first, "server")
    assert converged(at(3308)) == {3307, 3308}
    assert converged(at(3307)) == {3307}, "it was refused, and the settings are as before"
    moved = at(3308)
    assert converged(moved) == {3307, 3308}
    infrastructure.provisioned(moved, "server")
    assert {rule.first for rule in find.everything(moved).outward} & {3307, 3308} == {3308}
    assert converged(moved) == {3308}


def test_a_host_asks_what_somebody_on_it_connects_to_as_that_user(run):
    place = network.topology(run.placement, [("", "10.0.0.1")], ["10.0.0.1"])
    found = endpoints.asked(run, place, "web-shop")
    assert [(each["service"], each["speaks"], each["host"], each["port"], each["as"]) for each in found] == [
        ("mariadb.sql", "mysql", "db.example.com", 3307, "root"),
        ("redis.sessions", "redis", "a.example.com", 6379, "web-shop"),
        ("redis.cache", "redis", "b.example.com", 6390, "web-shop"),
    ]
    assert {each["secret"] for each in found} == PASSWORDS
    elsewhere = network.Topology(
        hosts={"application": ["10.0.0.2"], "database": ["10.0.0.2"]}, here=["10.0.0.1"]
    )
    assert endpoints.asked(run, elsewhere, "web-shop") == []


def test_what_a_role_says_that_it_speaks_is_spoken():
    files = [yaml.safe_load(path.read_text()) for path in ROOT.glob("roles/*/meta/network.yml")]
    named = {each.get("speaks") for file in files for each in file.get("listens", ()) if "endpoint" in each}
    spoken = re.search(r"^SPEAKS = (\{.+\})$", (ROOT / endpoints.PROGRAM).read_text(), re.MULTILINE)[1]
    assert named == set(re.findall(r'"(\w+)": \1', spoken)) != set()


def test_search_engine_and_relay_are_asked_too(checkout):
    said = "search: {host: https://search.example.com, port: 443}, mail: {relay_host: smtp.example.com}"
    run = command_line.read(staging(checkout, f"server: {{{said}}}"), {"environment": "staging"})
    place = network.topology(run.placement, [("", "10.0.0.1")], ["10.0.0.1"])
    found = endpoints.asked(run, place, "web-shop")
    assert {(each["speaks"], each["host"], each["port"], each["secret"]) for each in found} == {
        ("http", "https://search.example.com", 443, ""),
        ("smtp", "smtp.example.com", 587, ""),
    }


# --- by TLS ---------------------------------------------------------------------------------------

PASSWORD = "it's \"p\\w%"
CA = "/etc/ssl/certs/ca-certificates.crt"


def certificate(folder, name):
    """A key and its certificate for an address, signed by itself: whoever trusts it trusts nobody else."""
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    made += ["-subj", "/CN=endpoint", "-addext", f"subjectAltName={name}"]
    subprocess.run([*made, "-keyout", folder / "key", "-out", folder / "ca"], check=True, capture_output=True)


@contextlib.contextmanager
def started(address):
    """MariaDB and Redis that speak TLS, with passwords, and MariaDB that does not; the certificate is for that address alone."""
    need("mariadbd", "redis-server")
    folder = Path(tempfile.mkdtemp(prefix="tls-"))
    certificate(folder, f"IP:{address}")
    user = f"--user={os.environ.get('USER') or 'root'}"
    found = SimpleNamespace(ca=folder / "ca", sql=free_port(), redis=free_port(), plain=free_port())
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "''")
    (folder / "init").write_text(
        "CREATE DATABASE IF NOT EXISTS shop;\n"
        f"CREATE USER IF NOT EXISTS shop@'%' IDENTIFIED BY '{quoted}';\n"
        "GRANT ALL ON shop.* TO shop@'%';\n"
    )
    own, data = folder / "s", folder / "data"
    install = [
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={data}",
        user,
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
    ]
    subprocess.run(install, check=True, capture_output=True)
    shutil.copytree(data, folder / "other")
    database = [
        "mariadbd",
        "--no-defaults",
        user,
        f"--bind-address={address}",
        f"--init-file={folder}/init",
        "--innodb-flush-log-at-trx-commit=0",
    ]
    commands = [
        [*database, f"--datadir={data}", f"--port={found.sql}", f"--socket={own}", f"--pid-file={folder}/p1", f"--ssl-cert={folder}/ca", f"--ssl-key={folder}/key"],
        [*database, f"--datadir={folder}/other", f"--port={found.plain}", f"--socket={folder}/t", f"--pid-file={folder}/p2"],
        ["redis-server", "--bind", address, "--port", "0", "--tls-port", str(found.redis), "--tls-cert-file", f"{folder}/ca", "--tls-key-file", f"{folder}/key",
         "--tls-ca-cert-file", f"{folder}/ca", "--tls-auth-clients", "no", "--requirepass", PASSWORD, "--save", "", "--dir", str(folder)],
    ]  # fmt: skip
    running = [
        subprocess.Popen(each, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for each in commands
    ]
    try:
        until(lambda: all(listening(each, address) for each in (found.sql, found.redis, found.plain)))
        yield found
    finally:
        for each in running:
            each.kill()
            each.wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def elsewhere():
    with started("127.0.0.1") as found:
        yield found


def ask(authorities, provisioned=True, password=PASSWORD, live="/no/live", client="/no/client", **said):
    """What the role's program says of one service."""
    about = {
        "service": "redis.cache",
        "speaks": "redis",
        "host": "127.0.0.1",
        "user": "shop",
        "secret": "x",
        "as": "nobody-here",
        **said,
    }
    told = {
        "asked": [about],
        "passwords": {"x": password},
        "authorities": authorities,
        "provisioned": provisioned,
        "live": str(live),
    }
    text = (ROOT / endpoints.PROGRAM).read_text().replace("TRIES, PAUSE = 3, 1", "TRIES, PAUSE = 3, 0.01")
    text = text.replace("/etc/database_copy.cnf", str(client))
    program = f"TOLD = {json.dumps(told)!r}\n{text}"
    ran = subprocess.run([sys.executable, "-IS", "-"], input=program, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert password not in ran.stdout
    found = json.loads(ran.stdout)
    assert not found["notes" if about["secret"] else "problems"], (
        "what needs no password keeps no host from a provisioning"
    )
    return " ".join(found["problems"] + found["notes"])


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_a_service_that_does_not_answer_as_it_should_is_named_and_its_password_is_not(elsewhere):
    trusted, sql, redis = (
        elsewhere.ca.read_text(),
        {"speaks": "mysql", "port": elsewhere.sql},
        {"port": elsewhere.redis},
    )
    assert ask(trusted, **redis) == ""
    assert ask(trusted, **sql) == ""
    closed = free_port()
    for authorities, said, problem in (
        (trusted, {"port": closed}, f"redis.cache at 127.0.0.1:{closed} cannot be used: Connection refused"),
        (trusted, {**sql, "port": closed}, "Connection refused"),
        (trusted, {**redis, "password": "geheim"}, "WRONGPASS"),
        (trusted, {**sql, "password": "geheim"}, "Access denied for user 'shop'"),
        (trusted, {**sql, "user": "nobody"}, "Access denied for user 'nobody'"),
        (trusted, {**sql, "port": elsewhere.plain}, "it has no TLS"),
        (trusted, {**redis, "port": elsewhere.plain}, "cannot be used"),
        (trusted, {**sql, "host": "localhost"}, "its certificate is not trusted: Hostname mismatch"),
        (trusted, {**redis, "host": "localhost"}, "its certificate is not trusted: Hostname mismatch"),
        ("", sql, "its certificate is not trusted: self-signed certificate"),
        ("", redis, "its certificate is not trusted: self-signed certificate"),
        (trusted, {**redis, "host": "no.such.invalid"}, "cannot be used: "),
    ):
        assert problem in ask(authorities, **said)


def test_a_live_release_is_not_moved_to_a_database_without_its_data(elsewhere, tmp_path):
    def said(live=ROOT, **more):
        return ask(elsewhere.ca.read_text(), speaks="mysql", port=elsewhere.sql, live=live, **more)

    def sql(text):
        command = ["mariadb", "--user=root", f"--socket={elsewhere.ca.with_name('s')}", "shop"]
        subprocess.run(command, input=text, text=True, check=True)

    sql("DROP DATABASE shop; CREATE DATABASE shop")
    client = tmp_path / "client.cnf"
    assert "it has no tables, and the live release" in said()
    client.write_text(f"[client]\nhost = other.example.com\nport = {elsewhere.sql}\n")
    assert "it has no tables" in said(client=client), "from one endpoint to another"
    client.write_text(f"[client]\nhost = 127.0.0.1\nport = {elsewhere.sql}\n")
    assert said(client=client) == "", "it is where it was"
    assert said(live="/no/live") == ""
    sql("CREATE TABLE moved (a INT)")
    assert said() == ""
    sql("DROP TABLE moved")


def test_a_service_that_answers_a_moment_later_is_waited_for():
    def serve(late):
        for left in (2, 1, 0):
            connection, _ = late.accept()
            if left:  # it is reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.recv(200)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as late:
        thread = threading.Thread(target=serve, args=[late], daemon=True)
        thread.start()
        assert ask("", speaks="http", secret="", port=late.getsockname()[1]) == ""
        thread.join(10)
        assert not thread.is_alive(), "it is asked three times"


class Relay(socketserver.StreamRequestHandler):
    """As much of SMTP as is spoken before mail."""

    def handle(self):
        self.wfile.write(b"220 relay\r\n")
        for answer in (b"250-relay\r\n250 STARTTLS\r\n", b"220 go on\r\n"):
            self.rfile.readline()
            self.wfile.write(answer)
        with contextlib.suppress(ssl.SSLError):
            self.server.context.wrap_socket(self.request, server_side=True).close()


class Page(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(403)  # a search engine may tell nothing to whom it does not know

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def secured(elsewhere):
    """The ports of a relay and of a web server with the same certificate as the database."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay))
        web = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page))
        relay.context = context_of(elsewhere.ca.with_name("key").read_text() + elsewhere.ca.read_text())
        wrap(web, relay.context)
        for each in (relay, web):
            threading.Thread(target=each.serve_forever, daemon=True).start()
            stack.callback(each.shutdown)
        yield SimpleNamespace(smtp=relay.server_address[1], https=web.server_address[1])


def test_a_relay_and_a_search_engine_are_asked_for_their_certificate(elsewhere, secured):
    trusted = elsewhere.ca.read_text()
    relay = {"speaks": "smtp", "secret": "", "port": secured.smtp}
    engine = {"speaks": "http", "secret": "", "port": secured.https, "host": "https://127.0.0.1"}
    assert (ask(trusted, **relay), ask(trusted, **engine)) == ("", "")
    for said in (relay, engine):
        assert "its certificate is not trusted" in ask("", **said)
        assert "its certificate is not trusted" in ask(
            trusted, **{**said, "host": said.get("host", "127.0.0.1").replace("127.0.0.1", "localhost")}
        )
    assert "it does not speak HTTP" in ask(trusted, **{**engine, "host": "127.0.0.1", "port": elsewhere.sql})
    assert "refused" in ask(trusted, **{**relay, "port": free_port()})


HELD_BACK = """
import http.server, subprocess, threading
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
page = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=page.serve_forever, daemon=True).start()
"""
"""In a network of its own: a service, and the firewall of a host that was provisioned before it was declared."""
RULES = """table inet filter {
    chain output {
        type filter hook output priority filter; policy drop;
        ct state established,related accept
        tcp sport 8000 accept
        tcp dport 8001 accept comment "asked"
        reject with icmpx admin-prohibited
    }
}
"""


@pytest.mark.promise("an-endpoint-is-asked-before-rules-change")
@pytest.mark.parametrize(("provisioned", "problem"), [(False, ""), (True, "No route to host")])
def test_the_firewall_of_earlier_settings_lets_out_who_asks_as_long_as_he_does(provisioned, problem):
    """Behind the new one, the rules are what is asked too. What somebody killed has left is removed."""
    need("nft", "unshare")
    told = {
        "asked": [
            {
                "service": "a",
                "secret": "",
                "speaks": "http",
                "host": "127.0.0.1",
                "port": 8000,
                "as": "nobody",
            }
        ],
        "authorities": "",
        "provisioned": provisioned,
        "live": "/no/live",
    }
    text = (ROOT / endpoints.PROGRAM).read_text().replace("PAUSE = 3, 1", "PAUSE = 3, 0.01")
    listed = "print(nft('list', 'chain', *OUTPUT))"
    ran = subprocess.run(
        ["unshare", "--net", sys.executable, "-IS", "-"],
        input=f"RULES = {RULES!r}\n{HELD_BACK}\nTOLD = {json.dumps(told)!r}\n{text}\n{listed}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    answer, rules = ran.stdout.split("\n", 1)
    said = f"a at 127.0.0.1:8000 cannot be used: {problem}"
    assert json.loads(answer) == {"problems": [], "notes": [said] if problem else []}
    assert "reject with icmpx" in rules
    assert ('comment "asked"' in rules) == provisioned


def played(told, tmp_path):
    """What Ansible says of the role on this machine."""
    told = {
        "ansible_python_interpreter": sys.executable,
        "endpoints_authorities": "",
        "server_roles": ["endpoints"],
        "application_path": "/srv/none",
        **told,
    }
    tasks = [{"ansible.builtin.include_role": {"name": "endpoints", "tasks_from": "main"}}]
    (tmp_path / "play.yml").write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks, "vars": told}])
    )
    environ = {**os.environ, "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_LOCALHOST_WARNING": "0"}
    command = ["ansible-playbook", "--check", "-c", "local", "-i", "localhost,", str(tmp_path / "play.yml")]
    return subprocess.run(command, env=environ, capture_output=True, text=True)


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint", "all-listen-after-an-interruption")
def test_the_role_asks_again_behind_the_firewall(elsewhere, tmp_path):
    """After an interruption it asks once handlers have run: what they were notified of is written, and differs no more."""
    asked = {
        "service": "redis.cache",
        "speaks": "redis",
        "host": "127.0.0.1",
        "port": elsewhere.redis,
        "user": "shop",
        "secret": "redis_cache_password",
        "as": "x",
    }
    told = {"endpoints_asked": [asked], "endpoints_passwords": {"redis_cache_password": PASSWORD}}
    told["server_interrupted"] = True
    for authorities, wrong in ((elsewhere.ca.read_text(), ""), ("", "its certificate is not trusted")):
        said = played({**told, "endpoints_authorities": authorities}, tmp_path)
        assert (said.returncode == 0) == (wrong == ""), said.stdout + said.stderr
        assert wrong in said.stdout
        assert PASSWORD not in said.stdout + said.stderr
        before, _, _ = said.stdout.partition("TASK [endpoints : Ask each service")
        assert "RUNNING HANDLER [endpoints : Read the authorities]" in before


# --- who uses them --------------------------------------------------------------------------------


def variables(elsewhere, **more):
    """Those of the templates where all are elsewhere."""
    services = configuration.services(ROOT, "magento2", {})
    for each in services["redis"].values():
        each.update(address="127.0.0.1", port=elsewhere.redis, here=False, elsewhere=True)
    services["mariadb"]["sql"].update(address="127.0.0.1", port=elsewhere.sql, here=False, elsewhere=True)
    return {
        "server_services": services,
        "database_host": "127.0.0.1",
        "database_password": PASSWORD,
        "database_user": "shop",
        "redis_sessions_password": PASSWORD,
        "redis_cache_password": PASSWORD,
        **more,
    }


@pytest.fixture
def client(elsewhere, tmp_path):
    """The file by which the client of the database logs in, where whoever has signed its certificate is trusted."""
    text = configuration.template(ROOT, "roles/database/templates/client.cnf.j2", **variables(elsewhere))
    assert CA in text

    def client(authority=elsewhere.ca, text=text):
        path = tmp_path / "client.cnf"
        path.write_text(text.replace(CA, str(authority)))
        return path

    return client


def logged_in(client):
    command = ["mariadb", f"--defaults-file={client}", "--batch", "--skip-column-names", "shop"]
    return subprocess.run(command, input="SHOW STATUS LIKE 'Ssl_cipher'", capture_output=True, text=True)


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_root_reaches_the_database_by_tls_alone(elsewhere, client):
    assert "TLS" in logged_in(client()).stdout, logged_in(client()).stderr
    assert logged_in(client(CA)).returncode != 0, "whoever has signed that is not trusted"
    plain = client().read_text().replace(str(elsewhere.sql), str(elsewhere.plain))
    assert logged_in(client(text=plain)).returncode != 0, "it has no TLS"
    other = client().read_text().replace("host = 127.0.0.1", "host = localhost\nprotocol = tcp")
    assert logged_in(client(text=other)).returncode != 0, "its certificate is for another name"


@pytest.mark.promise("backups-work-over-an-endpoint")
def test_the_database_is_copied_and_brought_back_over_it(elsewhere, client, tmp_path):
    """As a backup and a migration do, by no other rights than the application's."""
    program = rendering_of_the_copy(elsewhere).replace("/etc/database_copy.cnf", str(client()))
    (tmp_path / "copy").write_text(program)

    def sql(text):
        command = ["mariadb", f"--defaults-file={client()}", "--batch", "--skip-column-names", "shop"]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    sql(
        "CREATE OR REPLACE TABLE a (b INT); INSERT INTO a VALUES (1), (2); CREATE OR REPLACE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.b = NEW.b + 1"
    )
    taken = subprocess.run(["bash", tmp_path / "copy", "take"], capture_output=True, check=True)
    (tmp_path / "kept.zst").write_bytes(taken.stdout)
    sql("DELETE FROM a; CREATE TABLE more (c INT)")
    back = subprocess.run(
        ["bash", tmp_path / "copy", "restore", tmp_path / "kept.zst", tmp_path / "aside"],
        capture_output=True,
        text=True,
    )
    assert back.returncode == 0, back.stderr
    assert (
        sql("SELECT b FROM a; SHOW TABLES; INSERT INTO a VALUES (4); SELECT MAX(b) FROM a") == "1\n2\na\n5\n"
    )
    assert (tmp_path / "aside").stat().st_size


MADE = """DROP DATABASE shop; CREATE DATABASE shop; USE shop;
CREATE USER IF NOT EXISTS own@localhost;
GRANT ALL ON shop.* TO own@localhost;
CREATE TABLE a (b TEXT);
INSERT INTO a VALUES ('x\\nCREATE DEFINER=`root`@`localhost` PROCEDURE \\n/*!50003 CREATE*/ /*!50017 DEFINER=`u`@`h`*/ /*!50003 TRIGGER ');
CREATE DEFINER=own@localhost TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.b = CONCAT(NEW.b, '!');
CREATE DEFINER=own@localhost VIEW v AS SELECT b FROM a;
CREATE DEFINER=own@localhost PROCEDURE p() SELECT 1;
CREATE DEFINER=own@localhost FUNCTION f() RETURNS INT RETURN 2;
CREATE DEFINER=own@localhost EVENT e ON SCHEDULE EVERY 1 YEAR DO SELECT 1;
"""
DEFINERS = """SELECT CONCAT(MIN(d), ' ', MAX(d), ' ', COUNT(*)) FROM (
SELECT definer d FROM information_schema.triggers WHERE trigger_schema = 'shop'
UNION ALL SELECT definer FROM information_schema.views WHERE table_schema = 'shop'
UNION ALL SELECT definer FROM information_schema.routines WHERE routine_schema = 'shop'
UNION ALL SELECT definer FROM information_schema.events WHERE event_schema = 'shop') AS every"""


@pytest.mark.promise("backups-work-over-an-endpoint")
def test_a_copy_is_brought_back_where_the_user_is_another(elsewhere, client, tmp_path):
    """From a host's own database to an endpoint, and back."""
    root = ["--user=root", f"--socket={elsewhere.ca.with_name('s')}"]

    def sql(text):
        command = ["mariadb", *root, "--batch", "--skip-column-names", "--raw", "shop"]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    sql(MADE)
    everything = ["--routines", "--triggers", "--events", "--add-drop-database", "--databases", "shop"]
    old = subprocess.run(["mariadb-dump", *root, *everything], capture_output=True, check=True).stdout
    assert old.count(b"DEFINER=`own`@`localhost`") >= 5, "as of a host, by a pipeline before this one"
    (tmp_path / "old.sql").write_bytes(old)
    kept = sql("SELECT b FROM a")
    sql("DROP DATABASE shop; CREATE DATABASE shop")
    there = rendering_of_the_copy(elsewhere).replace("/etc/database_copy.cnf", str(client()))
    here = there.replace(f" --defaults-extra-file={client()}", " ".join(["", *root]))
    here = here.replace("definers ''", "definers '`own`@`localhost`'")
    for program, file, definer in ((there, "old.sql", "shop@%"), (here, "new.sql", "own@localhost")):
        (tmp_path / "copy").write_text(program)
        command = ["bash", tmp_path / "copy", "restore", tmp_path / file, tmp_path / "aside"]
        back = subprocess.run(command, capture_output=True, text=True)
        assert back.returncode == 0, back.stderr
        assert sql(DEFINERS) == f"{definer} {definer} 5\n"
        assert sql("SELECT b FROM v") == kept
        assert (
            sql(
                "INSERT INTO a VALUES ('y'); SELECT b FROM a WHERE b LIKE 'y%'; DELETE FROM a WHERE b LIKE 'y%'"
            )
            == "y!\n"
        )
        new = subprocess.run(["bash", tmp_path / "copy", "dump"], capture_output=True, check=True).stdout
        assert b"DEFINER=`shop`@" not in new
        (tmp_path / "new.sql").write_bytes(new)
    sql("DROP DATABASE shop; CREATE DATABASE shop")


def rendering_of_the_copy(elsewhere):
    told = variables(elsewhere, database_name="shop")
    said = rendering.value(
        (ROOT / "roles/database/vars/main.yml")
        .read_text()
        .partition("__database_server:")[2]
        .partition("\n")[0]
        .strip()
        .strip('"')
        .removeprefix("{{")
        .removesuffix("}}"),
        told,
        {},
    )
    assert said.strip() == "--defaults-extra-file=/etc/database_copy.cnf"
    return configuration.template(
        ROOT,
        "roles/database/templates/database_copy.j2",
        **told,
        __database_server=said,
        __database_definer="",
    )


def php(script, trusted):
    environ = {**os.environ, "SSL_CERT_FILE": str(trusted)}
    ran = subprocess.run(
        ["php", "-d", "display_errors=0", "-r", script], env=environ, capture_output=True, text=True
    )
    return ran.stdout


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_the_shop_reaches_them_by_tls_with_what_its_configuration_says(elsewhere, tmp_path):
    (tmp_path / "app" / "etc").mkdir(parents=True)
    text = configuration.template(ROOT, "applications/magento2/env.php.j2", **variables(elsewhere))
    classes = "['Configuration', 'Refusal', 'Connection', 'Redis']"
    script = f"""
    foreach ({classes} as $each) require "{ROOT}/app/packages/framework/src/$each.php";
    $configuration = new Shop\\Framework\\Configuration('{tmp_path}');
    $tried = [
        fn () => (new Shop\\Framework\\Connection($configuration))->rows("SHOW STATUS LIKE 'Ssl_version'")[0]['Value'],
        fn () => Shop\\Framework\\Redis::connect($configuration->need('session/redis'))->ping(),
        fn () => Shop\\Framework\\Redis::connect($configuration->need('cache/frontend/default/backend_options'))->ping(),
        fn () => Shop\\Framework\\Redis::connect($configuration->need('cache/frontend/page_cache/backend_options'))->ping(),
    ];
    foreach ($tried as $each) {{
        try {{ echo $each(), ' '; }} catch (Throwable $problem) {{ echo 'refused '; }}
    }}
    """

    def said(text, trusted):
        (tmp_path / "app" / "etc" / "env.php").write_text(text.replace(CA, str(trusted)))
        return php(script, trusted).split()

    assert said(text, elsewhere.ca) == ["TLSv1.3", "1", "1", "1"]
    assert said(text, CA) == ["refused"] * 4, "whoever has signed their certificate is not trusted"
    assert said(text.replace("127.0.0.1", "localhost"), elsewhere.ca) == ["refused"] * 4, (
        "it is for another name"
    )
    plain = text.replace(f":{elsewhere.sql}", f":{elsewhere.plain}")
    assert said(plain, elsewhere.ca)[0] == "refused", "it has no TLS"


@pytest.mark.promise("a-service-is-a-role-or-an-endpoint")
def test_another_application_of_php_does_too(elsewhere, tmp_path):
    told = variables(elsewhere)
    text = configuration.template(ROOT, "applications/php/env.j2", **told)
    source = ROOT / "tests" / "examples" / "php" / "src"
    script = f"""
    foreach (['Environment', 'Database'] as $each) require "{source}/$each.php";
    try {{
        echo Notes\\Database::connect(Notes\\Environment::read('{tmp_path}/.env'))->query("SHOW STATUS LIKE 'Ssl_version'")->fetch()['Value'];
    }} catch (PDOException $problem) {{ echo 'refused'; }}
    """

    def said(trusted):
        (tmp_path / ".env").write_text(text.replace(CA, str(trusted)))
        return php(script, trusted)

    assert said(elsewhere.ca) == "TLSv1.3"
    assert said(CA) == "refused"
    slashes = configuration.template(ROOT, "applications/php/env.j2", **{**told, "database_password": "a/b"})
    assert "//shop:a%2Fb@127" in slashes, "a / ends what comes before the host"
    assert f"@127.0.0.1:{elsewhere.sql}/shop?" in text
