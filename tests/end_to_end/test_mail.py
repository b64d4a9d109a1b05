"""Mail of a host: an order's is caught and read; relayed, it goes by TLS that is verified to who knows the credential, or waits."""

from __future__ import annotations

import base64
import datetime
import html
import json
import re
from urllib.parse import urlencode

import pytest

from tasks.hosts import ssh
from tasks.server import certificates
from tests.conftest import ROOT, until
from tests.rules import configuration

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("ledger")]  # its host

RELAY = """
import base64, json, pathlib, re, socketserver, ssl, subprocess, sys, threading, time
CONFIGURATIONS, ADDRESS, PASSWORD, AUTHORITY, CERTIFICATES = GIVEN
FOLDER, HOSTS, TRUSTED, SECRET = map(pathlib.Path, ("/etc/postfix", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt", "/etc/postfix/relay_password"))
heard = []

class Relay(socketserver.StreamRequestHandler):
    def handle(self):
        tls = False
        def say(*lines):
            self.wfile.write("".join(f"{each}\\r\\n" for each in lines).encode())
        say("220 relay")
        while line := self.rfile.readline().decode(errors="replace").strip():
            verb = line.split()[0].upper()
            heard.append([tls, line])
            if verb == "EHLO":
                say("250-relay", "250 AUTH PLAIN" if tls else "250 STARTTLS")
            elif verb == "STARTTLS":
                say("220 go on")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain("/root/relay.pem")
                try:
                    self.request = context.wrap_socket(self.request, server_side=True)
                    tls = True
                    self.setup()
                except OSError:
                    return
            elif verb == "DATA":
                say("354 go on")
                while (line := self.rfile.readline()) not in (b".\\r\\n", b""):
                    heard.append([tls, line.decode(errors="replace").strip()])
                say("250 taken")
            else:
                say("235 known" if verb == "AUTH" else "221 bye" if verb == "QUIT" else "250 ok")

def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)

def until(found):
    for _ in range(150):
        if found():
            return True
        time.sleep(0.1)

def configure(name):
    for file, text in zip(("main.cf", "master.cf"), CONFIGURATIONS[name]):
        (FOLDER / file).write_text(text)
    run("systemctl", "restart", "postfix", check=True)

def send():
    sent = run("/usr/sbin/sendmail", "-f", "shop@example.com", "kim@example.com", input="Subject: relayed\\n\\nrelayed")
    return [sent.returncode, sent.stderr]

def journal():
    return run("journalctl", "--no-pager", "--since", BEGUN, "-t", "postfix/smtp", "-t", "postfix/smtpd", "-t", "postfix/postdrop", "-t", "postfix/sendmail").stdout

BEGUN = time.strftime("%Y-%m-%d %H:%M:%S")
kept = {each: each.read_bytes() for each in (FOLDER / "main.cf", FOLDER / "master.cf", HOSTS, TRUSTED)}
server = socketserver.ThreadingTCPServer(("127.0.0.1", 2525), Relay)
threading.Thread(target=server.serve_forever, daemon=True).start()
said = {}
try:
    HOSTS.write_bytes(kept[HOSTS] + b"127.0.0.1 smtp.relay.test\\n")
    TRUSTED.write_bytes(kept[TRUSTED] + AUTHORITY.encode())
    SECRET.touch(mode=0o600)
    SECRET.write_text(PASSWORD)
    pathlib.Path("/root/relay.pem").touch(mode=0o600)
    for certificate in CERTIFICATES:
        pathlib.Path("/root/relay.pem").write_text(CERTIFICATES[certificate])
        heard.clear()
        configure("relay")
        send() if certificate == "wrong" else run("postqueue", "-f")
        until(lambda: "status=deferred" in journal() if certificate == "wrong" else "status=sent" in journal())
        said[certificate] = list(heard)
        said[f"{certificate} queue"] = run("postqueue", "-j").stdout
        said[f"{certificate} processes"] = run("ps", "axwwe").stdout
    configure("off")
    said["off"] = send()
    import smtplib
    with smtplib.SMTP("127.0.0.1", 25, timeout=10) as one:
        try:
            one.sendmail("shop@example.com", ["kim@example.com"], "x")
        except smtplib.SMTPRecipientsRefused as refused:
            said["off smtp"] = refused.recipients["kim@example.com"][1].decode()
    said["off queue"] = run("postqueue", "-j").stdout
    said["journal"] = journal()
finally:
    server.shutdown()
    run("postsuper", "-d", "ALL")
    for each, content in kept.items():
        each.write_bytes(content)
    for each in (SECRET, pathlib.Path("/root/relay.pem")):
        each.unlink(missing_ok=True)
    run("systemctl", "restart", "postfix")
print(json.dumps(said))
"""


