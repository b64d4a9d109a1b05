#!/usr/bin/env python3
"""caught_mail: the page that shows what mail was caught, and the bound of what is kept of it. It changes and sends nothing.

A mail is somebody else's: its HTML is shown in a frame that runs no script, sends no form and loads nothing from outside.
"""

import base64
import contextlib
import email
import email.policy
import hmac
import html
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

USER = "mail"
SHOWN, SEARCHED = 100, 1000
"""Mails that a page lists, and the newest ones among which it finds words."""
HEADERS = 65536
"""Bytes of a mail that are read for the list."""
PRUNED = 60
"""Seconds between two looks at what is too old or too much."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
OWN = POLICY + "frame-src 'self'; form-action 'self'; frame-ancestors 'self'"
FOREIGN = POLICY + "img-src data:; sandbox allow-popups allow-popups-to-escape-sandbox"
"""A click on a link opens another window; all else that a mail asks of a browser it does not get."""
STYLE = """body { font: 15px/1.5 sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }
iframe { border: 1px solid #ccc; height: 40rem; width: 100% } pre { white-space: pre-wrap } input { width: 20rem }"""


class Mails:
    """The mails of a folder, as Postfix writes them: a file each. Their names are their ids, in `new` and nowhere else."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "new")

    def newest(self):
        """Each as (time, size, id), the newest first."""
        found = []
        with contextlib.suppress(FileNotFoundError):  # none has come yet
            for each in os.scandir(self.folder):
                with contextlib.suppress(FileNotFoundError):
                    found.append((each.stat().st_mtime, each.stat().st_size, each.name))
        return sorted(found, reverse=True)

    def read(self, id, most=-1):
        """A mail's bytes. Raises FileNotFoundError."""
        if os.path.basename(id) != id or id.startswith("."):
            raise FileNotFoundError(id)
        with open(os.path.join(self.folder, id), "rb") as file:
            return file.read(most)

    def prune(self, days, megabytes, now):
        """Remove what is too old, and the oldest where it is too much."""
        total = 0
        for when, size, id in self.newest():
            total += size
            if now - when > days * 86400 or total > megabytes * 1_000_000:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, id))


def parsed(raw):
    """A mail. What is wrong in it is passed over."""
    return email.message_from_bytes(raw, policy=email.policy.default)


def header(mail, name):
    """A header as text; empty where there is none, or where nobody can read it."""
    try:
        return " ".join(str(mail.get(name, "")).split())
    except (ValueError, LookupError, IndexError, AttributeError, TypeError):
        return "?"


def words(part):
    """The text of a part, whatever it says of its characters."""
    raw = part.get_payload(decode=True) or b""
    try:
        return raw.decode(part.get_content_charset() or "utf-8", errors="replace")
    except LookupError:
        return raw.decode("latin-1")


def parts(mail):
    """The parts of a mail that are no containers."""
    return [each for each in mail.walk() if not each.is_multipart()]


def body(mail, kind):
    """The part that is the mail's text or HTML; None where it has none."""
    own = (each for each in parts(mail) if each.get_content_type() == kind and not each.get_filename())
    return next(own, None)


def pictured(mail, text):
    """HTML whose pictures that came along are in it: a browser asks nobody for them. Links open another window."""
    for part in parts(mail):
        id = header(part, "Content-ID").strip("<>")
        if id and part.get_content_maintype() == "image" and part.get_content_subtype() != "svg+xml":
            data = base64.b64encode(part.get_payload(decode=True) or b"").decode()
            text = text.replace(f"cid:{id}", f"data:{part.get_content_type()};base64,{data}")
    return f'<base target="_blank">{text}'


def listed(mails, path, asked):
    """The page that lists the newest mails, or those that have some words in their headers."""
    rows = []
    for when, _, id in mails.newest()[: SEARCHED if asked else SHOWN]:
        try:
            mail = parsed(mails.read(id, HEADERS))
        except FileNotFoundError:  # it was too old
            continue
        said = [header(mail, each) for each in ("Delivered-To", "From", "Subject")]
        if asked.lower() in " ".join(said).lower() and len(rows) < SHOWN:
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when))
            to, sender, subject = (html.escape(each) for each in said)
            link = f'<a href="{path}{quote(id)}">{subject or "(no subject)"}</a>'
            rows.append(f"<tr><td>{moment}</td><td>{to}</td><td>{sender}</td><td>{link}</td></tr>")
    found = "".join(rows) or '<tr><td colspan="4">No mail.</td></tr>'
    return (
        f'<h1>Caught mail</h1><form><input name="words" value="{html.escape(asked)}" placeholder="recipient, sender, subject"> '
        f"<button>Find</button></form><table><tr><th>UTC</th><th>To</th><th>From</th><th>Subject</th></tr>{found}</table>"
    )


