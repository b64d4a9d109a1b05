#!/usr/bin/python3 -IS
"""php_fpm: how php@ID.service lets nobody wait and no request go. `php_fpm.py reload|stop SOCKET`; systemd tells the rest.

PHP-FPM's own reload takes no request until the last one from before has ended. So another PHP-FPM takes what comes from now on, and the one
before ends what it has begun: both are of the unit. SOCKET is the link that the web server knows, to the socket of the one that takes requests.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

LOOK_EVERY, QUEUED = 0.1, 30.0
"""Seconds between two looks, and those that one who has connected to the former PHP-FPM has to be taken by it."""


def running(pid):
    """What a process runs; empty where it has ended."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            return Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)")
    return ""


def answers(path):
    """Whether somebody listens."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
        asked.connect(path)
        return True
    return False


def queued(path):
    """How many have connected to a socket and were not taken yet."""
    told = subprocess.run(["ss", "-xlH"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return sum(int(words[2]) for words in map(str.split, told.splitlines()) if words[4] == path)


def become_main(new):
    """Tell systemd which process is the main one; it ends the unit with the former one otherwise."""
    name, unit = os.environ["NOTIFY_SOCKET"], f"php@{os.environ['RELEASE']}.service"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
        asked.sendto(f"MAINPID={new.pid}".encode(), "\0" + name[1:] if name.startswith("@") else name)
    until = time.monotonic() + QUEUED
    show = ["systemctl", "show", "--property=MainPID", "--value", unit]
    while subprocess.run(show, stdout=subprocess.PIPE, text=True).stdout.strip() != str(new.pid):
        if time.monotonic() > until:
            new.kill()
            sys.exit("systemd takes no other main process; the one that runs goes on")
        time.sleep(LOOK_EVERY)


def relink(link, to):
    """A link that names another socket from one moment to the next."""
    Path(f"{link}.new").unlink(missing_ok=True)
    Path(f"{link}.new").symlink_to(to)
    Path(f"{link}.new").replace(link)


def reload(link):
    """Start another PHP-FPM of the version that runs, give it the link, and let the former one end."""
    former, program = int(os.environ["MAINPID"]), running(os.environ["MAINPID"])
    before, generation = os.path.realpath(link), str(time.time_ns())
    mine = f"{link.removesuffix('.sock')}.{generation}.sock"
    environment = {name: each for name, each in os.environ.items() if name != "NOTIFY_SOCKET"}
    settings = f"/etc/php/{program.removeprefix('php-fpm')}/fpm/php-fpm.conf"
    new = subprocess.Popen(
        [f"/usr/sbin/{program}", "--nodaemonize", "--fpm-config", settings],
        env={**environment, "GENERATION": generation},
        stdin=subprocess.DEVNULL,
    )
    while not answers(mine):
        if new.poll() is not None:
            sys.exit("PHP-FPM does not start with these settings; the one that runs goes on")
        time.sleep(LOOK_EVERY)
    become_main(new)
    relink(link, mine)
    until = time.monotonic() + QUEUED
    while queued(before) and time.monotonic() < until:
        time.sleep(LOOK_EVERY)
    os.kill(former, signal.SIGQUIT)
    if before == link:  # an older pipeline's, which removes the link when it ends
        while running(former) and time.monotonic() < until:
            time.sleep(LOOK_EVERY)
        if running(former):
            os.kill(former, signal.SIGKILL)
        relink(link, mine)


def stop(link):
    """All PHP-FPMs of the unit end what they have begun, also those from before a reload."""
    if not os.environ.get("MAINPID"):  # it has broken down, and another one is to start
        return
    unit, ended = Path("/proc/self/cgroup").read_text(), set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if (
                running(process.name).startswith("php-fpm")
                and (process / "cgroup").read_text() == unit
                and parent == "1"
            ):
                os.kill(int(process.name), signal.SIGQUIT)
                ended.add(process.name)
    while any(map(running, ended)):
        time.sleep(LOOK_EVERY)


{"reload": reload, "stop": stop}[sys.argv[1]](sys.argv[2])
