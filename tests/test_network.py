"""Who talks to whom is declared once: what does not fit together is refused, and everything else is made of it."""

from __future__ import annotations

import shutil

import pytest

from tasks import network, profile
from tasks.network import Topology
from tasks.release import phases
from tasks.settings import Application, SettingWrong
from tests.conftest import ROOT
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
    (NGINX, "name: check", "name: http", r"listens\[1\].name: should be a name that the role gives once"),
    (NGINX, "when: page_cache", "when: page_cash", r"listens\[2\].when: should be an option of the role nginx \(did you mean page_cache"),
    (NGINX, "[http_from]", "[everybody]", r"listens\[0\].open_to\[0\]: should be"),
    (PHP, "to: mariadb.sql", "to: mysql.sql", r"server.connects\[0\].to: should be a service of the profile's roles"),
    (PHP, "to: mariadb.sql", "to: redis.cache", r"server.connects\[0\].to: should be a service of the profile's roles"),
    (PHP, ", ports: [80, 443, 465, 587]", "", r"server.connects\[2\].ports: should be at least one port"),
    (PHP, "to: mariadb.sql", "{to: mariadb.sql, ports: [1]}", r"server.connects\[0\].ports: should be left out"),
]  # fmt: skip


@pytest.mark.promise("the-network-is-declared-once")
@pytest.mark.parametrize(("path", "before", "after", "sentence"), WRONG)
def test_a_declaration_that_does_not_fit_is_one_sentence(root, path, before, after, sentence):
    text = (root / path).read_text()
    assert before in text
    (root / path).write_text(text.replace(before, after, 1))
    with pytest.raises(SettingWrong, match=sentence) as caught:
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
    rows = {(each.to, each.port): each for each in network.ways(declared(ROOT, "magento2"), 2, networks)}
    assert rows["nginx.http", "80"].who == ("http_from: 0.0.0.0/0", "nginx as www-data")
    assert rows["nginx.https", "443"].who == ("http_from: 0.0.0.0/0",)
    assert rows["redis.cache", "6380"].who == ("application as application", "root")
    cache = rows["varnish.http", "6081"]
    assert (cache.bind, cache.who[0]) == (network.ALL, "the other machines")
    assert rows["out: 169.254.169.123/32", "udp 123"].who == ("base as any user",)
