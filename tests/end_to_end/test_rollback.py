"""Where a release that goes wrong leaves the site. The commands of the profile are data: so they fail as told."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
import time

import pytest

from tasks.console.console import Console
from tasks.hosts import ssh as shell
from tasks.hosts.ansible import play
from tasks.hosts.hosts import Hosts
from tasks.hosts.phased import PhaseFailed
from tasks.hosts.playbook_events import PlaybookFailed
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.process import children
from tasks.release import history
from tasks.release import stage as release
from tasks.server import stage as server
from tasks.tarball import stored
from tests.clouds import secrets_of
from tests.conftest import ROOT, commit, until
from tests.end_to_end.crowd import statuses
from tests.end_to_end.test_logins import LOGINS

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("ledger")]  # its host

DUE = ["sh", "-c", "exit 2"]
NOT_DUE = ["true"]
BROKEN = [
    "sh",
    "-c",
    r"printf 'Modules:\n\n\033[31mthe table is locked\033[0m\n'; seq -f '#%g a.php(1): b()' 0 9; exit 1",
]
"""As Magento says it: what was thrown, and then where."""

WORKS = """
import subprocess, time
def ask(sql):
    return subprocess.run(["mariadb", "-N", "shop", "-e", sql], check=True, capture_output=True, text=True).stdout
ask({sql!r})
for _ in range(100):
    if "{price}" in ask("SELECT price FROM catalog_product"):
        break
    time.sleep(0.2)
else:
    raise SystemExit("no consumer has read it")
"""


PAGE = """
import pathlib, socket, struct, time

def record(kind, body=b""):
    return struct.pack("!BBHHBB", 1, kind, 1, len(body), 0, 0) + body

script = pathlib.Path(f"/tmp/{{time.time_ns()}}.php")  # PHP-FPM looks at no file again
script.write_text("<?php chdir('/srv/shop/current');" + {php!r})
script.chmod(0o644)
release = pathlib.Path("/srv/shop/current").resolve().name
told = {{b"SCRIPT_FILENAME": bytes(script), b"SCRIPT_NAME": b"/page.php", b"REQUEST_METHOD": b"GET"}}
words = b"".join(bytes((len(name), len(value))) + name + value for name, value in told.items())
said = b""
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(f"/run/php/shop-{{release}}.sock")
    asked.sendall(record(1, struct.pack("!HB5x", 1, 0)) + record(4, words) + record(4) + record(5))
    with asked.makefile("rb") as answer:
        while (head := answer.read(8)) and head[1] != 3:
            size, padding = struct.unpack("!4xHBx", head)
            said += answer.read(size + padding)[:size]
print(said.decode().partition("\\r\\n\\r\\n")[2])
"""
"""A PHP script, answered by PHP-FPM of the live release as a page is."""


EXPORTS = """
import subprocess
message = 'JSON_OBJECT("file", "slow", "seconds", 15)'
subprocess.run(["mariadb", "shop", "-e", f"INSERT INTO queue_message (topic_name, body) VALUES ('exportProcessor', {message})"], check=True)
"""


def by_hand(run, told, console):
    """As somebody plays playbooks/release.yml."""
    reached = hosts.reachable(run, infrastructure.existing(run))
    return play(
        "release", hosts=reached, variables=told, strategy="linear", console=console, log=None
    ).changed


def by_doit(run, told, console):
    """As the stage does it."""
    reached, plan = hosts.reachable(run, infrastructure.existing(run)), release.plan(told)
    how = {"stage": "release", "hosts": reached, "plan": plan, "console": console, "log": None}
    return sum(each.changed for each in Hosts().phases(release.PROGRAM, [*release.UP, *release.END], **how))


@pytest.fixture(scope="module", autouse=True)
def _released(site):
    """What other tests have committed is live, too."""
    assert site.doit("release").returncode == 0


@pytest.fixture
def go_live(site):
    """Release the site's own tarball under another name, with other commands or facts; how many hosts have changed."""

    def go_live(name, *, way=by_doit, commands=None, told=None, **facts):
        run = site.run
        known = release.variables(run, stored.existing(run))
        profile = {**known["release_profile"], **(commands or {})}
        found = infrastructure.existing(run)
        variables = {
            **known,
            **release.here(run, found, server.released(run, found, "release")),
            "release_id": name,
            "release_profile": profile,
            **facts,
        }
        return way(run, variables, Console(told or io.StringIO()))

    return go_live


