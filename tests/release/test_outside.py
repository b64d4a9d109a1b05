"""A release is looked at from outside before it is settled, and what visitors would not get goes back."""

from __future__ import annotations

import http.server
import io
import ssl
import threading
from types import SimpleNamespace

import pytest

from tasks.console.console import Console
from tasks.hosts.hosts import Hosts
from tasks.hosts.phased import Answer, PhaseFailed
from tasks.release.phases import Failure, Site, SiteConnection
from tasks.release.stage import put_live
from tests.infrastructure.test_secrets_alone import Parameters
from tests.tls import secure


class Front(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        self.send_response(self.server.statuses.get(self.path, 200))
        self.end_headers()
        self.wfile.write(b"<script src='/a.js'></script>")

    def log_message(self, *words):
        """Nothing is printed."""


class Told(Hosts):
    """Hosts on which every phase but the way back succeeds; `asked`: the phases, and why."""

    def __init__(self, **answer):
        self.answer, self.asked = Answer(host="i-1", **answer), []

    def phases(self, program, phases, *, plan, **_):
        self.asked.append((*phases, plan.get("why", "")))
        if "undo" in phases:
            raise PhaseFailed(
                stage="release",
                host="i-1",
                step="Go back",
                reason=plan["why"],
                outcome="went back",
                remedy="doit release",
            )
        return [self.answer]


@pytest.fixture
def front():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front)
    made.asked, made.statuses = [], {}
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()


def run_on(hosts, port, tmp_path):
    release = SimpleNamespace(health_path="/health", pages=("/",))
    return SimpleNamespace(
        hosts=hosts,
        console=Console(io.StringIO()),
        log=lambda stage: tmp_path / stage,
        profile=SimpleNamespace(release=release),
        https=False,
        protected=False,
        cloud=SimpleNamespace(http_address=lambda name, https: ("127.0.0.1", port)),
        host_names=("shop.localhost",),
        url="http://shop.localhost/",
    )


class Keeping(Front):
    """It keeps connections, as web servers do; `server.opened` counts them. After `server.ends` answers it ends one without a word."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.opened += 1
        self.answered = 0

    def do_GET(self):
        if self.answered == self.server.ends:
            self.close_connection = True
            return
        self.answered += 1
        body = b"<script src='/a.js'></script><img src='/b.png'>" if self.path == "/" else b"well"
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def keeping(front):
    front.RequestHandlerClass, front.opened, front.ends = Keeping, 0, None
    return front


def test_all_that_a_check_asks_goes_over_one_connection(keeping):
    Site("shop.localhost", "127.0.0.1", keeping.server_port).check("/health", ["/"])
    assert keeping.asked == ["/health", "/", "/a.js", "/b.png"]
    assert keeping.opened == 1


def test_a_kept_connection_that_the_site_has_ended_is_opened_again_and_a_new_one_is_not(keeping):
    site = Site("shop.localhost", "127.0.0.1", keeping.server_port)
    keeping.ends = 2
    site.check("/health", ["/"])
    assert (keeping.asked, keeping.opened) == (["/health", "/", "/a.js", "/b.png"], 2)
    keeping.ends = 0
    with pytest.raises(Failure, match=r"shop\.localhost/health gets no answer: RemoteDisconnected"):
        site.check("/health", ["/"])
    assert keeping.opened == 3


@pytest.mark.parametrize("end", [ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError])
def test_a_kept_connection_is_opened_again_however_the_site_has_ended_it(keeping, monkeypatch, end):
    asks, ends = SiteConnection.request, [end]

    def request(self, method, path, **how):
        if path == "/" and ends:
            raise ends.pop()
        asks(self, method, path, **how)

    monkeypatch.setattr(SiteConnection, "request", request)
    Site("shop.localhost", "127.0.0.1", keeping.server_port).check("/health", ["/"])
    assert (keeping.asked, keeping.opened) == (["/health", "/", "/a.js", "/b.png"], 2)


UP, END = ("bring", "live", "open", ""), ("settle", "")


def test_a_site_that_is_seen_from_outside_is_settled(front, tmp_path):
    run = run_on(hosts := Told(changed=True), front.server_port, tmp_path)
    put_live(run, [], {})
    assert hosts.asked == [UP, END]
    assert front.asked == [("shop.localhost", path) for path in ("/health", "/", "/a.js")]


@pytest.mark.promise("the-site-is-seen-from-outside")
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/health", "from outside, shop.localhost/health answers 502, not 200"),
        ("/", "from outside, shop.localhost/ answers 502, not 200"),
        ("/a.js", "from outside, shop.localhost/ names /a.js, which answers 502, not 200"),
    ],
)
def test_what_visitors_would_not_get_goes_back(front, tmp_path, path, why):
    run = run_on(hosts := Told(changed=True), front.server_port, tmp_path)
    front.statuses[path] = 502
    with pytest.raises(PhaseFailed, match=f"release: i-1: Go back: {why}; went back"):
        put_live(run, [], {})
    assert hosts.asked == [UP, ("undo", why)]


@pytest.mark.parametrize("answer", [{"changed": False}, {"changed": True, "closed": True}])
def test_a_site_that_did_not_change_or_that_is_closed_is_not_looked_at(front, tmp_path, answer):
    put_live(run_on(hosts := Told(**answer), front.server_port, tmp_path), [], {})
    assert (hosts.asked, front.asked) == ([UP, END], [])


@pytest.mark.promise("urls-are-https")
def test_over_tls_it_is_asked_by_name_and_a_certificate_of_somebody_else_s_is_said(front, tmp_path):
    store, zone = Parameters(), "shop.localhost"
    secure(front, store, "/shop/testing-authority", zone)
    for trusted in (True, False):
        run = run_on(hosts := Told(changed=True), front.server_port, tmp_path)
        run.https, run.environment_name, run.host_names = True, "testing", (f"a.{zone}",)
        run.pipeline, run.cloud.client = SimpleNamespace(name="shop"), lambda service: store
        if not trusted:
            store.kept.clear()
        put_live(run, [], {})
        assert hosts.asked == [UP, END]
        assert ("CERTIFICATE_VERIFY_FAILED" in run.console.stream.getvalue()) is not trusted
    assert front.asked == [(f"a.{zone}", path) for path in ("/health", "/", "/a.js")]


@pytest.mark.promise("the-site-is-seen-from-outside")
def test_a_site_that_cannot_be_asked_from_here_is_said_and_settled(tmp_path):
    run = run_on(hosts := Told(changed=True), 1, tmp_path)
    put_live(run, [], {})
    assert hosts.asked == [UP, END]
    assert (
        "http://shop.localhost/ cannot be asked from here: [Errno 111] Connection refused"
        in run.console.stream.getvalue()
    )
