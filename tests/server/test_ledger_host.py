"""What runs on a host: measuring and taking away, with programs of the test for dpkg, apt, systemd and cron."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import time
from pathlib import Path

import pytest

from tasks.server import ledger_host

PROGRAMS = {
    "dpkg-query": """
case "$1 $2" in
"-W -f="*)
    shift 2
    for each; do [ -f $HOST/packages/$each ] && cat $HOST/packages/$each; done ;;
"-S "*)
    shift
    for each; do grep -F ": $each" $HOST/owned; done ;;
"--control-path "*)
    ls $HOST/scripts/$2.$3 $HOST/scripts/$2:*.$3 ;;
esac
""",
    "systemctl": """
case "$*" in
"show -p ActiveState,LoadState,UnitFileState "*)
    shift 3
    for each; do
        if [ -f $HOST/units/$each ]; then cat $HOST/units/$each; else echo LoadState=not-found; fi
        echo
    done ;;
esac
""",
    "apt-get": """
case "$*" in
"-s remove "*)
    echo Reading; [ -f $HOST/removals/$3 ] && cat $HOST/removals/$3 || echo "Remv $3 [1]" ;;
"-y -o DPkg::Lock::Timeout=120 purge "* | "-y -o DPkg::Lock::Timeout=120 remove "*)
    if [ -f $HOST/stuck/$5 ]; then cat $HOST/stuck/$5; else rm $HOST/packages/$5; fi ;;
esac
""",
    "crontab": """
[ "$1 $3" = "-u -" ] && cat > $HOST/crontabs/$2
""",
}
"""What stands for the host's programs; it says what they were called with."""
FILE = {"type": "file", "mode": "0644"}


class Machine:
    """A host: its files lie in a folder of the test."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("bin", "packages", "units", "removals", "stuck", "crontabs", "scripts"):
            (folder / name).mkdir()
        (folder / "owned").touch()
        for name, text in PROGRAMS.items():
            program = folder / "bin" / name
            environment = '"$LC_ALL $DEBIAN_FRONTEND $(readlink /proc/self/fd/0)"'
            program.write_text(
                f"#!/bin/sh\nHOST={folder}\n"
                f'echo {name} "$@" | paste -s -d " " >> $HOST/log; echo {environment} >> $HOST/environment\n{text}'
            )
            program.chmod(0o755)

    def write(self, path, text):
        """Write a file of the host; its path."""
        at = self.folder / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)
        return str(at)

    def install(self, *names, status="installed"):
        for name in names:
            self.write(f"packages/{name}", f"{name} {status} 1:2.3\n")

    def unit(self, name, *, active="active", enabled="enabled"):
        self.write(
            f"units/{name}",
            f"Description=a = b\nActiveState={active}\nLoadState=loaded\nUnitFileState={enabled}\n",
        )

    @property
    def called(self):
        """What was called, without what only looks."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        looks = ("dpkg-query ", "systemctl show ", "apt-get -s ")
        return [each for each in lines if not each.startswith(looks)]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("DEBIAN_FRONTEND", "dialog")
    for name, path in {
        "FOLDER": "ledger", "CRONTABS": "crontabs", "GENERATED": "generated",
    }.items():  # fmt: skip
        monkeypatch.setattr(ledger_host, name, str(tmp_path / path))
    monkeypatch.setattr(ledger_host, "DATA", (str(tmp_path / "data"),))
    return made


# --- measuring ----------------------------------------------------------------------------------------


def test_each_kind_is_measured_by_what_knows_it(machine):
    machine.install("nginx")
    machine.install("old", status="config-files")
    machine.unit("nginx")
    machine.unit("off", active="inactive", enabled="disabled")
    path = machine.write("a b", "x")
    machine.write("crontabs/root", "#Ansible: take a backup\n0 1 * * * backup\n")
    found = ledger_host.look(
        [
            *("package nginx", "package old", "package none", "unit none", "unit nginx", "unit off"),
            *(f"file {path}", "user root", "user nobody-at-all", "cron root take a backup", "cron kim x"),
        ]
    )
    assert found.pop(f"file {path}") == ledger_host.file(path)
    assert found.pop("user root") == ledger_host.user("root")
    assert found == {
        "package nginx": {"version": "1:2.3"},
        "package old": None,
        "package none": None,
        "unit nginx": {"active": True, "enabled": "enabled"},
        "unit off": {"active": False, "enabled": "disabled"},
        "unit none": None,
        "user nobody-at-all": None,
        "cron root take a backup": {"line": "0 1 * * * backup"},
        "cron kim x": None,
    }


