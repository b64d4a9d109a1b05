"""An environment of three machines: visitors' web server and page cache, the application, and what keeps data."""

from __future__ import annotations

import base64
import json
import re
import time

import pytest

from tasks import network
from tasks.cloud.embedded.containers import podman
from tasks.hosts import ssh
from tasks.infrastructure import find
from tasks.infrastructure import stage as infrastructure
from tests.conftest import commit, until
from tests.end_to_end.conftest import Site
from tests.end_to_end.test_mail import ask
from tests.end_to_end.test_network import tried

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("groups"),
    pytest.mark.long(
        short="tests/test_network.py::test_machines_reach_each_other_where_a_role_says_so_and_nowhere_else"
    ),
]

PLACEMENT = "  placement: {web: [ingress, cache], app: [app], data: [data]}\n"
LISTENS = "import subprocess; print(subprocess.check_output(['ss', '-tulpnH'], text=True))"
SENDS = """
import subprocess
mail = b"From: a@example.com\\nTo: kim@example.com\\nSubject: From the application\\n\\nHello\\n"
subprocess.run(["sendmail", "-t"], input=mail, check=True)
"""
UNIT = """
import subprocess
for asked in ("is-active", "is-enabled"):
    print(subprocess.run(["systemctl", asked, "{}"], capture_output=True, text=True).stdout)
"""
OFF = ["inactive", "disabled"]
BY_HAND = "import subprocess; subprocess.run(['systemctl', 'enable', '--now', 'nginx'], check=True)"
AS = {3306: "shop", 6379: "shop", 6380: "shop", 6081: "shop", 8080: "vcache", 8025: "www-data"}
"""Who connects to a port of another machine."""


def unit(host, name):
    """Whether a unit runs, and whether it starts with the machine, in systemd's words."""
    return ssh.python(host, "release", UNIT.format(name)).split()


@pytest.fixture(scope="module")
def trio(project, baked):
    """The example on three machines of the baked image, and how long its first release took."""
    baked.give(project)
    folder = project / "environments"
    text = (folder / "testing.yml").read_text()
    (folder / "trio.yml").write_text(text.replace("  ends_itself: true\n", PLACEMENT))
    commit(project, "an environment of three machines")
    made = Site(root=project, variables={"environment": "trio"})
    begun = time.monotonic()
    assert made.stages("release")["release"] == "done"
    print(f"three machines, new from a baked image: {time.monotonic() - begun:.1f} s")  # noqa: T201
    yield made
    assert made.doit("teardown").returncode == 0
    assert find.everything(made.run).machines == ()


@pytest.fixture(scope="module")
def machines(trio):
    """The machines by name, as hosts for SSH."""
    found = {each.id: each.name for each in infrastructure.existing(trio.run)}
    return {found[each.name]: each for each in trio.hosts}


@pytest.mark.promise("groups-have-machines")
def test_visitors_get_pages_and_files_by_the_machine_that_they_reach(trio):
    status, page = trio.get()
    assert status == 200
    files = re.findall(r'(?:href|src)="[^"]*?(/static/version[^"]+)"', page)
    assert files
    assert {trio.get(each)[0] for each in files} == {200}
    assert trio.get(re.sub(r"version[\w-]+", "versionold", files[0]))[0] == 404
    assert trio.get("/static/deployed_version.txt")[0] == 403
    assert trio.get("/health_check.php")[0] == 200


@pytest.mark.promise("groups-have-machines")
def test_a_machine_listens_on_what_its_groups_have_and_on_nothing_else(trio, machines):
    run = trio.run
    found = [(name, host.address) for name, host in machines.items()]
    for name, host in machines.items():
        place = network.topology(run.placement, found, [host.address])
        told = network.told(run.network, place)
        wanted = {
            (protocol, f"{told[each.role][each.name]['bind']}:{each.port}")
            for each in run.network.services
            for protocol in each.protocols
            if place.serves(each)
        }
        said = ssh.python(host, "release", LISTENS)
        listening = {
            (line.split()[0], line.split()[4].replace("[::]", network.ALL))
            for line in said.splitlines()
            if not re.match(r"udp .* 127\.0\.0\.1:[3-6]\d{4} ", line)  # whence the proxy asks the resolver
        }
        assert listening == wanted, name


