"""configuration: rules for the files that the roles' and profiles' templates become, read as the services read them."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import network
from tasks.network import Network
from tasks.profile import ProfileFile
from tasks.settings import read, role, with_default
from tests.rules import rendering, roles
from tests.rules.roles import Finding

UNUSUAL = r"""it's "so" \ %d $HOME `id` #;"""
"""A value that ends whatever is not quoted."""
TEXTS = (
    *("database_password", "shared_crypt_key", "database_host", "database_name", "database_user"),
    *("search_user", "search_password", "release_administrator_password", "release_administrator_secret"),
)
"""Variables that a configuration of the application carries as texts."""
HOSTS = [{"id": f"i-{number}", "address": f"203.0.113.{number}"} for number in (1, 2, 3)]
PEERS = [f"{each['address']}/32" for each in HOSTS]


def variables(root: Path, profile: str, **more: Any) -> dict[str, Any]:
    """What the roles of a profile are told: the defaults of their options, the profile's words, and samples for the rest."""
    said = roles.profiles(root)[profile]["server"]["roles"]
    known: dict[str, Any] = {}
    for name, told in said.items():
        specs = roles.load(root / "roles" / name / "meta" / "argument_specs.yml")["argument_specs"]["main"]
        known |= {
            option: said["default"] for option, said in specs.get("options", {}).items() if "default" in said
        }
        known |= {f"{name}_{option}": each for option, each in (told or {}).items()}
    return {
        "self_shutdown_days": 14,
        "self_shutdown_idle_hours": 3,
        "application_name": "shop",
        "application_user": "shopper",
        "application_web_user": "web",
        "shared_writable": ["var"],
        "application_path": "/srv/shop",
        "application_host_name": "shop.localhost",
        "application_host_names": ["shop.localhost", "de.shop.localhost", "at.shop.localhost"],
        "application_base_url": "https://shop.localhost/",
        "application_stores": [
            {
                "host_name": "de.shop.localhost",
                "base_url": "https://de.shop.localhost/",
                "code": "german",
                "type": "store",
            },
            {
                "host_name": "at.shop.localhost",
                "base_url": "https://at.shop.localhost/",
                "code": "alps",
                "type": "website",
            },
        ],
        "application_test_data": False,
        "firewall_egress": "open",
        "proxy_variables": {},
        "application_hosts": HOSTS[:1],
        "application_after": ["mariadb.service"],
        "inventory_hostname": "i-1",
        "ansible_user": "admin",
        "database_name": "shop",
        "database_user": "shopper",
        "database_host": "localhost",
        "database_clients": ["localhost"],
        "database_password": "password",
        "database_password_before": "",
        "redis_sessions_password": "",
        "redis_cache_password": "",
        "shared_crypt_key": "key",
        "search_password": "password",
        "search_stand_in": True,
        "mail_catch": False,
        "application_mail_path": "/caught-mail/",
        "mail_password": "password",
        "mail_relay_password": "password",
        "release_administrator_password": "password",
        "release_administrator_secret": "secret",
        "release_profile": roles.profiles(root)[profile].get("release", {}),
        "server_services": services(root, profile, {**known, **more}),
        **known,
        "mariadb_buffer_pool": "512M",
        **more,
    }


NETWORKS: dict[tuple[object, ...], Network] = {}
"""What was read before, by the texts that say it."""


def declared(root: Path, profile: str, **options: Any) -> Network:
    """Who talks to whom on hosts of a profile. `options`: options of its roles that differ from the profile's."""
    path = root / "applications" / profile / "profile.yml"
    texts = [each.read_text() for each in (path, *sorted(root.glob("roles/*/meta/network.yml")))]
    key = (profile, str(options), *texts)
    egress = options.pop("firewall_egress", "open")
    if key not in NETWORKS:
        file = read(ProfileFile, path, root)
        told = {
            name: {
                **{option: each.default for option, each in with_default(role(root, name).type).items()},
                **said,
            }
            for name, said in file.said.server.roles.items()
        }
        if options.get("nginx_page_cache"):
            told.setdefault("varnish", {})
        for name, value in options.items():
            whose, _, option = name.partition("_")
            told[whose][option] = value
        NETWORKS[key] = network.of(root, told, file, egress)
    return NETWORKS[key]


def services(root: Path, profile: str, known: Mapping[str, Any]) -> Any:
    """The variable that has the services, for hosts as these variables have them."""
    addresses = [each["address"] for each in known.get("application_hosts", HOSTS[:1])]
    names = (
        "nginx_page_cache",
        "nginx_tls",
        "nginx_probe",
        "firewall_egress",
        "mail_catch",
        "mail_relay_host",
    )
    found = declared(root, profile, **{name: known[name] for name in names if name in known})
    return network.told(
        found,
        network.Topology(
            hosts=dict.fromkeys(roles.profiles(root)[profile]["server"]["roles"], addresses),
            here=addresses[:1],
        ),
    )


def template(root: Path, path: str, profile: str = "magento2", **more: Any) -> str:
    """A template, rendered for a profile."""
    known = variables(root, profile, **more)
    return rendering.rendered(root / path, known)


def of_profiles(root: Path, role: str, name: str) -> Iterator[tuple[str, str]]:
    """The profiles that tell a role a template, and its path."""
    for profile, said in roles.profiles(root).items():
        for found in re.findall(rf"'{name}': '([\w.]+\.j2)'", str(said["server"]["roles"].get(role))):
            yield profile, f"applications/{profile}/{found}"


# --- the firewall ---------------------------------------------------------------------------------------

ALWAYS = [
    "ct state established,related accept",
    "ct state invalid drop",
    "iif lo accept",
    "meta l4proto { 1, 58 } accept",
]


def chains(text: str) -> dict[str, list[str]]:
    """The lines of each chain of nftables."""
    found: dict[str, list[str]] = {}
    name = None
    for line in (each.partition("#")[0].strip() for each in text.splitlines()):
        if opened := re.fullmatch(r"chain (\w+) \{", line):
            name = opened[1]
            found[name] = []
        elif line == "}":
            name = None
        elif name and line:
            found[name].append(line)
    return found


