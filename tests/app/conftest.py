"""The example application as its profile builds it, and private services for it to run on."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pytest
import yaml

from tasks import profile, settings
from tasks.settings import Pipeline
from tests.conftest import until
from tests.rules import configuration

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "applications" / "magento2"
NEEDED = {
    "php": "php8.2-cli php8.2-mysql php8.2-redis php8.2-xml php8.2-intl php8.2-mbstring",
    "composer": "composer",
    "mariadbd": "mariadb-server",
    "redis-server": "redis-server",
    "varnishd": "varnish",
}


def need(*programs):
    missing = [NEEDED[program] for program in programs if not shutil.which(program)]
    if missing:
        pytest.fail(f"missing: apt-get install --no-install-recommends {' '.join(missing)}")


@dataclass(frozen=True, kw_only=True)
class App:
    path: Path

    def magento(self, *words):
        return subprocess.run(["php", "bin/magento", *words], cwd=self.path, capture_output=True, text=True)

    def php(self, script):
        return subprocess.run(
            ["php", "/dev/stdin"], cwd=self.path, input=script, capture_output=True, text=True
        )


def build(path, version="v1"):
    """What the pipeline does with the profile, in the least words."""
    need("php", "composer")
    kept = shutil.ignore_patterns("vendor", "generated", "static", "var", "env.php")
    shutil.copytree(ROOT / "app", path, ignore=kept)
    environment = {"PATH": os.environ["PATH"], "HOME": str(path.parent), "LANG": "C.UTF-8"}
    found = profile.load(ROOT, settings.load(Pipeline, ROOT / "pipeline.yml", ROOT).application)
    for layer in found.layers:
        named = {**layer.chosen, "key": version}
        for words in layer.commands:
            command = [profile.filled(word, named) for word in words]
            seen = {**environment, **layer.environment}
            subprocess.run(command, cwd=path, env=seen, check=True, capture_output=True)
        assert all((path / profile.filled(each, named)).exists() for each in layer.outputs)
    for stamp in found.stamps:
        (path / stamp).write_text(version)
    return App(path=path)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built") / "app")


@pytest.fixture
def source(tmp_path, built):
    """A copy of the built application that a test may change."""
    path = Path(shutil.copytree(built.path, tmp_path / "app", symlinks=True))
    (path / "var").mkdir(exist_ok=True)  # which a profile's `writable` makes
    return App(path=path)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Services:
    """MariaDB on a socket; Redis for sessions, Redis for caches and PHP's server on free ports of loopback."""

    def __init__(self, folder):
        self.folder = folder
        self.sessions_port, self.cache_port, self.search_port = free_port(), free_port(), free_port()
        self.running = {}

    def start(self, name, command, ready):
        log = (self.folder / f"{name}.log").open("w")
        self.running[name] = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until(ready)
        except AssertionError:
            raise AssertionError((self.folder / f"{name}.log").read_text()) from None

    def stop(self, name):
        process = self.running.pop(name)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def sql(self, text):
        return subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={self.folder}/db.sock", "--user=root", "-N", "-e", text],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def mariadb(self):
        data = self.folder / "data"
        user = f"--user={os.environ.get('USER') or 'root'}"
        if not data.exists():
            subprocess.run(
                [
                    "mariadb-install-db",
                    "--no-defaults",
                    f"--datadir={data}",
                    user,
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                ],
                check=True,
                capture_output=True,
            )
        command = [
            "mariadbd",
            "--no-defaults",
            f"--datadir={data}",
            user,
            "--skip-networking",
            f"--socket={self.folder}/db.sock",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        ping = ["mariadb-admin", "--no-defaults", f"--socket={self.folder}/db.sock", "ping"]
        self.start("mariadb", command, lambda: subprocess.run(ping, capture_output=True).returncode == 0)

    def search(self):
        program = ROOT / "roles" / "search" / "files" / "search_stand_in.py"
        self.start(
            "search", ["python3", str(program), str(self.search_port)], lambda: listening(self.search_port)
        )

    def sessions(self):
        self.redis("sessions", self.sessions_port)

    def cache(self):
        self.redis("cache", self.cache_port)

    def redis(self, name, port):
        command = [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self.folder),
        ]
        self.start(name, command, lambda: listening(port))