@pytest.fixture
def typed(tmp_path):
    """Somebody types: what this process reads is not empty."""
    kept = os.dup(0)
    with (tmp_path / "typed").open("w+") as file:
        os.dup2(file.fileno(), 0)
    yield
    os.dup2(kept, 0)
    os.close(kept)


@pytest.mark.usefixtures("typed")
def test_where_nothing_is_asked_for_no_program_lists_everything(machine):
    assert ledger_host.look([]) == {}
    log = sorted((machine.folder / "log").read_text().splitlines())
    assert log == [
        "dpkg-query -W -f=${Package} ${db:Status-Status} ${Version}  -",
        "systemctl show -p ActiveState,LoadState,UnitFileState -.mount",
    ]
    ledger_host._output("dpkg-query", "-W", "-f=", "-")
    assert set((machine.folder / "environment").read_text().splitlines()) == {"C noninteractive /dev/null"}


def test_what_a_program_complains_of_is_not_shown(machine, capfd):
    machine.write("bin/dpkg-query", "#!/bin/sh\necho complaint >&2\n")
    assert ledger_host._output("dpkg-query") == ""
    assert capfd.readouterr().err == ""


def test_a_file_has_its_type_its_owner_and_its_mode(machine):
    path = Path(machine.write("a", "text"))
    path.chmod(0o4750)
    owner, group = pwd.getpwuid(os.getuid())[0], grp.getgrgid(path.stat().st_gid)[0]
    own = {"owner": owner, "group": group}
    assert ledger_host.file(str(path)) == {
        "type": "file", **own, "mode": "4750", "digest": hashlib.sha256(b"text").hexdigest(),
    }  # fmt: skip
    path.chmod(0o004)
    assert ledger_host.file(str(path))["mode"] == "0004"
    folder = machine.folder / "units"
    folder.chmod(0o755)
    assert ledger_host.file(str(folder)) == {"type": "folder", **own, "mode": "0755"}
    assert ledger_host.file(str(path / "below a file")) is None
    link = machine.folder / "link"
    link.symlink_to("a")
    assert ledger_host.file(str(link)) == {"type": "link", "target": "a"}
    assert ledger_host._name(pwd.getpwuid, 54321) == "54321"


def test_a_file_s_content_is_compared_without_what_only_this_environment_has(machine, monkeypatch):
    path = machine.write("a", "at shop.example: shop\n")
    own = {"a": "shop", "host": "shop.example", "z": "shop.exam"}
    assert ledger_host.file(path, own)["content"] == hashlib.sha256(b"at <host>: <a>\n").hexdigest()
    assert "content" not in ledger_host.file(path, {})
    assert ledger_host.look([f"file {path}"], own)[f"file {path}"] == ledger_host.file(path, own)
    for size, measured in ((22, False), (23, True)):
        monkeypatch.setattr(ledger_host, "LARGE", size)
        assert ("content" in ledger_host.file(path, own)) is measured


def test_a_user_has_the_groups_that_name_it(machine):
    lines = [line.split(":") for line in Path("/etc/group").read_text().splitlines()]
    more = sorted(name for name, _, _, members in lines if "root" in members.split(","))
    entry = pwd.getpwnam("root")
    assert ledger_host.user("root") == {
        "home": entry.pw_dir,
        "shell": entry.pw_shell,
        "groups": ["root", *more],
    }
    for name, _, _, members in lines:
        for member in filter(None, members.split(",")):
            assert name in ledger_host.user(member)["groups"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("#Ansible: x\nline\n", "line"),
        ("other\n#Ansible: x\nline\nmore\n", "line"),
        ("#Ansible: y\nline\n", None),
        ("line\n#Ansible: x\n", None),
        ("", None),
    ],
)
def test_an_entry_of_a_crontab_is_the_line_below_its_mark(machine, text, line):
    machine.write("crontabs/kim", text)
    assert ledger_host.cron("kim x") == (line and {"line": line})