SAMPLES: dict[str, list[dict[str, Any]]] = {
    "firewall_admits": [
        {"port": 22, "networks": ["192.0.2.0/24", "2001:db8::/32"]},
        {"port": 6081, "networks": ["203.0.113.2/32"]},
    ],
    "firewall_lets_out": [
        {"protocol": "tcp", "ports": [80, 443], "users": ["root", "_apt"], "networks": []},
        {"protocol": "udp", "ports": [53], "users": [], "networks": []},
        {"protocol": "tcp", "ports": [6081], "users": ["shopper"], "networks": ["203.0.113.2/32"]},
    ],
    "firewall_local": [
        {"protocol": "tcp", "port": 6379, "users": ["root", "shopper"]},
        {"protocol": "udp", "port": 53, "users": ["proxy", "root"]},
    ],
}
CHAINS = {
    "input": [
        "type filter hook input priority filter; policy drop;",
        *ALWAYS,
        "ip saddr 192.0.2.0/24 tcp dport 22 accept",
        "ip6 saddr 2001:db8::/32 tcp dport 22 accept",
        "ip saddr 203.0.113.2/32 tcp dport 6081 accept",
    ],
    "forward": ["type filter hook forward priority filter; policy drop;"],
    "output": [
        "type filter hook output priority filter; policy drop;",
        "ct state established,related accept",
        "oif lo tcp dport 6379 meta skuid != { root, shopper } reject with tcp reset",
        "oif lo udp dport 53 meta skuid != { proxy, root } reject",
        "oif lo accept",
        "ip daddr 169.254.169.254 tcp dport 80 meta skuid != 0 reject",
        "ip6 daddr fd00:ec2::254 tcp dport 80 meta skuid != 0 reject",
        "icmpv6 type { 133, 135, 136, 143 } accept",
        "tcp dport { 80, 443 } meta skuid { root, _apt } accept",
        "udp dport { 53 } accept",
        "ip daddr 203.0.113.2/32 tcp dport { 6081 } meta skuid { shopper } accept",
        "reject with icmpx admin-prohibited",
    ],
}
OF_OPEN = CHAINS["output"][5:8]
"""What the output of a host whose egress is listed does not say: anything but that nobody gets to the metadata service."""
DECLARED = {"22": ["ssh_from"], "80": ["http_from"], "443": ["http_from"]}
"""What may be reached from elsewhere, in every profile."""
WAYS = {
    "packages internet tcp 80 443 root _apt",
    "packages internet udp 53 67",
    "packages internet tcp 53",
    "base internet udp 123 169.254.169.123/32",
    "release bucket tcp root",
    "backup bucket tcp root",
    "mail mail.relay tcp 587 postfix",
    "application internet tcp 80 443 465 587 application",
}
"""Whom hosts may reach elsewhere, and as which users."""
WAYS_LISTED = {
    "packages internet udp 67 255.255.255.255/32",
    "base internet udp 123 169.254.169.123/32",
    "proxy bucket tcp proxy",
    "proxy internet tcp 80 443 8443 proxy",
    "resolver internet tcp 53 unbound",
    "resolver internet udp 53 unbound",
}
"""The same where egress is listed, and the proxy leads to one more port."""
LOCAL = {
    "mariadb.sql": ("application", "root"),
    "redis.sessions": ("application", "root"),
    "redis.cache": ("application", "root"),
    "search.http": ("application", "root"),
    "varnish.http": ("application", "root", "www-data"),
    "varnish.admin": ("root",),
    "proxy.http": ("_apt", "application", "root"),
    "resolver.dns": ("proxy", "root"),
    "mail.smtp": ("application", "root"),
    "mail.page": ("root", "www-data"),
    "mail.relay": ("postfix", "root"),
    "nginx.check": ("root",),
    "nginx.site": ("root", "vcache"),
    "nginx.next": ("root", "www-data"),
}
"""Who on a host reaches what only it has."""


def the_firewall_admits_what_is_declared(root: Path) -> list[Finding]:
    """Its chains drop what no line accepts, each line is declared, and what is declared is what is meant."""
    path, found = "roles/firewall/templates/nftables.conf.j2", []
    text = template(root, path, **SAMPLES)
    if "flush ruleset" not in text.splitlines():
        found.append(f"{path}: the rules from before stay")
    output = [line for line in CHAINS["output"] if line not in OF_OPEN]
    output.insert(5, "ip daddr 169.254.169.254 reject")
    listed = chains(template(root, path, **SAMPLES, firewall_egress="listed"))
    found += [
        f"{path}: the chain {name} is {lines}"
        for told, wanted in ((chains(text), CHAINS), (listed, {**CHAINS, "output": output}))
        for name, lines in told.items()
        if lines != wanted[name]
    ]
    for profile, egress in itertools.product(roles.profiles(root), ("open", "listed")):
        more: dict[str, Any] = {"firewall_egress": egress, "proxy_allowed": ["api.example.com:8443"]}
        if "mail" in roles.profiles(root)[profile]["server"]["roles"]:
            more |= {"mail_catch": True} if egress == "listed" else {"mail_relay_host": "smtp.example.com"}
        network = declared(root, profile, **more)
        ways = {
            " ".join(map(str, (role, each.to, each.protocol, *each.ports, *each.users, *each.networks)))
            for role, each in network.outward
        }
        allowed = WAYS_LISTED if egress == "listed" else WAYS
        found += [f"{profile}: where egress is {egress} it goes out by {each}" for each in ways - allowed]
        for each in network.services:
            if list(each.open_to) != DECLARED.get(str(each.port), []):
                found.append(f"roles/{each.role}/meta/network.yml: {each} is open to {each.open_to}")
            wanted = () if each.open_to else LOCAL[str(each)]
            if not {*each.users} <= {*wanted} or bool(wanted) != bool(each.users):
                found.append(f"roles/{each.role}/meta/network.yml: {each} is reached by {each.users}")
    between = [
        str(each) for each in declared(root, "magento2").services if any(c.each for _, c in each.clients)
    ]
    if between != ["varnish.http"]:
        found.append(f"applications/magento2/profile.yml: several hosts reach {between} on each other")
    return found


PROXY = [
    "acl tunnel method CONNECT",
    "acl plain port 80",
    "acl inside dst 127.0.0.0/8 169.254.0.0/16 ::1 fe80::/10",
    "http_access deny tunnel plain",
    "acl name1 dstdomain -n api.example.com",
    "acl port1 port 8443",
    "http_access allow name1 port1 !inside",
    "acl name2 dstdomain -n 192.0.2.1",
    "acl port2 port 80",
    "http_access allow name2 port2 !inside",
    "http_access deny all",
]
POLICY = ["api.example.com CNAME rpz-passthru.", "*.api.example.com CNAME ."]
ZONES = ['local-zone: "." refuse', 'local-zone: "api.example.com." transparent']


def what_is_listed_is_all_that_is_reached(root: Path) -> list[Finding]:
    """The proxy leads to each name at its own port; the resolver answers the same names, and refuses everything else."""
    told: dict[str, Any] = {
        "firewall_egress": "listed",
        "__proxy_reached": ["api.example.com:8443", "192.0.2.1:80"],
        "__resolver_names": ["api.example.com"],
        "__resolver_servers": ["192.0.2.53"],
    }
    texts = {
        path: template(root, path, **told)
        for path in (
            "roles/proxy/templates/squid.conf.j2",
            "roles/resolver/templates/listed.zone.j2",
            "roles/resolver/templates/unbound.conf.j2",
        )
    }
    lines = {path: [each.strip() for each in text.splitlines()] for path, text in texts.items()}
    squid, zone, unbound = lines
    found = []
    access = [each for each in lines[squid] if re.match("acl |http_access ", each)]
    if access != PROXY:
        found.append(f"{squid}: leads to {access}")
    if [each for each in lines[zone] if " CNAME " in each] != POLICY:
        found.append(f"{zone}: does not refuse what is below a listed name")
    if [each for each in lines[unbound] if each.startswith("local-zone:")] != ZONES:
        found.append(f"{unbound}: does not refuse what is not listed")
    for path, wanted in (
        (squid, "http_port 127.0.0.1:3128"),
        (squid, "dns_nameservers 127.0.0.1"),
        (unbound, "interface: 127.0.0.1"),
        (unbound, 'module-config: "respip iterator"'),
        (unbound, "zonefile: /etc/unbound/listed.zone"),
    ):
        if wanted not in lines[path]:
            found.append(f"{path}: does not say `{wanted}`")
    return found


# --- settings by name -----------------------------------------------------------------------------------

