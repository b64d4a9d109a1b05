"""A host's program, with restic and the key that a host has, and a bucket of the embedded cloud. Its database is a file."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import boto3
import pytest
from botocore.exceptions import ClientError

from tasks.backup import access, restored, retention
from tasks.backup.host import BackupFailed
from tasks.backup.restored import BackupAge
from tasks.bucket import create, layout
from tasks.cloud.embedded.home import Home
from tasks.infrastructure import secrets
from tasks.settings import Backups
from tests.cloud.embedded.conftest import REGION, Server
from tests.clouds import QuietCloud, run_in
from tests.conftest import ROOT, until

PROGRAM = ROOT / "roles" / "backup" / "files" / "backup.py"
COPY = """#!/bin/sh
set -e
case "$1" in
dump) cat "$0.data" ;;
restore) cp "$0.data" "$3" && cp "$2" "$0.data" ;;
esac
"""
"""Stands in for `database_copy`: the database is a file beside it."""


def program():
    """The program as a module."""
    specification = importlib.util.spec_from_file_location("backup_program", PROGRAM)
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


class Machine:
    """What a host has: the program's settings, a database, shared files, a release."""

    def __init__(self, folder: Path, told: dict[str, str]) -> None:
        self.folder, self.database = folder, folder / "copy.data"
        for each in ("shared/media", "current/var", "releases", "state", "aside"):
            (folder / each).mkdir(parents=True)
        (folder / "copy").write_text(COPY)
        (folder / "copy").chmod(0o755)
        self.database.write_text("CREATE TABLE one;\n")
        (folder / "shared" / "media" / "a.jpg").write_text("a")
        self.settings = {
            **{name.removeprefix("backup_"): value for name, value in told.items()},
            **{name: str(folder / name) for name in ("shared", "current", "state", "aside", "trial")},
            "copy": [str(folder / "copy")],
            "proxy": {},
            "database": "",
            "paths": ["media", "none"],
            "user": "root",
            "group": "games",
            "close": "var/closed",
            "pause": [],
            "after": [["touch", "flushed"]],
            "aside_days": 14,
            "jobs": str(folder / "releases"),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the program."""
        (self.folder / "settings").write_text(json.dumps(self.settings))
        return subprocess.Popen(
            [sys.executable, PROGRAM, *words],
            env={
                **os.environ,
                "BACKUP_SETTINGS": str(self.folder / "settings"),
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> str:
        """What the program prints."""
        child = self.start(*words)
        output, complaints = child.communicate(timeout=120)
        assert child.returncode == 0, complaints
        return output

    def refused(self, *words: str) -> str:
        """The sentence with which the program fails."""
        child = self.start(*words)
        output, complaints = child.communicate(timeout=120)
        assert (child.returncode, output) == (1, ""), complaints
        return complaints.strip().removeprefix("backup: ")

    def units(self, *names: str) -> None:
        """Units that are paused, and a `systemctl` that keeps which of them run: there is no systemd here."""
        self.settings["pause"] = list(names)
        for each in ("bin", "running"):
            (self.folder / each).mkdir()
        (self.folder / "bin" / "systemctl").write_text(
            f'#!/bin/sh\ncd {self.folder}/running\ncase $1 in start) touch "$2" ;; stop) rm -f "$2" ;; esac\n'
        )
        (self.folder / "bin" / "systemctl").chmod(0o755)
        subprocess.run([self.folder / "bin" / "systemctl", "start", *names], check=True)

    def started(self) -> set[str]:
        """The units that run."""
        return {each.name for each in (self.folder / "running").iterdir()}

    def state(self) -> tuple[str, dict[str, str]]:
        """The database, and the files."""
        media = self.folder / "shared" / "media"
        return self.database.read_text(), {each.name: each.read_text() for each in media.iterdir()}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(Home(folder=tmp_path_factory.mktemp("state") / "cloud"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def run(checkout, server, request):
    """Staging, in a bucket of its own for each test."""
    cloud = QuietCloud(REGION, server.home.load())
    made = run_in(checkout, cloud, environment="staging", branch="main")
    name = f"shop-{abs(hash(request.node.name))}"
    made = dataclasses.replace(made, store=dataclasses.replace(made.store, chosen=name))
    create.make_bucket(made.store, "shop", REGION)
    return made


@pytest.fixture
def machine(run, tmp_path):
    """A host that was provisioned. It reaches the server at loopback."""
    with contextlib.suppress(ClientError):  # of the test before, whose bucket it may write to
        run.cloud.client("ssm").delete_parameter(Name=f"{run.secrets_folder}/backup_key_secret")
    known = secrets.ensure(run.cloud.client("ssm"), run.secrets_folder, ["backup"])
    told = access.variables(run, known)
    endpoint = run.cloud.client("s3").meta.endpoint_url
    return Machine(tmp_path / "machine", {**told, "backup_repository": access.repository(run, endpoint)})


@pytest.fixture
def passable():
    """A folder that the database server's user gets to: those of pytest are root's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def keys(run, part: str) -> list[str]:
    return list(run.store.keys(layout.backups("staging", part)))


def shown(run):
    return restored.look(run.store, "staging", 7)


def planted(machine: Machine, change: Callable[[Any], None]) -> None:
    """Make a newest backup that has another content than it says. `change` gets the program's settings."""
    made = program()
    settings = made.Settings(machine.settings)
    work, (*_, newest) = f"{settings.state}/dump", made.snapshots(settings)
    there = [f"{settings.shared}/{each}" for each in settings.paths]
    made.restic(settings, "restore", newest["id"], "--target", "/")
    change(settings)
    left = [each for each in (f"{work}/noted", f"{work}/database.sql", *there) if Path(each).exists()]
    made.restic(settings, "backup", "--host", settings.host, *left)
    shutil.rmtree(work)


@pytest.mark.promise(
    "a-restore-brings-all-back",
    "a-restore-keeps-what-was-there",
    "unrestored-counts-as-none",
    "a-trial-touches-nothing",
)
def test_what_was_backed_up_is_as_it_was_again(run, machine):
    assert shown(run) == BackupAge(days=7)
    machine.run("now")
    first, (one,) = machine.state(), json.loads(machine.run("list"))
    machine.database.write_text("CREATE TABLE two;\n")
    (machine.folder / "shared" / "media" / "b.jpg").write_text("b")
    machine.run("now")
    second = machine.state()
    machine.database.write_text("broken")
    (machine.folder / "shared" / "media" / "a.jpg").unlink()
    broken = machine.state()

    seen = shown(run)
    assert (bool(seen.newest), seen.restored) == (True, "")
    said, told = machine.run("restore", "newest").splitlines()
    assert machine.state() == second
    media = machine.folder / "shared" / "media"  # which commands and pages write
    shared = [(each.group(), oct(each.stat().st_mode & 0o7070)) for each in (media, media / "a.jpg")]
    assert shared == [("games", "0o2070"), ("games", "0o60")]
    assert (machine.folder / "current" / "flushed").exists()
    assert not (machine.folder / "current" / "var" / "closed").exists()
    (aside,) = (machine.folder / "aside").iterdir()
    assert str(aside) in said
    assert (aside / "database.sql.zst").read_text() == broken[0]
    assert {each.name: each.read_text() for each in (aside / "media").iterdir()} == broken[1]

    restored.keep(run, "restore", json.loads(told))
    seen = shown(run)
    assert (seen.restored, seen.proved) == (f"{json.loads(told)['time']}+00:00", True)

    (machine.folder / "trial" / "fetched").mkdir(parents=True)  # of one that was killed
    said, tried = machine.run("try", "newest").splitlines()
    assert said.startswith(f"{json.loads(told)['snapshot'][:8]} of ")
    assert json.loads(tried)["files"] == {"media": 2, "none": 0}
    assert json.loads(tried)["compared"]
    assert (machine.state(), (machine.folder / "trial").exists()) == (second, False)
    _, older = machine.run("restore", one["id"][:8]).splitlines()
    assert machine.state() == first
    restored.keep(run, "restore", {**json.loads(older), "time": "2000-01-01T00:00:00"})
    assert shown(run) == seen, "an older one proves nothing of the newest"


class ForwardProxy(http.server.BaseHTTPRequestHandler):
    """A proxy for plain HTTP, which leads to loopback whatever is asked for. `asked`: that."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[set] = set()

    def forward(self):
        url = urllib.parse.urlsplit(self.path)
        self.asked.add(url.netloc)
        onward = http.client.HTTPConnection("127.0.0.1", url.port, timeout=30)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        onward.request(self.command, self.path.partition(url.netloc)[2], body or None, dict(self.headers))
        answer = onward.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)
        onward.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815  as its base class asks

    def log_message(self, *_):
        pass


@pytest.mark.promise("a-backup-passes-the-proxy")
def test_where_egress_is_listed_restic_goes_through_the_proxy(run, machine):
    """Nobody but the proxy gets to the bucket: the address is one for documentation."""
    name, endpoint = "192.0.2.1", urllib.parse.urlsplit(run.cloud.client("s3").meta.endpoint_url)
    machine.settings["repository"] = machine.settings["repository"].replace(endpoint.hostname, name)
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ForwardProxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    machine.settings["proxy"] = {
        "http_proxy": f"http://127.0.0.1:{proxy.server_port}",
        "no_proxy": "localhost",
    }
    machine.run("now")
    machine.run("try", "newest")
    proxy.shutdown()
    assert ForwardProxy.asked == {f"{name}:{endpoint.port}"}


@pytest.mark.promise("a-backup-passes-the-proxy")
@pytest.mark.parametrize(
    ("endpoint", "names"),
    [
        ("http://10.1.2.1:4566", ["10.1.2.1"]),
        (
            "https://s3.eu-central-1.amazonaws.com",
            ["shop.s3.eu-central-1.amazonaws.com", "shop.s3.dualstack.eu-central-1.amazonaws.com"],
        ),
        (
            "https://s3.cn-north-1.amazonaws.com.cn",
            ["shop.s3.cn-north-1.amazonaws.com.cn", "shop.s3.dualstack.cn-north-1.amazonaws.com.cn"],
        ),
    ],
)
def test_the_names_by_which_restic_asks_for_the_bucket_are_known(endpoint, names):
    region = endpoint.split(".")[1] if "amazonaws" in endpoint else "eu-central-1"
    told = SimpleNamespace(
        cloud=SimpleNamespace(s3_endpoint=endpoint), bucket="shop", pipeline=SimpleNamespace(region=region)
    )
    assert access.names(told) == names


def without_a_file(settings):
    """The folder is as old as it was: nobody has removed it since."""
    media = Path(settings.shared) / "media"
    before = media.stat().st_mtime_ns
    (media / "a.jpg").unlink()
    os.utime(media, ns=(before, before))


def without_notes(settings):
    shutil.rmtree(f"{settings.state}/dump/noted")


@pytest.mark.long(short="tests/backup/test_host_program.py::test_what_was_backed_up_is_as_it_was_again")
@pytest.mark.promise("a-broken-backup-is-refused")
def test_a_backup_with_another_content_than_it_says_is_refused(run, machine):
    media = machine.folder / "shared" / "media"
    (media / "b.jpg").write_text("b")
    for each in (media / "a.jpg", media):  # long before: nobody changed them while they were backed up
        os.utime(each, (0, 10**9))
    machine.run("now")
    planted(machine, without_a_file)
    assert re.fullmatch(
        r"[0-9a-f]{8} of \S+ UTC is not what was backed up: the file media/a.jpg is missing",
        machine.refused("try", "newest"),
    )
    planted(machine, without_notes)
    said = machine.run("try", "newest").splitlines()[-1]
    assert not json.loads(said)["compared"]
    (media / "large").write_bytes(os.urandom(1 << 20))
    machine.run("now")
    pack = max(keys(run, "data/"), key=run.store.size)
    content = run.store.open(pack).read()
    run.store.client.put_object(Bucket=run.bucket, Key=pack, Body=content[: len(content) // 2])
    assert machine.refused("try", "newest").startswith("the bucket has not all of the backup: ")
    assert not (machine.folder / "trial").exists()


@pytest.mark.promise("a-broken-backup-is-refused")
def test_what_visitors_change_while_it_is_backed_up_is_no_difference(machine, tmp_path):
    made = program()
    settings = made.Settings({**machine.settings, "paths": ["media"]})
    media, noted = machine.folder / "shared" / "media", tmp_path / "noted"
    for name in ("changed", "gone", "moved/deep"):
        (media / name).parent.mkdir(exist_ok=True)
        (media / name).write_text(name)

    def differ():
        return list(made.differences(settings, str(noted), settings.shared, {}))

    def long_ago():
        for folder, _, files in os.walk(media):
            for each in (folder, *(f"{folder}/{name}" for name in files)):
                os.utime(each, (0, 10**9))

    long_ago()
    noted.mkdir()
    made.note_files(settings, str(noted / "files"))
    assert differ() == []
    (media / "changed").write_text("longer than it was")
    (media / "gone").unlink()
    shutil.rmtree(media / "moved")
    assert differ() == []
    long_ago()
    assert differ() == [
        "the file media/changed differs",
        "the file media/gone is missing",
        "the file media/moved/deep is missing",
    ]


def nothing_noted(settings):
    """As a backup that was empty from the beginning: it is what it says."""
    shutil.rmtree(f"{settings.shared}/media")
    Path(f"{settings.state}/dump/noted/files").write_text("0\n")


@pytest.mark.promise("an-empty-backup-is-refused")
def test_a_backup_without_a_table_proves_nothing(machine, passable):
    machine.settings |= {"database": "shop", "trial": str(passable / "trial")}
    machine.database.write_text("CREATE DATABASE shop;\n")
    child = machine.start("now")
    assert "backup: of the paths, not there: none\n" in child.communicate(timeout=60)[1]
    planted(machine, nothing_noted)
    words = "has no table"
    assert re.fullmatch(rf"[0-9a-f]{{8}} of \S+ UTC {words}", machine.refused("try", "newest"))


ODD = """
CREATE DATABASE shop; USE shop;
CREATE TABLE `o``dd` (id INT PRIMARY KEY, word TEXT, raw BLOB, twice INT AS (id * 2) STORED);
INSERT INTO `o``dd` (id, word, raw) SELECT seq, CONCAT('it''s a "row"),\n(', seq, ');\n'), UNHEX(SHA2(seq, 256)) FROM seq_1_to_3000;
CREATE TABLE empty (id INT); CREATE TABLE keyless (word TEXT); INSERT INTO keyless VALUES ('b'), ('a'), ('a'), (NULL);
CREATE VIEW seen AS SELECT id FROM `o``dd`; CREATE VIEW `s``een` AS SELECT id FROM seen;
CREATE DEFINER=`gone`@`%` SQL SECURITY DEFINER VIEW defined AS SELECT id FROM `o``dd`;
CREATE DEFINER=`gone`@`%` VIEW seen_by AS SELECT id FROM defined;
CREATE DEFINER=`gone`@`%` TRIGGER again BEFORE INSERT ON keyless FOR EACH ROW SET NEW.word = 'x';
DELIMITER ;;
CREATE PROCEDURE fill() BEGIN
INSERT INTO `keyless` VALUES
('c');
END;;
"""
"""Rows with line ends and what looks like the end of a row; a computed column; no rows; no key; code that looks like rows; users that another server lacks."""


@pytest.mark.promise("a-broken-backup-is-refused", "a-copy-has-rows-of-any-length")
def test_rows_are_counted_in_the_copy_and_again_in_a_copy_of_what_was_restored(machine, passable, tmp_path):
    made = program()
    machine.settings |= {"database": "shop", "trial": str(passable / "trial")}
    settings = made.Settings(machine.settings)
    Path(settings.trial).mkdir(mode=0o711)
    template = (ROOT / "roles" / "database" / "templates" / "database_copy.j2").read_text()
    options = re.search(
        r"mariadb-dump\{\{.+?\}\} (--single.+?) \\\n *(--skip.+?) --databases", template, re.S
    ).groups()
    with made.empty_server(settings) as server:
        (tmp_path / "odd.sql").write_text(f"-- max_allowed_packet {1 << 20}\n-- {'x' * (1 << 20)}\n")
        words = f"it has a row of {(1 << 20) + 4} bytes, and that server takes {1 << 20}: set its max_allowed_packet to "
        with pytest.raises(made.Refused, match=words):
            made.load(server, tmp_path / "odd.sql")
        (tmp_path / "odd.sql").write_text(ODD)
        made.load(server, tmp_path / "odd.sql")
        dump = ["mariadb-dump", "--no-defaults", *server, *" ".join(options).split(), "--databases", "shop"]
        machine.database.write_bytes(subprocess.run(dump, capture_output=True, check=True).stdout)
        dump[-1] = "other"
        with pytest.raises(made.Refused, match=r"^the database was not read: .*Unknown database 'other'"):
            made.measured(settings, settings.shared, dump)
    shutil.rmtree(settings.trial)
    with machine.database.open("rb") as file:
        counted = made.counted(file)
    assert {name: rows for name, (rows, _) in counted.items()} == {"o`dd": 3000, "empty": 0, "keyless": 4}
    machine.run("now")
    told = json.loads(machine.run("try", "newest").splitlines()[-1])
    assert (told["tables"], told["compared"]) == (counted, True)

    (tmp_path / "noted").mkdir()
    (tmp_path / "noted" / "files").write_text("0\n")
    (tmp_path / "noted" / "tables.json").write_text(json.dumps(counted))
    content = machine.database.read_bytes()
    planted = {
        "the table empty is missing": (b"CREATE TABLE `empty`", b"CREATE TABLA `empty`"),
        "rows of the table keyless differ": (b"('b')", b"('B')"),
        "the table keyless has 3 rows of 4": (b"('b'),\n", b""),
    }
    for words, (before, after) in planted.items():
        assert content.count(before) == 1
        found = made.counted(io.BytesIO(content.replace(before, after)))
        assert list(made.differences(settings, str(tmp_path / "noted"), settings.shared, found)) == [words]
    with pytest.raises(made.Refused, match="has an unknown form"):
        made.counted(
            io.BytesIO(content.replace(b"INSERT INTO `keyless` VALUES\n", b"INSERT INTO `keyless` VALUES "))
        )


@pytest.mark.promise("a-host-destroys-no-backup", "retention-by-settings")
def test_who_has_a_host_destroys_no_backup_and_the_settings_say_which_go(run, machine):
    for _ in range(2):
        machine.run("now")
    assert keys(run, "locks/") == []
    (data, *_), (snapshot, *_) = keys(run, "data/"), keys(run, "snapshots/")
    theirs = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=run.cloud.client("s3").meta.endpoint_url,
        aws_access_key_id=machine.settings["key_id"],
        aws_secret_access_key=machine.settings["key_secret"],
    )

    def code(call, **more):
        with pytest.raises(ClientError) as caught:
            getattr(theirs, call)(Bucket=run.bucket, **more)
        return caught.value.response["Error"]["Code"]

    run.store.put("history/staging.json", b"{}")
    for key in (data, snapshot, layout.backups("staging", "config"), "history/staging.json"):
        assert code("delete_object", Key=key) == "AccessDenied"
    assert code("get_object", Key="history/staging.json") == "AccessDenied"
    assert code("put_object", Key=layout.backups("production", "config"), Body=b"") == "AccessDenied"
    # what it overwrites is there in the version before, which it may not delete
    before = run.store.client.get_object(Bucket=run.bucket, Key=snapshot)
    theirs.put_object(Bucket=run.bucket, Key=snapshot, Body=b"rubbish")
    assert code("delete_object", Key=snapshot, VersionId=before["VersionId"]) == "AccessDenied"
    kept = run.store.client.get_object(Bucket=run.bucket, Key=snapshot, VersionId=before["VersionId"])
    good = before["Body"].read()
    assert kept["Body"].read() == good != b"rubbish"
    run.store.client.put_object(Bucket=run.bucket, Key=snapshot, Body=good)

    assert len(keys(run, "snapshots/")) == 2
    assert retention.forget(run) == "1 backups are left of staging"
    assert len(keys(run, "snapshots/")) == 1
    machine.run("restore", "newest")


@pytest.mark.promise("the-proved-backup-stays")
def test_the_newest_backup_that_was_restored_outlives_the_settings(run, machine):
    def back_up():
        machine.run("now")
        return max(json.loads(machine.run("list")), key=lambda each: each["time"])["id"]

    def left():
        retention.forget(run)
        return {each["id"] for each in json.loads(machine.run("list"))}

    def prove():
        restored.keep(run, "try", json.loads(machine.run("try", "newest").splitlines()[1]))

    settings = Backups(days=1, weeks=0, months=0)
    run = dataclasses.replace(run, environment=dataclasses.replace(run.environment, backup=settings))
    back_up()
    whole = back_up()
    prove()
    newest = [back_up() for _ in range(2)][-1]
    assert left() == {whole, newest}
    assert left() == {whole, newest}
    prove()
    assert left() == {newest}


@pytest.mark.long(
    short="tests/backup/test_host_program.py::test_what_fails_is_said_in_a_sentence_and_touches_nothing"
)
def test_an_interrupted_backup_leaves_nothing_in_the_way_of_the_next(run, machine):
    (machine.folder / "shared" / "media" / "large").write_bytes(os.urandom(40 << 20))
    child = machine.start("now")
    until(lambda: keys(run, "data/") and keys(run, "locks/"))
    assert machine.refused("now") == "another backup or restore is under way on this host"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert (len(keys(run, "locks/")), keys(run, "snapshots/")) == (1, [])
    until(lambda: subprocess.run(["pgrep", "--parent", "1", "--exact", "restic"]).returncode == 1)
    machine.run("now")
    assert (keys(run, "locks/"), len(keys(run, "snapshots/"))) == ([], 1)
    assert list((machine.folder / "state").glob("dump")) == []
    before = machine.database.read_text(), (machine.folder / "shared" / "media" / "large").read_bytes()
    (machine.folder / "shared" / "media" / "large").unlink()
    machine.run("restore", "newest")
    assert (
        machine.database.read_text(),
        (machine.folder / "shared" / "media" / "large").read_bytes(),
    ) == before


@pytest.mark.promise("a-failed-backup-is-a-sentence", "what-a-restore-closes-the-next-opens")
def test_what_fails_is_said_in_a_sentence_and_touches_nothing(run, machine):
    machine.units("workers.target")
    place = machine.settings["repository"]
    assert machine.refused("restore", "newest") == f"there is no repository at {place}"
    machine.run("now")
    before = machine.state()

    good = dict(machine.settings)
    machine.settings["password"] = "another"
    for words in (["now"], ["restore", "newest"], ["list"]):
        assert machine.refused(*words) == f"the password does not open {place}"
    machine.settings = {**good, "key_secret": "x" * 40}
    assert machine.refused("now") == f"the bucket refuses this host's key for {place}"
    machine.settings = {**good, "repository": f"{place}-other"}
    assert machine.refused("restore", "newest") == f"the bucket refuses this host's key for {place}-other"
    machine.settings = good
    assert "restore" not in machine.refused("restore", "2000-01-01")
    (machine.folder / "copy").write_text("#!/bin/sh\necho 'Lost connection' >&2; exit 3\n")
    assert machine.refused("now") == "the database was not copied: Lost connection"
    (machine.folder / "copy").write_text(COPY.replace('cp "$2"', 'false "$2"'))
    said = machine.refused("restore", "newest")
    assert "the site stays closed; what was there until now is in" in said
    assert "the database was not restored" in said
    flag, begun = machine.folder / "current" / "var" / "closed", machine.folder / "begun"
    assert (flag.exists(), machine.started(), machine.state()) == (True, set(), before)
    (machine.folder / "copy").write_text(COPY.replace('cp "$2"', f'touch {begun}; exec sleep 60; cp "$2"'))
    child = machine.start("restore", "newest")
    until(begun.exists)
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=60)[1]
    assert said.startswith("backup: the site stays closed; what was there until now is in ")
    assert said.endswith("\nbackup: it was ended by SIGTERM\n")
    (machine.folder / "copy").write_text(COPY)
    said, _ = machine.run("restore", "newest").splitlines()
    assert said.endswith(" days")
    assert (flag.exists(), machine.started()) == (False, {"workers.target"})

    run.store.delete_all(keys(run, ""))
    said = machine.refused("now")
    assert said.startswith(f"there is no repository at {place} any more, and this host has backed up there")
    with pytest.raises(BackupFailed, match="The specified key does not exist"):
        retention.forget(run)


@pytest.mark.promise("what-a-restore-closes-the-next-opens")
def test_what_somebody_has_closed_stays_closed_and_that_is_said(machine, monkeypatch):
    flag = machine.folder / "current" / "var" / "closed"
    machine.units("workers.target")
    monkeypatch.setenv("PATH", f"{machine.folder / 'bin'}:{os.environ['PATH']}")
    made = program()
    settings = made.Settings(machine.settings)

    def by_hand():
        flag.touch()
        os.utime(flag, (10**9, 10**9))

    def words():
        with made.closed(settings, "aside") as stays:
            assert (flag.exists(), machine.started()) == (True, set())
        return stays, flag.exists()

    by_hand()
    assert words() == ("; the site stays closed, as it was before", True)
    flag.unlink()
    with pytest.raises(made.Refused), made.closed(settings, "aside"):
        raise made.Refused("half replaced")
    flag.unlink()  # somebody goes on by hand, and closes the site later
    by_hand()
    assert words() == ("; the site stays closed, as it was before", True)
    flag.unlink()
    assert words() == ("", False)


@pytest.mark.parametrize(("close", "free"), [("var/closed", True), ("", False)])
def test_jobs_are_awaited_and_those_that_the_closed_site_keeps_out_do_not_pile_up(machine, close, free):
    machine.settings["close"] = close
    made, begun, ended = program(), machine.folder / "begun", machine.folder / "ended"
    held = ["flock", "--shared", machine.settings["jobs"]]
    job = subprocess.Popen([*held, "sh", "-c", f"touch {begun}; sleep 0.3; touch {ended}"])
    until(begun.exists)
    with made.closed(made.Settings(machine.settings), "aside"):
        assert ended.exists()
        asked = subprocess.run([*held[:2], "--nonblock", *held[2:], "true"])
    assert (asked.returncode == 0) == free
    job.wait()


def test_a_full_disk_is_said_and_nothing_of_the_attempt_stays(machine):
    machine.run("now")
    state = machine.folder / "state"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", state], check=True)
    try:
        machine.database.write_bytes(b"x" * (2 << 20))
        assert machine.refused("now") == "the database was not copied: the disk of this host is full"
        assert not (state / "dump").exists()
    finally:
        subprocess.run(["umount", state], check=True)


@contextlib.contextmanager
def mounted(place: Path, *options: str):
    """A disk of its own at a folder."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize(
    ("at", "options"),
    [
        ("media", ["-t", "tmpfs", "none"]),
        ("media", ["--bind", "disk"]),
        (".", ["-t", "tmpfs", "none"]),
    ],
)
@pytest.mark.promise("a-restore-onto-another-disk")
def test_files_on_a_disk_of_their_own_are_restored_and_what_was_there_is_kept(machine, at, options):
    shared, disk = machine.folder / "shared", machine.folder / "disk"
    disk.mkdir()
    with mounted(shared / at, *(str(disk) if each == "disk" else each for each in options)):
        media = shared / "media"
        (media / "deep").mkdir(parents=True)
        (media / "a.jpg").write_text("a")
        (media / "deep" / "b.jpg").write_text("b")
        machine.run("now")
        (media / "a.jpg").write_text("changed")
        (media / ".new").write_text("new")
        shutil.rmtree(media / "deep")
        machine.run("restore", "newest")
        assert sorted(each.name for each in media.iterdir()) == ["a.jpg", "deep"]
        assert ((media / "a.jpg").read_text(), (media / "deep" / "b.jpg").read_text()) == ("a", "b")
        shared_by = [(each.group(), oct(each.stat().st_mode & 0o2070)) for each in (media, media / "a.jpg")]
        assert shared_by == [("games", "0o2070"), ("games", "0o60")]
        (aside,) = (machine.folder / "aside").iterdir()
        assert {each.name: each.read_text() for each in (aside / "media").iterdir()} == {
            "a.jpg": "changed",
            ".new": "new",
        }


