"""What the settings ask of a machine is held against what it has before one is made or touched."""

from __future__ import annotations

import re

import pytest

from tasks import demands
from tasks.commands import command_line
from tasks.demands import MemoryExceeded, VersionUnknown
from tasks.infrastructure import machine
from tasks.infrastructure import stage as infrastructure
from tasks.search import SearchPasswordMissing
from tasks.settings import SettingWrong
from tests.cloud.embedded.conftest import REGION
from tests.cloud.embedded.conftest import server as embedded  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in


def settings(checkout, text):
    path = checkout / "environments" / "testing.yml"
    path.write_text(f"{path.read_text()}{text}\n")
    return checkout


WRONG = [
    ("server: {mariadb: {buffer_pool: 8G}}", MemoryExceeded, "server.mariadb.buffer_pool and server.redis.maxmemory and"),
    ("server: {redis: {maxmemory: 3gb}, varnish: {memory: 1G}}", MemoryExceeded, ": 4224 MiB are more than the 4096 MiB of t3.medium"),
    ("server: {php: {memory_limit: 64G}}", MemoryExceeded, "server.php.memory_limit: 65536 MiB are more than the 4096"),
    ("server: {php: {version: '9.9'}}", VersionUnknown, "server.php.version: is 9.9, and debian-12 has 8.2"),
    ("host_name: not_a_name", SettingWrong, "host_name: should be a DNS name"),
    ("dns_zone: a..b", SettingWrong, "dns_zone: should be a DNS name"),
    ("stores: {-x: {code: de}}", SettingWrong, "stores.-x: should be a DNS name"),
    ("server: {search: {host: search.example.com, user: kim}}", SearchPasswordMissing, "server.search.user: is kim, and there is no password"),
    ("server: {search: {host: 'a b'}}", SettingWrong, "server.search.host: should be stand-in, or a host"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "refusal", "sentence"), WRONG)
@pytest.mark.promise("wrong-values-touch-no-host")
def test_a_wrong_value_is_refused_before_there_is_a_host(checkout, embedded, text, refusal, sentence):  # noqa: F811
    cloud = QuietCloud(REGION, embedded.home.load())

    def provision():
        run = run_in(settings(checkout, text), cloud, branch=checkout.parent.name)
        infrastructure.share(run)
        infrastructure.converge(run)

    with pytest.raises(refusal, match=re.escape(sentence)):
        provision()
    assert "RunInstances" not in cloud.calls


def run_of(checkout, text=""):
    return command_line.read(settings(checkout, text), {})


@pytest.mark.parametrize(
    ("text", "memory", "pool"),
    [
        ("", 4096, "896M"),  # a quarter of what is left of 4096 - 128 - 64 - 128 - 64
        ("", 1024, "128M"),
        ("", 512, "128M"),
        ("", 1 << 20, "16384M"),
        ("server: {redis: {maxmemory: 2gb}}", 4096, "384M"),
        ("server: {mariadb: {buffer_pool: 2G}}", 4096, ""),
    ],
)
def test_the_database_has_its_share_of_what_no_other_service_keeps(checkout, text, memory, pool):
    told = demands.variables(run_of(checkout, text), memory)
    assert told == ({} if "mariadb:" in text else {"mariadb_buffer_pool": pool})


def test_what_only_defaults_say_is_no_wish_and_a_small_machine_is_taken(checkout):
    """A command of PHP may have 2G, which a machine of 1G lends it from its swap."""
    demands.accept(run_of(checkout), 1024, "t3.micro")


@pytest.mark.parametrize(
    ("size", "wanted"), [("512M", 512), ("1g", 1024), ("2048k", 2), ("128mb", 128), ("3GB", 3072)]
)
def test_a_size_is_read_as_people_write_it(size, wanted):
    assert demands.mib(size) == wanted


def test_a_machine_that_was_adopted_counts_as_what_it_is(checkout, embedded):  # noqa: F811
    """Its type is another one than that of the settings."""
    run = run_in(checkout, QuietCloud(REGION, embedded.home.load()), branch=checkout.parent.name)
    infrastructure.share(run)
    (id,) = infrastructure.converge(run).facts["hosts"]
    assert machine.memory(run, [id["id"]]) == machine.memory(run) == 4096
    path = checkout / "pipeline.yml"
    path.write_text(path.read_text().replace("t3.medium", "t3.large"))
    larger = run_in(checkout, run.cloud, branch=checkout.parent.name)
    assert (machine.memory(larger), machine.memory(larger, [id["id"]])) == (8192, 4096)