@pytest.fixture
def current(site, tmp_path):
    """Which release visitors get."""
    folder = server.variables(site.run)["application_path"]

    def current():
        return site.ssh(f"readlink {folder}/current", tmp=tmp_path).strip().rpartition("/")[2]

    return current


def migration(*, due, run):
    return {"migration": {"due": due, "due_exit": 2, "run": run}}


@pytest.mark.parametrize(("way", "failure"), [(by_doit, PhaseFailed), (by_hand, PlaybookFailed)])
@pytest.mark.promise(
    "same-release-changes-nothing", "playing-by-hand-is-the-same", "a-hook-is-the-application-s"
)
def test_the_same_release_again_changes_nothing_either_way(go_live, current, way, failure, site, tmp_path):
    name = way.__name__
    text = f'#!/bin/bash\necho "$(id -un) $RELEASE_PHASE $RELEASE_ENVIRONMENT $RELEASE_HOST" >> /tmp/{name}-$UID\n'
    hooks = [
        {"name": "x", "when": "after", "phase": "live", "root": each, "must": False, "text": text}
        for each in (True, False)
    ]
    assert go_live(name, way=way, release_hooks=hooks) > 0
    assert go_live(name, way=way, release_hooks=hooks) == 0
    user, host = server.variables(site.run)["application_user"], hosts.known(site.run)[0].id
    ran = site.ssh(f"sudo cat /tmp/{name}-*", tmp=tmp_path).splitlines()
    assert sorted(ran) == sorted(f"{who} live {site.run.identity} {host}" for who in ("root", user))
    before = current()
    with pytest.raises(failure, match=f"answers 404, not 200.*; {before} runs as before"):
        go_live(name, way=way, commands={"health_path": "/nowhere-at-all.html"})
    with pytest.raises(failure, match=f"the table is locked.*; {before} runs as before"):
        go_live("asks", way=way, commands=migration(due=BROKEN, run=NOT_DUE))
    assert current() == name


@contextlib.contextmanager
def visited(site):
    """The statuses that a visitor gets meanwhile."""
    answers, over = [], threading.Event()

    def visit():
        while not over.is_set():
            answers.append(site.get()[0])

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield answers
    finally:
        over.set()
        visitor.join()
    assert len(answers) > 5


@pytest.mark.promise("the-switch-drops-no-request", "a-release-runs-alone")
def test_a_release_of_other_code_drops_no_request(go_live, site, tmp_path):
    for name in ("before", "between"):
        go_live(name)
    crowd = site.crowd()
    with crowd.visiting(page=10, asset=5, search=5) as visits:
        go_live("after", release_keep=1)  # removes old ones as well
        time.sleep(2)
    seen = {kind: list(answers) for kind, answers in statuses(visits).items()}
    assert seen == {"page": [200], "asset": [200], "search": [200]}
    assert crowd.failures() == []
    states = site.ssh("systemctl is-active php@before php@between php@after || true", tmp=tmp_path)
    assert states.split() == ["inactive", "active", "active"]


