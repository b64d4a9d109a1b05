"""What a release does on a host: in folders of this machine, with commands that are data, a store and a site that answer as told."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import grp
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import minisign
import pytest

from tasks.digest import Digest
from tasks.release import phases
from tasks.release.ahead import AHEAD, AWAY
from tasks.release.rollback import BACK
from tasks.release.stage import END, PROGRAM, UP
from tasks.server import certificates
from tests.conftest import sampled, until
from tests.tls import context_of, wrap

ALL = (*UP, *END)
NOW = datetime.datetime.now(datetime.UTC)  # OpenSSL looks at the clock
DUE, NOT_DUE = ["sh", "-c", "exit 2"], ["true"]
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
    *is-active*) test ! -e "$LOG.busy" || { rm "$LOG.busy"; exit 1; }; test -e "$LOG.active" || exit 3;;
    "restart fails"|"start php@fails"*) exit 1;;
    "start php@"*) touch "$LOG.units/$2";;
    "stop php@"*) rm -f "$LOG.units/$2";;
    "stop --no-block "*) shift 2; cd "$LOG.units" && rm -f "$@";;
esac
"""
JOURNALCTL = """#!/bin/sh
echo "what $4 has said"
"""
UNIT = {"unit": "php@.service"}
"""Of a release that runs in a unit of its own."""
SYSTEMD_RUN = f"""#!{sys.executable}
import os, subprocess, sys
words = sys.argv[1:]
os.umask(0o022)
while words[0].startswith("--"):
    name, _, value = words.pop(0).partition("=")
    if name == "--working-directory":
        os.chdir(value)
said = [each.replace("$$", "$") for each in words if not each.startswith("$") or each.startswith("$$")]
open("$LOG.active", "x").close()
if os.fork() == 0:
    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    subprocess.run(said)
    os.remove("$LOG.active")
"""
"""As systemd-run: the command goes on where its caller has ended, and a word that begins with $ is the name of a variable."""
MINISIGN = f"""#!{sys.executable}
import sys, minisign
assert sys.argv[1:5] == ["-V", "-q", "-H", "-x"] and sys.argv[6] == "-m" and sys.argv[8] == "-P"
signature = minisign.Signature.from_file(sys.argv[5])
assert signature.is_prehashed()
minisign.PublicKey.from_base64(sys.argv[9]).verify(open(sys.argv[7], "rb"), signature)
"""
"""As minisign, which is on hosts only."""