WANTED: dict[str, dict[str, str]] = {
    # a template; the name of a setting, and the pattern that all of its values must match
    "roles/redis/templates/sessions.conf.j2": {
        "bind": r"127\.0\.0\.1|127\.0\.0\.1 -?::1",
        "port": "6379",
        "maxmemory": r"\d+[a-z]*",
        "maxmemory-policy": "volatile-ttl",
        "save": r"60 1",
        "stop-writes-on-bgsave-error": "no",
        "rename-command": r'[A-Z]+ ""',
        "dir": "/var/lib/redis",
    },
    "roles/redis/templates/cache.conf.j2": {
        "bind": r"127\.0\.0\.1|127\.0\.0\.1 -?::1",
        "port": "6380",
        "maxmemory": r"\d+[a-z]*",
        "maxmemory-policy": "volatile-lru",  # lists of tags, which never expire, stay
        "save": '""',
        "rename-command": r'[A-Z]+ ""',
    },
    "roles/mariadb/templates/server.cnf.j2": {
        "bind-address": r"127\.0\.0\.1",
        "character-set-server": "utf8mb4",
        "collation-server": "utf8mb4_.*",
        "log_bin": "binlog",
        "loose_innodb_buffer_pool_size_max": "256G",
    },
    "roles/mariadb/templates/tuning.cnf.j2": {
        "innodb_buffer_pool_size": "536870912",
        "binlog_format": "'ROW'",
        "binlog_expire_logs_seconds": "259200",
        "log_bin_trust_function_creators": "1",  # else who may not everything makes no trigger
        "slow_query_log": "1",
        "max_allowed_packet": "1073741824",  # as for who copies it, and for a trial
        "slow_query_log_file": "'/var/log/mysql/slow.log'",  # Debian rotates what is there
    },
    "roles/base/templates/chrony.conf.j2": {"port": "0", "cmdport": "0", "makestep": "1 3"},
    "roles/base/templates/needrestart.conf.j2": {
        "$nrconf{restart}": "'l';",
        "$nrconf{override_rc}->{qr(^php@)}": "0;",
    },
    "roles/php/templates/php-fpm.conf.j2": {
        "user": "web",  # no command's: it can neither signal nor read one
        "group": "web",
        "listen": r"/run/php/shop-\$\{RELEASE\}\.\$\{GENERATION\}\.sock",  # each release has its own
        "listen.owner": "www-data",
        "listen.group": "www-data",
        "listen.mode": "0660",
        "pm.max_children": r"\d+",
        "process_control_timeout": "600s",  # as long as a request may take
        "request_terminate_timeout": "600s",
        "ping.path": "/php-ping",
    },
    "roles/php/templates/cli.ini.j2": {"memory_limit": "2G", "max_execution_time": "0"},
    "roles/php/templates/fpm.ini.j2": {
        "expose_php": "Off",
        "memory_limit": r"\d+M",
        "max_execution_time": "600",
        "upload_max_filesize": "64m",
        "post_max_size": "64m",
        "opcache.validate_timestamps": "0",
    },
    "roles/base/templates/sshd.conf.j2": {
        "PermitRootLogin": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "AuthorizedKeysFile": r"\.ssh/authorized_keys /etc/ssh/keys/%u",
        "AllowTcpForwarding": "local",
        "AllowUsers": "admin",
        "MaxSessions": "2",
        "AllowAgentForwarding": "no",
        "KexAlgorithms": "sntrup761x25519-sha512@openssh.com",
    },
    "roles/base/templates/upgrades.conf.j2": {
        "Unattended-Upgrade::Automatic-Reboot": '"false";',
        "APT::Periodic::Update-Package-Lists": '"1";',
        "APT::Periodic::Unattended-Upgrade": '"1";',
    },
    "roles/base/templates/sysctl.conf.j2": {
        "vm.overcommit_memory": "1",
        "net.core.somaxconn": r"\d{4,}",
        "kernel.yama.ptrace_scope": "1",
    },
    "roles/base/templates/journald.conf.j2": {"SystemMaxUse": r"\d+M", "MaxRetentionSec": "1month"},
    "applications/php/env.j2": {"APP_ENV": "prod", "APP_DEBUG": "0", "TEST_DATA": "0"},
}
FORBIDDEN = r"(?m)^\s*(protected-mode\s+no|skip-grant-tables|skip-networking\s*=\s*0|allow_url_include|display_errors\s*=\s*On|security\.limit_extensions)"


def settings(text: str) -> dict[str, list[str]]:
    """NAME VALUE or NAME=VALUE, a line each; a `#` or `;` begins a comment."""
    found: dict[str, list[str]] = {}
    for line in (each.strip() for each in text.splitlines()):
        if line and line[0] not in "#;[":
            name, value = re.fullmatch(r"([^\s=]+)\s*=?\s*(.*)", line).groups()
            found.setdefault(name, []).append(value)
    return found


def settings_are_as_wanted(root: Path) -> list[Finding]:
    """Services listen to their own machine, and nothing tells a stranger about them."""
    found = []
    for path, wanted in WANTED.items():
        text = template(root, path, profile="php" if "/php/env" in path else "magento2")
        told = settings(text)
        for name, pattern in wanted.items():
            values = told.get(name, [])
            if not values or not all(re.fullmatch(pattern, each) for each in values):
                found.append(f"{path}: {name} is {values or 'missing'}, not {pattern}")
        if forbidden := re.search(FORBIDDEN, text):
            found.append(f"{path}: {forbidden[0].strip()}")
    return found


# --- nginx ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Directive:
    """A directive of nginx, with the ones in its braces."""

    name: str
    values: tuple[str, ...]
    inner: list[Directive] = field(default_factory=list)

    def __str__(self) -> str:
        """As it is written."""
        return " ".join((self.name, *self.values))

    def all(self, name: str) -> list[Directive]:
        """Every one of this name below."""
        return [
            found for each in self.inner for found in ([each] if each.name == name else []) + each.all(name)
        ]

    def own(self, name: str) -> list[str]:
        """The values of its own directives of this name."""
        return [" ".join(each.values) for each in self.inner if each.name == name]


def nginx(text: str) -> Directive:
    """A configuration as a tree."""
    words = re.findall(
        r"\"(?:[^\"\\]|\\.)*\"|#[^\n]*|[{};]|(?:\$\{\w+\}|\{[^}\s]*\}(?=\S)|[^\s;{}#\"])+", text
    )
    root = Directive(name="", values=())
    open_, line = [root], []
    for word in (each for each in words if not each.startswith("#")):
        if word == "}":
            open_.pop()
        elif word in "{;":
            made = Directive(name=line[0], values=tuple(line[1:]))
            open_[-1].inner.append(made)
            open_ += [made] if word == "{" else []
            line = []
        else:
            line.append(word)
    return root


WEB = "roles/nginx/templates/nginx.conf.j2"
SENT_ONCE = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "SAMEORIGIN"}
NAMES = "shop.localhost de.shop.localhost at.shop.localhost"
PROXIES = ["198.51.100.0/24", "2001:db8::/32"]
PROBE = "/probe"
SITE = "the site"
"""In place of the profile's template, which is rendered alone: a lookup needs all of Ansible's plugins."""


def web_servers(root: Path) -> Iterator[tuple[str, bool, Directive]]:
    """The configuration of every profile, before a page cache and alone: its file, what it is, the tree."""
    for profile, path in _sites(root):
        for cache in (False, True):
            # Magento's site is behind its page cache; others take either
            if cache or profile != "magento2":
                front = {"nginx_proxies": PROXIES, "nginx_probe": PROBE, "nginx_protected": True}
                front |= {"nginx_noindex": True, "nginx_unavailable": "unavailable.html"}
                text = template(root, WEB, profile, nginx_page_cache=cache, nginx_site=SITE, **front)
                text = text.replace(SITE, template(root, path, profile, nginx_page_cache=cache))
                for name in variables(root, profile)["nginx_files"]:
                    files = f"applications/{profile}/{name}"
                    text = text.replace(name, template(root, files, profile))
                yield path, cache, nginx(text)


def _sites(root: Path) -> list[tuple[str, str]]:
    named = dict(of_profiles(root, "nginx", "site"))
    return [(name, named.get(name, f"applications/{name}/nginx.conf.j2")) for name in roles.profiles(root)]


