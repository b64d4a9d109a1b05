"""What a layer's command reaches: each attempt gets through where commands are not kept apart, and none where they are."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tasks.process import children, private
from tasks.tarball.build import overlay, sandbox
from tasks.tarball.build.overlay import BuildFailed, BuildSilent
from tasks.tarball.build.sandbox import Allowed, Sandbox
from tests.conftest import ROOT, until

SECRET = "the-signing-key"
ROOT_IN_SANDBOX = Sandbox(as_root=True, overlays=True)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """How this machine keeps commands apart."""
    found = sandbox.of(tmp_path_factory.mktemp("probe") / "build")
    if not found:
        pytest.skip("this machine lets us make no namespaces")
    return found


@pytest.fixture
def run_in_tree(tmp_path):
    """A function that runs commands over a folder with a file, in a sandbox or without, and returns what they made."""
    (tmp_path / "checkout" / ".run").mkdir(parents=True)

    def started(apart, *commands, network=False, caches=None, minutes=1, **environment):
        lower = tmp_path / "checkout" / ".run" / "lower"
        lower.mkdir(exist_ok=True)
        (lower / "given").write_text("given\n")
        if apart:
            apart.own(lower)
        tree = overlay.new(tmp_path / "checkout" / ".run", [lower], apart)
        overlay.run(
            tree,
            [["sh", "-c", each] for each in commands],
            layer="vendor",
            reach=Allowed(network=network, caches=caches, private=(tmp_path / "checkout", home(tmp_path))),
            environment={"PATH": os.environ["PATH"], **environment},
            hidden=(),
            say=lambda words: None,
            log_path=tmp_path / "log",
            shown=Path("log"),
            minutes=minutes,
        )
        return {each.name: each.read_text() for each in tree.upper.iterdir() if each.is_file()}

    return started


def home(tmp_path):
    return tmp_path / "caller"


@pytest.fixture
def machine(tmp_path):
    """A machine in the middle of a run: what each attempt is about; the values fill the attempts' braces."""
    checkout, state = tmp_path / "checkout", home(tmp_path) / ".local" / "state"
    for folder in (checkout / ".run", home(tmp_path) / ".aws", state):
        folder.mkdir(parents=True, exist_ok=True)
    (checkout / ".run" / "token").write_text(SECRET)
    (home(tmp_path) / ".aws" / "credentials").write_text(SECRET)
    (state / "cloud.json").write_text(SECRET)
    holder = subprocess.Popen(  # stands for the run: the token in its environment, the key in its memory
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"],
        env={"BITBUCKET_STEP_OIDC_TOKEN": SECRET},
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    agent = tmp_path / "agent.sock"
    with (
        contextlib.ExitStack() as opened,
        private.folder("keys") as other,
    ):
        (other / "key").write_text(SECRET)
        ports = {}
        for name, where in (
            ("agent", str(agent)),
            ("loopback", ("127.0.0.1", 0)),
            ("abstract", f"\0{agent}"),
        ):
            kind = socket.AF_INET if name == "loopback" else socket.AF_UNIX
            listener = opened.enter_context(socket.socket(kind))
            listener.bind(where)
            listener.listen()
            threading.Thread(target=answer, args=[listener], daemon=True).start()
            ports[name] = listener.getsockname()
        try:
            yield {
                "checkout": checkout,
                "home": home(tmp_path),
                "state": state,
                "holder": holder.pid,
                "agent": agent,
                "port": ports["loopback"][1],
                "other": other,
                "tmp": tmp_path,
            }
        finally:
            holder.kill()
            holder.communicate()


def answer(listener):
    with contextlib.suppress(OSError):
        while True:
            with listener.accept()[0] as one:
                one.sendall(SECRET.encode())


CONNECT = f"{sys.executable} -c 'import socket; s = socket.socket(socket.%s); s.connect(%s); print(s.recv(99).decode())'"
ATTEMPTS = {
    "the token's file": "cat {checkout}/.run/token",
    "the run's environment": "cat /proc/{holder}/environ",
    "every process's environment": "cat /proc/[0-9]*/environ",
    "the run's memory": "cat /proc/{holder}/maps >&2 && echo " + SECRET,
    "the home's credentials": "cat {home}/.aws/credentials",
    "the embedded cloud's access key": "cat {state}/cloud.json",
    "the embedded cloud's port": CONNECT % ("AF_INET", '("127.0.0.1", {port})'),
    "the SSH agent": CONNECT % ("AF_UNIX", '"{agent}"'),
    "an abstract socket": CONNECT % ("AF_UNIX", '"\\0{agent}"'),
    "another run's private folder": "cat {other}/key",
    "the run's processes": "kill -0 {holder} && echo " + SECRET,
    "the checkout": f"echo {SECRET} > {{checkout}}/planted && cat {{checkout}}/planted",
    "a folder that all may write to": f"echo {SECRET} > /var/tmp/planted-{{holder}}; cat /var/tmp/planted-{{holder}}; rm /var/tmp/planted-{{holder}}",
    "the machine's sockets": f"ls /run/lock && echo {SECRET}",
    "shared memory": f"echo {SECRET} > /dev/shm/planted-{{holder}} && cat /dev/shm/planted-{{holder}}",
}
ALLOWED_INSIDE = {"shared memory"}
"""It works in a sandbox as well, on one that is its own."""


@pytest.mark.parametrize("what", ATTEMPTS)
@pytest.mark.promise("builds-reach-no-secret")
def test_an_attempt_gets_through_without_a_sandbox_and_not_with_one(run_in_tree, machine, here, what):
    attempt = ATTEMPTS[what].format(**machine)
    planted = Path(f"/dev/shm/planted-{machine['holder']}")
    try:
        open_tree = run_in_tree(None, f"({attempt}) > got || true")
        assert SECRET in open_tree["got"], "the test itself shows nothing"
        planted.unlink(missing_ok=True)
        kept = run_in_tree(here, f"({attempt}) > got || true")
        assert (SECRET in kept["got"]) == (what in ALLOWED_INSIDE)
        assert not planted.exists()
        assert not (machine["checkout"] / "planted").exists() or what == "the checkout"
    finally:
        planted.unlink(missing_ok=True)


@pytest.mark.promise("builds-have-no-network")
def test_only_a_layer_that_says_so_reaches_the_network(run_in_tree, machine, here):
    attempt = ATTEMPTS["the embedded cloud's port"].format(**machine)
    assert SECRET in run_in_tree(here, f"({attempt}) > got || true", network=True)["got"]
    assert SECRET not in run_in_tree(here, f"({attempt}) > got || true")["got"]


def test_a_command_may_talk_to_itself(run_in_tree, here):
    code = (
        'import socket; s = socket.create_server(("127.0.0.1", 0)); socket.create_connection(s.getsockname())'
    )
    assert run_in_tree(here, f"{sys.executable} -c '{code}' && echo yes > got")["got"] == "yes\n"


def test_a_command_is_nobody_and_cannot_become_somebody(run_in_tree, here):
    made = run_in_tree(here, "id -u > user; grep -h -e CapEff -e NoNewPrivs /proc/self/status > rights")
    assert made["user"] == f"{sandbox.USER}\n"
    assert made["rights"].split() == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]