@pytest.mark.promise(
    "rollback-goes-to-the-one-before",
    "the-switch-drops-no-request",
    "visitors-are-measured",
    "a-release-logs-in-once",
)
def test_a_rollback_shows_the_page_before_and_drops_no_request(site):
    template = site.root / "app/app/code/Shop/Catalog/view/frontend/templates/list.phtml"
    page = template.read_text()
    for number in ("one", "two"):
        template.write_text(f"{page}<p>release {number}</p>\n")
        commit(site.root, number)
        site.stages("release")
    assert "release two" in site.get()[1]
    before = int(shell.python(site.host, "test", LOGINS))
    with visited(site) as answers:
        assert site.stages("rollback") == {"rollback": "done"}
    assert set(answers) == {200}
    assert int(shell.python(site.host, "test", LOGINS)) == before + 2, "its own one, and this one"
    assert "release one" in site.get()[1]
    *_, two, one = history.read(site.run.store, site.run.identity)
    assert [(each.downtime, each.slowest is None) for each in (two, one)] == [(0.0, False)] * 2
    assert "goes no further" in site.doit("release").stderr
    assert site.doit("allow", history.read(site.run.store, site.run.identity)[-1].undid).returncode == 0
    assert site.stages("release")["release"] == "done"
    assert "release two" in site.get()[1]


@pytest.mark.promise("wrong-digest-is-removed")
def test_a_tarball_with_another_digest_is_refused_and_removed(go_live, current, site, tmp_path):
    before = current()
    folder = server.variables(site.run)["application_path"]
    with pytest.raises(PhaseFailed, match=r"digest should be 0000.* it was removed"):
        go_live("forged", release_sha256="0" * 64)
    assert current() == before
    assert site.ssh(f"find {folder} -type f -name '*.tar*'", tmp=tmp_path) == ""


SICKENS = {"pages": ["/media/well.txt"], "after_switch": [["rm", "pub/media/well.txt"]]}
"""A command after a switch: where nobody sees it, the release was well."""
WELL = "touch /srv/shop/shared/pub/media/well.txt"


@pytest.mark.promise("unhealthy-goes-back", "pages-are-checked-before-visitors-get-them")
def test_what_is_ill_is_not_shown_and_what_falls_ill_goes_back(go_live, current, site, tmp_path):
    go_live("healthy")
    with pytest.raises(
        PhaseFailed, match=r"nobody sees it: .*/nowhere.html answers 404, not 200; healthy runs as before"
    ):
        go_live("sick", commands={"pages": ["/nowhere.html"]})
    site.ssh(WELL, tmp=tmp_path)
    with pytest.raises(
        PhaseFailed, match=r"visitors get: .*/media/well.txt answers 404, not 200; went back to healthy"
    ):
        go_live("sick", commands=SICKENS)
    assert current() == "healthy"
    assert site.get()[0] == 200


@pytest.mark.promise(
    "failed-migration-stays-in-maintenance", "only-code-goes-back", "nothing-begins-in-maintenance"
)
def test_a_broken_migration_keeps_visitors_out_until_a_release_succeeds(go_live, current, site, tmp_path):
    go_live("works")
    with pytest.raises(PhaseFailed, match="the table is locked; a migration was begun"):
        go_live("breaks", commands=migration(due=DUE, run=BROKEN))
    assert current() == "works"
    until(lambda: site.get()[0] == 503)  # the page cache keeps a page for a moment
    folder = server.variables(site.run)["application_path"]
    link = site.ssh(f"readlink {folder}/releases/breaks/app/etc/env.php", tmp=tmp_path).strip()
    assert link == f"{folder}/shared/app/etc/env.php"
    # as cron and the timer of the workers do each minute
    site.ssh("/usr/local/sbin/cron_job touch /tmp/began; systemctl start workers_again", tmp=tmp_path)
    worker = (
        "systemctl is-active worker-product_action_attribute.update@1; test -e /tmp/began && echo began; true"
    )
    assert site.ssh(worker, tmp=tmp_path).split() == ["inactive"]
    go_live("repairs", commands=migration(due=DUE, run=NOT_DUE))
    assert current() == "repairs"
    assert site.get()[0] == 200
    site.ssh("/usr/local/sbin/cron_job touch /tmp/began", tmp=tmp_path)
    assert site.ssh(worker, tmp=tmp_path).split() == ["active", "began"]