def the_web_server_shows_what_is_meant_for_visitors(root: Path) -> list[Finding]:
    """One site, no other name, no list of files, no file that begins with a dot, no PHP but the entry points."""
    found: list[Finding] = []
    for path, cache, tree in web_servers(root):
        (http,) = [each for each in tree.inner if each.name == "http"]
        found += [f"{WEB}: {each}" for each in _common(tree, http, cache)]
        site = http.all("server")[-1]
        found += [f"{path}: {each}" for each in _site(http, site, cache)]
        if cache:
            found += [f"{path}: {each}" for each in _front(_public(http))]
        if site.all("fastcgi_pass"):
            found += [f"{path}: {each}" for each in _php(http, site)]
        if path.startswith("applications/magento2/"):
            found += [f"{path}: {each}" for each in _stores(http, site)]
    return found


def _stores(http: Directive, site: Directive) -> Iterator[str]:
    """The shop is told the store of a host name by Magento's own variables."""
    shown = {each.values: {one.name: one.values[0] for one in each.inner} for each in http.all("map")}
    for name, wanted in (
        ("code", {"de.shop.localhost": "german", "at.shop.localhost": "alps"}),
        ("type", {"de.shop.localhost": "store", "at.shop.localhost": "website"}),
    ):
        # `$host`: without a port, in lower case
        if shown.get(("$host", f"$run_{name}")) != {"default": '""', **wanted}:
            yield f"does not know the {name} of a store"
        told = [each.values for each in site.all("fastcgi_param")]
        if (f"MAGE_RUN_{name.upper()}", f"$run_{name}", "if_not_empty") not in told:
            yield f"does not tell the {name} of a store"


def _common(tree: Directive, http: Directive, cache: bool) -> Iterator[str]:
    if int(tree.own("worker_rlimit_nofile")[0]) < 4 * int(tree.all("worker_connections")[0].values[0]):
        yield "may open fewer files than its connections need"
    if tree.own("user") != ["www-data"]:
        yield f"runs as {tree.own('user')}"
    if http.own("server_tokens") != ["off"]:
        yield "tells its version"
    if http.own("client_max_body_size") != ["64m"]:
        yield "takes uploads of any size"
    servers = http.all("server")
    default = next((each for each in servers if "80 default_server" in each.own("listen")), None)
    if default is None or default.own("listen")[1:] != ["443 ssl http2 default_server"]:
        yield "another host name gets a site over TLS"
    places = {each.values: each for each in default.all("location")} if default else {}
    probe = places.pop(("=", PROBE), None)
    if [*places] != [("/",)] or places["/",].own("return") != ["404"]:
        yield "another host name is answered"
    if probe is None or "Host shop.localhost" not in probe.own("proxy_set_header"):
        yield "a load balancer's health check is not answered by the site"
    yield from _tls(http)
    yield from _insists(http)
    yield from _guards(http)
    yield from _proxies(http)
    if not cache:
        return
    front = _public(http)
    headers = {each.values[0]: each.values[1] for each in front.all("proxy_set_header")}
    if headers.get("X-Forwarded-For") != "$remote_addr":
        yield "passes on what a visitor claims to be (X-Forwarded-For)"
    if headers.get("Host") != "$http_host" or headers.get("X-Forwarded-Proto") != "$visitor_scheme":
        yield "does not say how it was asked"
    if headers.get("Authorization") != "$passed_authorization":
        yield "passes on the password of visitors"
    if front.own("server_name") != [NAMES]:
        yield "passes on any host name"


def _tls(http: Directive) -> Iterator[str]:
    """Protocols and ciphers that nothing is known against, and none of them slower than it must be."""
    if http.own("ssl_protocols") != ["TLSv1.2 TLSv1.3"] or http.all("server")[0].all("ssl_protocols"):
        yield f"speaks {http.own('ssl_protocols')}"
    ciphers = ":".join(http.own("ssl_ciphers")).split(":")
    if not all(
        re.fullmatch(r"ECDHE-(ECDSA|RSA)-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305)", each) for each in ciphers
    ):
        yield f"encrypts with {ciphers}"
    if http.own("ssl_session_tickets") != ["off"]:
        yield "keeps the key of tickets for as long as it runs"
    if [http.own(name) for name in ("ssl_certificate", "ssl_certificate_key")] != [["/etc/ssl/site.pem"]] * 2:
        yield "has another certificate than that of the role certificates"


def _insists(http: Directive) -> Iterator[str]:
    """Who comes without TLS is sent to the same page over TLS, but for health checks; a browser is told to come so at once."""
    said = {each.values: {one.name: one.values[0] for one in each.inner} for each in http.all("map")}
    if said.get(("$host", "$site_url")) != {
        "default": '""',
        **{each: f"https://{each}" for each in NAMES.split()},
    }:
        yield "sends who comes without TLS elsewhere"
    if said.get(("$server_port:$visitor_scheme:$uri", "$to_https")) != {
        "default": '""',
        f'"80:http:{PROBE}"': '""',
        '"~^80:http:"': "1",
    }:
        yield "sends others to https than those who come without TLS, or a health check"
    if said.get(('"$host $http_host"', "$elsewhere")) != {
        "default": "1",
        r'"~*^(\S+) \1\.?(:\d+)?$"': '""',
    }:
        yield "takes another host name for that of the request"
    secure = [
        each
        for each in http.all("server")
        if "443 ssl http2" in each.own("listen") and each.own("server_name")
    ]
    for each in secure:
        insisting = [one.own("return") for one in each.all("if") if one.values == ("($to_https)",)]
        if insisting != [["308 $site_url$request_uri"]]:
            yield "shows pages without TLS"
        if [one.own("return") for one in each.all("if") if one.values == ("($elsewhere)",)] != [["404"]]:
            yield "tells the application of another host name than that of the request"
        for one in [each, *each.all("location")]:
            said_here = one.own("add_header")
            if one is each or (said_here and not any("no-store" in value for value in said_here)):
                yield from (f"{one} lacks {header}" for header in (STRICT, ROBOTS) if header not in said_here)
        places = {one.values for one in each.all("location")}
        if (each.all("proxy_pass") or each.all("fastcgi_pass")) and ("=", "/.unavailable") not in places:
            yield "has no page for when nothing behind answers"
    if not secure:
        yield "has no site on the port of TLS"


STRICT = "Strict-Transport-Security $own_strict_transport_security always"
ROBOTS = "X-Robots-Tag $own_x_robots_tag always"


def _guards(http: Directive) -> Iterator[str]:
    """The password and the limits are for visitors: not for the host itself, what a page cache asks, or a health check."""
    said = {each.values: {one.name: one.values[0] for one in each.inner} for each in http.all("map")}
    if list(said.get(("$server_port:$realip_remote_addr", "$visit"), {}).items()) != [
        ("default", "0"),
        (r'"~:127\.0\.0\.1$"', "0"),
        ('"~^(80|443):"', "1"),
    ]:
        yield "takes others for visitors than those who come from outside"
    if said.get(("$visit$has_token$is_probe", "$realm")) != {"default": "off", "100": '"shop"'}:
        yield "asks others for a password than visitors"
    if said.get(("$uri", "$is_probe")) != {"default": "0", f'"{PROBE}"': "1"}:
        yield "asks a health check for a password"
    if said.get(("$http_authorization", "$has_token")) != {"default": "0", '"~*^Bearer ."': "1"}:
        yield "takes something else for a token"
    if (http.own("auth_basic"), http.own("auth_basic_user_file")) != (["$realm"], ["/etc/nginx/visitors"]):
        yield "asks nobody for a password"
    for each in http.own("limit_req_zone"):
        table = said.get(('"$visit $request_method $uri"', each.split()[0]), {})
        keys = [name for name in table if name != "default"]
        if table.get("default") != '""' or not keys or not all(one.startswith('"~*^1 ') for one in keys):
            yield f"{each} limits the host itself"
    if http.own("limit_req_status") != ["429"]:
        yield "does not say that it was asked too often"