def listening(port, address="127.0.0.1"):
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


@pytest.fixture(scope="session")
def services():
    need("mariadbd", "redis-server")
    # not pytest's own folder: the path of a socket may have 107 characters
    folder = Path(tempfile.mkdtemp(prefix="shop-"))
    services = Services(folder)
    try:
        services.mariadb()
        services.sessions()
        services.cache()
        services.search()
        yield services
    finally:
        for name in list(services.running):
            services.stop(name)
        shutil.rmtree(folder)


@dataclass(frozen=True, kw_only=True)
class Shop(App):
    port: int
    services: Services

    def get(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, {"Host": "localhost", **headers})
        answer = connection.getresponse()
        return answer, answer.read().decode()


PASSWORD, SECRET = "not 'simple' \\ at all 1", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def variables(services):
    """What the pipeline tells the templates of the profile; what listens on a port of its own here has that one."""
    hosts = [{"id": "i-1", "address": "127.0.0.1"}]
    known = {"application_hosts": hosts, "nginx_page_cache": True}
    server_services = configuration.services(ROOT, PROFILE.name, known)
    server_services["redis"]["sessions"]["port"] = services.sessions_port
    server_services["redis"]["cache"]["port"] = services.cache_port
    server_services["varnish"]["http"]["port"] = free_port()
    return {
        "server_services": server_services,
        "database_host": f"{services.folder}/db.sock",
        "database_name": "shop",
        "database_user": "root",
        "database_password": "",
        "redis_sessions_password": "",
        "redis_cache_password": "",
        "shared_crypt_key": "k" * 32,
        "application_base_url": "http://localhost/",
        "application_mail_path": "/caught-mail/",
        "application_host_name": "localhost.example",
        "application_host_names": ["localhost.example"],
        "application_stores": [],
        "application_hosts": hosts,
        "inventory_hostname": "i-1",
        "application_test_data": True,
        "search_host": "127.0.0.1",
        "search_port": services.search_port,
        "search_prefix": "shop",
        "search_user": "",
        "search_password": "",
        "release_profile": yaml.safe_load((PROFILE / "profile.yml").read_text())["release"],
        "release_administrator_password": PASSWORD,
        "release_administrator_secret": SECRET,
    }


@pytest.fixture
def render(variables):
    """Render a template of the profile."""

    def render(name, **more):
        loader = jinja2.FileSystemLoader(PROFILE)
        environment = jinja2.Environment(loader=loader, trim_blocks=True, undefined=jinja2.StrictUndefined)
        return environment.get_template(name).render(**{**variables, **more})

    return render


@pytest.fixture
def empty(source, services):
    """The shop beside an empty database, with no app/etc/env.php."""
    services.sql("DROP DATABASE IF EXISTS shop; CREATE DATABASE shop")
    return source


@pytest.fixture
def shop(empty, services, variables, render):
    """The shop as the profile installs it, served over HTTP."""
    source = empty
    installed = source.php(render("install.php.j2"))
    assert installed.returncode == 0, installed.stderr
    (source.path / "app/etc/env.php").write_text(render("env.php.j2"))
    for name in ("second_factor.php.j2", "reindex.php.j2"):
        followed = source.php(render(name))
        assert followed.returncode == 0, followed.stderr
    assert source.magento("app:config:import").stdout == "Imported.\n"  # as a release does
    shop = Shop(path=source.path, port=free_port(), services=services)
    variables["server_services"]["nginx"]["site"]["port"] = shop.port
    command = ["php", "-S", f"127.0.0.1:{shop.port}", "-t", "pub", str(Path(__file__).parent / "router.php")]
    services.start("http", ["env", "-C", str(shop.path), *command], lambda: listening(shop.port))
    yield shop
    services.stop("http")