def configuration(*, run):
    return {"configuration": {"due": DUE, "due_exit": 2, "run": run}, "health_path": "/health_check.php"}


@pytest.mark.long(
    short="tests/release/test_phases.py::test_a_rollback_imports_the_configuration_of_the_release_that_it_goes_to"
)
@pytest.mark.promise("an-import-alone-closes-nothing")
def test_an_import_of_configuration_alone_neither_closes_the_shop_nor_bars_the_way_back(
    go_live, current, site, tmp_path
):
    application = server.variables(site.run)
    folder = application["application_path"]
    imports = f"{folder}/shared/var/log/imports"
    active = site.run.profile.release.maintenance.active_file
    import_it = [
        "sh",
        "-c",
        f"pwd -P >> {imports}; test ! -e {folder}/current/{active} || echo closed >> {imports}",
    ]
    go_live("imports", commands=configuration(run=import_it))
    site.ssh(WELL, tmp=tmp_path)
    with pytest.raises(PhaseFailed, match=r"went back to imports"):
        go_live("sickens", commands={**configuration(run=import_it), **SICKENS})
    assert current() == "imports"
    assert site.get()[0] == 200
    # the release that is back has imported its own configuration again
    assert site.ssh(f"cat {imports}", tmp=tmp_path).split() == [
        f"{folder}/releases/{each}" for each in ("imports", "sickens", "imports")
    ]


@pytest.mark.promise("a-command-writes-into-a-copy", "what-is-written-is-named")
def test_a_command_writes_into_a_copy_of_the_configuration_and_what_it_wrote_is_told(go_live, site, tmp_path):
    application = server.variables(site.run)
    folder, user = application["application_path"], application["application_user"]
    file = "app/etc/env.php"
    with pytest.raises(children.CommandFailed):
        site.ssh(f"runuser -u {user} -- test -w {folder}/shared/{file}", tmp=tmp_path)
    before = site.ssh(f"sha256sum {folder}/shared/{file}", tmp=tmp_path)
    write = [
        "php",
        "-r",
        f'$all = require "{file}"; $all["cache"]["graphql"]["id_salt"] = "mine"; $all["new"] = ["secret" => "x"]; '
        f'file_put_contents("{file}", "<?php return " . var_export($all, true) . ";");',
    ]
    told = io.StringIO()
    go_live("writes", commands=migration(due=DUE, run=write), told=told)
    said = told.getvalue()
    assert f"{file}: cache/graphql/id_salt was written: put it into the template" in said
    assert f"{file}: new/secret was written" in said
    assert "mine" not in said
    assert site.ssh(f"sha256sum {folder}/shared/{file}", tmp=tmp_path) == before
    link = site.ssh(f"readlink {folder}/releases/writes/{file}", tmp=tmp_path).strip()
    assert link == f"{folder}/shared/{file}"