def _proxies(http: Directive) -> Iterator[str]:
    """What is said of a visitor counts where a proxy of the settings says it, and nowhere else."""
    if http.own("set_real_ip_from") != PROXIES or http.own("real_ip_recursive") != ["on"]:
        yield f"believes {http.own('set_real_ip_from')} who a visitor is"
    if http.own("real_ip_header") != ["X-Forwarded-For"]:
        yield f"takes a visitor's address from {http.own('real_ip_header')}"
    tables = [*http.all("geo"), *http.all("map")]
    said = {each.values: {one.name: one.values[0] for one in each.inner} for each in tables}
    trusted = {"default": "0", "127.0.0.1/32": "1", **dict.fromkeys(PROXIES, "1")}
    if said.get(("$realip_remote_addr", "$from_proxy")) != trusted:
        yield "takes the scheme from others than its proxies"
    if said.get(("$from_proxy:$http_x_forwarded_proto", "$visitor_scheme")) != {
        "1:https": "https",
        "1:http": "http",
        "default": "$scheme",
    }:
        yield "does not know how a visitor came"


def _site(http: Directive, site: Directive, cache: bool) -> Iterator[str]:
    public = [
        each for server in http.all("server") for each in server.own("listen") if not each.startswith("127.")
    ]
    own = ["127.0.0.1:8080", "127.0.0.1:8091"] if cache else ["80", "443 ssl http2", "127.0.0.1:8090"]
    if site.own("listen") != own:
        yield f"listens on {site.own('listen')} {'behind a page cache' if cache else 'alone'}"
    if public != ["80 default_server", "443 ssl http2 default_server", "80", "443 ssl http2"]:
        yield f"is public on {public}"
    if site.own("server_name") != [NAMES]:
        yield "answers to any host name"
    if not re.fullmatch(r"/srv/shop/\$release/\w+", " ".join(site.own("root"))):
        yield "shows more than the folder for visitors"
    if [each for each in http.all("autoindex") if each.values != ("off",)]:
        yield "lists files"
    headers = list(site.own("add_header"))
    for name, value in SENT_ONCE.items():
        own = f"$own_{name.lower().replace('-', '_')}"
        answers = f"{name} {own if site.all('fastcgi_pass') else value}"  # PHP may send it too
        if answers not in headers:
            yield f"lacks {answers}"
        if own[1:] not in " ".join(map(str, http.all("map"))):
            yield f"no map has {own}"
        for each in site.all("location"):
            yield from _replaced(each, answers)
        for each in _public(http).all("location") if cache else []:
            yield from _replaced(each, f"{name} {value}")
    dots = [
        each
        for each in site.inner
        if each.name == "location" and r"\.(?!well-known/)" in " ".join(each.values)
    ]
    if not dots or not all(each.own("deny") == ["all"] or each.own("return") == ["404"] for each in dots):
        yield "shows files that begin with a dot"
    behind = bool(cache)
    if behind and (site.own("set_real_ip_from"), site.own("real_ip_header")) != (
        ["127.0.0.1"],
        ["X-Forwarded-For"],
    ):
        yield "believes somebody else's X-Forwarded-For, or nobody's"


def _public(http: Directive) -> Directive:
    """The server before the page cache."""
    return next(each for each in http.all("server") if "http://page_cache" in str(each.all("proxy_pass")))


def _replaced(location: Directive, wanted: str) -> Iterator[str]:
    told = location.own("add_header")
    kept_closed = [value for value in told if value.endswith(" always") and value not in (STRICT, ROBOTS)]
    if told and wanted not in told and not kept_closed:  # its own headers replace the outer ones
        yield f"{location} lacks {wanted}"


def _front(front: Directive) -> Iterator[str]:
    """What is served before the page cache: folders of files, and none that is hidden or a program."""
    own = (("/",), ("=", "/.unavailable"))
    places = [each for each in front.inner if each.name == "location" and each.values not in own]
    denied = [each for each in places if each.own("deny") == ["all"] and "php|phtml" in each.values[-1]]
    for each in places:
        if "static_version" in each.values[-1]:
            yield from _versioned(each, before=places[: places.index(each)], denied=denied)
            continue
        if each.own("try_files") and each.own("try_files") != ["$uri @page_cache"]:
            yield f"{each} does not ask the page cache for what it lacks"
        if each.own("try_files") and not any(
            f"{each.values[-1].strip('/')}" in one.values[-1] for one in denied
        ):
            yield f"{each} shows hidden files and programs"


def _versioned(place: Directive, *, before: list[Directive], denied: list[Directive]) -> Iterator[str]:
    """Files of a version: no other folder's, no other version's, and of those that match the first place counts."""
    if re.match(place.values[-1].replace("(?<", "(?P<"), "/static/version../shared/file"):
        yield f"{place} leads out of the versions"
    if place.own("try_files") != ["/$static_file =404"]:
        yield f"{place} shows another version's file"
    if not any(each in before for each in denied):
        yield f"{place} shows hidden files and programs"


def _php(http: Directive, site: Directive) -> Iterator[str]:
    named = next(each for each in http.all("map") if each.values == ("$realpath_root", "$release_id"))
    pattern = named.inner[0].name.strip('"~')
    found = re.search(
        pattern.replace("?<", "?P<"), "/srv/releases/releases/3f/pub"
    )  # a project may be named so
    if not found or found["found"] != "3f":
        yield f"takes {found} for the release that a link names"
    files = f"/srv/shop/releases/$release_id/{' '.join(site.own('root')).rpartition('/')[2]}"
    for each in [each for each in site.all("location") if each.own("fastcgi_pass")]:
        if each.values == ("=", "/php-ping"):
            if (each.own("allow"), each.own("deny")) != (["127.0.0.1"], ["all"]):
                yield f"{each} is for visitors"
            continue
        if each.own("limit_conn") != ["php 60"]:
            yield f"{each} lets any number of requests wait"
        if not re.fullmatch(r"= /index\.php|~ \^/\([^*]+\)\\\.php\$", " ".join(each.values)):
            yield f"{each} runs more than the entry points"
        if each.own("fastcgi_pass") != ["unix:/run/php/shop-$release_id.sock"]:
            yield f"asks {each.own('fastcgi_pass')}"
        told = {one.values[0]: one.values[1] for one in each.all("fastcgi_param")}
        if (
            told.get("SCRIPT_FILENAME") != f"{files}$fastcgi_script_name"
            or told.get("DOCUMENT_ROOT") != files
        ):
            yield "a release's PHP-FPM gets another one's files"
        if told.get("HTTP_PROXY") != '""':
            yield "a visitor's header `Proxy` becomes PHP's HTTP_PROXY"
        claimed = {
            "HTTP_X_FORWARDED_FOR": "$remote_addr",
            "HTTP_X_FORWARDED_HOST": "$http_host",
            "HTTP_X_FORWARDED_PROTO": "$visitor_scheme",
            "HTTP_FORWARDED": '""',
        }
        if "443 ssl http2" in site.own("listen"):
            yield from (
                f"a visitor's own {name} reaches the application"
                for name, value in claimed.items()
                if told.get(name) != value
            )
            if each.own("limit_conn_status") != ["502"]:
                yield "says that it is in maintenance while it is busy"
    other = [each for each in site.inner if each.name == "location" and "phtml" in " ".join(each.values)]
    if not other or not all(
        each.own("deny") == ["all"] or each.own("try_files") == ["/.none /index.php$is_args$args"]
        for each in other
    ):
        yield "shows or runs other PHP files"


# --- Varnish --------------------------------------------------------------------------------------------