@pytest.mark.promise("a-restore-onto-another-disk")
def test_a_disk_without_room_is_said_before_the_site_is_closed(machine):
    media, aside = machine.folder / "shared" / "media", machine.folder / "aside"
    (media / "large").write_bytes(os.urandom(3 << 20))
    machine.run("now")
    with mounted(media, "-t", "tmpfs", "-o", "size=2m", "none"):
        machine.database.write_text("present")
        assert machine.refused("restore", "newest") == "media needs 3 MB, and its disk has no room for that"
    with mounted(media, "-t", "tmpfs", "none"), mounted(aside, "-t", "tmpfs", "-o", "size=8m", "none"):
        (media / "present").write_bytes(os.urandom(6 << 20))
        said = machine.refused("restore", "newest")
        assert said.startswith(
            f"what is in media until now is kept in {aside}, which needs 6 MB, and that disk has 5 MB"
        )
    assert (machine.database.read_text(), list(aside.iterdir())) == ("present", [])
    assert not (machine.folder / "current" / "var" / "closed").exists()


def as_a_link(settings):
    shutil.rmtree(f"{settings.shared}/media")
    Path(f"{settings.shared}/media").symlink_to("/")


@pytest.mark.promise("a-link-is-no-backup")
def test_a_path_that_is_a_link_is_not_backed_up_and_one_that_was_proves_nothing(run, machine):
    media = machine.folder / "shared" / "media"
    machine.run("now")
    planted(machine, as_a_link)
    assert machine.refused("try", "newest").endswith(
        " is not what was backed up: media is a link, and not what it leads to"
    )
    assert machine.refused("now").startswith(
        "media is a link, of which a backup has nothing but where it leads"
    )
    assert len(keys(run, "snapshots/")) == 2
    media.unlink()
    media.mkdir()
    machine.run("now")


