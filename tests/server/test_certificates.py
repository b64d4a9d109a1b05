"""Certificates: an authority of the environment's own, what is brought, and what is refused before a machine is touched."""

from __future__ import annotations

import datetime
import shlex
import socket
import ssl
import subprocess
import threading

import pytest
import yaml

from tasks.cloud.embedded import forwarder
from tasks.infrastructure import secrets
from tasks.server import certificates
from tasks.server.certificates import KEY, CertificateWrong, Folders
from tests.conftest import ROOT
from tests.infrastructure.test_secrets_alone import Parameters

FOLDER, ZONE = "/shop/staging", "shop.localhost"
AUTHORITY = "/shop/staging-authority"
NAMES = ("staging.shop.localhost", "de.shop.localhost")
NOW = datetime.datetime.now(datetime.UTC)  # OpenSSL looks at the clock
DAY = datetime.timedelta(days=1)


def ensured(store, names=NAMES, now=NOW, folder=FOLDER):
    known, folders = secrets.ensure(store, folder), Folders(own=folder, authority=AUTHORITY)
    return certificates.ensure(store, folders, known, names=names, zone=ZONE, now=now)


def verified(text, authority, name):
    """What OpenSSL says of a visitor's connection to a name, with that certificate and that root."""
    return subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", authority, "-verify_hostname", name, text],
        capture_output=True,
        text=True,
    )


@pytest.fixture
def made(tmp_path):
    """An authority and a certificate of it, as files too."""
    store = Parameters()
    site = ensured(store)
    (tmp_path / "site.pem").write_text(KEY.sub("", site))
    (tmp_path / "root.pem").write_text(certificates.root(store, AUTHORITY))
    return store, site


def test_the_certificate_is_one_for_every_name_and_is_kept(made, tmp_path):
    store, site = made
    for name in NAMES:
        said = verified(tmp_path / "site.pem", tmp_path / "root.pem", name)
        assert said.returncode == 0, said.stderr
    other = verified(tmp_path / "site.pem", tmp_path / "root.pem", "at.shop.localhost")
    assert "hostname mismatch" in other.stderr
    assert ensured(store) == site, "a second provisioning changes nothing"
    assert "PRIVATE KEY" not in (tmp_path / "root.pem").read_text()


@pytest.mark.promise("a-wrong-configuration-is-not-put-in-place")
def test_what_is_no_certificate_with_its_key_is_not_put_in_place(made, tmp_path):
    """By what the role says that checks the file."""
    (task,) = yaml.safe_load((ROOT / "roles" / "certificates" / "tasks" / "main.yml").read_text())
    checked = task["ansible.builtin.template"]["validate"]
    _, site = made
    key, certificate = KEY.search(site)[0], KEY.sub("", site)
    (other,) = KEY.findall(ensured(Parameters()))
    files = {
        "site": site,
        "empty": "",
        "text": "neither key nor certificate\n",
        "key": key,
        "certificate": certificate,
        "another key": f"{other}\n{certificate}",
    }

    def accepts(text):
        (tmp_path / "candidate").write_text(text)
        words = [each.replace("%s", str(tmp_path / "candidate")) for each in shlex.split(checked)]
        return subprocess.run(words, capture_output=True).returncode == 0

    assert [name for name, text in files.items() if accepts(text)] == ["site"]


@pytest.mark.promise("an-authority-of-one-zone")
def test_who_has_the_authority_s_key_can_pretend_to_be_no_other_site(made, tmp_path):
    store, _ = made
    authority = secrets.authority(store, AUTHORITY)
    for name, code in (("other.shop.localhost", 0), ("bank.example", 2)):
        (tmp_path / "made.pem").write_text(KEY.sub("", certificates.issue(authority, [name], NOW)))
        said = verified(tmp_path / "made.pem", tmp_path / "root.pem", name)
        assert (said.returncode, "permitted subtree violation" in said.stderr) == (code, code == 2)


@pytest.mark.parametrize(
    ("names", "later", "renews", "authority"),
    [
        (NAMES, 330 * DAY, False, False),
        (NAMES, 338 * DAY, True, False),
        ((*NAMES, "at.shop.localhost"), DAY, True, False),
        (NAMES[:1], DAY, False, False),
        (NAMES, 3260 * DAY, True, True),
    ],
)
def test_it_is_made_anew_for_another_name_and_before_it_expires(made, names, later, renews, authority):
    store, site = made
    before = secrets.authority(store, AUTHORITY)
    again = ensured(store, names, NOW + later)
    assert (again != site, secrets.authority(store, AUTHORITY) != before) == (renews, authority)
    assert certificates.problem(again, names, NOW + later) == ""


@pytest.mark.promise("trusted-once")
def test_environments_of_a_name_share_an_authority_also_if_two_make_it_at_once(tmp_path):
    store = Parameters()
    one, two = (ensured(store, [f"{each}.{ZONE}"], folder=f"/shop/{each}") for each in ("one", "two"))
    root = certificates.root(store, AUTHORITY)
    assert (one != two, one.endswith(root), two.endswith(root)) == (True, True, True)
    assert [each for each in store.kept if each.endswith("authority")] == [
        f"{AUTHORITY}/certificate_authority"
    ]
    theirs = certificates.make_authority("of another run", ZONE, NOW)
    store = Parameters(others={"certificate_authority": theirs})
    assert ensured(store).endswith(certificates.root_of(theirs))


def test_a_certificate_that_is_brought_counts_and_is_replaced(made):
    store, _ = made
    own = certificates.make_authority("Another", ZONE, NOW)
    brought = certificates.issue(own, NAMES, NOW)
    secrets.bring(store, FOLDER, "certificate", brought.strip())
    assert ensured(store) == brought
    later = certificates.issue(own, NAMES, NOW)
    secrets.bring(store, FOLDER, "certificate", later.strip())
    assert ensured(store) == later