@pytest.mark.promise("an-installation-that-fails-says-why")
def test_an_installation_that_fails_says_why_shows_no_password_and_is_taken_up_by_the_next_release(
    go_live, current, site, tmp_path
):
    application = server.variables(site.run)
    folder = application["application_path"]
    before = current()
    scripts = {
        "due": "test -e {{ application_path }}/shared/var/log/installed || exit 4\n",
        "run": "test ! -e app/etc/env.php || exit 3\n"
        "echo {{ release_administrator_password }} > /dev/null\n"
        "echo the disk is full >&2\nexit 1\n",
        "works": "echo mine > app/etc/env.php; pwd -P > {{ application_path }}/shared/var/log/installed\n",
        "then": "test -L app/etc/env.php && echo followed >> {{ application_path }}/shared/var/log/installed\n",
        "stops": "echo nothing to sell >&2; exit 1\n",
    }
    for name, text in scripts.items():
        (tmp_path / f"{name}.j2").write_text(text)
    paths = {name: str(tmp_path / f"{name}.j2") for name in scripts}
    install = {
        "interpreter": ["sh", "/dev/stdin"],
        "due": paths["due"],
        "due_exit": 4,
        "run": paths["run"],
        "then": [paths["then"]],
        "lent": ["app/etc"],
        "administrator": "admin",
        "page": "/admin",
    }
    with pytest.raises(PhaseFailed, match=f"the disk is full; {before} runs as before") as failed:
        go_live("installs", commands={"install": install})
    assert secrets_of(site.run).administrator_password not in str(failed.value)
    assert site.get()[0] == 200
    link = site.ssh(f"readlink {folder}/releases/installs/app/etc/env.php", tmp=tmp_path).strip()
    assert link == f"{folder}/shared/app/etc/env.php"
    works = {**install, "run": paths["works"]}
    with pytest.raises(PhaseFailed, match="nothing to sell"):  # the database is no empty one by now
        go_live("installs", commands={"install": {**works, "then": [paths["stops"]]}})
    go_live("installs", commands={"install": works})
    installed = site.ssh(f"cat {folder}/shared/var/log/installed", tmp=tmp_path).split()
    assert installed == [f"{folder}/releases/installs", "followed"]
    assert current() == "installs"
    assert site.get()[0] == 200


@pytest.mark.promise("jobs-are-awaited", "failures-of-jobs-are-logged")
def test_data_changes_when_no_job_of_cron_runs_any_more_and_what_it_says_is_logged(go_live, site, tmp_path):
    application = server.variables(site.run)
    user = application["application_user"]

    def begin(work):
        kept = "--collect --property=KillMode=process"  # as cron does, which ends no process of a job
        site.ssh(f'systemd-run {kept} --uid={user} /usr/local/sbin/cron_job sh -c "{work}"', tmp=tmp_path)

    begin("until test -e /tmp/enough; do sleep 0.2; done; echo lost messages; exit 9")
    with pytest.raises(PhaseFailed, match=r"a job of cron still runs after 1 s; .* runs as before"):
        go_live("hasty", commands=migration(due=DUE, run=NOT_DUE), release_job_seconds=1)
    assert site.get()[0] == 200
    site.ssh("touch /tmp/enough", tmp=tmp_path)
    # cron:run ends at once; its processes go on, as those of Magento do
    shell.python(site.host, "release", EXPORTS)
    begin("php bin/magento cron:run")
    until(lambda: "exportProcessor" in site.ssh("ps -A -o args", tmp=tmp_path))
    go_live("patient", commands=migration(due=DUE, run=["test", "-e", "var/export/slow.csv"]))
    said = site.ssh(f"journalctl --no-pager --identifier={user}-cron", tmp=tmp_path)
    assert "lost messages" in said
    assert "exit code 9" in said


@pytest.mark.promise("workers-come-back")
def test_a_consumer_works_and_comes_back_after_a_run_that_was_stopped(site, tmp_path):
    def works(sku, price):
        message = f'"product_action_attribute.update", JSON_OBJECT("sku", "{sku}", "price", {price})'
        sql = f"INSERT INTO queue_message (topic_name, body) VALUES ({message})"
        return shell.python(site.host, "release", WORKS.format(sql=sql, price=price))

    works("mug-spring", 12.34)
    unit = "worker-product_action_attribute.update@1"
    assert (
        site.ssh(f"systemctl show {unit} --property=NRestarts", tmp=tmp_path).strip() == "NRestarts=0"
    )  # it waits
    closed = "/srv/shop/current/var/.maintenance.flag"
    site.ssh(
        f"touch {closed} && systemctl stop workers.target && systemctl start workers_again", tmp=tmp_path
    )
    assert "inactive" in site.ssh(f"systemctl is-active {unit} || true", tmp=tmp_path)
    site.ssh(f"rm {closed} && systemctl is-active workers_again.timer", tmp=tmp_path)
    site.ssh("systemctl start workers_again", tmp=tmp_path)  # as the timer does each minute
    works("mug-dusk", 23.45)