def the_page_cache_is_local_and_keeps_no_visitor_s_page(root: Path) -> list[Finding]:
    """It listens to its own machine, takes purges from there alone, and drops cookies of what it keeps."""
    path, found = "roles/varnish/templates/override.conf.j2", []
    command = " ".join(re.findall(r"(?ms)^ExecStart=(/.*)", template(root, path))).replace("\\\n", " ")
    options = re.findall(r"-(\w) ([^-\s]\S*)", command)
    wanted = {
        "a": r"127\.0\.0\.1:6081",
        "T": r"127\.0\.0\.1:\d+",
        "S": "/etc/varnish/secret",
        "j": "unix,user=vcache",
        "s": r"malloc,\d+m",
    }
    wanted_too = (
        ("s", r"Transient=malloc,\d+m"),
        ("p", r"http_resp_hdr_len=(4[0-9]|[5-9]\d|\d{3,})k"),
        ("p", r"http_resp_size=\d{3,}k"),
    )
    if " -a 0.0.0.0:6081 " not in template(root, path, application_hosts=HOSTS):
        found.append(f"{path}: does not hear the other hosts")
    found += [
        f"{path}: no -{name} is {pattern}"
        for name, pattern in (*wanted.items(), *wanted_too)
        if not any(each == name and re.fullmatch(pattern, value) for each, value in options)
    ]
    for profile, vcl in of_profiles(root, "varnish", "vcl"):
        found += [f"{vcl}: {each}" for each in _vcl(template(root, vcl, profile, application_hosts=HOSTS))]
    return found


def _vcl(text: str) -> Iterator[str]:
    bare = re.sub(r"(?m)#.*$", "", text)
    parts = dict(re.findall(r"(?ms)^(?:sub|acl|backend) (\w+) \{(.*?)^\}", bare))
    for member in re.findall(r'"([^"]+)"', parts.get("purge", "")):
        if (
            member != "localhost"
            and not ipaddress.ip_network(member).is_loopback
            and f"{member}/32" not in PEERS
        ):
            yield f"{member} may purge"
    for each in HOSTS:
        if f'"{each["address"]}";' not in parts.get("purge", ""):
            yield "another host of the environment may not purge"
    if not re.search(r'\.host = "127\.0\.0\.1"', parts.get("default", "")):
        yield "the backend is another machine"
    received = parts.get("vcl_recv", "")
    refused = re.search(r'"PURGE"\) \{\s*if \((.*?)\) \{\s*return \(synth\(405', received, re.DOTALL)
    conditions = {each.strip() for each in refused[1].split("||")} if refused else set()
    if not {"client.ip !~ purge", "req.http.X-Real-IP", 'req.http.X-Forwarded-For ~ ","'} <= conditions:
        yield "a visitor may purge"
    if not re.search(r'req\.method != "GET" && req\.method != "HEAD"\) \{\s*return \(pass\)', received):
        yield "keeps the answer to a form"
    if ".probe" not in parts.get("php", "") or not re.search(
        r"healthy\(php\) && req\.restarts == 0\) \{\s*set req\.grace = 2s;.*?grace = 1h;\s*set req\.hash_ignore_busy",
        received,
        re.S,
    ):
        yield "lets visitors wait for a page that it has, or for somebody else's"
    if not re.search(r"X-PHP-Busy \|\|[^{]*\{\s*return \(abandon\)", parts.get("vcl_backend_response", "")):
        yield "keeps the web server's own 503"
    if not re.search(r"customer\|checkout\)\(/\|\$\|\\\?\)\"\) \{\s*return \(pass\)", received):
        yield "keeps a customer's pages"
    response = parts.get("vcl_backend_response", "")
    private = re.search(r"private\|no-store\|no-cache.*?uncacheable = true", response, re.DOTALL)
    if not private or not re.search(
        r"unset beresp\.http\.Set-Cookie;\s*set beresp\.grace = 1h", response[private.end() :]
    ):
        yield "keeps what is private, or a cookie with a page"
    if not re.search(
        r"status != 200 && beresp\.status != 404\) \{\s*set beresp\.uncacheable = true", response
    ):
        yield "keeps a failure"
    if response.count("uncacheable = true") != len(
        re.findall(r"uncacheable = true;\s*set beresp\.ttl = 120s;", response)
    ):
        yield "answers the visitors of what is not kept one after the other"
    if not re.search(r"status >= 500\) \{\s*set beresp\.ttl = 1s", response):
        yield "hides a good page behind a failure"
    if not re.search(
        r"esi_level > 0 && resp\.status >= 400\) \{\s*return \(synth\(resp\.status",
        parts.get("vcl_deliver", ""),
    ):
        yield "puts a page of failure or maintenance into other pages"
    if 'Content-Type ~ "^text/html") {\n        set beresp.do_esi = true' not in response:
        yield "leaves out the parts of a page"
    if not re.search(
        r'graphql" && req\.http\.Authorization.*?!req\.http\.X-Magento-Cache-Id\) \{\s*return \(pass\)',
        received,
    ):
        yield "keeps what is one customer's, by a token"
    if not re.search(
        r'Cookie !~ "X-Magento-Vary=" && beresp\.http\.Set-Cookie ~ "X-Magento-Vary="\) \{[^}]*uncacheable = true',
        response,
    ):
        yield "keeps a page of a group for those who are in none"
    if not re.search(
        r"X-Magento-Cache-Id != beresp\.http\.X-Magento-Cache-Id\) \{\s*set beresp\.uncacheable", response
    ):
        yield "keeps an answer for another id than it was asked for"
    hashed = parts.get("vcl_hash", "")
    for each in ("X-Magento-Vary", "X-Forwarded-Proto", "X-Magento-Cache-Id", "Authorization"):
        if each not in hashed:
            yield f"does not tell pages apart by {each}"
    delivered = parts.get("vcl_deliver", "")
    for each in ("X-Magento-Tags", "X-Powered-By", "Via", "X-Varnish"):
        if f"unset resp.http.{each};" not in delivered:
            yield f"shows {each}"
    if "no-store, no-cache" not in delivered:
        yield "a browser keeps a page that nobody can purge"


# --- SQL, and the application's own configuration -------------------------------------------------------


def values_stay_values(root: Path) -> list[Finding]:
    """Whatever is in a password or a name, it ends no text of SQL, PHP, an environment file, a unit or a crontab."""
    found: list[Finding] = []
    strange = dict.fromkeys(TEXTS, UNUSUAL)
    for path in sorted(root.glob("roles/*/templates/*.sql.j2")):
        shown = str(path.relative_to(root))
        left = _sql(template(root, shown, **strange))
        found += [f"{shown}: {each}" for each in left]
    scripts = ("env*", "install.php", "second_factor.php")
    for path in sorted(each for name in scripts for each in root.glob(f"applications/*/{name}.j2")):
        shown = str(path.relative_to(root))
        told = {**strange, "shared_variables": [f"MAIL={UNUSUAL}"], "application_base_url": UNUSUAL}
        text = template(root, shown, path.parent.name, **told)
        read = _php_texts(text) if "<?php" in text else _environment(text)
        missing = [name for name in told if name in path.read_text() and UNUSUAL not in read]
        found += [f"{shown}: {each}" for each in _residue(text)]
        if missing or read.count(UNUSUAL) < sum(name in path.read_text() for name in told):
            found.append(f"{shown}: a value does not arrive as it is")
    for name, unit in _units(root):
        started = [value for key, value in unit if key == "ExecStart" and value]
        if "worker.service" in name and started != [
            r'"php" "it\'s \"so\" \\ %%d $$HOME `id` #;"'.replace(r"\'", "'")
        ]:
            found.append(f"{name}: a command does not arrive word for word: {started}")
    return found


