"""The profile `php` on a real host: an application with a front controller, a database, a worker and a clock."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.conftest import commit, until
from tests.end_to_end.conftest import Site, copy_example, replace

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("php")]

MAINTENANCE = "back in a minute"
UNCHANGED = dict.fromkeys(["infrastructure", "tarball", "server", "release"], "unchanged")


@pytest.fixture
def board(tmp_path, project) -> Site:
    """A board of notes. `project` deletes the cloud of both."""
    root = copy_example(tmp_path / "board", "php")
    variables = "server:\n  shared: {variables: ['GREETING=\"5 $\" for = \\']}\n"
    replace(root / "environments" / "testing.yml", {"release:\n": f"{variables}release:\n  keep: 1\n"})
    commit(root, "a board of notes")
    return Site(root=root, variables={})


class Visitor:
    """Somebody at the site's address, which is asked for once."""

    def __init__(self, site: Site) -> None:
        self.site = site.shown()

    def ask(self, path: str = "/", method: str = "GET", seconds: int = 20, **form: str) -> tuple[int, str]:
        connection = self.site.connection(seconds)
        headers = {**self.site.headers, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, urlencode(form), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def write(self, text: str) -> str:
        """Write a note; the release whose worker published it."""
        assert self.ask(method="POST", text=text)[0] == 303
        shown = until(lambda: re.search(rf'<p title="([^"]+)">{text}</p>', self.ask()[1]))
        return shown[1]

    def begin(self, path: str) -> list[tuple[int, str]]:
        """Ask for a page that takes its time; the list has the answer once it came."""
        answers: list[tuple[int, str]] = []
        threading.Thread(target=lambda: answers.append(self.ask(path, seconds=500)), daemon=True).start()
        return answers

    @contextlib.contextmanager
    def watching(self) -> Iterator[set[tuple[int, str]]]:
        """Ask for the page all the time; the answers, each with what it shows; 0 for none."""
        seen: set[tuple[int, str]] = set()
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                try:
                    status, page = self.ask()
                except (OSError, http.client.HTTPException):
                    status, page = 0, ""
                seen.add((status, "maintenance" if MAINTENANCE in page else "notes" * ("Notes" in page)))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield seen
        finally:
            ended.set()
            thread.join()


@pytest.mark.promise(
    "unlisted-packages-are-not-installed",
    "environment-file-is-0640",
    "files-as-they-are",
    "uploads-do-not-run",
    "dot-files-are-not-served",
    "maintenance-page",
    "workers-follow-the-release",
    "nothing-begins-in-maintenance",
    "unlisted-workers-go",
    "a-release-runs-alone",
    "a-long-request-ends-in-its-release",
    "a-restore-keeps-what-it-replaces",
    "an-online-migration-closes-nothing",
    "settings-of-php-stop-nobody",
)
def test_an_application_is_released_unchanged_changed_migrated_and_torn_down(board, tmp_path):
    def on_host(command):
        return board.ssh(command, tmp=tmp_path)

    def current():
        return on_host("readlink /srv/board/current").strip().rpartition("/")[2]

    assert set(board.stages("release").values()) == {"done"}
    visitor = Visitor(board)
    assert visitor.write("first") == current()
    assert board.stages("release") == UNCHANGED

    # the web server: files as they are, one PHP file runs, nothing hidden is shown
    uploads = "/srv/board/shared/public/uploads"
    on_host(f"cp /srv/board/current/public/index.php {uploads}/evil.php && touch {uploads}/.hidden")
    assert visitor.ask("/style.css")[1] == (board.root / "app" / "public" / "style.css").read_text()
    assert "No such page" in visitor.ask("/a/page")[1]
    for path in ("/uploads/evil.php", "/uploads/evil.php/x", "/uploads/EVIL.PHP", "/index.php/x"):
        assert "No such page" in visitor.ask(path)[1], path
    for path in ("/uploads/.hidden", "/.env", "/..%2f.env", "/../.env"):
        assert visitor.ask(path)[0] in (400, 404), path

    # a header that names another host than the request
    shown = visitor.site.connection(20)
    shown.putrequest("GET", f"https://{board.run.host_name}/", skip_host=True)
    shown.putheader("Host", "elsewhere.example")
    shown.endheaders()
    assert shown.getresponse().status == 404

    # the environment file: settings and secrets, root's, for pages and commands to read
    assert on_host("stat -c %a.%U.%G /srv/board/shared/.env").strip() == "640.root.web-board"
    assert on_host("readlink /srv/board/current/.env").strip() == "/srv/board/shared/.env"
    assert r'GREETING="\"5 \$\" for = \\"' in on_host("cat /srv/board/shared/.env")

    # a change of code: the worker is the new release's
    replace(board.root / "app" / "src" / "Application.php", {"<h1>Notes</h1>": "<h1>Notes, all</h1>"})
    commit(board.root)
    before = current()
    exported = visitor.begin("/export")
    until(lambda: "exporting" in on_host("ls /srv/board/shared/var/log"))
    with visitor.watching() as seen:
        changed = board.stages("release")
    assert changed == {**UNCHANGED, "tarball": "done", "release": "done"}
    assert seen == {(200, "notes")}
    assert "<h1>Notes, all</h1>" in visitor.ask()[1]
    assert visitor.write("second") == current() != before
    assert board.stages("release") == UNCHANGED
    assert running(on_host) == {before: "active", current(): "active"}

    # a migration: visitors see the page or the maintenance page, and the data stays
    (board.root / "app" / "migrations" / "002-author.sql").write_text(
        "ALTER TABLE note ADD COLUMN author VARCHAR(50) NOT NULL DEFAULT 'nobody';\nDO SLEEP(3);\n"
    )
    commit(board.root)
    with visitor.watching() as seen:
        assert board.stages("release") == {**UNCHANGED, "tarball": "done", "release": "done"}
    assert seen == {(200, "notes"), (503, "maintenance")}
    assert visitor.write("third") == current()
    assert [each for each in ("first", "second", "third") if f">{each}</p>" not in visitor.ask()[1]] == []
    assert "nobody" in on_host('mariadb board --execute "SELECT author FROM note"')

    # a migration with which old and new code work: nobody notices it
    online = b"ALTER TABLE note ADD COLUMN color VARCHAR(50) NOT NULL DEFAULT 'red';\nDO SLEEP(3);\n"
    (board.root / "app" / "migrations" / "002-color.sql").write_bytes(online)
    declared = f"{hashlib.sha256(online).hexdigest()}  migrations/002-color.sql\n"
    (board.root / "app" / "online_migrations.sha256").write_text(declared)
    commit(board.root)
    with visitor.watching() as seen:
        board.stages("release")
    assert seen == {(200, "notes")}
    assert "red" in on_host('mariadb board --execute "SELECT color FROM note"')
    assert '"online": true' in board.doit("history", "--json").stdout

    # a migration that fails: maintenance stays, and nothing starts a worker
    broken = board.root / "app" / "migrations" / "003-broken.sql"
    broken.write_text("DELETE FROM note;\nALTER TABLE nowhere ADD COLUMN x INT;\n")
    commit(board.root)
    failed = board.doit("release")
    assert failed.returncode == 1
    for method in ("GET", "POST", "PUT"):
        status, page = visitor.ask(method=method, text="lost")
        assert (status, MAINTENANCE in page) == (503, True), method
    assert visitor.ask("/.maintenance")[0] == 404
    count = 'mariadb board --skip-column-names --execute "SELECT COUNT(*) FROM note"'
    assert on_host(count).strip() == "0"
    assert on_host("stat -c %a.%U /srv/board/copies /srv/board/copies/*").split()[:2] == [
        "700.root",
        "600.root",
    ]
    restore = re.search(r"with: doit (ssh sudo \S+ restore \S+)", failed.stderr)
    assert board.doit(*restore[1].split()).returncode == 0
    assert on_host(count).strip() == "3"
    kept = on_host("stat -c %a.%n /var/backups/board-*.sql.zst").strip().removeprefix("600.")
    assert "third" not in on_host(f"zstd --stdout --decompress {kept}")
    assert visitor.ask()[0] == 503
    on_host("systemctl start workers.target")  # as after a boot
    assert processes(on_host) == 0
    broken.write_text("DO 1;\n")
    commit(board.root)
    assert board.stages("release")["release"] == "done"
    assert visitor.write("fourth") == current()

    # a setting of PHP's: who waits for a page gets it, and nobody else waits for that
    on_host("rm /srv/board/shared/var/log/exporting")
    lasting = visitor.begin("/export")
    until(lambda: "exporting" in on_host("ls /srv/board/shared/var/log"))
    main = f"systemctl show --property=MainPID php@{current()}"
    former = on_host(main)
    replace(
        board.root / "environments" / "testing.yml", {"server:\n": "server:\n  php: {memory_limit: 300M}\n"}
    )
    commit(board.root)
    with visitor.watching() as seen:
        assert board.stages("release") == {**UNCHANGED, "server": "done"}
    assert seen == {(200, "notes")}
    assert on_host(main) != former
    assert lasting == []

    # a request from five releases ago ends there, with code that it reads at its end
    assert running(on_host)[before] == "deactivating"
    assert exported == []
    on_host("touch /srv/board/shared/var/log/exported")
    until(lambda: exported and lasting)
    assert exported == [(200, f"exported by {before}")]
    assert lasting == [(200, f"exported by {current()}")]
    until(lambda: before not in running(on_host))

    # workers that are no longer listed are gone
    profile = board.root / "applications" / "php" / "profile.yml"
    replace(profile, {'"queue:work"]}': '"queue:work"], processes: 2}'})
    commit(board.root)
    assert board.stages("release") == {**UNCHANGED, "server": "done"}
    assert processes(on_host) == 2
    replace(profile, {"name: queue,": "name: publisher,", ", processes: 2": ""})
    commit(board.root)
    answered = board.doit("release")
    assert "leftover file /etc/systemd/system/worker-queue@.service: removed" in answered.stdout
    assert processes(on_host) == 1
    assert visitor.write("fifth") == current()

    # the clock, and what the machine has
    until(lambda: "notes, https://" in on_host("cat /srv/board/shared/var/log/schedule.log || true"), 90)
    listening = on_host("ss --listening --tcp --numeric --no-header").splitlines()
    assert {line.split()[3].rpartition(":")[2] for line in listening} == {
        "22",
        "25",
        "53",
        "80",
        "443",
        "3128",
        "3306",
        "8025",
        "8090",
    }
    selected = on_host("dpkg --get-selections").splitlines()
    packages = [line.split()[0] for line in selected if line.endswith("\tinstall")]
    assert {"nginx", "php8.2-fpm", "cron"} <= set(packages)
    assert [each for each in packages if each.startswith(("varnish", "redis"))] == []

    assert board.doit("teardown").returncode == 0


def running(on_host) -> dict[str, str]:
    """The state of each release's unit."""
    shown = on_host("systemctl list-units --plain --no-legend --all php@*.service")
    return {
        words[0].partition("@")[2].removesuffix(".service"): words[2]
        for words in map(str.split, shown.splitlines())
    }


def processes(on_host) -> int:
    """The workers that run."""
    return int(on_host("pgrep --uid board --full --count queue:work || true"))