def test_what_a_killed_restore_had_fetched_goes_before_the_next_one_asks_for_room(machine):
    machine.run("now")
    for name in ("killed/fetched/srv", "failed/fetched", "failed/media"):
        (machine.folder / "aside" / name).mkdir(parents=True)
    machine.run("restore", "newest")
    assert list((machine.folder / "aside").glob("*/fetched")) == []
    assert (machine.folder / "aside" / "failed" / "media").exists()


FOUND = [
    {"id": "aaaaaaaa1", "time": "2026-11-26T03:30:09"},
    {"id": "bbbbbbbb2", "time": "2026-11-27T03:30:11"},
    {"id": "bbbbbbbc3", "time": "2026-11-28T03:30:10"},
]


@pytest.mark.parametrize(
    ("when", "meant"),
    [
        ("newest", "bbbbbbbc3"),
        ("aaaaaaaa", "aaaaaaaa1"),
        ("bbbbbbbb2", "bbbbbbbb2"),
        ("2026-11-27", "bbbbbbbb2"),
        ("2026-11-27T03:30", "bbbbbbbb2"),
        ("2026-11-27 03:30:10", "aaaaaaaa1"),
        ("2027-01-01", "bbbbbbbc3"),
    ],
)
def test_when_names_a_backup(when, meant):
    assert program().chosen(FOUND, when)["id"] == meant


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("2026-11-25", "no backup is from 2026-11-25 or before: the oldest is from 2026-11-26T03:30:09"),
        ("yesterday", "yesterday is neither"),
        ("cccccccc", "cccccccc is neither"),
    ],
)
def test_what_names_none_is_a_sentence(when, words):
    made = program()
    with pytest.raises(made.Refused, match=f"^{words}"):
        made.chosen(FOUND, when)


def test_what_restores_have_put_aside_goes_after_its_days(machine):
    for name, days in (("old", 15), ("young", 13)):
        (machine.folder / "aside" / name / "media").mkdir(parents=True)
        at = Path(machine.folder / "aside" / name).stat().st_mtime - days * 86400
        os.utime(machine.folder / "aside" / name, (at, at))
    program().forget_aside(type("Told", (), {"aside": str(machine.folder / "aside"), "aside_days": 14}))
    assert [each.name for each in (machine.folder / "aside").iterdir()] == ["young"]


@pytest.mark.parametrize(
    ("days", "weeks", "months", "flags"),
    [
        (14, 8, 12, ["--keep-daily=14", "--keep-weekly=8", "--keep-monthly=12"]),
        (1, 0, 0, ["--keep-daily=1"]),
    ],
)
@pytest.mark.promise("retention-by-settings")
def test_the_settings_say_what_is_kept(days, weeks, months, flags):
    assert retention.kept(Backups(days=days, weeks=weeks, months=months))[2:] == flags