def shown(mail, path, id):
    """The page of one mail."""
    at = f"{path}{quote(id)}"
    names = ("Delivered-To", "From", "To", "Cc", "Reply-To", "Date", "Subject")
    rows = "".join(
        f"<tr><th>{name}</th><td>{html.escape(header(mail, name))}</td></tr>"
        for name in names
        if name in mail
    )
    files = "".join(
        f'<li><a href="{at}/{number}">{html.escape(part.get_filename() or part.get_content_type())}</a></li>'
        for number, part in enumerate(parts(mail))
        if part.get_filename() or part.get_content_maintype() != "text"
    )
    page, text = body(mail, "text/html"), body(mail, "text/plain")
    frame = (
        f'<iframe sandbox="allow-popups allow-popups-to-escape-sandbox" src="{at}/html"></iframe>'
        if page
        else ""
    )
    plain = f"<pre>{html.escape(words(text))}</pre>" if text else ""
    return f'<p><a href="{path}">All mail</a> · <a href="{at}/source">source</a></p><table>{rows}</table><ul>{files}</ul>{frame}{plain}'


def answered(mails, path, asked):
    """The body of what was asked for, its type, and more headers. Raises LookupError, ValueError or FileNotFoundError."""
    address = urlsplit(asked)
    if not address.path.startswith(path):
        raise LookupError(asked)
    id, _, part = address.path.removeprefix(path).partition("/")
    if not id:
        return page(listed(mails, path, parse_qs(address.query).get("words", [""])[0]))
    id = unquote(id)
    raw = mails.read(id)
    mail = parsed(raw)
    if not part:
        return page(shown(mail, path, id))
    foreign = {"Content-Security-Policy": FOREIGN}
    if part == "source":
        return raw, "text/plain; charset=utf-8", foreign
    if part == "html":
        found = body(mail, "text/html")
        if found is None:
            raise LookupError(part)
        return pictured(mail, words(found)).encode(), "text/html; charset=utf-8", foreign
    chosen = parts(mail)[int(part)]
    name = quote(re.sub(r"[\x00-\x1f/\\]", "_", chosen.get_filename() or f"part-{part}"))
    saved = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    return chosen.get_payload(decode=True) or b"", "application/octet-stream", foreign | saved


def page(content):
    """A page of our own."""
    whole = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Caught mail</title><style>{STYLE}</style>{content}'
    return whole.encode(errors="replace"), "text/html; charset=utf-8", {"Content-Security-Policy": OWN}


class Request(BaseHTTPRequestHandler):
    """Answers who knows the password."""

    timeout = 30
    server_version, sys_version = "caught_mail", ""

    def do_GET(self):
        """A page, or a part of a mail."""
        if not self.known():
            told = {"WWW-Authenticate": 'Basic realm="caught mail", charset="UTF-8"'}
            self.answer(401, b"User and password: doit secrets show mail\n", "text/plain", told)
            return
        try:
            found = answered(self.server.mails, self.server.path, self.path)
        except (LookupError, ValueError, FileNotFoundError):
            self.answer(404, b"There is no such mail.\n", "text/plain", {})
            return
        self.answer(200, *found)

    def known(self):
        """Whether the browser has sent user and password."""
        kind, _, sent = self.headers.get("Authorization", "").partition(" ")
        try:
            told = base64.b64decode(sent)
        except ValueError:
            return False
        return kind == "Basic" and hmac.compare_digest(told, f"{USER}:{self.server.password}".encode())

    def answer(self, status, content, kind, headers):
        """Send an answer that nobody keeps."""
        self.send_response(status)
        always = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
        told = {"Content-Type": kind, "Content-Length": len(content), "X-Content-Type-Options": "nosniff"}
        for name, value in (always | told | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *arguments):
        """The web server has a log of its own."""


class Server(ThreadingHTTPServer):
    """Shows the mails of a folder."""

    def __init__(self, settings):
        self.mails, self.path, self.password = (
            Mails(settings["folder"]),
            settings["path"],
            settings["password"],
        )
        super().__init__((settings["address"], settings["port"]), Request)


def main(file):
    """Serve, and prune beside it."""
    with open(file) as opened:
        settings = json.load(opened)
    server = Server(settings)

    def prune():
        while True:
            server.mails.prune(settings["days"], settings["megabytes"], time.time())
            time.sleep(PRUNED)

    threading.Thread(target=prune, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