class Site(http.server.BaseHTTPRequestHandler):
    """The store of tarballs and the web server of the host. `server.says` has the statuses of the next answers; then all is well."""

    def do_GET(self):
        told = self.server.says
        if self.path.startswith("/tarball"):
            status, body = (
                told["tarball"].pop(0) if told["tarball"] else 200,
                self.server.tarball.read_bytes(),
            )
            self.send_response(status if status != 206 else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(
                b"" if status not in (200, 206) else body[: len(body) // 2] if status == 206 else body
            )
            return
        release = (self.server.root / self.server.link).resolve()
        if self.server.in_units and not (self.server.units / f"php@{release.name}.service").exists():
            self.send_error(502)
            return
        health, page = release / "page", release / self.path.partition("?")[0].lstrip("/")
        if not (self.server.tls or self.headers["X-Forwarded-Proto"] == "https"):
            status, body = 308, b"over TLS"
        elif self.headers["Host"] not in self.server.names:
            status, body = 404, b"another site"
        elif self.path == "/health":
            ill = not health.exists() or health.read_text() in ("ill", f"ill as {self.server.link}")
            status, body = (503, b"the database is away") if ill else (200, b"well")
        elif (release / "closed").exists():
            status, body = 503, b"closed"
        else:
            status, body = (200, page.read_bytes()) if page.is_file() else (404, b"<p>not found")
        if self.path == "/page" and told.get("slow"):
            time.sleep(told["slow"].pop())
        self.server.asked.append((self.server.link, self.path))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Nothing is printed."""


class Host:
    """A host's folders, with the means to release to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.log = folder, folder / "shop", folder / "log"
        (self.root / "releases").mkdir(parents=True)
        (self.root / "shared" / "etc").mkdir(parents=True)
        (self.root / "shared" / "etc" / "env").write_text("of the host")
        (self.root / "shared" / "media").mkdir()
        self.units = folder / "log.units"
        self.units.mkdir()
        self.asked: list[tuple[str, str]] = []
        self.user, self.group = getpass.getuser(), grp.getgrgid(os.getegid()).gr_name
        self.knows()
        self.server, self.next = (self.serve(link) for link in ("current", "next"))

    def knows(self, *keys: str, signatures: str = "optional") -> None:
        """The keys of this host, as `server` writes them."""
        (self.root / "release_keys.json").write_text(
            json.dumps({"public_keys": keys, "signatures": signatures})
        )

    def serve(self, link: str) -> http.server.ThreadingHTTPServer:
        """A server for the release that a link names."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
        server.root, server.link, server.asked, server.says = self.root, link, self.asked, {"tarball": []}
        server.units, server.in_units, server.tls = self.units, False, False
        server.names = ["shop.localhost", "de.shop.localhost"]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def tarball(self, **files: str) -> str:
        """Its digest; the store has it from now on."""
        tree = self.folder / "tree"
        phases.remove(tree)
        for name, text in {
            "page": "fine",
            "media/logo": "logo",
            "etc/env": "of the tarball",
            **files,
        }.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        return self.packed()

    def packed(self) -> str:
        """The digest of a tarball of the tree."""
        tree, self.server.tarball = self.folder / "tree", self.folder / "tarball"
        subprocess.run(
            ["tar", "-c", "--mtime=@0", "--zstd", "-f", self.server.tarball, "-C", tree, "."], check=True
        )
        return Digest.of_bytes(self.server.tarball.read_bytes())

    def plan(self, name: str, **more) -> dict:
        digest, profile = self.tarball(**more.pop("files", {})), more.pop("profile", {})
        for each in (self.server, self.next):
            each.in_units = bool(profile.get("unit"))
        return {
            "phases": ALL,
            "path": str(self.root),
            "user": self.user,
            "group": self.group,
            "host_names": ["shop.localhost", "de.shop.localhost"],
            "https": True,
            "certificate": "",
            "ports": {"80": self.server.server_port, "8090": self.next.server_port},
            "id": name,
            "url": f"http://127.0.0.1:{self.server.server_port}/tarball?signature=secret",
            "sha256": str(digest),
            "signature": "",
            "keep": 2,
            "static_hours": 24,
            "job_seconds": 1,
            "hooks": [],
            "commit": "1a2b3c4",
            "environment": "testing",
            "host": "i-1",
            "shared": ["media", "etc/env"],
            "configured": ["etc/env"],
            "scripts": {},
            "migrations": ["*/Setup/*"],
            "profile": {
                "health_path": "/health",
                "after_switch": [],
                "late": [],
                "restart": [],
                "unit": "",
                "maintenance": {"active_file": "closed", "on": ["touch", "closed"], "off": ["rm", "closed"]},
                **profile,
            },
            **more,
        }

    def does(self, name: str, **more) -> dict:
        """Release; what the program answers."""
        return phases.perform(self.plan(name, **more))

    def rollback(self, name: str, undoes: str, **more) -> dict:
        """Go back to a release that is here; what the program answers."""
        marker = self.root / "releases" / name / ".complete"
        said = {"undoes": undoes, "instead": "git revert 1a2b3c4", "phases": BACK, "url": "", **more}
        return self.does(name, **{"sha256": marker.read_text().strip() if marker.exists() else "", **said})

    def state(self) -> dict:
        """Every link and note, and what runs."""
        links = {each: self.linked(each) for each in ("current", "next", "previous")}
        return {**links, "under way": self.under_way(), "closed": self.closed(), "said": self.said()}

    def linked(self, name: str) -> str:
        return (self.root / name).readlink().name if (self.root / name).is_symlink() else ""

    def live(self, name: str, **more) -> dict:
        answer = self.does(name, **more)
        assert answer["failed"] is None, answer
        return answer

    def fails(self, name: str, **more) -> str:
        """What a release that fails says."""
        failed = self.does(name, **more)["failed"]
        return f"{failed['step']}: {failed['reason']} {failed['output'].strip()}; {failed['outcome']}"

    def running(self) -> set[str]:
        """The releases whose units run."""
        return {each.stem.partition("@")[2] for each in self.units.iterdir()}

    @contextlib.contextmanager
    def visited(self):
        """Somebody asks all the time; what was answered."""
        seen, over = set(), threading.Event()
        to = ("shop.localhost", "127.0.0.1", self.server.server_port)

        def visit():
            while not over.is_set():
                try:
                    seen.add(phases.Site(*to, phases.Visitor(https=True)).get("/health"))
                except (OSError, phases.Failure) as problem:
                    seen.add(str(problem))

        visitor = threading.Thread(target=visit)
        visitor.start()
        try:
            yield seen
        finally:
            over.set()
            visitor.join()

    @property
    def current(self) -> str:
        return (self.root / "current").readlink().name

    def closed(self) -> bool:
        return (self.root / "current" / "closed").exists()

    def under_way(self) -> dict:
        path = self.root / "unfinished.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def said(self) -> list[str]:
        """What systemctl was asked."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def told(self) -> list[str]:
        """What systemctl was to change."""
        return [each for each in self.said() if "is-active" not in each]


@pytest.fixture(autouse=True)
def _nothing_before_exec(monkeypatch):
    """A fork of this large process takes longer than most of these tests; what needs one is in a program of its own (`ended`)."""
    monkeypatch.setattr(phases, "end_with_parent", None)


@pytest.fixture
def host(tmp_path, monkeypatch):
    yield from started(Host(tmp_path), monkeypatch)


@pytest.fixture
def guarded(monkeypatch):
    """A host where root releases, and another user runs the application."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are root's alone
        Path(folder).chmod(0o755)
        made = Host(Path(folder))
        made.user, made.group = "nobody", "games"
        for each in ("media", "etc/env"):
            shutil.chown(made.root / "shared" / each, "nobody", "games")
        (made.root / "shared/etc/env").chmod(0o640)
        (made.root / "shared/media").chmod(0o2775)
        yield from started(made, monkeypatch)


def started(made, monkeypatch):
    programs = made.folder / "bin"
    programs.mkdir()
    stand_ins = {
        "systemctl": SYSTEMCTL,
        "systemd-run": SYSTEMD_RUN,
        "minisign": MINISIGN,
        "journalctl": JOURNALCTL,
    }
    for name, text in stand_ins.items():
        # commands get an environment of their own
        (programs / name).write_text(text.replace("$LOG", str(made.log)))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(phases, "FETCH_PAUSE", 0.01)
    monkeypatch.setattr(phases, "CHECK_PAUSE", 0.01)
    monkeypatch.setattr(phases, "AGAIN_PAUSE", 0.01)
    yield made
    made.server.shutdown()
    made.next.shutdown()


def migration(run, due=DUE):
    return {"migration": {"due": due, "due_exit": 2, "run": run}}


def configuration(run, due=DUE):
    return {"configuration": {"due": due, "due_exit": 2, "run": run}}


# --- bring ----------------------------------------------------------------------------------------------


def test_a_release_is_unpacked_linked_marked_live_and_again_changes_nothing(host):
    answer = host.live("one")
    folder = host.root / "releases" / "one"
    assert answer["changed"] is True
    assert (folder / "etc/env").readlink() == host.root / "shared/etc/env"
    assert (folder / "etc/env").read_text() == "of the host"
    assert (host.root / "shared/media/logo").read_text() == "logo"  # the first release's own files
    assert (folder / ".complete").read_text().strip() == Digest.of_bytes(host.server.tarball.read_bytes())
    assert {each.name for each in host.root.iterdir()} == {
        *("current", "next", "release_keys.json", "releases", "shared"),
    }
    again = host.live("one")
    assert (again["changed"], [name for name, _ in again["steps"]]) == (
        False,
        ["Check the release that visitors get"],
    )


def test_a_later_release_brings_no_files_into_the_shared_folder(host):
    host.live("one")
    host.live("two", files={"media/new": "new"})
    assert not (host.root / "shared/media/new").exists()
    assert (host.root / "current/media/logo").read_text() == "logo"


@pytest.mark.parametrize("status", [404, 429, 500, 503, 206])
def test_a_store_that_is_behind_busy_or_breaks_off_is_asked_again(host, status):
    host.server.says["tarball"] = [status, status]
    host.live("one")


@pytest.mark.promise("a-signed-address-is-not-shown")
@pytest.mark.parametrize(("statuses", "left"), [([403], 0), ([503] * 6, 0), ([403, 403], 1)])
def test_a_tarball_that_cannot_be_fetched_is_told_without_its_address(host, statuses, left):
    host.live("old")
    host.server.says["tarball"] = list(statuses)
    said = host.fails("new", sha256="0" * 64)
    assert said.startswith("Fetch the tarball: the tarball 000000000000 could not be fetched: ")
    assert f"(HTTP {statuses[0]})" in said
    assert said.endswith("old runs")
    assert "secret" not in said
    assert not (host.root / "downloads").exists()
    assert len(host.server.says["tarball"]) == left


def test_a_store_that_does_not_answer_is_told(host):
    said = host.fails("new", url="http://127.0.0.1:1/tarball?signature=secret")
    assert "could not be fetched: [Errno 111] Connection refused ; nothing runs" in said


@pytest.mark.promise("wrong-digest-is-removed")
def test_a_tarball_with_another_digest_is_refused_and_removed_and_the_next_one_is_fetched(host):
    host.live("old")
    said = host.fails("new", sha256="0" * 64)
    assert "digest should be 0000" in said
    assert "it was removed" in said
    assert host.current == "old"
    assert not [*host.root.glob("downloads/*")]
    assert not (host.root / "releases/new").exists()
    host.live("new")


@pytest.mark.promise("a-release-fills-no-disk")
def test_a_release_leaves_no_host_without_room(host, monkeypatch):
    host.live("old")
    real = os.statvfs(host.root)

    class Disk:
        f_frsize, f_blocks, f_files = real.f_frsize, real.f_blocks, 1000
        f_bavail, f_favail = (2 << 30) // real.f_frsize - 1, 900

    monkeypatch.setattr(phases.os, "statvfs", lambda path: Disk)
    assert "MB left, of which 2,147 MB are kept free" in host.fails("new")
    Disk.f_bavail, Disk.f_favail = real.f_blocks, 99
    assert "has 99 inodes left, of which 100 are kept free" in host.fails("new")
    assert not (host.root / "releases/new.partial").exists()
    Disk.f_favail = 100
    host.live("new")


@pytest.mark.promise("a-release-fills-no-disk")
def test_a_disk_that_fills_while_a_tarball_is_unpacked_is_empty_again(host, monkeypatch):
    host.live("old")
    looks = iter(range(1000))
    real = phases.HostRelease.refuse_to_fill

    def fills(release, size=0):
        if next(looks) > 1:
            raise phases.Failure("full")
        real(release, size)

    monkeypatch.setattr(phases.HostRelease, "refuse_to_fill", fills)
    assert "Unpack the release: full" in host.fails("new")
    assert {each.name for each in (host.root / "releases").iterdir()} == {"old"}
    assert not (host.root / "downloads").exists()


def test_what_the_system_refuses_is_told_in_its_words(host):
    host.live("old")
    (host.root / "downloads").touch()
    assert "Fetch the tarball: [Errno 17] File exists" in host.fails("new")
    (host.root / "downloads").unlink()
    (host.root / "next").unlink()
    (host.root / "next").mkdir()
    assert host.fails("new").endswith("old runs as before")
    (host.root / "next").rmdir()
    host.live("new")


def test_a_tarball_that_is_none_is_told_as_tar_says_it(host):
    plan = host.plan("new")
    host.server.tarball.write_text("nothing to unpack")
    failed = phases.perform({**plan, "sha256": Digest.of_bytes(b"nothing to unpack")})["failed"]
    assert failed["reason"] == "tar: exit code 2"
    assert "zstd" in failed["output"]
    assert not [*host.root.glob("releases/*")]


@pytest.mark.parametrize(
    ("signed", "refused"),
    [
        ("", "is not signed, and this host takes signed ones only"),
        ("nonsense", "is signed by none of the keys that this host knows; it was removed"),
        ("another", "is signed by none of the keys that this host knows; it was removed"),
        ("other content", "is signed by none of the keys that this host knows; it was removed"),
        ("known", None),
    ],
)
def test_a_tarball_must_be_signed_by_a_known_key_where_that_is_required(host, signed, refused):
    known, another = minisign.KeyPair.generate(), minisign.KeyPair.generate()
    digest = host.tarball()
    content = host.server.tarball.read_bytes()
    signature = {
        "": lambda: "",
        "nonsense": lambda: "nonsense",
        "another": lambda: bytes(another.secret_key.sign(content)).decode(),
        "other content": lambda: bytes(known.secret_key.sign(b"other")).decode(),
        "known": lambda: bytes(known.secret_key.sign(content)).decode(),
    }[signed]()
    keys = [each.public_key.to_base64().decode() for each in (minisign.KeyPair.generate(), known)]
    host.knows(*keys, signatures="required")
    plan = {"signature": signature}
    if refused is None:
        host.live("new", **plan)
        return
    assert refused in host.fails("new", **plan)
    assert not (host.root / "releases/new").exists()
    if signed:
        assert not (host.root / f"downloads/{digest}.tarball").exists()


def sign(host, pair):
    """A signature of the tarball that the store has."""
    return bytes(pair.secret_key.sign(host.server.tarball.read_bytes())).decode()


def test_a_host_without_keys_takes_nothing(host):
    host.live("old")
    keys = host.root / "release_keys.json"
    for change in (keys.unlink, partial(keys.write_text, "{")):
        change()
        said = host.fails("new")
        assert "release_keys.json is missing or broken" in said
        assert "doit server" in said


def empty(path):
    """As after a crash."""
    at = path.stat().st_mtime_ns
    os.truncate(path, 0)
    os.utime(path, ns=(at, at))


def fetched_again(host, **more):
    """Whether a release that is here was fetched again, and what was told."""
    answer = host.live("one", **more)
    return "Fetch the tarball" in [name for name, _ in answer["steps"]], answer["notes"]


@pytest.mark.promise("verified-again-before-the-switch")
@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "lib/code").write_text("b"),
        lambda folder: empty(folder / "lib/code"),
        lambda folder: os.utime(folder / "lib/code", (1, 1)),
        lambda folder: (folder / "lib/code").chmod(0o4755),
        lambda folder: shutil.chown(folder / "lib", "nobody"),
        lambda folder: (folder / "lib/more").touch(),
        lambda folder: (folder / "lib/code").unlink(),
        lambda folder: phases.relink(folder / "etc/env", "elsewhere"),
        lambda folder: (folder / ".verified").unlink(),
        lambda folder: (folder / ".verified").write_text('{"sha256": "", "signer": ""}'),
    ],
)
def test_a_release_that_is_here_and_is_not_what_was_unpacked_is_fetched_again(host, change):
    code = {"files": {"lib/code": "a"}, "profile": {"writable": ["var"]}}
    host.live("one", **code)
    host.live("two")
    (host.root / "releases/one/var/written").touch()  # as it may
    assert fetched_again(host, **code) == (False, [])
    host.live("two")
    change(host.root / "releases/one")
    again, (note,) = fetched_again(host, **code)
    assert (again, note.startswith("one was here, and is fetched again: it")) == (True, True), note
    assert (host.root / "current/lib/code").read_text() == "a"


LINK, SAME, FOLDER = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
MEMBERS = [
    [("bin/up", LINK, "../lib/code"), ("bin/away", LINK, "/etc/passwd"), ("empty", "", ""), ("lib/code", "", "a")],
    [("lib/code", "", "a"), ("lib/same", SAME, "lib/code"), ("twice", "", "a"), ("twice", "", "bc")],
    [("var/log/old", "", "a"), ("var/more", "", "a"), ("media/deep/logo", "", "a"), (".verified", "", "mine")],
    [("shut", FOLDER, "500"), ("shut/in", FOLDER, "700"), ("shut/in/file", "", "a"), ("shuttle", "", "a"), ("shut/on", "", "a")],
    [("one", FOLDER, "700"), ("two", FOLDER, "711"), ("one/file", "", "a"), ("two/file", "", "a"), ("one", FOLDER, "500")],
    [("late/in/file", "", "a"), ("late", FOLDER, "700"), ("end", "", "a"), ("late/in", FOLDER, "711"), ("var/x", FOLDER, "700")],
    [("real/file", "", "a"), ("link", LINK, "real"), ("link/more", "", "a")],
    *([(name, "", "a")] for name in ("a b", "gr\u00fcn", "line\nbreak", "back\\slash", "./dot", "two//a", "/root")),
]  # fmt: skip


@pytest.mark.promise("verified-again-before-the-switch")
@pytest.mark.parametrize("members", MEMBERS, ids=lambda members: members[0][0])
def test_whatever_a_tarball_has_is_known_again(host, members):
    plan = host.plan("one", profile={"writable": ["var"]}, shared=["media", "etc/env", "var/log"])
    with tarfile.open(host.folder / "plain", "w") as archive:
        for name, kind, text in [("page", "", "fine"), *members]:
            member = tarfile.TarInfo(name)
            if kind == FOLDER:
                member.type, member.mode = kind, int(text, 8)
            elif kind:
                member.type, member.linkname = kind, text
            else:
                member.size = len(text)
            archive.addfile(member, None if kind else io.BytesIO(text.encode()))
    subprocess.run(["zstd", "-qf", host.folder / "plain", "-o", host.server.tarball], check=True)
    plan["sha256"] = str(Digest.of_bytes(host.server.tarball.read_bytes()))
    assert phases.perform(plan)["failed"] is None
    host.live("two")
    again = phases.perform({**plan, "url": ""})
    assert (again["failed"], again["notes"]) == (None, [])


def test_a_folder_has_the_rights_that_tar_gives_it_when_it_leaves_it(tmp_path):
    def tar_says():
        yield "shut/"
        (tmp_path / "shut").mkdir(0o755)
        yield "shut/file"
        (tmp_path / "shut/file").write_text("a")
        yield "shuttle"
        (tmp_path / "shut").chmod(0o500)
        (tmp_path / "shuttle").write_text("a")

    unpacked = phases.Unpacked(tmp_path, tar_says())
    unpacked.run()
    found = sorted(phases.looked_at(tmp_path, each) for each in phases.names_in(tmp_path, ()))
    assert (unpacked.odd, sorted(unpacked.lines((), ()))) == (False, found)


@pytest.mark.promise("verified-again-before-the-switch")
def test_a_release_whose_key_is_not_known_any_more_does_not_go_live_again(host):
    old, new = minisign.KeyPair.generate(), minisign.KeyPair.generate()
    known = [each.public_key.to_base64().decode() for each in (old, new)]
    host.knows(*known, signatures="required")
    host.plan("one")
    signature = sign(host, old)
    host.live("one", signature=signature)
    host.live("two", signature=signature)
    assert fetched_again(host, signature=signature) == (False, [])
    host.live("two", signature=signature)
    host.knows(known[1], signatures="required")
    assert "is signed by none of the keys that this host knows" in host.fails("one", signature=signature)
    assert host.current == "two"
    assert fetched_again(host, signature=sign(host, new))[0] is True
    host.knows(signatures="required")
    assert "not signed" in host.fails("two", signature="")


def test_a_release_of_another_tarball_of_the_same_name_is_fetched_again(host):
    host.live("one")
    host.live("two")
    assert fetched_again(host, files={"page": "fine, too"})[0] is True


# --- whose it is -----------------------------------------------------------------------------------------


def as_user(host, *command, name="nobody", group="nogroup"):
    """What a command of that user prints."""
    user = ["setpriv", f"--reuid={name}", f"--regid={group}", "--clear-groups", *command]
    return subprocess.run(user, capture_output=True, text=True, cwd=host.root, check=True).stdout.split()


@pytest.mark.promise("code-is-root-s")
def test_code_is_root_s_and_the_application_writes_where_its_profile_says(guarded):
    guarded.tarball()
    tree = guarded.folder / "tree"
    files = {"bin/run": "run", "var/kept/file": "x", "media/sub/icon": "i"}
    plan = guarded.plan("one", files=files, profile={"writable": ["var"]})
    (tree / "bin/run").chmod(0o6777)
    (tree / "bin").chmod(0o2777)
    shutil.chown(tree / "bin/run", "nobody")
    done = phases.perform({**plan, "sha256": guarded.packed()})
    assert done["failed"] is None, done
    folder = guarded.root / "releases/one"
    told = subprocess.run(
        ["find", str(folder), "-perm", "/7000", "-o", "-not", "-user", "0"], capture_output=True, text=True
    )
    var = {str(folder / each) for each in ("var", "var/kept", "var/kept/file")}
    assert set(told.stdout.split()) == var
    assert set(as_user(guarded, "find", str(folder), "-writable", "-not", "-type", "l")) == var
    assert (folder / "bin/run").stat().st_mode & 0o7777 == 0o755
    page = partial(as_user, guarded, name="games", group="games")  # who answers visitors
    assert set(page("find", str(folder), "-writable", "-not", "-type", "l")) == var
    media = guarded.root / "shared/media"  # with the first release's own files
    files = {media, *(media / each for each in ("logo", "sub", "sub/icon"))}
    assert {each.owner() for each in files} == {"nobody"}
    assert set(page("find", str(media), "-writable")) == set(map(str, files))
    page("sh", "-c", f"touch {media}/sub/other")
    assert (media / "sub/other").group() == "games"


@pytest.mark.promise("both-replace-what-the-other-makes")
def test_what_a_migration_writes_pages_may_read_and_change(guarded):
    writes = ["sh", "-ec", "mkdir var/made && echo x > var/made/file && stat -c '%a %U %G' etc/env > var/env"]
    guarded.live("one", profile={**migration(writes), "writable": ["var"], "maintenance": None})
    made = guarded.root / "releases/one/var/made"
    page = partial(as_user, guarded, name="games", group="games")
    page("sh", "-ec", f"cd {made}; echo page >> file; mv file other")
    assert as_user(guarded, "sh", "-ec", f"cd {made}; cat other; rm other") == ["x", "page"]
    # the copy of the configuration, while it is lent
    assert (made.parent / "env").read_text() == "640 nobody games\n"


def test_no_link_of_the_tarball_leads_root_to_what_is_not_the_release_s(guarded):
    outside = guarded.folder / "outside"
    outside.mkdir()
    for name, profile in (("etc", {}), ("var", {"writable": ["var/cache"]}), ("var", {"writable": ["var"]})):
        plan = guarded.plan("one", files={"var/file": "x"}, profile=profile)
        phases.remove(guarded.folder / "tree" / name)
        (guarded.folder / "tree" / name).symlink_to(outside)
        failed = phases.perform({**plan, "sha256": guarded.packed()})["failed"]
        assert "is a link, or behind one" in failed["reason"], failed
        assert (list(outside.iterdir()), outside.owner()) == ([], "root")
        assert not [*guarded.root.glob("releases/*/.complete")]


WRITES = ["sh", "-ec", "id -un; echo mine > etc/config; touch etc/new; cat etc/env; echo more >> etc/env"]


@pytest.mark.promise("a-command-writes-into-a-copy")
@pytest.mark.parametrize("lent", [["etc"], []])
def test_what_changes_data_writes_into_copies_and_none_of_it_stays(guarded, lent):
    files = {"etc/config": "released"}
    command = WRITES if lent else ["sh", "-ec", "echo more >> etc/env"]
    profile = {**migration(command), "lent": lent, "maintenance": None}
    guarded.live("one", files=files, profile=profile)
    folder = guarded.root / "releases/one"
    assert {each.name for each in (folder / "etc").iterdir()} == {"config", "env"}
    assert ((folder / "etc/config").read_text(), (folder / "etc").owner()) == ("released", "root")
    assert (folder / "etc/env").readlink() == guarded.root / "shared/etc/env"
    assert (guarded.root / "shared/etc/env").read_text() == "of the host"
    assert not [*guarded.root.glob("lent*")]
    said = guarded.fails("two", files=files, profile={**profile, **migration(WRITES), "lent": []})
    assert "etc/config: Permission denied" in said


def test_an_installation_writes_into_copies_and_its_own_configuration(guarded):
    scripts = {
        **SCRIPTS,
        "/p/due.j2": "test -e var/installed || exit 4",
        "/p/run.j2": "test ! -e etc/env && echo mine > etc/env && touch pub/made var/installed",
        "/p/then.j2": "test -L etc/env && test ! -e pub/made && test -e var/installed",
    }
    profile = {"install": {**INSTALL, "lent": ["etc", "pub"]}, "writable": ["var"]}
    guarded.live("one", files={"pub/index": "page"}, profile=profile, scripts=scripts)
    assert (guarded.root / "current/pub").owner() == "root"


# --- static files ---------------------------------------------------------------------------------------

STATIC = {"static": {"folder": "pub/static", "version": "pub/static/version.txt"}}


def styled(version, text, **more):
    """A release with static files of a version, and how it is told."""
    files = {"pub/static/version.txt": f"{version}\n", "pub/static/css/page.css": text}
    return {"files": files, "profile": STATIC, **more}


def kept(host):
    """The style sheets that are kept, by version."""
    found = host.root.glob("static/*/css/page.css")
    return {each.parents[1].name: each.read_text() for each in found}


@pytest.mark.promise("a-page-s-own-static-files")
def test_static_files_are_kept_by_version_before_the_release_is_checked(host):
    host.live("one", **styled("v1", "red"))
    answer = host.live("two", **styled("v2", "blue"))
    assert kept(host) == {"v1": "red", "v2": "blue"}
    steps = [name for name, _ in answer["steps"]]
    assert steps.index("Keep static files by their version") < steps.index("Check what is due")
    own, other = (host.root / each / "css/page.css" for each in ("static/v2", "current/pub/static"))
    assert own.samefile(other)  # no room is taken
    again = host.live("two", **styled("v2", "blue"))
    assert again["changed"] is False


@pytest.mark.promise("a-page-s-own-static-files")
def test_a_version_is_what_it_was_first_whatever_comes_later(host):
    host.live("one", **styled("v1", "red"))
    host.live("two", **styled("v1", "blue"))
    assert kept(host) == {"v1": "red"}


def test_static_files_of_what_an_older_pipeline_has_released_are_kept_too(host):
    host.live("old", **styled("v1", "red", profile={}))
    assert not (host.root / "static").exists()
    (host.root / "static.partial").mkdir()  # of a run that was killed
    host.live("new", **styled("v2", "blue"))
    assert kept(host) == {"v1": "red", "v2": "blue"}
    assert not (host.root / "static.partial").exists()


@pytest.mark.promise("static-files-go-in-time")
def test_static_files_stay_for_some_hours_after_their_release_was_live_and_as_long_as_it_is_here(host):
    def aged(version, hours):
        at = time.time() - hours * 3600
        os.utime(host.root / "static" / version, (at, at))

    def live(name, version, keep=1):
        host.live(name, **styled(version, "red", keep=keep))
        return set(kept(host))

    live("one", "v1")
    live("two", "v2")
    aged("v1", 1000)
    assert live("two again", "v2", keep=3) == {"v1", "v2"}  # `one` is here
    assert live("three", "v3") == {"v2", "v3"}
    aged("v3", 1000)
    live("four", "v4")
    assert "v3" in live("five", "v5")  # pages of `three` were made until `four`
    aged("v3", 23)
    assert "v3" in live("six", "v6")
    aged("v3", 25)
    assert "v3" not in live("seven", "v7")


@pytest.mark.parametrize("version", ["../shared", "..", ".v", "", "a/b", "a b", "x" + chr(0xFC)])
def test_what_is_no_name_of_a_folder_is_no_version(host, version):
    host.live("one", **styled(version, "red"))
    assert not (host.root / "static").exists()


@pytest.mark.parametrize("name", ["pub/static", "pub"])
def test_a_link_of_the_tarball_leads_to_no_files_outside(host, name):
    plan = host.plan("one", **styled("v1", "red"))
    outside, link = host.folder / "outside", host.folder / "tree" / name
    link.rename(outside)
    link.symlink_to(outside)
    said = phases.perform({**plan, "sha256": host.packed()})["failed"]
    assert said["reason"] == "pub/static/version.txt of the release one is a link, or behind one"
    assert not (host.root / "static").exists()


# --- live -----------------------------------------------------------------------------------------------


def test_what_is_ill_is_seen_before_visitors_see_it(host):
    host.live("old")
    host.asked.clear()
    assert host.fails("new", files={"page": "ill"}) == (
        "Check the release where nobody sees it: shop.localhost/health answers 503, not 200 the database is away; old runs as before"
    )
    assert (host.current, host.under_way()) == ("old", {})
    assert set(host.asked) == {("next", "/health")}
    assert len(host.asked) == phases.CHECKS


@pytest.mark.promise("unhealthy-goes-back")
def test_what_is_ill_where_visitors_are_goes_back(host):
    host.live("old")
    host.asked.clear()
    said = host.fails("new", files={"page": "ill as current"})
    assert said.startswith(
        "Check the release that visitors get: shop.localhost/health answers 503, not 200 the database is away"
    )
    assert said.endswith("went back to old")
    assert (host.current, host.under_way()) == ("old", {})
    assert host.asked.count(("current", "/health")) == phases.AGAIN
    assert host.fails("new", files={"page": "ill as current"}).endswith(
        "went back to old"
    )  # it is complete by now


FRONT = """<html><link rel="stylesheet" href="/style.css?v=1"><link rel="canonical" href="/nowhere"><script src="lib/a.js"></script>
<img src="http://shop.localhost/logo%20a.png"><img src="https://elsewhere.example/x.png"><img src="data:image/gif;base64,x"></html>"""


@pytest.mark.promise("pages-are-checked-before-visitors-get-them")
@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("index", "shop.localhost/index answers 404, not 200"),
        ("style.css", "shop.localhost/index names /style.css?v=1, which answers 404, not 200"),
        ("lib/a.js", "shop.localhost/index names /lib/a.js, which answers 404, not 200"),
        ("logo%20a.png", "shop.localhost/index names /logo%20a.png, which answers 404, not 200"),
        ("", ""),
    ],
)
def test_the_pages_of_the_profile_and_what_they_name_are_there_before_visitors_get_them(host, lacks, said):
    host.live("old")
    files = {"index": FRONT, "style.css": "a", "lib/a.js": "b", "logo%20a.png": "c"}
    files.pop(lacks, None)
    how = {"files": files, "profile": {"pages": ["/index"]}}
    if not lacks:
        host.live("new", **how)
        assert {link for link, path in host.asked if path == "/lib/a.js"} == {"next", "current"}
        return
    assert host.fails("new", **how).startswith(f"Check the release where nobody sees it: {said}")
    assert ("current", "/index") not in host.asked


@pytest.mark.promise("pages-are-checked-before-visitors-get-them")
@pytest.mark.parametrize(
    ("page", "name", "asked"),
    [
        ("/page", "/logo?n=gr\u00f6\u00dfe", "/logo?n=gr%C3%B6%C3%9Fe"),
        ("/page", "/logo?n=a b", "/logo?n=a%20b"),
        ("/page", "/logo?n=%c3%b6&amp;a[]=1+2", "/logo?n=%c3%b6&a[]=1+2"),
        ("/page?of=\u00f6 x", "logo?n=\u2028|", "/logo?n=%E2%80%A8%7C"),
    ],
)
def test_an_address_is_asked_for_as_a_browser_does(host, page, name, asked):
    host.live("old")
    host.live("new", files={"page": f'<img src="{name}">', "logo": "x"}, profile={"pages": [page]})
    assert {("next", asked), ("current", asked)} <= set(host.asked)


@pytest.mark.promise("pages-are-checked-before-visitors-get-them")
def test_each_host_name_of_the_site_is_asked(host):
    host.live("old")
    host.next.names = ["shop.localhost"]
    assert "sees it: de.shop.localhost/health answers 404, not 200" in host.fails("new")


@pytest.mark.promise("urls-are-https")
def test_after_the_switch_it_is_asked_over_tls_and_shows_the_certificate_that_the_host_was_given(host):
    authority = certificates.make_authority("shop", "shop.localhost", NOW)
    given, another = (
        certificates.issue(authority, names, NOW)
        for names in (["shop.localhost", "de.shop.localhost"], ["shop.localhost"])
    )
    file = host.folder / "site.pem"
    file.write_text(given)
    for shown, says in ((given, ""), (another, "certificate")):
        front = host.serve("current")
        front.tls = True
        wrap(front, context_of(shown))
        ports = {"443": front.server_port, "8090": host.next.server_port}
        plan = {"certificate": str(file), "ports": ports, "files": {"page": f"new {says}"}}
        if not says:
            host.live("new", **plan)
            assert ("current", "/health") in host.asked
            continue
        assert "the web server does not answer: [SSL: CERTIFICATE_VERIFY_FAILED]" in host.fails("two", **plan)
        file.write_text(another)  # given to it, but without a name of the site
        assert "Hostname mismatch" in host.fails("three", **plan)


def test_where_nobody_listens_for_the_next_release_it_is_checked_after_the_switch(host):
    host.live("old")
    plan = {"ports": {"80": host.server.server_port, "8090": 1}}
    answer = host.live("new", **plan)
    assert answer["notes"] == [
        "nothing listens on 127.0.0.1:8090: the release is checked after the switch only"
    ]
    assert host.fails("sick", files={"page": "ill"}, **plan).endswith("went back to new")


@pytest.mark.promise("unhealthy-goes-back")
def test_the_first_release_that_is_ill_has_nothing_to_go_back_to_and_is_no_live_one(host):
    told = {"profile": {**UNIT, "restart": ["workers.target"]}, "files": {"page": "ill as current"}}
    assert host.fails("first", **told).endswith("; nothing runs: there is no previous release to go back to")
    assert (host.linked("current"), host.running(), host.under_way()) == ("", set(), {})
    assert host.said()[-1] == "stop workers.target"


def test_a_first_release_that_has_failed_is_released_from_the_start_by_the_next_one(host):
    seen = host.folder / "seen"
    profile = {"after_switch": [["sh", "-c", f"echo switch >> {seen}"]], "late": [["touch", "../../late"]]}
    host.fails("first", profile=profile, hooks=[hook("before-open", "exit 3")])
    host.live("first", profile=profile, hooks=[hook("before-open", f"echo hook >> {seen}")])
    assert (host.current, seen.read_text().split()) == ("first", ["switch", "switch", "hook"])
    assert (host.root / "late").exists()
    plan = host.plan("first", phases=["undo"])  # another host has failed
    assert phases.perform(plan)["failed"]["outcome"] == "first runs as before"


def test_a_new_host_serves_nothing_where_another_one_has_failed(host):
    plan = host.plan("new")
    assert phases.perform({**plan, "phases": UP})["failed"] is None
    said = phases.perform({**plan, "phases": ["undo"]})["failed"]["outcome"]
    assert (said, host.linked("current")) == (
        "nothing runs: there is no previous release to go back to",
        "",
    )


def test_the_only_release_stays_where_it_is_gone_back_to_and_falls_ill(host):
    host.live("only")
    killed(host.plan("new"), "Check the release where nobody sees it")
    said = host.fails("only", profile={"after_switch": [["false"]]})
    assert (said.rpartition("; ")[2], host.current) == (
        "only runs: there is no previous release to go back to",
        "only",
    )


def test_a_migration_closes_the_site_stops_workers_and_opens_it_again(host):
    host.live("old")
    look = ["sh", "-c", "$nothing; test ! -e closed && test -e ../old/closed && pwd > ../../migrated"]
    answer = host.live("new", profile={**migration(look), "restart": ["workers.target"]})
    assert (host.root / "migrated").read_text().strip() == str(host.root / "releases/new")
    assert [name for name, _ in answer["steps"]][4:] == [
        "Check what is due",
        "Switch maintenance on",
        "Wait for the jobs of cron that still run",
        "Change the data with the new code",
        "Check the release where nobody sees it",
        "Switch to the new release",
        "Check the release that visitors get",
        "Switch maintenance off",
        "Restart the units that run the release's code",
        "Remove the oldest releases",
    ]
    assert host.told() == [
        "stop workers.target",
        "restart workers.target",
    ]
    assert not [*host.root.glob("releases/*/closed")]
    assert host.under_way() == {}


@pytest.mark.promise("a-migration-that-is-not-due-is-not-run")
def test_what_is_not_due_is_not_done_and_closes_nothing(host):
    host.live("old", profile={"restart": ["workers.target"]})
    fails = ["false"]
    host.live(
        "new",
        profile={**migration(fails, NOT_DUE), **configuration(fails, NOT_DUE), "restart": ["workers.target"]},
    )
    assert host.said() == ["restart workers.target"] * 2


BROKEN = ["sh", "-c", "echo the table is locked >&2; exit 1"]


@pytest.mark.promise("failed-migration-stays-in-maintenance", "only-code-goes-back")
def test_a_broken_migration_keeps_the_site_closed_until_a_release_succeeds(host):
    host.live("old")
    broken = {**migration(BROKEN), "restart": ["workers.target"]}
    said = host.fails("new", profile=broken)
    assert "Change the data with the new code: sh -c" in said
    assert said.endswith(
        "the table is locked; a migration was begun, so the site stays in maintenance until a release succeeds"
    )
    assert (host.current, host.closed()) == ("old", True)
    assert "restart workers.target" not in host.said()
    assert (host.root / "releases/new/etc/env").is_symlink()
    (host.root / "releases/new/etc/env").unlink()
    (host.root / "releases/new/etc/env").write_text("a copy that a killed run has left")
    linked = configuration(["true"], due=["test", "-L", "etc/env"])
    answer = host.live("new", profile={**linked, "restart": ["workers.target"]})
    assert "Wait for the jobs of cron that still run" in [name for name, _ in answer["steps"]]
    assert (host.current, host.closed()) == ("new", False)
    assert host.said()[-1] == "restart workers.target"


@pytest.mark.promise("only-code-goes-back")
def test_what_is_ill_after_a_migration_does_not_go_back(host):
    host.live("old")
    said = host.fails("new", files={"page": "ill as current"}, profile=migration(NOT_DUE))
    assert said.endswith("the site stays in maintenance until a release succeeds")
    assert (host.current, host.closed()) == ("new", True)
    host.live("newer")
    assert not [*host.root.glob("releases/*/closed")]


PAGES = {"pages": ["/page"]}


@pytest.mark.parametrize("then", ["old", "new"])
def test_a_site_that_a_migration_has_closed_is_opened_by_the_code_that_shows_the_maintenance_page(host, then):
    host.live("old", profile=PAGES)
    run, switched = (BROKEN, []) if then == "old" else (NOT_DUE, [["false"]])
    host.fails("new", profile={**migration(run), **PAGES, "after_switch": switched})
    assert (host.current, host.closed()) == (then, True)
    # its database is restored, or the cause is mended
    host.live(then, profile={**migration(BROKEN, NOT_DUE), **PAGES})
    assert (host.current, host.closed(), host.under_way()) == (then, False, {})
    assert not [*host.root.glob("releases/*/closed")]


def test_what_a_migration_has_closed_opens_after_the_checks_and_not_with_the_switch(host):
    host.live("old")
    look = "test -e $RELEASE_PATH/current/closed && echo $RELEASE_PHASE closed || echo $RELEASE_PHASE open"
    seen = host.folder / "seen"
    hooks = [
        hook(f"{when}-{phase}", f"({look}) >> {seen}")
        for when, phase in (("before", "live"), ("after", "live"), ("before", "open"), ("after", "open"))
    ]
    switched = [["sh", "-c", f"test -e {host.root}/current/closed && echo switched closed >> {seen}"]]
    host.asked.clear()
    profile = {**migration(["true"]), **PAGES, "after_switch": switched}
    assert host.live("new", hooks=hooks, profile=profile)["downtime"] > 0
    assert seen.read_text().splitlines() == [
        "live open",
        "switched closed",
        "live closed",
        "open closed",
        "open open",
    ]
    asked = [link for link, path in host.asked if path == "/page"]
    assert asked == ["next", "next"]  # by both names, where nobody sees it


def copying(host, script="echo of $(cat ../../data); test ! -e closed"):
    """A command that copies the database, run where nothing is closed."""
    (host.root / "data").write_text("before")
    return {"copy": ["sh", "-c", f"cd {host.root}/current; {script}", "copies"]}


@pytest.mark.promise("a-migration-is-preceded-by-a-copy")
def test_the_database_is_copied_before_the_site_closes_and_kept_until_the_next_release(host):
    host.live("old")
    host.live("new", profile={**migration(["true"]), **copying(host)})
    copy = host.root / "copies/new.sql.zst"
    assert (copy.read_text(), oct(copy.stat().st_mode)) == ("of before\n", "0o100600")
    assert oct(copy.parent.stat().st_mode) == "0o40700"
    assert host.live("new")["failed"] is None
    host.fails("sick", files={"page": "ill"})
    assert copy.exists()
    host.live("newer", profile={**migration(["true"], NOT_DUE), **copying(host, "exit 1")})
    assert not [*host.root.glob("copies/*")]


@pytest.mark.promise("a-migration-is-preceded-by-a-copy")
@pytest.mark.parametrize("more", [{}, {"maintenance": None}])
def test_where_a_migration_fails_the_copy_from_before_it_stays_whatever_fails_then(host, more):
    host.live("old")
    copies = {**copying(host), **more}
    breaks = migration(["sh", "-c", "echo half > ../../data; exit 1"])
    said = host.fails("new", profile={**breaks, **copies})
    command = f"copies restore {host.root}/copies/new.sql.zst"
    assert said.endswith(command)
    assert " UTC comes back, and that of now is kept aside, with: doit ssh sudo sh -c" in said
    assert host.fails("newer", profile={**breaks, **copies}).endswith(command)
    assert [each.read_text() for each in host.root.glob("copies/*")] == ["of before\n"]
    host.live("newest")
    assert [each.name for each in host.root.glob("copies/*")] == ["new.sql.zst"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo half; echo the table is locked >&2; exit 1", "the table is locked"),
        ("sh -c 'head --bytes=99M /dev/zero; sleep 120; true'; true", "are kept free"),
    ],
)
def test_without_a_whole_copy_nothing_is_closed_nor_migrated(host, script, said, monkeypatch):
    host.live("old")
    free, part = os.statvfs(host.root), host.root / "copies/partial"

    def looked_at(path):
        full = part.exists() and part.stat().st_size > 1 << 20
        return free if not full else os.statvfs_result([*free[:4], 0, *free[5:]])

    monkeypatch.setattr(phases.os, "statvfs", looked_at)
    told = host.fails("new", profile={**migration(["touch", "../../migrated"]), **copying(host, script)})
    assert told.startswith("Copy the database: ")
    assert said in told
    assert told.endswith("old runs as before")
    until(lambda: not phases.in_use(host.root))  # what it had started neither
    assert (host.closed(), [*host.root.glob("copies/*")], (host.root / "migrated").exists()) == (
        False,
        [],
        False,
    )


def opened(host, **more):
    """`new` has migrated and was opened, and nobody has settled it; the profile of its migration, which is not due any more."""
    host.live("old")
    done = host.folder / "done"
    work = migration(["touch", str(done)], due=["sh", "-c", f"test -e {done} || exit 2"])
    profile = {**work, **copying(host, "echo of $(cat ../../data)"), "restart": ["workers.target"]}
    answer = host.does("new", phases=UP, profile={**profile, **more})
    assert (answer["failed"], answer["migrated"], host.closed()) == (None, True, False)
    (host.root / "data").write_text("orders")  # by visitors
    host.log.unlink()
    return profile


@pytest.mark.promise("only-code-goes-back")
def test_what_was_opened_and_never_settled_is_what_the_next_release_goes_back_to_open(host):
    profile = opened(host)
    refused = host.fails("newer", profile=profile, hooks=[hook("before-live", "exit 3")])
    assert refused.endswith("; data was migrated, so the site runs new")
    assert host.fails("sick", files={"page": "ill"}, profile=profile).endswith("; new runs as before")
    assert (host.closed(), host.under_way(), host.told()) == (False, {}, ["restart workers.target"])
    assert (host.root / "copies/new.sql.zst").exists()
    host.live("newer", profile=profile)
    assert (host.current, host.linked("previous")) == ("newer", "new")


@pytest.mark.promise("only-code-goes-back")
def test_a_release_after_one_that_was_opened_goes_back_to_that(host):
    profile = opened(host)
    said = host.fails("sick", files={"page": "ill as current"}, profile=profile)
    assert (said.rpartition("; ")[2], host.current) == ("went back to new", "new")


@pytest.mark.parametrize("more", [{}, {"online": "online", **migration(["true"])}])
def test_a_release_after_one_that_was_opened_tells_of_its_migration(host, more):
    answer = host.live("newer", files=declaring("1"), profile={**opened(host), **more})
    assert (answer["migrated"], answer["online"], answer["downtime"]) == (True, False, 0)


@pytest.mark.promise("a-migration-is-preceded-by-a-copy")
@pytest.mark.parametrize("name", ["new", "newer"])
def test_a_migration_after_one_that_was_opened_has_a_copy_of_its_own_and_bars_the_way_back(host, name):
    profile = opened(host)
    today = datetime.datetime.now(datetime.UTC).date()
    said = host.fails(name, profile={**profile, **migration(["false"])})
    assert f"; the database of {today} " in said
    assert said.endswith(f"copies/{name}.sql.zst")
    assert (host.root / f"copies/{name}.sql.zst").read_text() == "of orders\n"
    assert (host.current, host.closed()) == ("new", True)


@pytest.mark.promise("only-code-goes-back")
def test_the_same_release_again_after_it_was_opened_closes_nothing_and_does_not_go_back(host):
    profile = opened(host)
    page = host.root / "current/page"
    page.write_text("ill")
    told = "; data was migrated, so the site runs new"
    assert host.fails("new", profile=profile).endswith(told)
    assert (host.current, host.closed(), host.told()) == ("new", False, [])
    page.write_text("fine")
    # its own migration is due again, but a job does not end
    with phases.alone(host.root / "releases"):  # as a job's lock
        said = host.fails("new", profile={**profile, **migration(["false"])})
    assert said.startswith("Wait for the jobs of cron that still run: ")
    assert said.endswith(told)
    assert (host.closed(), host.told()) == (False, ["stop workers.target", "restart workers.target"])
    answer = host.live("new", profile=profile)
    assert (answer["migrated"], answer["online"], answer["downtime"]) == (True, False, 0)
    assert (host.linked("previous"), host.under_way()) == ("old", {})


@pytest.mark.promise("maintenance-by-hand-stays")
@pytest.mark.parametrize("name", ["new", "newer"])
def test_what_was_opened_and_then_closed_by_hand_stays_closed(host, name):
    profile = opened(host)
    (host.root / "current/closed").touch()
    host.live(name, profile=profile)
    assert (host.current, host.closed()) == (name, True)


def test_what_was_opened_and_then_closed_for_another_migration_opens_again(host):
    profile = opened(host)
    again = host.plan("new", profile={**profile, **migration(["false"])})
    killed(again, "Wait for the jobs of cron that still run")
    assert host.closed()
    host.live("new", profile=profile)
    assert (host.current, host.closed(), host.under_way()) == ("new", False, {})


def test_what_was_installed_and_opened_is_not_installed_again(host):
    told = {"profile": {"install": INSTALL}, "scripts": SCRIPTS}
    host.does("one", phases=UP, **told)
    host.live("one", **told)
    assert (host.root / "installed").read_text() == "then\n"


# --- migrations that need no maintenance ----------------------------------------------------------------


def declaring(*migrations: str) -> dict[str, str]:
    """Files of a release with migrations, each of which it declares."""
    files = {f"code/Setup/{each}": f"adds {each}" for each in migrations}
    lines = [f"{Digest.of_bytes(text.encode())}  {name}\n" for name, text in files.items()]
    return {**files, "online": "".join(lines)}


LOOKS = ["sh", "-c", "test ! -e ../old/closed && echo migrated >> ../../migrated"]
ONLINE = {**migration(LOOKS), "online": "online", "restart": ["workers.target"]}


@pytest.mark.promise("an-online-migration-closes-nothing")
def test_a_migration_that_is_declared_online_closes_nothing_and_stops_nothing(host):
    host.live("old", files=declaring("1"))
    with host.visited() as seen:
        answer = host.live("new", files=declaring("1", "2"), profile=ONLINE)
    assert seen == {"well"}
    assert (host.root / "migrated").read_text() == "migrated\n"
    assert (answer["migrated"], answer["online"], answer["downtime"]) == (True, True, 0)
    assert host.told() == ["restart workers.target"]
    assert host.live("newer", files=declaring("1", "2"))["online"] is False


UNDECLARED = {
    "it is not declared": {**declaring("1"), "code/Setup/2": "drops"},
    "it is not what was declared": {**declaring("1", "2"), "code/Setup/2": "drops"},
    "another one is not declared": {**declaring("1", "2"), "code/Setup/3": "drops"},
    "one has changed": {**declaring("1", "2"), "code/Setup/1": "drops"},
    "one is gone": {**declaring("2"), "code/other": "file"},
    "no file says what is due": declaring("1"),
    "nothing is declared": {"code/Setup/1": "adds 1", "code/Setup/2": "adds 2"},
}


@pytest.mark.promise("an-online-migration-closes-nothing")
@pytest.mark.parametrize("why", UNDECLARED)
def test_a_migration_that_is_not_wholly_declared_online_closes(host, why):
    host.live("old", files=declaring("1"))
    closes = migration(["test", "-e", "../old/closed"])
    answer = host.live("new", files=UNDECLARED[why], profile={**ONLINE, **closes})
    assert (answer["migrated"], answer["online"]) == (True, False)
    assert answer["downtime"] > 0


def test_what_also_imports_configuration_or_was_begun_before_closes(host):
    host.live("old", files=declaring("1"))
    closes = {**ONLINE, **migration(["test", "-e", "../old/closed"])}
    answer = host.live("new", files=declaring("1", "2"), profile={**closes, **configuration(["true"])})
    assert answer["online"] is False
    host.fails("newer", files=declaring("1", "2", "3"), profile=migration(["false"]))
    after = {**ONLINE, **migration(["test", "-e", "../new/closed"])}
    assert host.live("newest", files=declaring("1", "2", "3"), profile=after)["online"] is False


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"profile": {**ONLINE, **migration(["false"])}}, "old runs as before"),
        ({"profile": ONLINE, "page": "ill as next"}, "old runs as before"),
        ({"profile": ONLINE, "page": "ill as current"}, "went back to old"),
    ],
)
def test_after_an_online_migration_code_goes_back_and_the_copy_stays_until_the_next_one(host, what, said):
    host.live("old", files=declaring("1"))
    copies = copying(host)
    files, page = declaring("1", "2"), {"page": what["page"]} if "page" in what else {}
    told = host.fails("new", files={**files, **page}, profile={**what["profile"], **copies})
    assert f"{said}; what was migrated online stays; the database of " in told
    assert (host.current, host.closed(), host.under_way()) == ("old", False, {})
    assert (host.root / "copies/new.sql.zst").read_text() == "of before\n"
    (host.root / "data").write_text("orders")  # by visitors
    host.fails("new", files={**files, **page}, profile={**what["profile"], **copies})
    assert (host.root / "copies/new.sql.zst").read_text() == "of orders\n"
    assert host.live("newer", files=files, profile=ONLINE)["online"] is True


@pytest.mark.promise("a-migration-is-preceded-by-a-copy", "only-code-is-rolled-back")
def test_a_migration_that_closes_after_an_online_one_that_was_killed_has_a_copy_of_its_own_and_is_none(host):
    host.live("old", files=declaring("1"))
    copies = copying(host, "echo of $(cat ../../data)")
    plan = host.plan("new", files=declaring("1", "2"), profile={**ONLINE, **copies})
    killed(plan, "Check the release where nobody sees it")
    assert host.under_way()["online"] is True
    (host.root / "data").write_text("orders")
    closes = {**copies, "online": "online", **migration(["false"])}
    assert host.fails("newer", profile=closes).endswith("copies/newer.sql.zst")
    assert (host.root / "copies/newer.sql.zst").read_text() == "of orders\n"
    answer = host.live("newer", profile={**copies, **migration(["true"], NOT_DUE)})
    assert (answer["migrated"], answer["online"]) == (True, False)


@pytest.mark.promise("only-code-is-rolled-back")
def test_a_rollback_after_an_online_migration_does_not_ask_the_code_before(host):
    host.live("old", files=declaring("1"), profile=ONLINE)
    host.live("new", files=declaring("1", "2"), profile=ONLINE)
    assert "has moved on" in host.rollback("old", "new", profile=ONLINE)["failed"]["reason"]
    answer = host.rollback("old", "new", profile=ONLINE, undoes_online=True)
    assert (answer["failed"], answer["migrated"], host.current, host.closed()) == (None, False, "old", False)


@pytest.mark.promise("a-command-that-cannot-start-is-no-answer")
def test_a_command_that_cannot_start_or_has_another_exit_code_is_no_answer(host):
    host.live("old")
    assert "no-such-command cannot be started: No such file or directory ; old runs as before" in host.fails(
        "new", profile=migration(BROKEN, due=["no-such-command"])
    )
    assert "false: exit code 1 ; old runs as before" in host.fails(
        "new", profile=migration(BROKEN, due=["false"])
    )
    assert (host.current, host.closed()) == ("old", False)


@pytest.mark.promise("maintenance-by-hand-stays")
def test_maintenance_that_was_on_by_hand_stays_on(host):
    host.live("old")
    (host.root / "current/closed").touch()
    host.live("new", profile=migration(NOT_DUE))
    assert (host.current, host.closed()) == ("new", True)
    host.fails("sick", files={"page": "ill"})
    assert (host.current, host.closed()) == ("new", True)


@pytest.mark.promise("maintenance-by-hand-stays")
def test_a_release_of_code_alone_opens_nothing_that_was_closed_by_hand(host):
    host.live("old")
    (host.root / "current/closed").touch()
    answer = host.live("new", profile={"pages": ["/page"]})
    assert (host.current, host.closed(), answer["closed"]) == ("new", True, True)
    assert ("next", "/page") not in host.asked  # it has nothing to show


def flagged(host, name, **more):
    """A plan whose maintenance is in a folder that the application writes in, as those of the profiles are."""
    flag = {"active_file": "var/flag", "on": ["touch", "var/flag"], "off": ["rm", "var/flag"]}
    profile = {"writable": ["var"], "maintenance": flag, **PAGES, **more}
    plan = host.plan(name, files={"page": f"of {name}"}, profile=profile)
    (host.folder / "tree/closed").symlink_to("var/flag")
    return {**plan, "sha256": host.packed()}


NEVER_CLOSED = {"after_switch": [["test", "!", "-e", "../../current/closed"]]}


@pytest.mark.promise("maintenance-by-hand-stays")
def test_what_was_opened_by_hand_since_is_not_closed_by_a_release_that_had_failed_meanwhile(host):
    phases.perform(flagged(host, "old"))
    (host.root / "current/var/flag").touch()
    plan = flagged(host, "new", after_switch=[["false"]])
    assert phases.perform(plan)["failed"]["outcome"] == "went back to old"
    assert (host.closed(), (host.root / "releases/new/closed").exists()) == (True, True)
    (host.root / "current/var/flag").unlink()
    plan = {**plan, "profile": {**plan["profile"], **NEVER_CLOSED}}
    for wanted in (AHEAD, ALL):
        (host.root / "releases/new/var/flag").touch()
        host.asked.clear()
        ahead(host, plan, *wanted)
        assert ("next", "/page") in host.asked
    assert host.current == "new"


@pytest.mark.promise("maintenance-by-hand-stays")
def test_a_rollback_does_not_close_what_was_closed_before_the_release_and_opened_by_hand_since(host):
    plan = flagged(host, "old", **NEVER_CLOSED)
    ahead(host, plan, *ALL)
    (host.root / "current/var/flag").touch()
    ahead(host, flagged(host, "new"), *ALL)
    assert host.closed()
    (host.root / "current/var/flag").unlink()
    host.asked.clear()
    ahead(host, {**plan, "undoes": "new", "instead": "git revert"}, *BACK)
    assert (host.current, host.closed(), ("next", "/page") in host.asked) == ("old", False, True)


@pytest.mark.promise("maintenance-by-hand-stays")
def test_what_was_opened_by_hand_after_a_run_was_killed_stays_open(host):
    ahead(host, flagged(host, "old"), *ALL)
    (host.root / "current/var/flag").touch()
    plan = flagged(host, "new")
    killed(plan, "Switch to the new release")
    assert host.under_way()["maintained"] is True
    (host.root / "current/var/flag").unlink()
    ahead(host, {**plan, "profile": {**plan["profile"], **NEVER_CLOSED}}, *ALL)
    assert (host.current, host.closed()) == ("new", False)


def test_a_job_of_cron_holds_up_a_migration_and_closes_nothing_for_longer(host):
    host.live("old")
    begun = host.folder / "begun"
    job = subprocess.Popen(
        [
            "flock",
            "--no-fork",
            "--shared",
            host.root / "releases",
            "sh",
            "-c",
            f"touch {begun}; exec sleep 60",
        ]
    )
    try:
        while not begun.exists():
            pass
        said = host.fails("new", profile=migration(NOT_DUE))
    finally:
        job.kill()
    assert said.startswith("Wait for the jobs of cron that still run: a job of cron still runs after 1 s")
    assert (said.rpartition("; ")[2], host.closed(), host.under_way()) == ("old runs as before", False, {})


@pytest.mark.promise("an-import-alone-closes-nothing")
def test_an_import_alone_closes_nothing_and_is_done_again_by_the_release_that_is_back(host):
    imports = host.folder / "imports"
    work = configuration(["sh", "-c", f"echo $(basename $PWD) $(ls ../*/closed) >> {imports}"])
    host.live("old", profile=work)
    assert host.fails("new", files={"page": "ill as current"}, profile=work).endswith("went back to old")
    assert imports.read_text().splitlines() == ["old", "new", "old"]


@pytest.mark.promise("an-import-is-followed-by-the-switch")
def test_the_switch_follows_an_import_at_once_and_pages_are_checked_then(host):
    host.live("old")
    asks = ["sh", "-c", f"echo imports >> {host.log}"]
    host.asked.clear()
    answer = host.live("new", profile={**configuration(asks), "pages": ["/page"]})
    steps = [name for name, _ in answer["steps"]]
    assert steps[steps.index("Change the data with the new code") + 1] == "Switch to the new release"
    assert ("current", "/page") in host.asked
    assert ("next", "/page") not in host.asked
    assert host.fails("sick", files={"page": "ill as next"}, profile=configuration(asks)).endswith(
        "new runs as before"
    )
    assert host.said().count("imports") == 1


def test_what_is_due_is_asked_at_once(host):
    """Each of the two answers once the other one is asked as well."""

    def meets(own, other):
        here = f"{host.folder}/asked-"
        return [
            "sh",
            "-c",
            f"touch {here}{own}; timeout 20 sh -c 'until [ -e {here}{other} ]; do sleep 0.05; done'",
        ]

    host.live(
        "new",
        profile={
            **migration(["false"], due=meets("migration", "configuration")),
            **configuration(NOT_DUE, due=meets("configuration", "migration")),
        },
    )


def test_a_migrated_database_is_asked_for_configuration_afterwards(host):
    order = host.folder / "order"
    first = ["sh", "-c", f"echo due >> {order}; exit 2"]
    host.live(
        "new",
        profile={**migration(["sh", "-c", f"echo migrates >> {order}"]), **configuration(NOT_DUE, due=first)},
    )
    assert order.read_text().split() == ["due", "migrates", "due"]


@pytest.mark.promise("a-command-writes-into-a-copy", "what-is-written-is-named")
def test_a_command_writes_into_a_copy_and_the_names_are_told(host):
    profile = {
        **migration(["sh", "-c", "echo more > etc/env"]),
        "written": {"interpreter": ["sh", "/dev/stdin"], "names": "names.j2"},
    }
    answer = host.live("new", profile=profile, scripts={"names.j2": "cat etc/env"})
    assert answer["notes"] == ["more was written: put it into the template"]
    assert (host.root / "shared/etc/env").read_text() == "of the host"
    assert (host.root / "current/etc/env").readlink() == host.root / "shared/etc/env"


INSTALL = {
    "interpreter": ["sh", "/dev/stdin"],
    "due": "/p/due.j2",
    "due_exit": 4,
    "run": "/p/run.j2",
    "then": ["/p/then.j2"],
}
SCRIPTS = {
    "/p/due.j2": "test -e ../../installed || exit 4",
    "/p/run.j2": "test ! -e etc/env && echo mine > etc/env && touch ../../installed",
    "/p/then.j2": "test -L etc/env && echo then >> ../../installed",
}


def test_an_empty_database_is_installed_into_and_not_migrated(host):
    host.live("one", profile={"install": INSTALL, **migration(BROKEN)}, scripts=SCRIPTS)
    assert (host.root / "installed").read_text() == "then\n"
    assert (host.root / "shared/etc/env").read_text() == "of the host"
    assert not host.closed()


@pytest.mark.promise("an-installation-that-fails-says-why")
def test_an_installation_that_fails_is_taken_up_by_the_next_release_without_asking(host):
    broken = {**SCRIPTS, "/p/run.j2": "touch ../../installed; echo the disk is full >&2; exit 1"}
    said = host.fails("one", profile={"install": INSTALL}, scripts=broken)
    assert (
        said == "Install the application: sh /dev/stdin: exit code 1 the disk is full; nothing runs as before"
    )
    assert host.under_way()["installs"] is True
    later = host.fails(
        "one", profile={"install": INSTALL}, scripts={**SCRIPTS, "/p/then.j2": "echo nothing to sell; exit 3"}
    )
    assert "then.j2: exit code 3 nothing to sell" in later
    host.live("two", profile={"install": INSTALL}, scripts=SCRIPTS)
    assert (host.current, host.under_way()) == ("two", {})
    assert "4" in host.fails(
        "three", profile={"install": {**INSTALL, "due_exit": 5}}, scripts={**SCRIPTS, "/p/due.j2": "exit 4"}
    )


def test_a_command_runs_as_the_application_s_user_who_can_read_its_script(host):
    release = phases.HostRelease({**host.plan("new"), "user": "nobody"})
    script = 'id -un; id -gn; echo "$HOME $USER $LOGNAME"; umask'
    ran = release.run(["sh", "/dev/stdin"], cwd=Path("/"), stdin=script)
    assert ran.stdout.split("\n") == ["nobody", "nogroup", "/nonexistent nobody nobody", "0002", ""], ran
    assert release.run(["id", "-un"], cwd=Path("/"), root=True).stdout.strip() == "root"
    assert release.run(["cat"], cwd=Path("/"), stdin=script).stdout == script


# --- open, settle, undo ---------------------------------------------------------------------------------


def test_units_that_do_not_restart_send_the_release_back(host):
    host.live("old")
    failed = host.does("new", profile={"restart": ["fails"]})["failed"]
    assert (failed["outcome"], failed["undone"]) == (
        "and it could not be undone: systemctl restart fails: exit code 1",
        False,
    )
    assert host.current == "old"
    host.live("new")


@pytest.mark.promise("the-one-before-stays")
@pytest.mark.promise("what-comes-late-fails-no-release")
def test_what_comes_late_is_done_once_the_site_is_open_and_fails_no_release(host, monkeypatch):
    monkeypatch.setattr(phases, "LATE", 1.0)
    host.live("old")
    open_to_visitors = [
        "sh",
        "-c",
        "test ! -e ../old/closed && test ! -e ../../unfinished.json && pwd > ../../late",
    ]
    breaks, lasts = ["sh", "-c", "echo the index is locked; exit 3"], ["sh", "-c", "sleep 60; true"]
    late = [open_to_visitors, breaks, ["no-such-command"], lasts, ["touch", "../../after"]]
    answer = host.live("new", profile={**migration(["true"]), "late": late})
    assert (host.root / "late").read_text().strip() == str(host.root / "releases/new")
    assert [each.partition("failed: ")[2] for each in answer["notes"]] == [
        "exit code 3: the index is locked",
        "no-such-command cannot be started: No such file or directory",
        "it has not ended within 1 s",
        "there was no time left",
    ]
    assert answer["steps"][-1][0] == "Late: touch ../../after"
    assert not (host.root / "after").exists()
    assert host.current == "new"
    until(lambda: not phases.in_use(host.root))
    assert host.live("new", profile={"late": late})["notes"] == []


@pytest.mark.promise("what-comes-late-fails-no-release")
def test_what_comes_late_holds_up_no_rollback_where_nobody_waits_for_it(host):
    host.live("old")
    begun, ended = host.root / "begun", host.root / "ended"
    late = [["sh", "-c", f"touch {begun}; sleep 20; touch {ended}"]]
    plan = host.plan("new", profile={"late": late})
    words = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-IS", "-"], **words) as child:
        child.stdin.write(PROGRAM.text(plan, ALL))
        child.stdin.close()
        until(begun.exists)
        child.stdout.close()  # as when a connection is cut
        assert host.rollback("old", "new")["failed"] is None
    assert (host.current, ended.exists()) == ("old", False)
    until(lambda: not phases.in_use(host.root))


def test_the_last_releases_stay_and_the_previous_one_and_one_that_runs(host, monkeypatch):
    running = None
    try:
        for name in ("one", "two", "three", "four"):
            host.live(name, keep=1)
            if name == "one":
                running = subprocess.Popen(["sleep", "60"], cwd=host.root / "releases/one")
        left = {each.name for each in (host.root / "releases").iterdir()}
        assert left == {"one", "three", "four"}
    finally:
        running.kill()
        running.wait()
    host.live("five", keep=1)
    assert {each.name for each in (host.root / "releases").iterdir()} == {"four", "five"}
    assert (host.root / "previous").readlink().name == "four"


def test_the_oldest_release_goes_whatever_was_written_into_it_since(host):
    for name in ("one", "two"):
        host.live(name)
    (host.root / "releases/one/later").touch()
    host.live("three")
    assert {each.name for each in (host.root / "releases").iterdir()} == {"two", "three"}


def test_a_host_gives_way_where_another_one_has_failed(host):
    host.live("old")
    plan = host.plan("new")
    assert phases.perform({**plan, "phases": ["bring", "live", "open"]})["failed"] is None
    assert host.current == "new"
    failed = phases.perform({**plan, "phases": ["undo"]})["failed"]
    assert (failed["reason"], failed["outcome"], failed["undone"]) == (
        "this host is well, and another one is not",
        "went back to old",
        True,
    )
    assert (host.current, host.under_way()) == ("old", {})
    again = phases.perform({**plan, "phases": ["undo"]})["failed"]
    assert again["outcome"] == "old runs as before"


def test_a_host_that_has_migrated_and_opened_keeps_its_release(host):
    host.live("old")
    plan = host.plan("new", profile=migration(NOT_DUE))
    phases.perform({**plan, "phases": ["bring", "live", "open"]})
    failed = phases.perform({**plan, "phases": ["undo"]})["failed"]
    assert failed["outcome"] == "data was migrated, so the site runs new"
    assert (host.current, host.closed()) == ("new", False)


# --- brought ahead, and discarded --------------------------------------------------------------------


def ahead(host, plan, *wanted):
    """Only these phases of a plan."""
    answer = phases.perform({**plan, "phases": wanted})
    assert answer["failed"] is None, answer
    return answer


@pytest.mark.promise("brought-ahead-of-the-yes")
def test_what_was_brought_ahead_is_noticed_by_nobody_and_not_fetched_again(host):
    host.live("old")
    before, plan = host.state(), host.plan("new", files={"page": "newer"})
    host.asked.clear()
    assert ahead(host, plan, *AHEAD)["changed"]
    assert host.state() == {**before, "next": "new"}
    assert {link for link, _ in host.asked} == {"next"}
    host.server.says["tarball"] = [500] * 10
    assert "Fetch the tarball" not in dict(ahead(host, plan, *ALL)["steps"])
    assert (host.root / "current/page").read_text() == "newer"


@pytest.mark.promise("without-a-yes-nothing-stays")
def test_what_was_brought_is_removed_and_can_be_brought_again(host):
    host.live("old")
    before, files = host.state(), sorted(host.root.rglob("*"))
    plan = host.plan("new")
    ahead(host, plan, *AHEAD)
    ahead(host, plan, *AWAY)
    assert (host.state(), sorted(host.root.rglob("*"))) == (before, files)
    ahead(host, plan, *AWAY)
    ahead(host, plan, *ALL)
    assert host.current == "new"


@pytest.mark.promise("without-a-yes-nothing-stays")
def test_what_a_killed_run_was_bringing_is_removed_too(host):
    host.live("old")
    files, plan = sorted(host.root.rglob("*")), host.plan("new")
    (host.root / "releases/new.partial/half").mkdir(parents=True)
    (host.root / "downloads").mkdir()
    (host.root / "downloads/x.part").touch()
    ahead(host, plan, *AWAY)
    assert sorted(host.root.rglob("*")) == files


@pytest.mark.promise("what-somebody-may-need-is-not-discarded")
@pytest.mark.parametrize("stands", ["current", "previous", "under way", "process"])
def test_a_release_that_somebody_may_need_is_not_discarded(host, stands):
    host.live("old")
    plan, running = host.plan("new"), None
    ahead(host, plan, "bring")
    if stands == "under way":
        (host.root / "unfinished.json").write_text('{"migrates": false}')
    elif stands == "process":
        running = subprocess.Popen(["sleep", "60"], cwd=host.root / "releases/new")
    else:
        phases.relink(host.root / stands, "releases/new")
    try:
        ahead(host, plan, *AWAY)
        assert (host.root / "releases/new/page").exists()
        assert (host.root / "releases/new/.complete").exists()
    finally:
        if running:
            running.kill()
            running.wait()


@pytest.mark.promise("brought-ahead-of-the-yes")
def test_who_decides_is_told_that_the_release_is_ill(host):
    host.live("old")
    before, plan = host.state(), host.plan("new", files={"page": "ill"})
    failed = phases.perform({**plan, "phases": AHEAD})["failed"]
    assert failed["reason"] == "shop.localhost/health answers 503, not 200"
    assert failed["outcome"] == "old runs"
    assert host.state() == {**before, "next": "new"}
    ahead(host, plan, *AWAY)
    assert host.state() == before


@pytest.mark.parametrize("work", [migration, configuration])
@pytest.mark.promise("brought-ahead-of-the-yes")
def test_what_wants_other_data_is_not_rehearsed_and_nothing_is_changed_for_it(host, work):
    host.live("old")
    before = host.state()
    ahead(host, host.plan("new", profile=work(["touch", "changed"]), files={"page": "ill"}), *AHEAD)
    assert host.state() == before
    assert not (host.root / "releases/new/changed").exists()


@pytest.mark.parametrize("stands", ["first", "same", "under way"])
def test_what_is_live_comes_first_or_is_under_way_is_not_rehearsed(host, stands):
    if stands == "under way":
        host.live("old")
    plan = host.plan("new", files={"page": "ill"})
    if stands == "under way":
        (host.root / "unfinished.json").write_text('{"migrates": false}')
    elif stands == "same":
        ahead(host, plan, "bring")
        phases.relink(host.root / "current", "releases/new")
    before = host.state()
    ahead(host, plan, *AHEAD)
    assert host.state() == before


def test_what_is_half_removed_is_no_complete_release(host, monkeypatch):
    host.live("old")
    plan, real = host.plan("new"), phases.shutil.rmtree
    ahead(host, plan, "bring")

    def killed(folder):
        (folder / "page").unlink()
        raise OSError("killed")

    monkeypatch.setattr(phases.shutil, "rmtree", killed)
    assert phases.perform({**plan, "phases": AWAY})["failed"]["outcome"] == "old runs"
    monkeypatch.setattr(phases.shutil, "rmtree", real)
    ahead(host, plan, *ALL)
    assert (host.root / "current/page").read_text() == "fine"


# --- a unit of its own ---------------------------------------------------------------------------------


@pytest.mark.promise("a-release-runs-alone")
def test_a_release_starts_where_nobody_sees_it_and_the_one_before_goes_on_until_the_next(host):
    host.live("one", profile=UNIT)
    with host.visited() as seen:
        for name in ("two", "three"):
            host.live(name, profile={**UNIT, "pages": ["/page"]})
    assert seen == {"well"}
    assert host.running() == {"two", "three"}
    assert host.said() == [
        "start php@one.service",
        "start php@two.service",
        "stop --no-block php@one.service",
        "start php@three.service",
    ]


@pytest.mark.promise("a-release-runs-alone")
def test_a_release_that_is_not_shown_is_stopped_and_the_running_one_never_was(host):
    host.live("old", profile=UNIT)
    with host.visited() as seen:
        assert host.fails("new", files={"page": "ill"}, profile=UNIT).endswith("old runs as before")
        assert host.fails("sick", files={"page": "ill as current"}, profile=UNIT).endswith("went back to old")
    assert host.running() == {"old"}
    assert seen == {"well", "shop.localhost/health answers 503, not 200"}  # of `sick`
    assert "stop" not in " ".join(each for each in host.said() if "old" in each)


def test_the_release_to_go_back_to_is_started_where_it_no_longer_runs_before_visitors_get_it(host):
    host.live("old", profile=UNIT)
    plan = host.plan("new", profile=UNIT)
    phases.perform({**plan, "phases": ["bring", "live", "open"]})
    (host.units / "php@old.service").unlink()  # the host was started again
    with host.visited() as seen:
        phases.perform({**plan, "phases": ["undo"]})
    assert (host.current, host.running(), seen) == ("old", {"old"}, {"well"})


@pytest.mark.promise("verified-again-before-the-switch")
def test_a_release_that_is_fetched_again_does_not_go_on_with_what_was_changed(host):
    for name in ("one", "two"):
        host.live(name, profile=UNIT)
    (host.root / "releases/one/page").write_text("another")
    host.log.unlink()
    with host.visited() as seen:
        assert host.live("one", profile=UNIT)["notes"] != []
    assert host.said() == ["stop php@one.service", "start php@one.service"]
    assert (seen, host.running()) == ({"well"}, {"one", "two"})


def test_a_live_release_whose_unit_does_not_run_is_started_by_the_same_release(host):
    host.live("one", profile=UNIT)
    (host.units / "php@one.service").unlink()
    assert host.live("one", profile=UNIT)["changed"] is False
    assert host.running() == {"one"}


def test_a_unit_that_does_not_start_is_told_with_its_last_words(host):
    host.live("old", profile=UNIT)
    assert host.fails("fails", profile=UNIT) == (
        "Start the release where nobody sees it: php@fails.service does not start "
        "what --unit=php@fails.service has said; old runs as before"
    )


@pytest.mark.promise("brought-ahead-of-the-yes", "without-a-yes-nothing-stays")
def test_a_release_that_is_brought_ahead_runs_and_is_warm_and_is_stopped_without_a_yes(host):
    host.live("older", profile=UNIT)
    host.live("old", profile=UNIT)
    plan = host.plan("new", profile={**UNIT, "pages": ["/page"]})
    with host.visited() as seen:
        steps = dict(ahead(host, plan, *AHEAD)["steps"])
        assert list(steps)[-1] == "Warm the release"
        assert host.running() == {"older", "old", "new"}  # a rollback may come instead
        ahead(host, plan, *AWAY)
        assert host.running() == {"older", "old"}
        assert not (host.root / "releases/new").exists()
        ahead(host, plan, *AHEAD)
        ahead(host, plan, *ALL)
    assert (host.current, host.running(), seen) == ("new", {"old", "new"}, {"well"})


@pytest.mark.promise("pages-are-warm-before-visitors-get-them")
@pytest.mark.parametrize(("slow", "asked"), [(0, 2), (2, 4), (99, 1 + phases.WARMINGS)])
def test_pages_are_asked_for_until_they_are_warm_or_often_enough(host, slow, asked, monkeypatch):
    monkeypatch.setattr(phases, "WARM", 0.15)
    host.live("old", profile=UNIT)
    host.next.names, host.next.says["slow"] = ["shop.localhost"], [0.2] * (slow + 1)
    host.live("new", profile={**UNIT, "pages": ["/page"]}, host_names=["shop.localhost"])
    assert host.asked.count(("next", "/page")) == asked
    assert ("next", "/page") not in host.asked[host.asked.index(("current", "/page")) :]


# --- rollback -------------------------------------------------------------------------------------------


@pytest.mark.promise("rollback-goes-to-the-one-before")
def test_a_rollback_goes_to_the_release_before_fetches_nothing_and_again_changes_nothing(host):
    host.live("old")
    host.live("new", profile={"after_switch": [["touch", "emptied"]]})
    host.server.says["tarball"] = [500] * 10
    host.asked.clear()
    answer = host.rollback(
        "old", "new", profile={"after_switch": [["touch", "emptied"]], "restart": ["workers"]}
    )
    assert (answer["failed"], answer["changed"], answer["migrated"]) == (None, True, False)
    assert (host.current, host.linked("previous"), host.under_way()) == ("old", "", {})
    assert [link for link, path in host.asked if path == "/health"][0::2] == [
        "next",
        "current",
    ]  # of two names
    assert (host.root / "releases/old/emptied").exists()
    assert host.said() == ["restart workers"]
    assert len(host.server.says["tarball"]) == 10
    again = host.rollback("old", "new")
    assert (again["failed"], again["changed"], host.current) == (None, False, "old")
    assert host.rollback("new", "old")["failed"]["reason"] == "before old it was nothing, not new"


def test_the_release_after_a_rollback_goes_back_to_what_the_rollback_went_to(host):
    host.live("old")
    host.live("new")
    host.rollback("old", "new")
    host.live("newer")
    assert host.linked("previous") == "old"
    assert host.rollback("old", "newer")["failed"] is None
    assert host.current == "old"


def another_before(host):
    phases.relink(host.root / "previous", "releases/older")
    return "before new it was older, not old", "git revert 1a2b3c4"


def another_runs(host):
    phases.relink(host.root / "current", "releases/older")
    return "it is older that runs, not new", "doit release"


def nothing_is_complete(host):
    (host.root / "releases/old/.complete").unlink()
    return "old is not complete here", "git revert 1a2b3c4"


def another_tarball(host):
    (host.root / "releases/old/.complete").write_text("e" * 64)
    return "old is not complete here", "git revert 1a2b3c4"


def a_release_is_under_way(host):
    host.fails("newer", profile=migration(["false"]))
    return "a release was begun here and has not ended", "doit release"


@pytest.mark.promise("rollback-goes-to-the-one-before")
@pytest.mark.parametrize(
    "stands", [another_before, another_runs, nothing_is_complete, another_tarball, a_release_is_under_way]
)
def test_what_stands_in_the_way_of_a_rollback_is_told_and_nothing_is_changed(host, stands):
    for name in ("older", "old", "new"):
        host.live(name, keep=3)
    digest = (host.root / "releases/old/.complete").read_text().strip()
    reason, remedy = stands(host)
    before = host.state()
    answer = host.rollback("old", "new", sha256=digest, profile={"restart": ["workers"]})
    failed = answer["failed"]
    assert (failed["reason"], failed["remedy"], answer["changed"]) == (reason, remedy, False)
    assert failed["outcome"] == f"{before['current']} runs"
    assert host.state() == before


@pytest.mark.promise("only-code-is-rolled-back")
@pytest.mark.parametrize("kind", ["migration", "install"])
def test_where_the_database_has_moved_on_nothing_goes_back(host, kind):
    host.live("old")
    host.live("new")
    before = host.state()
    install = {"interpreter": ["sh", "/dev/stdin"], "due": "due", "due_exit": 2, "run": "run", "then": []}
    due = {"migration": migration(["touch", "migrated"]), "install": {"install": install}}[kind]
    failed = host.rollback("old", "new", profile=due, scripts={"due": "exit 2", "run": "touch migrated"})[
        "failed"
    ]
    assert (failed["step"], failed["reason"], failed["outcome"], failed["remedy"]) == (
        "Check what is due",
        "old does not know this database: it has moved on",
        "new runs as before",
        "git revert 1a2b3c4",
    )
    assert host.state() == before
    assert not (host.root / "releases/old/migrated").exists()


@pytest.mark.promise("only-code-is-rolled-back")
def test_a_rollback_imports_the_configuration_of_the_release_that_it_goes_to(host):
    host.live("old")
    host.live("new")
    imported = host.folder / "imported"
    profile = configuration(["sh", "-c", f"basename $(pwd -P) >> {imported}; test ! -e closed"])
    assert host.rollback("old", "new", profile=profile)["failed"] is None
    assert (imported.read_text().split(), host.current) == (["old"], "old")


@pytest.mark.parametrize(
    ("page", "outcome"), [("ill", "new runs as before"), ("ill as current", "went back to new")]
)
def test_a_release_before_that_is_ill_by_now_leaves_things_as_they_were(host, page, outcome):
    host.live("old", files={"page": "x" * len(page)})
    host.live("new")
    path = host.root / "releases/old/page"
    at = path.stat().st_mtime_ns

    def becomes(text):
        """As what a release needs may change, without a file of its own."""
        path.write_text(text)
        os.utime(path, ns=(at, at))

    becomes(page)
    failed = host.rollback("old", "new")["failed"]
    assert (failed["outcome"], host.current, host.linked("previous")) == (outcome, "new", "old")
    assert host.under_way() == {}
    becomes("x" * len(page))
    assert host.rollback("old", "new")["failed"] is None


def test_a_host_that_has_gone_back_goes_forward_again_where_another_one_has_failed(host):
    host.live("old")
    host.live("new")
    assert host.rollback("old", "new", phases=("ready", "live", "open"))["failed"] is None
    assert host.current == "old"
    failed = host.rollback("old", "new", phases=["undo"])["failed"]
    assert (failed["outcome"], host.current, host.linked("previous")) == ("went back to new", "new", "old")


@pytest.mark.promise("verified-again-before-the-switch")
def test_a_release_that_was_changed_is_no_way_back(host):
    host.live("old")
    host.live("new")
    (host.root / "releases/old/page").write_text("another")
    failed = host.rollback("old", "new")["failed"]
    assert failed["reason"] == "old is not believed: its files are not what was unpacked"
    assert (host.current, host.under_way()) == ("new", {})


def test_a_rollback_under_maintenance_by_hand_ends_none(host):
    host.live("old")
    host.live("new")
    (host.root / "current/closed").touch()
    assert host.rollback("old", "new")["failed"] is None
    assert (host.current, host.closed()) == ("old", True)


@pytest.mark.promise("downtime-is-measured-by-the-host")
def test_a_host_tells_for_how_long_it_was_closed(host):
    assert host.live("old")["downtime"] == 0
    assert 0.3 <= host.live("new", profile=migration(["sleep", "0.3"]))["downtime"] < 3
    host.fails("newer", profile=migration(["false"]))
    (host.root / "unfinished.json").write_text(json.dumps({**host.under_way(), "closed": time.time() - 60}))
    assert 60 <= host.live("newer")["downtime"] < 63  # also while nobody released
    (host.root / "current/closed").touch()
    assert host.live("newest", profile=migration(["true"]))["downtime"] == 0  # somebody else has closed it


def test_a_release_tells_whether_it_has_migrated(host):
    assert host.live("old")["migrated"] is False
    assert host.live("old")["migrated"] is None
    assert host.live("new", profile=migration(["true"]))["migrated"] is True
    host.does("newer", profile=migration(["true"]), phases=UP)
    assert host.live("newer")["migrated"] is True  # what a run that was killed has begun


# --- killed ---------------------------------------------------------------------------------------------

KILLED = [
    *("Fetch the tarball", "Verify the tarball", "Unpack the release", "Link what releases share"),
    *(
        "Check what is due",
        "Start the release where nobody sees it",
        "Copy the database",
        "Switch maintenance on",
    ),
    "Wait for the jobs of cron that still run",
    *("Change the data with the new code", "Check the release where nobody sees it", "Warm the release"),
    *("Switch to the new release", "Check the release that visitors get"),
    *(
        "Switch maintenance off",
        "Restart the units that run the release's code",
        "Remove the oldest releases",
    ),
]


AT = """
import os, sys
class Told:
    def write(self, words):
        if words.strip() == STEP:
            os.kill(os.getpid(), 9)
    def flush(self):
        pass
sys.stdout = Told()
"""
"""A program that is killed as it begins a step."""
DIES = """
import os, sys
LEFT = [NUMBER]
def count(event, _):
    if event in ("os.rename", "os.symlink", "os.remove", "subprocess.Popen"):
        LEFT[0] -= 1
        if LEFT[0] < 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(count)
"""
"""A program that changes so many things, and then is killed before the next one."""


def ended(plan: dict, how: str) -> subprocess.CompletedProcess[str]:
    """The program has run, with what ends it somewhere."""
    text, _, call = PROGRAM.text(plan, plan["phases"]).rpartition("\nmain(")
    program = f"{text}{how}\nmain({call}"
    return subprocess.run([sys.executable, "-IS", "-"], input=program, text=True, capture_output=True)


def killed(plan: dict, step: str) -> None:
    """Run the program, which is killed as it begins a step."""
    assert ended(plan, AT.replace("STEP", repr(step))).returncode == -9, f"it never came to {step}"


def dies(plan: dict, number: int) -> bool:
    """Whether the program was killed after so many changes; it may have come to its end before."""
    answer = ended(plan, DIES.replace("NUMBER", str(number)))
    assert answer.returncode == -9 or json.loads(answer.stdout.splitlines()[-1])["failed"] is None, answer
    return answer.returncode == -9


def test_a_command_ends_with_the_program_that_has_started_it(host):
    host.live("old")
    told = host.folder / "told"
    kills = ["sh", "-c", f"echo $$ > {told}; kill -9 $PPID; exec sleep 60"]
    assert ended(host.plan("new", profile={"after_switch": [kills]}), "").returncode == -9
    line = Path(f"/proc/{told.read_text().strip()}/cmdline")
    until(lambda: not line.exists() or not line.read_bytes())  # a zombie has none


@pytest.mark.promise("release-goes-on-after-a-kill")
@pytest.mark.parametrize("then", ["rollback", "new", "newer"])
def test_a_rollback_that_was_killed_before_any_change_is_gone_on_with_or_left_behind(host, then):
    host.live("old")
    profile = {"restart": ["workers.target"], "after_switch": [["true"]]}
    digest = (host.root / "releases/old/.complete").read_text().strip()
    for number in range(99):
        host.live("new", profile=profile)
        assert (host.current, host.linked("previous")) == ("new", "old")
        plan = {**host.plan("old", profile=profile), "undoes": "new", "instead": "git revert"}
        if not dies({**plan, "sha256": digest, "phases": BACK}, number):
            break
        if then == "rollback":
            assert host.rollback("old", "new", profile=profile)["failed"] is None
            assert (host.current, host.linked("previous")) == ("old", "")
        else:
            host.live(then, profile=profile, keep=3)
            assert host.current == then
            # what was undone on this machine alone was not undone
            assert host.linked("previous") == {"new": "old", "newer": "new"}[then]
        assert (host.closed(), host.under_way()) == (False, {})
        if then == "newer":
            host.rollback("new", "newer", profile=profile, keep=3)
            phases.relink(host.root / "previous", "releases/old")
    assert number > 10


@pytest.mark.promise("release-goes-on-after-a-kill")
def test_visitors_get_a_release_that_runs_whatever_change_a_release_was_killed_before(host):
    host.live("old", profile=UNIT)
    with host.visited() as seen:
        for number in range(99):
            name = f"new{number}"
            if not dies(host.plan(name, profile=UNIT), number):
                break
            host.live(name, profile=UNIT)
            assert (host.current, host.under_way()) == (name, {})
            assert host.running() == {name, host.linked("previous")}
    assert seen == {"well"}
    assert number > 10


@pytest.mark.promise("release-goes-on-after-a-kill")
@pytest.mark.parametrize("step", sampled(KILLED))
def test_killed_in_any_step_the_next_release_converges(host, step):
    for name in ("older", "old"):
        host.live(name, profile=UNIT)
    count = host.folder / "count"
    due = NOT_DUE if step == "Warm the release" else ["sh", "-c", f"test -e {count} || exit 2"]
    work = migration(["touch", str(count)], due=due)
    more = {"restart": ["workers.target"], "lent": ["etc"], "pages": ["/page"], **copying(host)}
    plan = host.plan("new", profile={**work, **UNIT, **more})
    with host.visited() as seen:
        killed(plan, step)
        host.live("new", profile=plan["profile"])
    assert seen == {"well"}
    assert host.running() == {"old", "new"}
    assert (host.current, host.closed(), host.under_way()) == ("new", False, {})
    assert (host.root / "previous").readlink().name == "old"
    assert count.exists() is (due != NOT_DUE)
    assert (host.root / "current/etc/env").is_symlink()
    assert not [*host.root.glob("lent*")]
    assert not (host.root / "downloads").exists()
    copies = [each.read_text() for each in host.root.glob("copies/*")]
    assert copies == (["of before\n"] if due != NOT_DUE else [])


@pytest.mark.promise("a-migration-outlives-its-run")
@pytest.mark.parametrize("online", [False, True])
def test_a_migration_that_a_killed_run_has_begun_is_awaited_and_not_done_twice(host, online):
    host.live("old")
    files = declaring("1") if online else {}
    migrated, go_on = host.folder / "migrated", host.folder / "go on"
    slow = [
        "sh",
        "-c",
        f"echo begun >> '{migrated}'; while ! test -e '{go_on}'; do sleep 0.05; done; echo ended >> '{migrated}'",
    ]
    due = ["sh", "-c", f"grep -q ended '{migrated}' || exit 2"]
    profile = {**migration(slow, due=due), "lent": ["etc"], "online": "online"}
    plan = host.plan("new", profile=profile, files=files)
    child = subprocess.Popen(
        [sys.executable, "-IS", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    child.stdin.write(PROGRAM.text(plan, ALL))
    child.stdin.close()
    while not migrated.exists():
        pass
    child.kill()
    child.wait()
    threading.Timer(0.5, go_on.touch).start()
    answer = host.live("new", profile=plan["profile"], files=files)
    assert (answer["migrated"], answer["online"], answer["downtime"] > 0) == (True, online, not online)
    assert answer["notes"] == []  # what was lent is no reason to fetch it again
    assert not [*host.root.glob("lent*")]
    assert migrated.read_text().split() == ["begun", "ended"]
    assert (host.current, host.closed()) == ("new", False)


@pytest.mark.promise("a-migration-outlives-its-run")
def test_a_migration_has_not_ended_where_systemd_does_not_say_so(host):
    host.live("old")
    (host.folder / "log.busy").touch()  # as the bus is, once
    writes = ["sh", "-c", "sleep 0.5; echo more > etc/env && touch ../../migrated"]
    answer = host.live("new", profile={**migration(writes), "lent": ["etc"]})
    assert answer["migrated"] is True
    assert (host.root / "migrated").exists()
    assert (host.folder / "log.busy").exists() is False


def test_a_note_of_an_older_pipeline_is_read(host):
    """It did not write whether a migration was begun: where one was due, it may have been."""
    host.live("old")
    (host.root / "unfinished.json").write_text('{"previous": "old", "maintained": false, "migrates": true}')
    assert host.fails("new", files={"page": "ill"}).endswith(
        "the site stays in maintenance until a release succeeds"
    )


def hook(name, script, **more):
    when, _, phase = name.partition("-")
    return {
        "name": name,
        "when": when,
        "phase": phase,
        "root": False,
        "must": False,
        "text": f"#!/bin/sh\n{script}\n",
        **more,
    }


def hooked(host, name, *hooks, **more):
    return host.does(name, hooks=[*hooks], **more)


@pytest.mark.promise("a-hook-knows-its-release")
def test_hooks_run_before_and_after_each_phase_and_know_their_release(host):
    seen = host.folder / "seen"
    say = f'echo "$1 $RELEASE_PHASE $RELEASE_ID $RELEASE_COMMIT $RELEASE_ENVIRONMENT $RELEASE_HOST $RELEASE_PREVIOUS" >> {seen}'
    both = [hook(f"{when}-{phase}", say.replace("$1", when)) for when in ("before", "after") for phase in ALL]
    host.live("old")
    answer = hooked(host, "new", *both)
    assert (answer["failed"], [name for name, _ in answer["phases"]]) == (None, [*ALL])
    known = "new 1a2b3c4 testing i-1 old"
    assert seen.read_text().splitlines() == [
        f"{when} {phase} {known}" for phase in ALL for when in ("before", "after")
    ]
    seen.unlink()
    answer = hooked(host, "new", *both)
    assert (answer["changed"], seen.exists()) == (False, False), "the same release again has nothing to do"


def test_a_hook_may_be_of_any_language_reads_nothing_and_is_in_the_release_s_folder(host):
    seen = host.folder / "seen"
    text = f"#!{sys.executable} -I\nimport os, sys\nopen({str(seen)!r}, 'w').write(os.getcwd() + sys.stdin.read())\n"
    assert hooked(host, "new", hook("after-bring", "", text=text))["failed"] is None
    assert seen.read_text() == str(host.root / "releases" / "new")


@pytest.mark.parametrize(
    ("name", "stands"),
    [
        ("before-bring", "old runs"),
        ("after-bring", "old runs"),
        ("before-live", "old runs as before"),
        ("before-open", "went back to old"),
    ],
)
@pytest.mark.promise("a-hook-before-stops-the-release")
def test_a_hook_that_fails_before_visitors_have_the_release_is_the_phase_s_failure(host, name, stands):
    host.live("old")
    before = host.state()
    failed = hooked(host, "new", hook(name, "echo the licence has ended; exit 3"))["failed"]
    assert failed["step"] == f"Hook {name}"
    assert failed["reason"] == f"hooks/{name}: exit code 3"
    assert (failed["output"].strip(), failed["outcome"]) == ("the licence has ended", stands)
    assert host.state()["current"] == before["current"]
    host.live("new")


@pytest.mark.parametrize("name", ["after-live", "after-open", "after-settle"])
@pytest.mark.promise("a-hook-after-is-told")
def test_a_hook_that_fails_once_visitors_have_the_release_is_told_and_undoes_nothing(host, name):
    host.live("old")
    answer = hooked(host, "new", hook(name, "echo the cache does not answer; exit 3"))
    assert answer["failed"] is None
    assert answer["late"] == [f"hooks/{name}: exit code 3: the cache does not answer"]
    assert (host.current, host.under_way()) == ("new", {})


@pytest.mark.parametrize("name", ["after-live", "after-open"])
@pytest.mark.promise("a-hook-after-is-told")
def test_a_hook_that_must_end_well_undoes_what_visitors_have(host, name):
    host.live("old")
    answer = hooked(host, "new", hook(name, "exit 3", must=True))
    assert (answer["failed"]["outcome"], answer["late"], host.current) == ("went back to old", [], "old")


def test_a_hook_of_undo_sees_what_is_undone_and_cannot_hinder_it(host):
    host.live("old")
    seen = host.folder / "seen"
    both = [hook("before-undo", f"echo $RELEASE_ID >> {seen}; exit 3"), hook("after-undo", f"echo >> {seen}")]
    answer = hooked(host, "new", *both, files={"page": "fine"}, profile={"after_switch": [["false"]]})
    assert (answer["failed"]["outcome"], host.current) == ("went back to old", "old")
    assert (seen.read_text(), answer["late"]) == ("new\n\n", ["hooks/before-undo: exit code 3"])
    seen.unlink()
    assert hooked(host, "new", *both, hook("before-live", "exit 3"))["failed"]["step"] == "Hook before-live"
    assert not seen.exists(), "nothing was begun"


def test_a_hook_that_does_not_end_is_ended_and_what_it_leaves_running_is_not_waited_for(host, monkeypatch):
    host.live("old")
    assert (
        hooked(host, "new", hook("after-bring", "sleep 30 & echo $! > $RELEASE_PATH/left"))["failed"] is None
    )
    os.kill(int((host.root / "left").read_text()), 9)
    monkeypatch.setattr(phases, "HOOK_SECONDS", 0.2)
    failed = hooked(host, "newer", hook("before-live", "exec sleep 30"))["failed"]
    assert failed["reason"] == "hooks/before-live: exit code none within 0 s"
    assert host.current == "new"


def test_a_reader_that_is_not_there_is_named(host):
    host.live("old")
    failed = hooked(host, "new", hook("before-live", "", text="#!/nowhere/php\n"))["failed"]
    assert failed["reason"] == "/nowhere/php cannot be started: No such file or directory"


@pytest.mark.promise("a-hook-is-the-application-s")
def test_a_hook_runs_as_the_application_s_user_unless_its_name_says_root(guarded):
    who = 'id -un >> "$RELEASE_PATH/shared/media/who"'
    user, root = hook("after-bring", who), hook("before-live", who, root=True)
    assert hooked(guarded, "new", user, root)["failed"] is None
    assert (guarded.root / "shared/media/who").read_text().split() == [guarded.user, "root"]