def _sql(text: str) -> Iterator[str]:
    """Reads SQL word by word: a text doubles its quotes and escapes backslashes, a name doubles its backticks."""
    token = re.compile(r"'((?:[^'\\]|''|\\.)*)'|`((?:[^`]|``)*)`|([\w.@*(),;=$]+|\s+)", re.DOTALL)
    at, texts = 0, []
    while at < len(text):
        read = token.match(text, at)
        if not read:
            yield f"a value ends its text: {text[at : at + 20]!r}"
            return
        if read[1] is not None:
            texts.append(re.sub(r"\\(.)", r"\1", read[1].replace("''", "'")))
        elif read[2] is not None:
            texts.append(read[2].replace("``", "`"))
        elif re.search(r"\b(id|so|HOME)\b", read[3]):
            yield f"a value is taken for SQL: {read[3]!r}"
            return
        at = read.end()
    ours = ("localhost", "ready", "", "$.authentication_string", "$.auth_or[1].authentication_string")
    values = [each for each in texts if each not in ours]
    if not values or set(values) != {UNUSUAL}:
        yield f"a value does not arrive as it is: {set(values) - {UNUSUAL}}"


def _php_texts(text: str) -> list[str]:
    return [
        re.sub(r"\\([\\'])", r"\1", each)
        for each in re.findall(r"'((?:[^'\\]|\\.)*)'", re.sub(r"(?m)^//.*$", "", text))
    ]


def _environment(text: str) -> list[str]:
    return [re.sub(r"\\(.)", r"\1", each) for each in re.findall(r'(?m)^\w+="((?:[^"\\$]|\\.)*)"$', text)]


def _residue(text: str) -> Iterator[str]:
    """What is outside of every text, though it comes from a value."""
    quoted = r"'(?:[^'\\]|\\.)*'" if "<?php" in text else r'(?m)^\w+="(?:[^"\\$]|\\.)*"$'
    if re.search(r"`id`|HOME", re.sub(quoted, "", re.sub(r"(?m)^(//|#).*$", "", text))):
        yield "a value ends its text"


PHP = {
    "'MAGE_MODE'": "'production'",
    "'x-frame-options'": "'SAMEORIGIN'",
    "'document_root_is_pub'": "true",
    "PDO::MYSQL_ATTR_LOCAL_INFILE": "false",
    "'disable_locking'": "'0'",
}


def the_application_is_told_to_be_careful(root: Path) -> list[Finding]:
    """In production mode, with services of its own machine, and a prefix of its own for each release."""
    path = "applications/magento2/env.php.j2"
    text = template(root, path)
    pairs = re.findall(r"('[\w-]+'|PDO::\w+) => ('[^']*'|\w+)", text)
    found = [
        f"{path}: {name} is {[value for key, value in pairs if key == name]}"
        for name, wanted in PHP.items()
        if [value for key, value in pairs if key == name] != [wanted]
    ]
    purged = re.findall(
        r"\['host' => '([^']+)', 'port' => '6081'\]", template(root, path, application_hosts=HOSTS)
    )
    if purged != ["127.0.0.1", "203.0.113.2", "203.0.113.3"]:
        found.append(f"{path}: purges the page caches of {purged}")
    hosts = [value for key, value in pairs if key in ("'host'", "'server'")]
    found += [f"{path}: asks {each}" for each in hosts if each not in ("'127.0.0.1'", "'localhost'")]
    if text.count("'id_prefix' => $prefix") != 2 or "defined('BP') ? BP : __DIR__" not in text:
        found.append(f"{path}: releases share keys of the cache")
    used = re.findall(r"'port' => '(\d+)',\s+'database' => '(\d+)'", text)
    if [port for port, _ in used] != ["6379", "6380", "6380"] or len(set(used)) != len(used):
        found.append(f"{path}: sessions or caches share a database of Redis, or their Redis ({used})")
    if "'test_data' => false" not in text:
        found.append(f"{path}: production is filled with test data")
    return found


# --- mail -----------------------------------------------------------------------------------------------

RELAYED = {
    "default_transport": "smtp",
    "relayhost": "[smtp.example.com]:587",
    "smtp_tls_security_level": "secure",
    "smtp_tls_wrappermode": "no",
    "smtp_sasl_password_maps": "texthash:/etc/postfix/relay_password",
    "smtp_sasl_security_options": "noanonymous",
}
TRANSPORTS = ("default_transport", "relay_transport", "local_transport", "virtual_transport")
WAY_OUT = {"smtp", "lmtp", "pipe", "local", "spawn"}
"""Programs of Postfix that hand mail to somebody else."""


def postfix(root: Path, **more: Any) -> list[str]:
    """Postfix's main.cf and master.cf, for hosts with these options of the role."""
    known = variables(root, "magento2", **more)
    made = roles.variables(root, "mail")
    names = ("__mail_off", "__mail_folder")
    known |= {name: rendering.value(name, known, made) for name in names}
    known["__mail_owner"] = {"uid": 999, "group": 998}
    return [
        rendering.rendered(root / f"roles/mail/templates/{name}.cf.j2", known) for name in ("main", "master")
    ]