@pytest.mark.promise("caught-mail-is-the-applications")
def test_the_application_s_mail_is_read_where_visitors_come(trio, machines):
    ssh.python(machines["app"], "release", SENDS)
    told = json.loads(trio.doit("secrets", "--json", "show", "mail").stdout)
    login = base64.b64encode(f"{told['user']}:{told['password']}".encode()).decode()
    until(lambda: "From the application" in ask(trio, "/caught-mail/", Authorization=f"Basic {login}").text)
    assert ask(trio, "/caught-mail/").status == 401
    for name in ("web", "data"):
        assert unit(machines[name], "postfix") == OFF, name


@pytest.mark.promise("groups-have-machines")
def test_from_each_machine_to_each_other_only_declared_ports_are_reached(trio, machines):
    run = trio.run
    between = network.between(run.network, run.placement, 1)
    ports = sorted({each.port for each in run.network.services if "tcp" in each.protocols})
    for source, host in machines.items():
        others = [(name, to.address) for name, to in machines.items() if name != source]
        ways = [(name, at, port) for name, at in others for port in ports]
        # without the source's own rules: the group and the other machine's firewall hold back
        reached = tried(host, [("root", at, port) for _, at, port in ways], rules=False)
        public = {(port, source, "web") for port in (80, 443) if source != "web"}  # as everybody
        found = {(port, source, name) for (name, _, port), there in zip(ways, reached, strict=True) if there}
        assert found == {each for each in between | public if each[1] == source}
        # with them: who is declared, and nobody else
        for name, at, port in ways:
            if (port, source, name) in between:
                assert tried(host, [(AS[port], at, port), ("nobody", at, port)], rules=True) == [True, False]


@pytest.mark.promise("groups-have-machines")
def test_what_another_machine_has_is_stopped_again_if_a_hand_starts_it(trio, machines):
    ssh.python(machines["data"], "release", BY_HAND)
    said = trio.doit("server").stdout
    assert "nginx" in said, said
    until(lambda: unit(machines["data"], "nginx") == OFF)


@pytest.mark.promise("groups-have-machines")
def test_the_same_again_changes_nothing(trio):
    begun = time.monotonic()
    said = trio.stages("release")
    print(f"three machines, nothing to do: {time.monotonic() - begun:.2f} s")  # noqa: T201
    assert set(said.values()) == {"unchanged"}
    assert trio.doit("forget", "server").returncode == 0
    again = trio.doit("server").stdout
    assert re.search(r"^server +done +\d+ tasks on i-\w+, i-\w+, i-\w+, 0 changed", again, re.M), again


@pytest.mark.promise("groups-have-machines")
def test_a_release_goes_to_the_machine_of_the_application_and_visitors_see_it(trio, machines):
    current = {
        name: ssh.python(host, "release", "import os; print(os.path.exists('/srv/shop/current'))").strip()
        for name, host in machines.items()
    }
    assert current == {"web": "False", "app": "True", "data": "False"}
    (template,) = trio.root.glob("app/app/code/**/page.phtml")
    template.write_text(f"{template.read_text()}<!-- of three machines -->\n")
    commit(trio.root, "another page")
    assert trio.stages("release")["release"] == "done"
    tags = {each.tags.get("commit", "")[:8] for each in find.own(trio.run)}
    assert len(tags) == 1
    status, page = trio.get()
    assert (status, page.count("<!-- of three machines -->")) == (200, 1)


@pytest.mark.promise("groups-have-machines")
def test_people_are_told_which_machine_is_which(trio):
    assert "on data" in trio.doit("graph", "server").stdout
    assert all(name in trio.doit("status").stdout for name in ("app", "data", "web"))
    assert len(podman("ps", "--quiet").split()) >= 3