@pytest.mark.parametrize(
    ("block", "facts"),
    [
        ("LoadState=not-found\nActiveState=inactive", None),
        ("LoadState=loaded\nActiveState=active\nUnitFileState=static", {"active": True, "enabled": "static"}),
        ("ActiveState=reloading\nDescription=a=b=c", {"active": True, "enabled": None}),
        ("ActiveState=failed\nno such line\nUnitFileState=", {"active": False, "enabled": ""}),
        (
            "ActiveState=active\nDescription=not ActiveState=failed\nUnitFileState=a=b",
            {"active": True, "enabled": "a=b"},
        ),
    ],
)
def test_a_unit_is_active_or_not_and_enabled_or_not(block, facts):
    assert ledger_host.unit(block) == facts


def test_folders_that_roles_fill_lie_below_etc_and_usr_local():
    names = [
        "/etc/nginx/conf.d/a",
        "/etc/nginx/b",
        "/usr/local/bin/x",
        "/usr/local/share/a b/c d",
        "/etc/motd",
        "/usr/lib/x",
        "/srv/etc/x/a",
    ]
    facts = {f"file {each}": FILE for each in names} | {
        "file /etc/made/folder": {"type": "folder"},
        "file /etc/gone/a": None,
        "package /etc/x/y": {"version": "1"},
        "file /etc/nginx2/a": FILE,
    }
    assert ledger_host.folders(facts) == [
        *("/etc/nginx", "/etc/nginx2", "/usr/local/bin", "/usr/local/share/a b"),
    ]


def test_every_file_below_the_folders_is_listed(machine):
    paths = [machine.write(f"roots/{each}", "") for each in ("b/x/y", "b/a", "a/z")]
    roots = [str(machine.folder / "roots" / each) for each in ("b", "a", "none")]
    assert ledger_host.listing(roots) == sorted(paths)


def test_files_that_packages_make_anew_are_not_listed(machine):
    """A new version of ca-certificates makes other links, and a package that another one needed leaves its certificate there."""
    ours, _ = (machine.write(f"etc/ssl/{each}", "") for each in ("site.pem", "certs/fb4b5349.0"))
    assert ledger_host.listing([str(machine.folder / "etc" / "ssl")]) == [ours]


def test_a_file_is_strange_that_neither_a_role_nor_a_package_has_written(machine):
    names = ("ours", "packaged", "generated", "strange")
    ours, packaged, generated, strange = (machine.write(f"conf/{each}", "") for each in names)
    machine.install("nginx", "mariadb")
    machine.write("owned", f"nginx: {packaged}\n")
    machine.write("generated", f"mariadb {generated}\n")
    request = {"names": ["package nginx"], "folders": [str(machine.folder / "conf")], "files": [ours, "gone"]}
    assert ledger_host.probe(request) == {
        "facts": {"package nginx": {"version": "1:2.3"}},
        "strange": [strange],
    }


def test_the_package_of_a_path_is_one_that_is_installed(machine):
    machine.install("first", "libc6", "generator")
    machine.install("purged", status="config-files")
    machine.write(
        "owned",
        "first, second: /shared\nlibc6:amd64: /lib\npurged: /old\nfirst: /shared/below\nfirst: /a: b\n",
    )
    machine.write("generated", "generator /made\ngenerator /unasked\npurged /conf\nfirst /made-by-both\n")
    asked = {"/shared", "/lib", "/old", "/none", "/made", "/conf", "/a: b"}
    assert ledger_host.owners(asked) == {
        "/shared": "first", "/lib": "libc6", "/made": "generator", "/a: b": "first",
    }  # fmt: skip
    machine.write("generated", "half a line\n")
    assert ledger_host.owners({"/shared", "/made"}) == {"/shared": "first"}


def test_of_no_path_no_owner_is_asked(machine):
    assert ledger_host.owners(set()) == {}
    assert not any(" -S" in line for line in (machine.folder / "log").read_text().splitlines())


# --- taking away --------------------------------------------------------------------------------------


def resource(task="web: Write", **more):
    return {"task": task, "facts": {"x": 1}, **more}


@pytest.mark.parametrize("kind", ["package", "unit"])
def test_what_logins_need_stays_as_a_package_or_a_unit_and_only_so(kind):
    assert ledger_host.never(f"{kind} systemd-resolved", resource(), []) == "logins need it"
    assert ledger_host.never("cron root systemd-x", resource(), []) is None
    assert ledger_host.never("cron root sudo", resource(), []) is None


