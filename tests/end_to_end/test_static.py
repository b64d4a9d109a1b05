"""The profile `static` on a real host: a folder of files, and no service but the web server."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading

import pytest

from tasks.cloud.embedded import home
from tasks.infrastructure import hosts
from tasks.infrastructure import secrets as stored
from tasks.server import certificates, renewal
from tests.conftest import DOIT

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("pages")]


FRONT = "proxies: [{}/32], probe: /about, protected: true, noindex: true"
SSL_FAILED = 35
"""How curl ends where there is no handshake."""


@pytest.mark.promise(
    "proxies-alone-are-believed", "urls-are-https", "the-site-is-protected", "the-scheduled-job-brings-it"
)
def test_a_site_of_files_is_released_unchanged_and_changed(pages, tmp_path):
    first = pages.stages("release")
    assert {first[each] for each in ("infrastructure", "tarball", "server", "release")} == {"done"}
    assert pages.get()[0] == 200
    assert "<h1>About</h1>" in pages.get("/about")[1], "which is a folder, too"
    assert "<h1>Team</h1>" in pages.get("/about/team")[1]
    assert (pages.get("/build.mjs")[0], pages.get("/.complete")[0]) == (404, 403), "not its sources"

    again = pages.stages("release")
    assert set(again.values()) == {"unchanged"}

    about = pages.root / "app" / "pages" / "about.html"
    about.write_text("<h1>About us</h1>\n")
    changed = pages.stages("release")
    assert (changed["infrastructure"], changed["server"]) == ("unchanged", "unchanged")
    assert (changed["tarball"], changed["release"]) == ("done", "done")
    assert "<h1>About us</h1>" in pages.get("/about")[1]

    served_over_tls(pages, tmp_path)
    sent_to_https(pages)
    brought_by_the_scheduled_job(pages, tmp_path)
    behind_a_load_balancer(pages, tmp_path)

    selected = pages.ssh("dpkg --get-selections", tmp=tmp_path).splitlines()
    packages = [line.split()[0] for line in selected if line.endswith("\tinstall")]
    assert "nginx" in packages
    assert [each for each in packages if each.startswith(("php", "mariadb", "varnish", "redis"))] == []
    listening = pages.ssh("ss --listening --tcp --numeric --no-header", tmp=tmp_path).splitlines()
    assert {line.split()[3].rpartition(":")[2] for line in listening} == {
        "22",
        "53",
        "80",
        "443",
        "3128",
        "8090",
    }
    secrets = pages.run.cloud.client("ssm").get_parameters_by_path(Path=pages.run.secrets_folder)[
        "Parameters"
    ]
    names = ["certificate", "deploy_key", "deploy_key_public", "own_certificate", "site_password"]
    assert sorted(each["Name"].rpartition("/")[2] for each in secrets) == names
    assert "pages" not in pages.ssh("ls /etc/logrotate.d /etc/cron.d", tmp=tmp_path).split()


class Visitor:
    """Somebody who comes over TLS and trusts the environment's authority alone."""

    def __init__(self, site, folder):
        run = site.run
        self.name, self.place = run.host_name, run.cloud.http_address(run.host_name, https=True)
        self.authority = stored.authority(run.cloud.client("ssm"), run.authority_folder)
        self.root = folder / "root.pem"
        self.root.write_text(certificates.root_of(self.authority))

    def curl(self, *more, host=""):
        (address, port), host = self.place, host or self.name
        words = ["curl", "--silent", "--noproxy", "*", "--cacert", str(self.root), "--max-time", "20"]
        words += ["--resolve", f"{host}:{port}:{address}", *more, f"https://{host}:{port}/about"]
        return subprocess.run(words, capture_output=True, text=True)

    def serial(self):
        """Of the certificate that the host shows now."""
        context = ssl.create_default_context(cafile=self.root)
        with (
            socket.create_connection(self.place, timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=self.name) as visit,
        ):
            visit.sendall(f"GET /about HTTP/1.1\r\nHost: {self.name}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: visit.recv(1 << 16), b""))
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            return visit.getpeercert()["serialNumber"]

    @contextlib.contextmanager
    def coming(self):
        """They come one after the other, as long as the block lasts: what each of them got."""
        over, seen = threading.Event(), []

        def come():
            while not over.wait(0.02):
                try:
                    seen.append(self.serial())
                except (OSError, AssertionError) as error:
                    seen.append(repr(error))

        thread = threading.Thread(target=come)
        thread.start()
        yield seen
        over.set()
        thread.join()


def served_over_tls(pages, tmp_path):
    """The host's own certificate, by name through the cloud's port for sites; HTTP/2; no protocol that is too old."""
    visitor = Visitor(pages, tmp_path)
    said = visitor.curl("--write-out", "%{http_version} %{http_code} %{ssl_verify_result}")
    assert "<h1>About us</h1>" in said.stdout
    assert said.stdout.splitlines()[-1] == "2 200 0"
    assert visitor.curl("--tls-max", "1.1").returncode == SSL_FAILED
    assert visitor.curl(host=f"x.{visitor.name}").returncode == SSL_FAILED, "the cloud knows no such name"
    assert pages.ssh("stat --format=%a:%U /etc/ssl/site.pem", tmp=tmp_path).strip() == "600:root"


def asked_plainly(pages, path, method="GET", **headers):
    """Status and `Location` of an answer on port 80 of the host itself."""
    connection = http.client.HTTPConnection(pages.host.address, 80, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers={"Host": pages.run.host_name, **named})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers.get("Location", "")


def sent_to_https(pages):
    """Who comes without TLS, by whatever he says of himself; what he posts is posted there."""
    url = pages.run.url
    assert url.startswith("https://")
    for more in ({}, {"method": "POST"}, {"X_Forwarded_Proto": "https"}):
        assert asked_plainly(pages, "/about?a=%20b", **more) == (308, f"{url}about?a=%20b")


def brought_by_the_scheduled_job(pages, tmp_path):
    """A certificate that was ordered comes while people visit, without a provisioning; a host that has it gets nothing."""
    visitor, run = Visitor(pages, tmp_path), pages.run
    run = dataclasses.replace(run, environment=dataclasses.replace(run.environment, certificates="acme"))
    pem = certificates.issue(visitor.authority, run.host_names, run.clock.now())
    document = json.dumps({"directory": run.pipeline.acme.directory, "pem": pem})
    stored.settle(run.cloud.client("ssm"), run.authority_folder, {stored.ORDERED: document})
    with visitor.coming() as seen:
        before = visitor.serial()
        assert list(renewal.deliver(run)) == [each.id for each in hosts.known(run)]
        after = visitor.serial()
    assert ({before, after}, before != after) == (set(seen), True)
    assert list(renewal.deliver(run)) == []
    stored.settle(run.cloud.client("ssm"), run.authority_folder, {stored.ORDERED: None})


def behind_a_load_balancer(pages, tmp_path):
    """Its word counts once it is named; its health check names no host; another certificate comes while people visit."""
    visitor, run = Visitor(pages, tmp_path), pages.run
    here = home.of(os.environ).load().gateway
    asked = http.client.HTTPConnection(pages.host.address, 80, timeout=20)

    def logged():
        """The address of a visitor who says that it is another one."""
        asked.request("GET", "/about", headers={"Host": visitor.name, "X-Forwarded-For": "203.0.113.9"})
        asked.getresponse().read()
        asked.close()  # a reload closes what is idle
        return pages.ssh("tail --lines=1 /var/log/nginx/access.log", tmp=tmp_path).split()[0]

    def told(header):
        """Each time that an answer over TLS has a header."""
        said = visitor.curl("--dump-header", "-", "--output", "/dev/null").stdout.lower()
        return re.findall(rf"(?m)^{header}: (.*?)\r?$", said)

    assert logged() == here, "nobody's word counts yet"
    assert told("strict-transport-security") == [], "browsers do not know its authority"
    assert told("x-robots-tag") == []
    before = visitor.serial()
    another = certificates.issue(visitor.authority, run.host_names, run.clock.now())
    kept = doit_with(pages, another, "secrets", "set", "certificate")
    assert "certificate is kept" in kept.stdout, kept.stderr
    settings = pages.root / "environments" / "testing.yml"
    settings.write_text(f"{settings.read_text()}server: {{nginx: {{{FRONT.format(here)}}}}}\n")
    with visitor.coming() as seen:
        assert pages.stages("server")["server"] == "done"
        after = visitor.serial()
    assert {before, after} == set(seen)
    assert before != after
    assert logged() == "203.0.113.9"
    assert told("strict-transport-security") == ["max-age=31536000"]
    assert told("x-robots-tag") == ["noindex, nofollow"]
    for path, scheme, status in (("/about", "http", 200), ("/", "http", 308), ("/", "https", 401)):
        assert asked_plainly(pages, path, X_Forwarded_Proto=scheme)[0] == status
    shown = json.loads(pages.doit("secrets", "--json", "show", "site").stdout)
    right, wrong = (
        f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        for user in [shown["user"]]
        for password in (shown["password"], "a guess")
    )
    for authorization, status in ((right, 200), (wrong, 401), ("Bearer of-the-application", 200)):
        said = asked_plainly(pages, "/", X_Forwarded_Proto="https", Authorization=authorization)
        assert said[0] == status, authorization
    assert pages.get()[0] == 200, "the pipeline has the password"
    for path, status in (("/about", 200), ("/", 404)):
        asked.request("GET", path)  # the name that it gives is the address
        answer = asked.getresponse()
        assert (answer.status, "About us" in answer.read().decode()) == (status, status == 200)


def doit_with(site, text, *arguments):
    """Run doit with a text on its standard input."""
    environ = {**os.environ, "PYTHONPATH": str(site.root)}
    return subprocess.run(
        [DOIT, *arguments], cwd=site.root, env=environ, input=text, capture_output=True, text=True
    )