@pytest.fixture(scope="module")
def brought():
    """What a person may bring, by what is wrong with it."""
    authority = certificates.make_authority("Another", ZONE, NOW)
    good, other = (certificates.issue(authority, NAMES, NOW) for _ in range(2))
    key, wild = KEY.search(good)[0], certificates.issue(authority, ["*.shop.localhost"], NOW)
    return {
        "good": good,
        "with carriage returns": good.replace("\n", "\r\n"),
        "wild": wild,
        "no key": KEY.sub("", good),
        "another key": good.replace(key, KEY.search(other)[0]),
        "no certificate": key,
        "torn": good.replace("BEGIN CERTIFICATE-----\nMII", "BEGIN CERTIFICATE-----\nMIX"),
        "another chain": good + KEY.sub("", other),
        "torn key": good.replace("PRIVATE KEY-----\nM", "PRIVATE KEY-----\nX"),
        "over": certificates.issue(authority, NAMES, NOW - 400 * DAY),
        "too early": certificates.issue(authority, NAMES, NOW + DAY),
        "long": good * 3,
    }


@pytest.mark.promise("a-certificate-is-checked-first")
@pytest.mark.parametrize(
    ("what", "names", "sentence"),
    [
        ("good", NAMES, ""),
        ("with carriage returns", NAMES, ""),
        ("wild", NAMES, ""),
        ("wild", ["a.b.shop.localhost"], "does not have the name a.b.shop.localhost (it has: *.shop.localhost)"),
        ("wild", ["shop.localhost"], "does not have the name shop.localhost ("),
        ("good", ["at.shop.localhost"], "does not have the name at.shop.localhost (it has: staging.shop"),
        ("no key", NAMES, "comes without its private key"),
        ("another key", NAMES, "is not that of its private key"),
        ("no certificate", NAMES, "cannot be read as PEM"),
        ("torn", NAMES, "cannot be read as PEM"),
        ("another chain", NAMES, "is not followed by the certificate that vouches for it"),
        ("torn key", NAMES, "has a private key that cannot be read"),
        ("over", NAMES, "is valid only until "),
        ("too early", NAMES, "is valid only from "),
        ("long", NAMES, "and the parameter store keeps 4096"),
    ],
)  # fmt: skip
def test_what_visitors_would_be_warned_of_is_refused_in_one_sentence(brought, what, names, sentence):
    store, text = Parameters(), brought[what]
    store.kept[f"{FOLDER}/certificate"] = text.strip()
    if not sentence:
        assert ensured(store, tuple(names)) == f"{text.strip()}\n"
        return
    with pytest.raises(CertificateWrong) as caught:
        ensured(store, tuple(names))
    first, remedy = caught.value.text.split("\n    ")
    assert first.startswith(f"server: the certificate for {names[0]} ")
    assert sentence in first
    assert remedy.startswith("doit secrets set certificate < FILE")
    assert "PRIVATE KEY-" not in caught.value.text


# --- the embedded cloud passes TLS on ------------------------------------------------------------------


class Names:
    """The names that the cloud has records of."""

    def __init__(self, records, running=True):
        self._records, self._running = records, running

    def records(self):
        return self._records

    def running(self, address):
        return self._running


@pytest.fixture
def host(made, tmp_path, monkeypatch):
    """A host with its own key, and a forwarder before it: the forwarder's port, and the records that it knows."""
    (tmp_path / "whole.pem").write_text(made[1])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "whole.pem")
    context.set_alpn_protocols(["h2"])
    inside, outside = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    records = {NAMES[0]: "127.0.0.1"}

    def answer():
        while True:
            accepted, _ = inside.accept()
            try:
                with context.wrap_socket(accepted, server_side=True) as client:
                    client.sendall(client.recv(100).upper())
            except OSError:
                continue

    names = Names(records)
    ports = {"http": 1, "https": inside.getsockname()[1]}
    for target, arguments in ((answer, ()), (forwarder.serve, (outside, names, ports))):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    return outside.getsockname()[1], names


def asked(port, name, root):
    context = ssl.create_default_context(cafile=root)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as visitor,
    ):
        visitor.sendall(b"hello")
        return visitor.selected_alpn_protocol(), visitor.recv(100)


@pytest.mark.promise("tls-is-the-host-s-own")
def test_the_embedded_cloud_leads_a_name_over_tls_to_its_host_whose_key_it_has_not(host, tmp_path):
    port, names = host
    assert asked(port, NAMES[0], tmp_path / "root.pem") == ("h2", b"HELLO")
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        asked(port, "unknown.shop.localhost", tmp_path / "root.pem")
    names._running = False
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        asked(port, NAMES[0], tmp_path / "root.pem")


@pytest.mark.parametrize("size", [1, 5, 60])
def test_a_hello_that_comes_in_pieces_is_read_as_a_whole(host, tmp_path, size):
    port, _ = host
    context = ssl.create_default_context(cafile=tmp_path / "root.pem")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    visitor = context.wrap_bio(incoming, outgoing, server_hostname=NAMES[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                visitor.do_handshake()
                break
            except ssl.SSLWantReadError:
                said = outgoing.read()
                for start in range(0, len(said), size):
                    plain.sendall(said[start : start + size])
                incoming.write(plain.recv(1 << 16))
    assert dict(visitor.getpeercert()["subjectAltName"])["DNS"] in NAMES


def test_what_only_begins_as_tls_is_broken_off(host):
    port, _ = host
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"\x16\x03\x01\x00\x05hello and more")
        assert plain.recv(100) == forwarder.UNKNOWN_NAME