LASTS = """
import pathlib, subprocess, time
def run(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.strip()
def state():
    return run("systemctl", "is-active", "worker-product_action_attribute.update@1")
own = pathlib.Path("/etc/systemd/system/worker-product_action_attribute.update@.service.d/lasts.conf")
begun, closed = pathlib.Path("/tmp/lasts"), pathlib.Path("/srv/shop/current/var/.maintenance.flag")
own.parent.mkdir()
try:
    for seconds, bound in (5, 30), (3600, 2):
        shell = f'trap "sleep {seconds}; exit 0" TERM; touch {begun}; while :; do sleep 0.1; done'
        own.write_text(f"[Service]\\nKillMode=mixed\\nTimeoutStopSec={bound}\\nExecStart=\\nExecStart=/bin/sh -c '{shell}'\\n")
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "workers.target")
        while not begun.exists():
            time.sleep(0.1)
        closed.touch()
        at, stops = time.monotonic(), subprocess.Popen(["systemctl", "stop", "workers.target"])
        while state() != "deactivating" and stops.poll() is None:
            time.sleep(0.1)
        run("systemctl", "start", "workers_again")  # as the timer does each minute
        print(stops.wait(), state(), time.monotonic() - at >= min(seconds, bound))
        closed.unlink()
        begun.unlink()
finally:
    closed.unlink(missing_ok=True)
    own.unlink()
    own.parent.rmdir()
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "workers.target")
"""
"""A worker takes that long to end, and has that long before it is killed."""


@pytest.mark.promise("workers-are-awaited")
def test_who_stops_the_workers_waits_until_the_last_one_has_ended(site):
    """Nobody starts them again meanwhile, and one that does not end is killed."""
    assert shell.python(site.host, "release", LASTS).splitlines() == ["0 inactive True", "0 failed True"]


UPDATED = """
import os, pathlib, re, shutil, subprocess
def run(*words):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
live = f"php@{{pathlib.Path('/srv/shop/current').resolve().name}}.service"
def mapped():
    process = run("systemctl", "show", "--property=MainPID", "--value", live)
    return re.search(r"/\\S+/libxml2\\S+( .deleted.)?", pathlib.Path(f"/proc/{{process}}/maps").read_text())[0]
def told():
    print(mapped().endswith("(deleted)"), run("systemctl", "show", "--property=InvocationID", live))
own = pathlib.Path("/run/systemd/system/outdated.service")
library = os.path.realpath(mapped().removesuffix(" (deleted)"))
shutil.copy2(library, library + ".new")
os.replace(library + ".new", library)
told()
own.parent.mkdir(exist_ok=True)
own.write_text({unit!r})
try:
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "outdated")
finally:
    own.unlink()
    run("systemctl", "daemon-reload")
told()
"""
"""A library that PHP-FPM uses is replaced, and `server.base.reboot_at` comes."""


@pytest.mark.promise("new-libraries-of-php-stop-nobody")
def test_after_an_update_php_fpm_goes_over_to_the_new_libraries_without_a_restart(site):
    unit = (ROOT / "roles" / "base" / "files" / "outdated.service").read_text()
    before, after = shell.python(site.host, "server", UPDATED.format(unit=unit)).splitlines()
    assert before.startswith("True ")
    assert after == before.replace("True", "False"), "a restart is another invocation"


@pytest.mark.promise("a-command-that-cannot-start-is-no-answer")
def test_a_command_that_cannot_start_does_not_count_as_work_that_is_due(go_live, current):
    before = current()
    with pytest.raises(PhaseFailed, match="runs as before"):
        go_live("typo", commands=migration(due=["no-such-command"], run=BROKEN))
    assert current() == before