def ask(site, path, form=None, **headers):
    """A page, asked as a browser would."""
    name = site.run.host_name
    connection = site.shown(name).connection(20)
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    connection.request(
        "POST" if form else "GET", path, urlencode(form) if form else None, {"Host": name, **kind, **headers}
    )
    answer = connection.getresponse()
    answer.text = answer.read().decode()
    return answer


@pytest.mark.promise("caught-mail-is-read-by-who-knows-the-password", "mail-is-caught-or-relayed")
def test_an_order_s_mail_is_caught_and_read_by_who_knows_the_password(site):
    cart = ask(site, "/checkout/cart/add", {"sku": "mug-spring"})
    cookie = cart.headers["Set-Cookie"].partition(";")[0]
    ordered = ask(site, "/checkout/order/", {"email": "kim@example.com"}, Cookie=cookie)
    (number,) = re.findall(r"<h1>Your order (\d{9}) – thank you</h1>", ordered.text)

    told = json.loads(site.doit("secrets", "--json", "show", "mail").stdout)
    assert site.doit("open", "mail").stdout == f"{told['page']}\n"
    path = "/caught-mail/"
    assert told["page"] == f"{site.run.url}caught-mail/"
    assert ask(site, path).status == 401
    login = base64.b64encode(f"{told['user']}:{told['password']}".encode()).decode()

    def read(path):
        answer = ask(site, path, Authorization=f"Basic {login}")
        assert answer.status == 200, answer.text
        return answer

    def rows():
        found = re.findall(
            rf'<td>([^<]*)</td><td>[^<]*</td><td><a href="([^"]+)">[^<]*{number}', read(path).text
        )
        return dict(found) if len(found) == 2 else None

    found = until(rows)
    assert set(found) == {"kim@example.com", "bookkeeping@spring.example"}, "who is in Bcc as well"
    page = read(found["kim@example.com"]).text
    assert f"Your order {number} – thank you" in html.unescape(page)
    (frame,) = re.findall(r'<iframe sandbox="[a-z -]+" src="([^"]+)">', page)
    shown = read(frame)
    assert "<li>1 × Spring Mug</li>" in shown.text
    assert "sandbox" in shown.headers["Content-Security-Policy"]
    (terms,) = re.findall(r'<li><a href="([^"]+)">terms.txt</a>', page)
    assert "Terms and conditions" in read(terms).text


@pytest.mark.promise("mail-is-caught-or-relayed", "a-relay-is-verified", "without-a-relay-mail-is-refused")
def test_a_relay_gets_mail_by_tls_that_is_verified_or_it_waits_and_without_one_it_is_refused(site):
    """The role's configuration for a relay, on the real Postfix of a host."""
    now = datetime.datetime.now(datetime.UTC)
    authority = certificates.make_authority("relay", "relay.test", now)
    relay = {
        "mail_relay_host": "smtp.relay.test",
        "mail_relay_port": 2525,
        "mail_relay_user": "shop@relay.test",
    }
    password = "it's # a: pass\\word"
    given = (
        {"relay": configuration.postfix(ROOT, **relay), "off": configuration.postfix(ROOT)},
        "smtp.relay.test",
        f"[smtp.relay.test]:2525 shop@relay.test:{password}\n",
        certificates.root_of(authority),
        {
            "wrong": certificates.issue(authority, ["other.relay.test"], now),
            "right": certificates.issue(authority, ["smtp.relay.test"], now),
        },
    )
    said = json.loads(ssh.python(site.host, "release", RELAY.replace("GIVEN", repr(given))).splitlines()[-1])

    assert "not verified" in said["journal"]
    assert "kim@example.com" in said["wrong queue"]
    assert [line for tls, line in said["wrong"] if re.match("AUTH|MAIL|relayed", line)] == []
    login = base64.b64encode(f"\0shop@relay.test\0{password}".encode()).decode()
    assert [True, f"AUTH PLAIN {login}"] in said["right"]
    assert [True, "Subject: relayed"] in said["right"]
    assert not [line for tls, line in said["right"] if not tls and re.match("AUTH|MAIL|RCPT|Subject", line)]
    assert "kim@example.com" not in said["right queue"]
    for name in ("journal", "wrong processes", "right processes"):
        assert password not in said[name], name
        assert login not in said[name], name

    assert said["off"][0] != 0
    assert "not allowed to submit mail" in said["off"][1]
    assert "mail is off here, server.mail.relay_host is empty" in said["off smtp"]
    assert said["off queue"] == ""