def test_what_is_written_outside_of_the_tree_goes_nowhere(run_in_tree, here):
    attempts = "".join(
        f"touch {each}/planted 2>/dev/null && echo {each};"
        for each in ("/usr", "/etc", "/", "/proc", "/dev", "/var")
    )
    assert run_in_tree(here, f"({attempts} true) > got; echo x > /tmp/x; echo x > ~/x")["got"] == ""


def test_a_command_may_change_what_is_below_it(run_in_tree, here):
    made = run_in_tree(here, "echo more >> given", "cat given > seen")
    assert made["seen"] == "given\nmore\n"


DAEMON = f"{sys.executable} -c 'import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); os.environ.clear(); time.sleep(300)' {{mark}}"


def of_mark(mark):
    """The processes that have a mark in their command line."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in each.read_bytes():
                found.append(int(each.parent.name))
    return found


@pytest.mark.parametrize(("ending", "fails"), [("true", False), ("exit 3", True), ("kill -9 $$", True)])
@pytest.mark.promise("builds-leave-no-process")
def test_a_daemon_is_gone_when_the_command_has_ended(run_in_tree, here, tmp_path, ending, fails):
    mark = f"daemon-{tmp_path.name}-{os.getpid()}"
    command = f"{DAEMON.format(mark=mark)} >/dev/null 2>&1 </dev/null & sleep 0.3; {ending}"
    try:
        with contextlib.nullcontext() if not fails else pytest.raises(BuildFailed):
            run_in_tree(None, command)
        assert of_mark(mark), "the test itself shows nothing"
    finally:
        for pid in of_mark(mark):
            os.kill(pid, 9)
    with contextlib.nullcontext() if not fails else pytest.raises(BuildFailed):
        run_in_tree(here, command)
    assert of_mark(mark) == []


def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(run_in_tree, here, tmp_path):
    mark = f"silent-{tmp_path.name}-{os.getpid()}"
    with pytest.raises(BuildSilent):
        run_in_tree(here, f"{DAEMON.format(mark=mark)} & sleep 300", minutes=0.02)
    until(lambda: of_mark(mark) == [])


def test_a_command_ends_with_a_run_that_is_killed(here, tmp_path, run_in_tree):
    mark = f"killed-{tmp_path.name}-{os.getpid()}"
    (tmp_path / "folder").mkdir()
    for each in sandbox.FOLDERS:
        (tmp_path / "folder" / each).mkdir()
    asked = sandbox.request(
        here,
        tmp_path / "folder",
        Allowed(network=False, caches=None, private=()),
        ["sh", "-c", f"exec {sys.executable} -c 'import time; time.sleep(300)' {mark}"],
        overlay="",
        environment={"PATH": os.environ["PATH"]},
    )
    child = subprocess.Popen(sandbox.PROGRAM, stdin=subprocess.PIPE)
    child.stdin.write(asked)
    child.stdin.close()
    until(lambda: of_mark(mark))
    child.kill()
    child.wait()
    until(lambda: of_mark(mark) == [])


def test_caches_are_shared_with_the_next_build(run_in_tree, here, tmp_path):
    caches = tmp_path / "checkout" / ".run" / "caches"
    caches.mkdir()
    here.own(caches)
    run_in_tree(here, "mkdir $CACHE && echo kept > $CACHE/one", caches=caches, CACHE="/caches/composer")
    assert (
        run_in_tree(here, "cat $CACHE/one > got", caches=caches, CACHE="/caches/composer")["got"] == "kept\n"
    )


def test_programs_of_the_path_are_there_and_what_is_beside_them_is_not(run_in_tree, here, tmp_path):
    tools = home(tmp_path) / "tools"
    for name in ("bin", "lib"):
        (tools / name).mkdir(parents=True)
    (tools / "secret").write_text(SECRET)
    (tools / "lib" / "words").write_text("words\n")
    (tools / "bin" / "tool").write_text('#!/bin/sh\ncat "$(dirname "$0")/../lib/words"\n')
    (tools / "bin" / "tool").chmod(0o755)
    path = f"{home(tmp_path)}:{tools}/bin:{os.environ['PATH']}"
    made = run_in_tree(here, f"tool > got; ls {tools} > seen; ls {home(tmp_path)} >> seen", PATH=path)
    assert made == {"got": "words\n", "seen": "bin\nlib\ntools\n"}


def test_a_missing_program_is_named(run_in_tree, here, tmp_path):
    with pytest.raises(BuildFailed, match="exit code 127"):
        run_in_tree(here, "no-such-program")


# --- without root's rights -------------------------------------------------------------------------

AS_A_USER = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
NO_NAMESPACES = [
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"',
    "sh",
]
ASKED = "import sys; from pathlib import Path; from tasks.tarball.build import sandbox; print(sandbox.of(Path(sys.argv[1])))"


@pytest.mark.parametrize(
    ("before", "found"), [(AS_A_USER, "Sandbox(as_root=False, overlays=True)"), (NO_NAMESPACES, "None")]
)
def test_a_user_has_a_sandbox_as_well_where_the_kernel_allows_it(tmp_path, before, found):
    asked = [sys.executable, "-c", ASKED, str(tmp_path / "build")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([*before, *asked], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == found


@pytest.mark.long(
    short="tests/tarball/build/test_sandbox.py::test_an_attempt_gets_through_without_a_sandbox_and_not_with_one"
)
def test_the_attempts_of_a_user_fail_in_its_sandbox_as_well():
    """The same tests, by a user that is not root."""
    tests = f"{Path(__file__).relative_to(ROOT)}"
    command = [
        *AS_A_USER,
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        tests,
        "-k",
        "gets_through or daemon_is_gone or is_nobody",
    ]
    with tempfile.TemporaryDirectory() as folder:  # not below this test's own: a socket's path has 107 bytes
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "TMPDIR": folder}
        )
    assert done.returncode == 0, done.stdout


def test_what_a_machine_refuses_is_found_out(tmp_path):
    assert sandbox.of(tmp_path / "build") in (
        None,
        *(Sandbox(as_root=one, overlays=other) for one in (True, False) for other in (True, False)),
    )
    assert children.mark() == ""