@pytest.mark.promise("maintenance-by-hand-stays")
def test_maintenance_that_was_on_by_hand_stays_on(go_live, site, tmp_path):
    application = server.variables(site.run)
    folder, user = application["application_path"], application["application_user"]
    maintenance = site.run.profile.release.maintenance
    flag = f"{folder}/current/{maintenance.active_file}"
    site.ssh(f"runuser -u {user} touch {flag}", tmp=tmp_path)
    go_live("closed", commands=migration(due=DUE, run=NOT_DUE))
    until(lambda: site.get()[0] == 503)
    site.ssh(f"rm {folder}/releases/*/{maintenance.active_file}", tmp=tmp_path)
    assert site.get()[0] == 200


@pytest.mark.promise("written-by-hand-stays")
def test_who_is_let_in_and_what_was_merged_outlive_a_release(go_live, site, tmp_path):
    application = server.variables(site.run)
    current = f"{application['application_path']}/current"
    as_user = f"cd {current} && runuser -u {application['application_user']} --"
    site.ssh(f"{as_user} php bin/magento maintenance:disable --ip=192.0.2.7", tmp=tmp_path)
    site.ssh(f'{as_user} sh -c "echo a {{}} > pub/static/_cache/merged.css"', tmp=tmp_path)
    go_live("later")
    assert site.ssh(f"cat {current}/var/.maintenance.ip", tmp=tmp_path) == "192.0.2.7"
    assert site.get("/static/_cache/merged.css")[0] == 200


@pytest.mark.promise("code-is-root-s")
def test_neither_the_web_server_nor_the_application_writes_into_released_code(go_live, site, tmp_path):
    application = server.variables(site.run)
    folder, user = application["application_path"], application["application_user"]
    go_live("guarded")

    def writable(user, path):
        return site.ssh(f"runuser -u {user} -- find {path} -writable -not -type l", tmp=tmp_path).split()

    places = f"{folder}/releases/guarded {folder}/static {folder}/shared/app"
    assert writable("www-data", places) == []
    above = f"{folder} -maxdepth 2 -path {folder}/copies -prune -false -o -not -path {folder}/shared/\\*"
    assert writable(user, above) == []
    web, shared = application["application_web_user"], site.run.profile.server.roles["shared"]["directories"]
    for each in (user, web):
        assert {path.split("/")[5] for path in writable(each, places)} == {"var"}
    brought = [path.removeprefix(f"{folder}/shared/") for path in writable(web, f"{folder}/shared")]
    assert {*shared} <= {*brought}
    assert [path for path in brought if not path.startswith(tuple(shared))] == []


@pytest.mark.promise("both-replace-what-the-other-makes", "pages-are-no-commands")
def test_pages_and_commands_replace_each_other_s_files_and_pages_get_no_further(go_live, site, tmp_path):
    application = server.variables(site.run)
    user, web = application["application_user"], application["application_web_user"]
    go_live("shares")

    def page(php):
        return json.loads(shell.python(site.host, "release", PAGE.format(php=php)))

    def job(script):
        run = f"systemd-run --quiet --wait --uid={user} /usr/local/sbin/cron_job"
        site.ssh(f'{run} sh -ec "{script}"', tmp=tmp_path)

    for place in ("var/mixed", "pub/media/mixed"):
        job(f"mkdir -p {place}/cron; cd {place}/cron; echo cron > one; echo cron > two")
        did = page(
            f"chdir('{place}/cron'); echo json_encode([file_put_contents('one', 'page', FILE_APPEND), "
            "file_put_contents('new', 'page'), rename('new', 'two'), mkdir('../page'), "
            "file_put_contents('../page/one', 'page'), file_put_contents('../page/two', 'page')]);"
        )
        assert did == [4, 4, True, True, 4, 4]
        job(f"cd {place}/page; echo cron >> one; echo cron > new; mv new two; rm -r ../cron")
        left = site.ssh(f"cd /srv/shop/current/{place} && ls && cat page/one page/two", tmp=tmp_path)
        assert left.split() == ["page", "pagecron", "cron"]
        site.ssh(f"rm -r /srv/shop/current/{place}", tmp=tmp_path)

    # a worker is a command that runs
    worker = "systemctl show --property=MainPID --value worker-product_action_attribute.update@1"
    until(lambda: int(site.ssh(worker, tmp=tmp_path)))
    pid = int(site.ssh(worker, tmp=tmp_path))
    assert page(
        f"$may = ['environ' => @file_get_contents('/proc/{pid}/environ'), 'memory' => (bool) @fopen('/proc/{pid}/mem', 'r'), "
        f"'signal' => posix_kill({pid}, 0), 'code' => @file_put_contents('pub/index.php', '', FILE_APPEND), "
        "'beside' => @file_put_contents('pub/new.php', ''), 'link' => @symlink('/tmp', '/srv/shop/current.new'), "
        "'write' => is_writable('app/etc/env.php'), 'read' => is_readable('app/etc/env.php')];"
        "exec('flock --nonblock /srv/shop true', $said, $may['lock']); exec('id -un; umask', $may['who']);"
        "$may['limits'] = array_map(ini_get(...), ['memory_limit', 'max_input_vars', 'max_execution_time']);"
        "echo json_encode($may);"
    ) == {
        **dict.fromkeys(("environ", "memory", "signal", "code", "beside", "link", "write"), False),
        "read": True,
        "lock": 66,  # it cannot open the folder
        "who": [web, "0002"],
        "limits": ["512M", "10000", "600"],
    }
    said = site.ssh("php -i", tmp=tmp_path)
    for limit in ("memory_limit => 2G", "max_input_vars => 1000000", "max_execution_time => 0"):
        assert limit in said


