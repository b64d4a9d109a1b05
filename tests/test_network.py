"""Who talks to whom is declared once: what does not fit together is refused, and everything else is made of it."""

from __future__ import annotations

import shutil

import pytest

from tasks import network, placement, profile
from tasks.graph import diagram
from tasks.network import Topology
from tasks.release import phases
from tasks.settings import Application, SettingUnknown, SettingWrong
from tests.conftest import ROOT
from tests.rules import configuration, rendering
from tests.rules.configuration import declared


@pytest.fixture
def root(tmp_path):
    """A copy of roles and applications."""
    for name in ("roles", "applications"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def of(root, name="php"):
    found = profile.load(root, Application(profile=name))
    return network.of(root, found.server.roles, found.file)


REDIS, NGINX, PHP = (
    "roles/redis/meta/network.yml",
    "roles/nginx/meta/network.yml",
    "applications/php/profile.yml",
)
WRONG = [
    (NGINX, "port: 8090", "port: 80", r"listens\[1\].port: should be a port of its own: nginx.http listens on it"),
    (NGINX, "port: 8090", "port: 70000", r"listens\[1\].port: should be a whole number from 0 to 65535, not '70000'"),
    (NGINX, "port: 8090", "unit: a.service", r"listens\[1\].port: should be the port, or `port_option`"),
    (NGINX, "to: nginx.next,", "to: nginx.next, client: ngin,", r"connects\[1\].client: should be a role \(did you mean nginx\?.*not 'ngin'"),
    (NGINX, "name: check", "name: http", r"listens\[1\].name: should be a name that the role gives once"),
    (NGINX, "when: page_cache", "when: page_cash", r"listens\[2\].when: should be an option of the role nginx \(did you mean page_cache"),
    (NGINX, "[http_from]", "[everybody]", r"listens\[0\].open_to\[0\]: should be"),
    (PHP, "to: mariadb.sql", "to: mysql.sql", r"server.connects\[0\].to: should be a service of the profile's roles"),
    (PHP, "to: mariadb.sql", "to: redis.cache", r"server.connects\[0\].to: should be a service of the profile's roles"),
    (PHP, ", ports: [80, 443, 465, 587]", "", r"server.connects\[2\].ports: should be at least one port"),
    (PHP, "to: mariadb.sql", "{to: mariadb.sql, ports: [1]}", r"server.connects\[0\].ports: should be left out"),
    (PHP, "to: mariadb.sql", "{to: mariadb.sql, protocol: udp}", r"server.connects\[0\].protocol: should be left out: only `internet` has it"),
    (PHP, "to: mariadb.sql", "{to: mariadb.sql, networks: [192.0.2.0/24]}", r"server.connects\[0\].networks: should be left out"),
    (PHP, "to: mariadb.sql", "{to: bucket, networks: [192.0.2.0/24]}", r"server.connects\[0\].networks: should be left out"),
    (PHP, "to: mariadb.sql", "{to: bucket, each: true}", r"server.connects\[0\].each: should be left out: only a service has several hosts"),
    *((PHP, "to: mariadb.sql", f"{{to: mariadb.sql, {key}: nginx}}", rf"server.connects\[0\].{key}: unknown key") for key in ("client", "when", "group", "users")),
]  # fmt: skip


@pytest.mark.promise("the-network-is-declared-once")
@pytest.mark.parametrize(("path", "before", "after", "sentence"), WRONG)
def test_a_declaration_that_does_not_fit_is_one_sentence(root, path, before, after, sentence):
    text = (root / path).read_text()
    assert before in text
    (root / path).write_text(text.replace(before, after, 1))
    with pytest.raises((SettingUnknown, SettingWrong), match=sentence) as caught:
        of(root)
    assert str(caught.value.text).startswith(f"{path}:")


def test_rules_that_name_the_application_s_user_come_after_it_is_made(root):
    path = root / PHP
    text = path.read_text()
    line = next(each for each in text.splitlines(keepends=True) if each.startswith("    firewall:"))
    path.write_text(text.replace(line, "").replace("    base:\n", f"    base:\n{line}"))
    with pytest.raises(SettingWrong, match=r"server\.roles\.firewall: should be after application"):
        of(root)


def test_a_release_is_checked_where_the_web_server_listens():
    ports = {str(each): each.port for each in declared(ROOT, "static").services}
    assert (ports["nginx.http"], ports["nginx.check"]) == (phases.PUBLIC, phases.NEXT)


@pytest.mark.promise("the-network-is-declared-once")
def test_a_group_on_a_machine_of_its_own_is_a_line_of_where_the_roles_are():
    """The database elsewhere: it binds for its clients, whose rules let them out to it, and nobody else."""
    found = declared(ROOT, "php")
    hosts = {each.role: ["10.0.0.1"] for each in found.services} | {"mariadb": ["10.0.0.2"]}
    hosts |= {"application": ["10.0.0.1"]}
    app, data = (Topology(hosts=hosts, here=[each]) for each in ("10.0.0.1", "10.0.0.2"))
    assert network.told(found, app)["mariadb"]["sql"]["address"] == "10.0.0.2"
    assert network.told(found, data)["mariadb"]["sql"]["bind"] == network.ALL
    networks = {"ssh_from": ["192.0.2.0/24"], "http_from": ["0.0.0.0/0"]}
    rules = [
        network.firewall(found, each, networks=networks, users=["web-shop", "shop"], bucket=443)
        for each in (app, data)
    ]
    way = {"protocol": "tcp", "ports": [3306], "users": ["web-shop", "shop"], "networks": ["10.0.0.2/32"]}
    assert [way in each["lets_out"] for each in rules] == [True, False]
    admits = {"port": 3306, "networks": ["10.0.0.1/32"]}
    assert [admits in each["admits"] for each in rules] == [False, True]


def roles(name):
    return profile.load(ROOT, Application(profile=name)).server.roles


FOUND = {"web": "10.0.0.1", "app": "10.0.0.2", "data": "10.0.0.3"}


@pytest.fixture
def apart():
    """The shop on three machines: what each is told, and its rules."""
    found, server = (
        declared(ROOT, "magento2", nginx_tls=True, mail_catch=True),
        profile.load(ROOT, Application(profile="magento2")).server,
    )
    placed = {"web": ("ingress", "cache"), "app": ("app",), "data": ("data",)}
    where = placement.of(server.roles, server.groups, placed)
    places = {name: network.topology(where, [*FOUND.items()], [at]) for name, at in FOUND.items()}
    return found, where, places


@pytest.mark.promise("groups-have-machines")
def test_machines_reach_each_other_where_a_role_says_so_and_nowhere_else(apart):
    found, where, _ = apart
    assert network.between(found, where, 1) == {
        (6081, "app", "web"),  # it purges the page cache
        (8080, "web", "app"),
        (8025, "web", "app"),  # the page of caught mail, on the site's address
        (3306, "app", "data"),
        (6379, "app", "data"),
        (6380, "app", "data"),
    }
    assert network.visited(found, where) == {"web"}
    alike = placement.of(where.roles["app"], {}, {})
    assert network.between(found, alike, 1) == set()
    assert network.visited(found, alike) == {placement.ALIKE}


@pytest.mark.promise("caught-mail-is-the-applications")
def test_a_role_may_name_the_one_that_connects_where_hosts_have_it():
    def clients(found):
        [page] = [each for each in found.services if str(each) == "mail.page"]
        return [(client, each.group) for client, each in page.clients]

    assert clients(declared(ROOT, "magento2", mail_catch=True)) == [("nginx", "ingress")]
    static = profile.load(ROOT, Application(profile="static")).file
    assert clients(network.of(ROOT, {"mail": {"catch": True}}, static)) == []


@pytest.mark.promise("groups-have-machines")
def test_a_service_is_told_where_it_is_for_each_machine(apart):
    found, _, places = apart
    told = {name: network.told(found, place) for name, place in places.items()}
    here = {
        name: sorted(
            f"{role}.{each}" for role, those in said.items() for each, one in those.items() if one["here"]
        )
        for name, said in told.items()
    }
    own = ["provisioning_started.ssh"]
    assert here == {
        "web": ["nginx.http", "nginx.https", *own, "varnish.admin", "varnish.http"],
        "app": ["mail.page", "mail.smtp", "nginx.check", "nginx.next", "nginx.site", *own, "search.http"],
        "data": ["mariadb.sql", *own, "redis.cache", "redis.sessions"],
    }
    site = {name: said["nginx"]["site"] for name, said in told.items()}
    assert (site["web"]["address"], site["app"]["bind"], site["app"]["clients"]) == (
        "10.0.0.2",
        network.ALL,
        ["10.0.0.1"],
    )
    assert (
        told["app"]["nginx"]["check"]["bind"] == told["web"]["varnish"]["admin"]["bind"] == network.LOOPBACK
    )
    assert told["app"]["varnish"]["http"]["addresses"] == ["10.0.0.1"]
    assert network.after(found, places["app"], network.APPLICATION) == [
        "search_stand_in.service",
        "postfix.service",
    ]
    assert network.elsewhere(found, places["app"]) == [
        "mariadb.service",
        "redis-server.service",
        "redis-server@cache.service",
        "varnish.service",
    ]
    assert network.elsewhere(found, places["data"]) == [
        "caught_mail.service",
        "nginx.service",
        "postfix.service",
        "search_stand_in.service",
        "varnish.service",
    ]


@pytest.mark.promise("groups-have-machines")
def test_a_machine_s_own_firewall_knows_which_machine_comes_and_which_user_goes(apart):
    found, _, places = apart
    networks = {"ssh_from": ["192.0.2.0/24"], "http_from": ["0.0.0.0/0"]}
    rules = {
        name: network.firewall(found, place, networks=networks, users=["web", "shop"], bucket=443)
        for name, place in places.items()
    }
    admitted = {
        name: {each["port"]: each["networks"] for each in said["admits"]} for name, said in rules.items()
    }
    everybody, ssh = ["0.0.0.0/0"], {22: ["192.0.2.0/24"]}
    assert admitted == {
        "web": {**ssh, 80: everybody, 443: everybody, 6081: ["10.0.0.2/32"]},
        "app": {**ssh, 8025: ["10.0.0.1/32"], 8080: ["10.0.0.1/32"]},
        "data": {**ssh, **{key: ["10.0.0.2/32"] for key in (3306, 6379, 6380)}},
    }
    among = {each["port"]: each["users"] for each in rules["data"]["local"]}
    assert among == {key: ["root"] for key in (3306, 6379, 6380)}, "no user of another machine is named"
    inner = {
        name: {
            (port, *each["users"])
            for each in said["lets_out"]
            if {*each["networks"]} & {f"{at}/32" for at in FOUND.values()}
            for port in each["ports"]
        }
        for name, said in rules.items()
    }
    assert inner == {
        "web": {(8080, "vcache"), (8025, "www-data")},
        "app": {
            (3306, "web", "shop"),
            (3306, "root"),
            *((port, "web", "shop") for port in (6379, 6380, 6081)),
        },
        "data": set(),
    }


@pytest.mark.promise("groups-have-machines", "caught-mail-is-the-applications")
def test_the_web_server_of_each_machine_is_its_part_of_one(apart):
    found, _, places = apart
    told = {
        name: configuration.variables(
            ROOT, "magento2", server_services=network.told(found, place), nginx_site="SITE"
        )
        for name, place in places.items()
    }
    path = ROOT / "roles" / "nginx" / "templates" / "nginx.conf.j2"
    web, app = (rendering.rendered(path, told[name]) for name in ("web", "app"))
    for words in ("listen 80 default_server", "ssl_certificate ", "upstream page_cache"):
        assert (words in web, words in app) == (True, False)
    assert "proxy_pass http://10.0.0.2:8025;" in web, "the application's mail, not its own"
    for words in ("SITE", "listen 127.0.0.1:8090"):
        assert (words in web, words in app) == (False, True)
    assert "10.0.0.1/32 1;" in app, "the page cache on another machine says how a visitor came"
    site = rendering.rendered(ROOT / "applications" / "magento2" / "nginx.conf.j2", told["app"])
    assert site.count("root /srv/shop/$release/pub;") == 1
    assert "try_files $uri @page_cache;" in site, "it has the files that the other web server has not"
    for words in ("allow 10.0.0.1;", "set_real_ip_from 10.0.0.1;"):
        assert words in site


@pytest.mark.promise("the-network-is-drawn")
def test_the_picture_says_on_which_machine_a_service_is(apart):
    found, where, _ = apart
    networks = {"ssh_from": ["192.0.2.0/24"], "http_from": ["0.0.0.0/0"]}
    rows = {each.to: each for each in network.ways(found, where, 1, networks)}
    assert (rows["mariadb.sql"].on, rows["mariadb.sql"].who[0]) == (("data",), "machine app")
    assert "0.0.0.0 on data" in diagram.table(rows.values())
    assert ("machine app", "mariadb.sql 3306 on data") in diagram.reach(rows.values()).edges


@pytest.mark.promise("nothing-leaves-a-testing-host")
def test_where_egress_is_listed_only_proxy_and_resolver_get_out():
    """Who connected to the outside connects to the proxy; an endpoint of the settings is listed, with its port."""
    settings = {"proxy_allowed": ("api.example.com:8443",), "search_host": "https://search.example.com"}
    found = declared(ROOT, "magento2", firewall_egress="listed", **settings)
    assert found.listed == ("api.example.com:8443", "search.example.com:9200")
    users = {user for _, each in found.outward if not each.networks for user in each.users or ["anybody"]}
    assert users == {"proxy", "unbound"}
    assert network.outward(found, 443) == {
        *(("tcp", port) for port in (53, 80, 443, 8443, 9200)),
        ("udp", 53),
    }
    services = {str(each): each.users for each in found.services}
    assert services["proxy.http"] == ("_apt", "application", "root")
    assert services["resolver.dns"] == ("proxy", "root")
    rules = network.firewall(
        found,
        Topology(hosts={each.role: ["10.0.0.1"] for each in found.services}, here=["10.0.0.1"]),
        networks={"ssh_from": ["0.0.0.0/0"], "http_from": ["0.0.0.0/0"]},
        users=["shop"],
        bucket=443,
    )
    local = {(each["protocol"], each["port"]): each["users"] for each in rules["local"]}
    assert (local["tcp", 53], local["udp", 53]) == (["proxy", "root"], ["proxy", "root"])


def test_where_egress_is_open_there_is_neither_proxy_nor_resolver():
    found = declared(ROOT, "magento2")
    assert not {"proxy.http", "resolver.dns"} & {str(each) for each in found.services}
    assert found.listed == ()


@pytest.mark.promise("the-network-is-declared-once")
@pytest.mark.parametrize("role", ["proxy", "resolver"])
def test_an_environment_that_needs_the_proxy_refuses_a_profile_without_it(root, role):
    path = root / PHP
    text = path.read_text()
    line = next(each for each in text.splitlines(keepends=True) if each.startswith(f"    {role}:"))
    path.write_text(text.replace(line, ""))
    found = profile.load(root, Application(profile="php"))
    assert network.of(root, found.server.roles, found.file)
    with pytest.raises(
        SettingWrong, match=rf"server\.roles: should be a list with {role}, as the environment's"
    ):
        network.of(root, found.server.roles, found.file, "listed")


@pytest.mark.promise("the-network-is-drawn")
def test_the_picture_says_who_may_reach_what():
    networks = {"ssh_from": ["192.0.2.0/24"], "http_from": ["0.0.0.0/0"]}
    alike = placement.of(roles("magento2"), {}, {})
    ways = network.ways(declared(ROOT, "magento2"), alike, 2, networks)
    rows = {(each.to, each.port): each for each in ways}
    assert rows["nginx.http", "80"].who == ("http_from: 0.0.0.0/0", "nginx as www-data")
    assert rows["nginx.https", "443"].who == ("http_from: 0.0.0.0/0",)
    assert rows["redis.cache", "6380"].who == ("application as application", "root")
    cache = rows["varnish.http", "6081"]
    assert (cache.bind, cache.who[0]) == (network.ALL, "the other machines")
    assert rows["out: 169.254.169.123/32", "udp 123"].who == ("base as any user",)