def test_data_is_below_its_folder_whether_that_ends_with_a_slash_or_not():
    assert ledger_host.never("file /opt/shop/x", resource(), ["/opt/shop/"]) == "it may hold data"
    assert ledger_host.never("file /opt/shop/", resource(), ["/opt/shop/"]) == "it may hold data"
    assert ledger_host.never("file /opt/shop/a b", resource(), ["/opt/shop"]) == "it may hold data"
    assert ledger_host.never("file /opt/SHOPX/x", resource(), ["/opt/SHOPX"]) == "it may hold data"
    assert ledger_host.never("package /opt/shop/x", resource(), ["/opt/shop"]) is None
    assert ledger_host.never("user x", resource(), []) == "files may belong to it"
    assert ledger_host.never("file /etc/x", resource(part=True), []) == "only a part of it was ours"


def taken(machine, *names):
    return ledger_host.take_away({name: resource() for name in names})


def test_a_unit_that_runs_or_would_start_is_stopped_and_disabled(machine):
    machine.unit("runs", enabled="static")
    machine.unit("starts", active="inactive")
    machine.unit("rests", active="inactive", enabled="disabled")
    done, stays = taken(machine, "unit runs", "unit starts", "unit rests", "unit none")
    assert (done, stays) == (dict.fromkeys(("unit runs", "unit starts"), "stopped and disabled"), {})
    assert machine.called == ["systemctl disable --now runs", "systemctl disable --now starts"]


def test_an_entry_of_a_crontab_goes_with_its_mark(machine):
    machine.write(
        "crontabs/kim", "MAILTO=x\n#Ansible: take a backup\n0 1 * * * b\n#Ansible: stay\n0 2 * * * c\n"
    )
    done, stays = taken(machine, "cron kim take a backup", "cron kim none")
    assert (done, stays) == ({"cron kim take a backup": "removed"}, {})
    assert (machine.folder / "crontabs" / "kim").read_text() == "MAILTO=x\n#Ansible: stay\n0 2 * * * c\n"
    machine.write("bin/crontab", "#!/bin/sh\nexit 1\n")
    with pytest.raises(ledger_host.subprocess.CalledProcessError):
        taken(machine, "cron kim stay")


@pytest.mark.promise("leftover-is-removed", "full-folder-stays")
def test_files_go_and_folders_that_are_empty_then(machine):
    paths = [machine.write(each, "") for each in ("conf/a", "full/a", "full/by hand", "packaged")]
    link = machine.folder / "link"
    link.symlink_to("nowhere")
    folders = [str(machine.folder / each) for each in ("conf", "full")]
    machine.install("nginx")
    machine.write("owned", f"nginx: {paths[3]}\n")
    names = [f"file {each}" for each in (*folders, *paths[:2], paths[3], link, "/gone")]
    done, stays = taken(machine, *names)
    assert done == dict.fromkeys((names[0], names[2], names[3], names[5]), "removed")
    assert stays == {names[1]: "is not empty", names[4]: "belongs to the package nginx"}
    assert [os.path.lexists(each) for each in (*folders, *paths, link)] == [
        *(False, True), *(False, False, True, True), False,
    ]  # fmt: skip


@pytest.mark.promise("package-takes-nothing-along", "purge-deletes-configuration-only")
def test_a_package_is_removed_or_purged_unless_another_would_go_with_it(machine):
    names = ("plain", "owner", "library", "scripted", "needed", "stuck", "silent")
    machine.install(*names)
    machine.write("scripts/owner.postrm", "purge) rm -rf /var/lib/owner ;;")
    machine.write("scripts/library:amd64.postrm", "purge) rm -rf /var/lib/library ;;")
    machine.write("scripts/scripted.postrm", "#!/bin/sh\n")
    machine.write(
        "removals/needed", "".join(f"Remv {each} [1]\n" for each in ("d", "needed", "c", "b", "a", "plain"))
    )
    machine.write("stuck/stuck", "first\nE: held\n\n")
    machine.write("stuck/silent", "\n")
    done, stays = taken(machine, *(f"package {each}" for each in (*names, "none")))
    assert done == {
        **dict.fromkeys(("package library", "package owner"), "removed"),
        **dict.fromkeys(("package plain", "package scripted"), "purged"),
    }
    assert stays == {
        "package needed": "a, b, c would go with it",
        "package stuck": "E: held",
        "package silent": "apt-get failed",
    }
    apt = "apt-get -y -o DPkg::Lock::Timeout=120"
    assert machine.called == [
        f"{apt} remove library",
        f"{apt} remove owner", f"{apt} purge plain", f"{apt} purge scripted", f"{apt} purge silent", f"{apt} purge stuck",
    ]  # fmt: skip


