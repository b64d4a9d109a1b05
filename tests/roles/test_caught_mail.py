"""The page of caught mail: who reads it, what a browser does with somebody else's HTML, and how much is kept."""

from __future__ import annotations

import base64
import http.client
import importlib.util
import os
import re
import threading
from email.message import EmailMessage
from urllib.parse import quote

import pytest

from tests.conftest import ROOT

PATH, PASSWORD = "/caught-mail/", "pa:ss word"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABAQAAAAA3bvkkAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
EVIL = (
    """<h1>Grüße</h1><script>alert(1)</script><img src="http://attacker.example/seen"><img src="cid:logo">"""
)


@pytest.fixture(scope="module")
def caught_mail():
    """The host's program."""
    program = ROOT / "roles" / "mail" / "files" / "caught_mail.py"
    specification = importlib.util.spec_from_file_location("caught_mail", program)
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "new").mkdir()
    return tmp_path


@pytest.fixture
def ask(caught_mail, folder):
    """Ask the page for a path below its own, as somebody who knows a password."""
    server = caught_mail.Server(
        {"folder": str(folder), "path": PATH, "password": PASSWORD, "address": "127.0.0.1", "port": 0}
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def ask(path="", *, says=f"mail:{PASSWORD}", below=PATH):
        connection = http.client.HTTPConnection(*server.server_address, timeout=10)
        told = {"Authorization": f"Basic {base64.b64encode(says.encode()).decode()}"} if says else {}
        connection.request("GET", f"{below}{path}", headers=told)
        answer = connection.getresponse()
        answer.body = answer.read()
        return answer

    yield ask
    server.shutdown()
    server.server_close()


def mail(subject="Your order – thank you", to="kim@example.com"):
    made = EmailMessage()
    made["Delivered-To"], made["From"], made["To"], made["Subject"] = to, "shop@example.com", to, subject
    made.set_content("Grüße")
    made.add_alternative(EVIL, subtype="html")
    made.get_payload()[1].add_related(PICTURE, "image", "png", cid="<logo>")
    made.add_attachment(b"<script>terms</script>", "text", "html", filename='terms "of/ use.html')
    return made


def deliver(folder, name, content, when=None):
    path = folder / "new" / name
    path.write_bytes(bytes(content))
    if when is not None:
        os.utime(path, (when, when))


@pytest.mark.promise("caught-mail-is-read-by-who-knows-the-password")
@pytest.mark.parametrize(
    "says", ["", "mail:", "mail:other", f"root:{PASSWORD}", PASSWORD, f"mail:{PASSWORD}x"]
)
def test_nothing_is_shown_to_who_does_not_know_the_password(folder, ask, says):
    deliver(folder, "1.a", mail())
    for path in ("", "1.a", "1.a/html", "1.a/source", "1.a/3", "none"):
        answer = ask(path, says=says)
        assert (answer.status, b"order" in answer.body) == (401, False), path
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert ask("1.a").status == 200


@pytest.mark.promise("caught-mail-is-read-by-who-knows-the-password")
def test_mails_are_listed_newest_first_and_found_by_their_words(folder, ask):
    assert b"No mail." in ask().body
    deliver(folder, "1.a", mail("first"), 1_000)
    deliver(folder, "2.b", mail("<b>second", to="lee@example.com"), 2_000)
    deliver(folder, "3.c", b"no headers at all\xff\xfe", 500)
    page = ask().body.decode()
    assert re.findall(r'href="/caught-mail/([^"]+)"', page) == ["2.b", "1.a", "3.c"]
    assert "&lt;b&gt;second" in page
    assert re.findall(r'href="/caught-mail/([^"]+)"', ask("?words=LEE").body.decode()) == ["2.b"]
    assert 'value="&quot;&gt;&lt;script&gt;"' in ask("?words=%22%3E%3Cscript%3E").body.decode()


@pytest.mark.promise("caught-mail-runs-and-loads-nothing")
def test_html_is_shown_without_scripts_and_outside_pictures(folder, ask):
    deliver(folder, "1.a", mail())
    page = ask("1.a")
    assert b"<script>" not in page.body
    assert b"Your order \xe2\x80\x93 thank you" in page.body
    frame = re.search(rb'<iframe sandbox="([^"]*)" src="/caught-mail/1.a/html">', page.body)[1].decode()
    shown = ask("1.a/html")
    policy = dict(
        [*each.split(" ", 1), ""][:2] for each in shown.headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"  # no script, no font, no frame
    assert policy["img-src"] == "data:"
    assert policy["sandbox"] == frame == "allow-popups allow-popups-to-escape-sandbox"
    assert f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}".encode() in shown.body
    assert b"cid:" not in shown.body
    assert "Grüße" in shown.body.decode()
    own = ask("1.a").headers["Content-Security-Policy"]
    assert "default-src 'none'" in own
    assert "script-src" not in own


@pytest.mark.promise("caught-mail-runs-and-loads-nothing")
def test_what_is_attached_is_saved_and_never_shown(folder, ask):
    deliver(folder, "1.a", mail())
    page = ask("1.a").body.decode()
    links = re.findall(r'<li><a href="([^"]+)">([^<]*)</a>', page)
    assert [name for _, name in links] == ["image/png", "terms &quot;of/ use.html"]
    answer = ask(links[1][0].removeprefix(PATH))
    assert answer.body.strip() == b"<script>terms</script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''terms%20%22of_%20use.html"
    source = ask("1.a/source")
    assert source.headers["Content-Type"] == "text/plain; charset=utf-8"
    for each in (answer, source):
        assert each.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in each.headers["Content-Security-Policy"]
        assert each.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    ["none", "..%2fsecret", "%2e%2e/secret", ".hidden", "1.a/99", "1.a/html", "1.a/x", "%00", "1.a/source/x"],
)
def test_what_is_no_mail_is_not_found(folder, ask, path):
    (folder / "secret").write_text("secret")
    deliver(folder, "1.a", b"Subject: text\n\nonly text")
    deliver(folder, ".hidden", b"half written")
    assert ask(path).status == 404
    assert ask(quote(str(folder / "secret"), safe="")).status == 404
    assert ask("", below="/caught-mail").status == 404


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Subject: =?utf-8?b?broken\n\n",
        b"Content-Type: text/html; charset=no-such\n\n<p>\xff</p>",
        b"From: <<<>,;:\nTo: \"\nDate: never\n\nx",
        b"Content-Type: multipart/mixed\n\nno boundary",
        b"Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n!!!",
    ],
)  # fmt: skip
def test_a_broken_mail_is_shown_as_far_as_it_goes(folder, ask, content):
    deliver(folder, "1.a", content)
    assert b"1.a" in ask().body
    assert ask("1.a").status == ask("1.a/source").status == 200


@pytest.mark.promise("caught-mail-is-bounded")
def test_what_is_too_old_or_too_much_goes_the_oldest_first(caught_mail, folder):
    mails, now = caught_mail.Mails(str(folder)), 10_000_000.0
    for age in range(5):
        deliver(folder, f"{age}.x", b"x" * 400_000, now - age * 86400 - 10)
    mails.prune(3, 100, now)
    assert [id for *_, id in mails.newest()] == ["0.x", "1.x", "2.x"]
    mails.prune(3, 1, now)
    assert [id for *_, id in mails.newest()] == ["0.x", "1.x"]