def test_logs_of_pages_and_of_commands_are_rotated_together(site, tmp_path):
    application = server.variables(site.run)
    log = "/srv/shop/shared/var/log"
    for name in ("application_user", "application_web_user"):
        write = f"umask 0002; echo line > {log}/{name}.log"
        site.ssh(f'runuser -u {application[name]} -- sh -c "{write}"', tmp=tmp_path)
    # as /etc/logrotate.conf of Debian has it
    site.ssh("(echo weekly; echo create; echo include /etc/logrotate.d/shop) > /tmp/rotate", tmp=tmp_path)
    for _ in range(2):
        site.ssh("logrotate --force --state /tmp/rotated /tmp/rotate", tmp=tmp_path)
        for name in ("application_user", "application_web_user"):
            site.ssh(f"echo more >> {log}/{name}.log", tmp=tmp_path)
    found = site.ssh(f"ls {log}", tmp=tmp_path).split()
    for name in ("application_user", "application_web_user"):
        assert {f"{name}.log", f"{name}.log.1", f"{name}.log.2.gz"} <= {*found}
        site.ssh(f"rm {log}/{name}.*", tmp=tmp_path)


@pytest.mark.promise("the-one-before-stays")
def test_the_last_releases_stay_and_the_one_before_always(go_live, site, tmp_path):
    for name in ("one", "two", "three"):
        go_live(name, release_keep=1)
    folder = server.variables(site.run)["application_path"]
    assert site.ssh(f"ls {folder}/releases", tmp=tmp_path).split() == ["three", "two"]


@pytest.mark.promise("the-live-release-comes-back")
def test_the_live_release_comes_back_with_the_machine_and_no_other(go_live, current, site, tmp_path):
    for name in ("down", "up"):
        go_live(name)
    site.ssh("touch /run/before", tmp=tmp_path)
    run = site.run
    machines = [each.id for each in infrastructure.existing(run)]
    run.cloud.client("ec2").reboot_instances(InstanceIds=machines)

    def rebooted():
        with contextlib.suppress(children.CommandFailed):
            return "begun anew" in site.ssh("test -e /run/before || echo begun anew", tmp=tmp_path)

    def answers():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return site.get("/health_check.php")[0] == 200

    until(rebooted)
    until(answers)
    states = site.ssh("systemctl is-active php@down php@up php8.2-fpm || true", tmp=tmp_path)
    assert states.split() == ["inactive", "active", "inactive"]
    assert (current(), go_live("up")) == ("up", 0)