def test_a_file_that_went_with_its_package_is_neither_done_nor_left(machine):
    path = machine.write("conf", "")
    machine.install("nginx")
    machine.write(
        "bin/apt-get",
        f"#!/bin/sh\n[ $1 = -s ] && echo 'Remv nginx [1]' || rm -f {path} {machine.folder}/packages/nginx\n",
    )
    assert taken(machine, "package nginx", f"file {path}") == ({"package nginx": "purged"}, {})


def reloaded(machine, done, left, new):
    ledger_host._reload_services(dict.fromkeys(done, "removed"), left, new)
    return machine.called


@pytest.mark.parametrize(
    ("done", "calls"),
    [
        (["file /etc/nginx/a"], ["systemctl try-reload-or-restart nginx", "systemctl try-reload-or-restart nginx-exporter"]),
        (["file /etc/systemd/system/nginx.service.d/a"], [
            "systemctl daemon-reload", "systemctl try-restart nginx", "systemctl try-restart nginx-exporter",
        ]),
        (["file /etc/nginx/a", "file /etc/systemd/system/redis.service"], [
            "systemctl daemon-reload", "systemctl try-reload-or-restart nginx",
            "systemctl try-reload-or-restart nginx-exporter", "systemctl try-restart redis",
        ]),
        (["file /etc/systemd/system/redis.service.d/by hand"], ["systemctl daemon-reload", "systemctl try-restart redis"]),
        (["file /etc/other"], []),
        (["package nginx", "unit nginx"], []),
        ([], []),
    ],
)  # fmt: skip
def test_the_services_of_a_role_whose_files_have_gone_are_reloaded(machine, done, calls):
    left = {
        "file /etc/nginx/a": resource("nginx: Write"),
        "file /etc/systemd/system/nginx.service.d/a": resource("nginx: Limit: it"),
        "file /etc/systemd/system/redis.service": resource("redis: Write"),
        "file /etc/systemd/system/redis.service.d/by hand": resource("redis: Write"),
        "file /etc/other": resource("other: Write"),
        "package nginx": resource("nginx: Install"),
        "unit nginx": resource("nginx: Start"),
    }
    new = {
        "unit nginx": resource("nginx: Start"),
        "package nginx": resource("nginx: Install"),
        "unit nginx-exporter": resource("nginx: Start: another"),
        "unit redis": resource("redis: Start"),
        "unit mariadb": resource("database: Start"),
    }
    assert reloaded(machine, done, left, new) == calls


# --- the ledger ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [('{"a": 1}', {"a": 1}), ("[1]", {}), ("{", {}), (None, {})])
def test_what_is_no_ledger_is_empty(machine, text, value):
    path = machine.folder / "l.json"
    if text is not None:
        path.write_text(text)
    assert ledger_host.read(str(path)) == value


@pytest.fixture
def filled(machine, monkeypatch):
    """Roles fill the folders of the test, as they do those below /etc."""
    monkeypatch.setattr(ledger_host, "FILLED", f"{machine.folder}/.+/")


def settled(things=(), *, task="web: Write", **more):
    request = {
        "playbook": "server", "previous": None, "things": {name: {"task": task} for name in things},
        "whole": ["web: Write"], "declared": ["web: Write"], "data": [], "mode": "remove", "own": {}, "seconds": 0,
        "about": {"by": "me"},
    }  # fmt: skip
    return ledger_host.settle({**request, **more})


@pytest.mark.promise("ledger-is-for-root")
def test_the_ledger_is_written_whole_and_for_root_alone(machine):
    umask = os.umask(0)
    try:
        answer = settled(["package nginx"])
    finally:
        os.umask(umask)
    folder = machine.folder / "ledger"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in folder.iterdir()] == ["server.json"]
    assert (folder / "server.json").stat().st_mode & 0o777 == 0o600
    ledger = {
        "things": {"package nginx": {"task": "web: Write", "facts": None}},
        "leftovers": {}, "folders": [], "files": [], "by": "me",
    }  # fmt: skip
    assert answer == {"ledger": ledger, "done": {}, "stays": {}}
    text = (folder / "server.json").read_text()
    assert text == json.dumps(ledger, indent=1, sort_keys=True)
    (folder / "server.json.new").write_text("x" * 10_000)  # of a run that was killed
    settled(["package nginx"])
    assert (folder / "server.json").read_text() == text


