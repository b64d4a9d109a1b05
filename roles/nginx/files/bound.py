"""bound: restarts nginx where it does not listen as its configuration says, that many seconds after a reload.

It cannot bind an address of a port that it holds at another one: then it keeps all of its former configuration, and a reload succeeds.
"""

import re
import subprocess
import sys
import time

ANY, ANY_6 = "0.0.0.0", "[::]"  # noqa: S104  how `ss` writes them
LISTEN = re.compile(r"(?:^|[{;])\s*listen\s+([^\s;]+)([^;]*);", re.MULTILINE)


def said(*command):
    """What a program prints."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def told(configuration):
    """The TCP sockets that nginx binds: where it has a port at all addresses, it has no other one of it."""
    found = set()
    for place, options in LISTEN.findall(configuration):
        if place.startswith("unix:") or {"udp", "quic"} & set(options.split()):
            continue
        address, _, port = place.rpartition(":") if not place.endswith("]") else (place, "", "80")
        if not port.isdigit():
            address, port = place, "80"
        found.add((ANY if address in ("", "*") else address.replace("localhost", "127.0.0.1"), port))
    every = {(address, port) for address, port in found if address in (ANY, ANY_6)}
    return every | {
        (address, port)
        for address, port in found
        if (ANY_6 if address.startswith("[") else ANY, port) not in every
    }


def bound():
    """The TCP sockets that listen, each with the programs that have it."""
    found = {}
    for line in said("ss", "-Hltnp").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        holders = set(re.findall(r'"([^"]+)",pid=', line))
        for each in (ANY, ANY_6) if address == "*" else (address,):
            found.setdefault((each, port), set()).update(holders)
    return found


def missing(wanted, seconds):
    """Those that are not bound after that time."""
    end = time.monotonic() + seconds
    while (lacking := wanted - bound().keys()) and time.monotonic() < end:
        time.sleep(0.1)
    return lacking


wanted = told(said("nginx", "-T"))
if lacking := missing(wanted, float(sys.argv[1])):
    shown = ", ".join(":".join(each) for each in sorted(lacking))
    ports = {port for _, port in lacking}
    others = set().union(*(names for (_, port), names in bound().items() if port in ports)) - {"nginx"}
    if others:
        sys.exit(f"nginx cannot listen on {shown}: {', '.join(sorted(others))} has the port")
    said("systemctl", "restart", "nginx.service")
    print(f"restarted for {shown}")