def mail(root: Path, **more: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Postfix's settings, and the program of each of its services."""
    main, master = postfix(root, **more)
    settings = dict(re.findall(r"(?m)^(\w+) = ?(.*)$", main))
    return settings, {
        line.split()[0]: line.split()[7] for line in master.splitlines() if " " in line and line[0] != "#"
    }


def mail_goes_where_it_should(root: Path) -> list[Finding]:
    """Caught, nothing runs that could hand it on; relayed, to the relay alone, by TLS that is verified; else nobody takes it."""
    main, master = (f"roles/mail/templates/{name}.cf.j2" for name in ("main", "master"))
    relay = {"mail_relay_host": "smtp.example.com", "mail_relay_port": 587, "mail_relay_user": "shop"}
    found = []
    for more in ({}, relay):
        said, programs = mail(root, mail_catch=True, **more)
        found += [f"{master}: where mail is caught, {each} runs" for each in WAY_OUT & {*programs.values()}]
        found += [
            f"{main}: where mail is caught, {each} is {said.get(each)}"
            for each in TRANSPORTS
            if said.get(each) != "virtual"
        ]
        if "relayhost" in said or said.get("virtual_mailbox_maps") != "static:caught/":
            found.append(f"{main}: where mail is caught, it is not in one folder")
    said, programs = mail(root, **relay)
    found += [
        f"{main}: {name} is {said.get(name)}" for name, wanted in RELAYED.items() if said.get(name) != wanted
    ]
    if {name for name, each in programs.items() if each in WAY_OUT} != {"smtp", "relay"}:
        found.append(f"{master}: more than a relay gets mail: {programs}")
    if mail(root, **{**relay, "mail_relay_port": 465})[0]["smtp_tls_wrappermode"] != "yes":
        found.append(f"{main}: TLS does not begin at once at port 465")
    said, programs = mail(root)
    if WAY_OUT & {*programs.values()} or not said["default_transport"].startswith("error:"):
        found.append(f"{main}: without a relay mail goes by {said['default_transport']}")
    if said.get("authorized_submit_users") != "" or not said.get("smtpd_client_restrictions", "").startswith(
        "check_client_access static:{554 "
    ):
        found.append(f"{main}: without a relay mail is taken")
    for told in ({"mail_catch": True}, relay, {}):
        said, programs = mail(root, **told)
        if programs.get("127.0.0.1:25") != "smtpd" or "smtpd" in [
            programs[each] for each in programs if each != "127.0.0.1:25"
        ]:
            found.append(f"{master}: it listens elsewhere than on loopback")
        if (
            said["smtpd_relay_restrictions"] != "permit_mynetworks, reject"
            or said["mynetworks"] != "127.0.0.0/8"
        ):
            found.append(f"{main}: others may send")
        if said["mydestination"] or said["relay_domains"] or said["alias_maps"]:
            found.append(f"{main}: a mailbox is here")
    return found


# --- units, cron, logs ----------------------------------------------------------------------------------


def _units(root: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    more = {
        "__workers_unit": {"name": "queue", "command": ["php", UNUSUAL]},
        "workers_units": [{"name": "queue", "command": ["php"], "processes": 2}],
        "workers_unless": ".closed",
        "workers_stop_seconds": 30,
        "backup_at": "03:30",
        "base_reboot_at": "04:30",
        "base_swap": "512m",
        "__mail_user": "caught-mail",
    }
    kinds = ("service", "target", "timer")
    for path in [each for kind in kinds for each in sorted(root.glob(f"roles/*/templates/*.{kind}.j2"))]:
        shown = str(path.relative_to(root))
        yield shown, unit(template(root, shown, "magento2" if "/search/" in shown else "php", **more))
    for path in sorted([*root.glob("roles/*/files/*.timer"), *root.glob("roles/*/files/*.service")]):
        yield str(path.relative_to(root)), unit(path.read_text())


def unit(text: str) -> list[tuple[str, str]]:
    """The settings of a unit of systemd; a name may come again."""
    return [tuple(line.split("=", 1)) for line in text.splitlines() if re.match(r"\w+=", line)]  # type: ignore[misc]


UNITS = {
    "roles/php/templates/php@.service.j2": {
        "Type": "notify",  # who starts it knows when it takes requests
        "Environment": "RELEASE=%i",
        "UMask": "0002",  # commands change what it writes
        "WorkingDirectory": "/srv/shop/releases/%i",
        "KillSignal": "SIGQUIT",
        "KillMode": "mixed",
        "NotifyAccess": "exec",
        "TimeoutStopSec": "630",  # longer than a request may take
        "Restart": "on-failure",
        "StartLimitIntervalSec": "0",
        "CollectMode": "inactive-or-failed",
    },
    "roles/php/templates/php_live.service.j2": {
        "Type": "oneshot",
        "Before": "nginx.service",
        "WantedBy": "multi-user.target",
    },
    "roles/php/files/php_live.timer": {"OnCalendar": "minutely", "WantedBy": "timers.target"},
    "roles/workers/templates/worker.service.j2": {
        "User": "shopper",
        "Group": "shopper",
        "UMask": "0002",
        "WorkingDirectory": "/srv/shop/current",
        "PartOf": "workers.target",
        "After": "workers.target network.target mariadb.service",  # who stops it waits for the workers
        "Restart": "always",
        "StartLimitIntervalSec": "0",
        "TimeoutStopSec": "30",
        "ConditionPathExists": "!/srv/shop/current/.closed",
    },
    "roles/workers/templates/workers.target.j2": {
        "WantedBy": "multi-user.target",
        "Wants": "worker-queue@2.service",
    },
    "roles/search/templates/search_stand_in.service.j2": {
        "User": "shopper",
        "Group": "shopper",
        "StateDirectory": "search_stand_in",
        "Restart": "always",
        "WantedBy": "multi-user.target",
    },
    "roles/mail/templates/caught_mail.service.j2": {
        "User": "caught-mail",
        "UMask": "0077",
        "ExecStart": "/usr/local/sbin/caught_mail /etc/caught_mail.json",
        "Restart": "on-failure",
        "WantedBy": "multi-user.target",
    },
    "roles/workers/files/workers_again.service": {
        "Type": "oneshot",
        "ExecStart": "-/usr/bin/systemctl --job-mode=fail start workers.target",
    },
    "roles/workers/files/workers_again.timer": {"OnCalendar": "minutely", "WantedBy": "timers.target"},
    "roles/self_shutdown/templates/self_shutdown.service.j2": {
        "Type": "oneshot",
        "ExecStart": "/usr/local/sbin/self_shutdown 14 3 /srv/shop/current",
    },
    "roles/base/files/outdated.service": {
        "Type": "oneshot",
        "ExecStart": "/usr/sbin/needrestart -l -r a",
        "ExecStartPost": '/bin/sh -c \'! needrestart -b -l | grep -q "SVC: php@" || systemctl try-reload-or-restart "php@*.service"\'',
    },
    "roles/base/templates/outdated.timer.j2": {
        "OnCalendar": "*-*-* 04:30:00",
        "WantedBy": "timers.target",
    },
    "roles/base/templates/swapfile.service.j2": {
        "Type": "oneshot",
        "ConditionVirtualization": "!container",
        "ExecStart": "/usr/local/sbin/swapfile /swapfile 512M",
        "WantedBy": "multi-user.target",
    },
    "roles/backup/files/backup.service": {
        "Type": "oneshot",
        "ExecStart": "/usr/local/sbin/backup now",
        "Restart": "on-failure",
    },
    "roles/backup/templates/backup.timer.j2": {
        "OnCalendar": "*-*-* 03:30:00 UTC",
        "Persistent": "true",
        "WantedBy": "timers.target",
    },
    "roles/self_shutdown/files/self_shutdown.timer": {
        "OnBootSec": "15min",
        "OnUnitActiveSec": "10min",
        "WantedBy": "timers.target",
    },
}


def units_do_what_they_are_for(root: Path) -> list[Finding]:
    """As the application's user, not during maintenance, and for ever; a job of cron and the rotation of logs too."""
    found = []
    for path, told in _units(root):
        found += [f"{path}: has no row in UNITS"] if path not in UNITS else []
        for name, wanted in UNITS.get(path, {}).items():
            if (name, wanted) not in told:
                found.append(f"{path}: {name} is not {wanted}")
            if (
                name in ("User", "Group", "Type", "Restart")
                and len([key for key, _ in told if key == name]) != 1
            ):
                found.append(f"{path}: {name} is said twice")
    path = "roles/cron/templates/cron.j2"
    jobs = [{"minute": "*/5", "command": ["php", "a b;%d"]}]
    lines = template(root, path, cron_jobs=jobs).splitlines()
    wanted = "*/5 * * * * shopper /usr/local/sbin/cron_job php 'a b;\\%d'"
    if wanted not in [re.sub(r"\s+", " ", each) for each in lines]:
        found.append(f"{path}: a job is {lines[-1]!r}, not {wanted!r}")
    path = "roles/cron/templates/cron_job.j2"
    program = template(root, path, cron_unless="var/closed")
    steps = [
        "umask 0002",
        "cd /srv/shop/current",
        "systemd-cat",
        "flock --shared --timeout 30 --conflict-exit-code 0 /srv/shop/releases",
        '! -e "var/closed" ||',
        '"$@" || echo',
    ]
    if sorted(steps, key=program.find) != steps or min(map(program.find, steps)) < 0:
        found.append(
            f"{path}: a job begins in maintenance, is not known to a release, waits for ever, writes for itself alone, or is lost where it fails"
        )
    path = "roles/shared/templates/logrotate.j2"
    entry = template(root, path)
    for wanted in ("su shopper web", "missingok", "compress"):
        if wanted not in [line.strip() for line in entry.splitlines()]:
            found.append(f"{path}: does not say `{wanted}`")
    if not re.search(r"(?m)^ +rotate [1-9]\d?$", entry):
        found.append(f"{path}: logs are kept for ever")
    return found


RULES: tuple[Callable[[Path], list[Finding]], ...] = (
    the_firewall_admits_what_is_declared,
    what_is_listed_is_all_that_is_reached,
    settings_are_as_wanted,
    the_web_server_shows_what_is_meant_for_visitors,
    the_page_cache_is_local_and_keeps_no_visitor_s_page,
    values_stay_values,
    the_application_is_told_to_be_careful,
    mail_goes_where_it_should,
    units_do_what_they_are_for,
)