def test_the_ledger_of_the_host_counts_before_that_of_the_bucket(machine):
    machine.install("old", "older", "oldest")
    previous = {"things": {"package older": resource()}}
    assert settled(previous=previous)["done"] == {"package older": "purged"}
    machine.install("older")
    settled(["package old"], previous=previous)
    assert settled(previous={"things": {"package oldest": resource()}})["done"] == {"package old": "purged"}


@pytest.mark.promise("another-ledgers-item-stays")
def test_what_any_other_ledger_of_the_host_names_stays(machine):
    machine.install("a", "b", "c")
    settled([f"package {each}" for each in "abc"])
    for name, things in {"x": {"package a": {}}, "y": {"package b": {}}}.items():
        machine.write(f"ledger/{name}.json", json.dumps({"things": things}))
    machine.write("ledger/z.json", "{}")
    assert settled()["done"] == {"package c": "purged"}


def test_a_service_is_reloaded_when_a_file_of_its_role_has_gone(machine):
    path = machine.write("conf/a", "")
    settled([f"file {path}", "unit web"])
    assert settled(["unit web"])["done"] == {f"file {path}": "removed"}
    assert machine.called == ["systemctl try-reload-or-restart web"]


@pytest.mark.promise("leftovers-only-reported")
def test_what_is_only_reported_stays_as_long_as_it_is_there(machine):
    path = machine.write("conf/a", "")
    machine.install("nginx")
    settled([f"file {path}", "package nginx"])
    for _ in range(2):
        reported = settled(mode="report")
        assert (reported["done"], reported["stays"]) == (
            {},
            dict.fromkeys([f"file {path}", "package nginx"], "reported only"),
        )
        assert set(reported["ledger"]["leftovers"]) == {f"file {path}", "package nginx"}
    Path(path).unlink()
    assert set(settled(mode="report")["stays"]) == {"package nginx"}


@pytest.mark.promise("data-is-never-removed")
def test_what_is_never_removed_is_told_once_and_then_forgotten(machine):
    path = machine.write("shop/media", "")
    kept, gone = machine.write("data/rows", ""), machine.write("conf/a", "")
    settled([f"file {each}" for each in (path, kept, gone)])
    first = settled(data=[str(machine.folder / "shop")])
    assert first["stays"] == dict.fromkeys((f"file {path}", f"file {kept}"), "it may hold data")
    assert first["ledger"]["leftovers"] == {}
    assert settled(data=[str(machine.folder / "shop")])["stays"] == {}


def test_facts_are_measured_without_what_only_this_environment_has(machine):
    path = machine.write("conf/a", "s3cret")
    facts = settled([f"file {path}"], own={"password": "s3cret"})["ledger"]["things"][f"file {path}"]["facts"]
    assert facts["content"] == hashlib.sha256(b"<password>").hexdigest()


@pytest.mark.usefixtures("filled")
def test_ours_are_the_files_of_roles_those_of_new_folders_and_those_made_meanwhile(machine):
    role, before = machine.write("conf/a", ""), machine.write("conf/before", "")
    first = settled([f"file {role}"], seconds=0)
    assert first["ledger"]["folders"] == [str(machine.folder / "conf")]
    assert first["ledger"]["files"] == [role, before], "the folder was not filled before"
    time.sleep(0.05)
    taken_over = machine.write("conf/taken over", "")
    by_hand = machine.write("conf/by hand", "")
    time.sleep(0.05)
    new = machine.write("other/b", "")
    beside = machine.write("other/beside", "")
    machine.write("conf/sub/x", "")
    second = settled([f"file {each}" for each in (role, new, taken_over)], seconds=0)
    assert second["ledger"]["files"] == [role, before, taken_over, new, beside], (
        "what was made before Ansible ran is nobody's"
    )
    third = settled([f"file {each}" for each in (role, new, taken_over)], seconds=60)
    assert third["ledger"]["files"] == sorted(
        [role, before, by_hand, taken_over, str(machine.folder / "conf/sub/x"), new, beside]
    )


def test_a_skipped_task_s_resource_keeps_its_place_and_gets_new_facts(machine):
    machine.install("a")
    settled(["package a"])
    machine.write("packages/a", "a installed 4\n")
    again = settled(whole=[])
    assert again["ledger"]["things"] == {"package a": {"task": "web: Write", "facts": {"version": "4"}}}
    assert again["done"] == {}
