"""remote: the address of a repository: the same for every way to reach it, and without what says who asks."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

PORTS = {"ssh": "22", "git+ssh": "22", "ssh+git": "22", "git": "9418", "http": "80", "https": "443"}
"""What reaches one repository in several ways, each with the port that need not be named."""
URL = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[^/]*@)?(\[[0-9a-f:.]+\]|[^/:@]+)(?::(\d*))?(/[^?#@]*)", re.I)
SCP = re.compile(r"(?:[^/:]*@)?(\[[0-9a-f:.]+\]|[^/:@]+):(?!:|//)([^?#@]*)", re.I)
"""`git@example.com:team/shop.git`; with a slash before the first colon it is a folder."""
LONGEST = 256
"""AWS: no tag's value has more characters."""


def address(url: str, folder: Path) -> str:
    """Host and path of a repository; empty for an address of another form: it is unknown which others it equals.

    `folder`: where a relative path begins. A folder is one of this machine, so the machine's name comes before it.
    """
    if found := URL.fullmatch(url):
        scheme, host, port, path = found.groups()
        if scheme.lower() not in PORTS:
            return ""
        named = f":{port}" if port and port != PORTS[scheme.lower()] else ""
        return _joined(f"{host.lower()}{named}", path)
    if found := SCP.fullmatch(url):
        return _joined(found[1].lower(), found[2])
    path = url.removeprefix("file://")
    if "://" in path or "::" in path:
        return ""
    return _joined(socket.gethostname(), os.path.realpath(folder / path))


def _joined(host: str, path: str) -> str:
    names = [each for each in path.split("/") if each]
    if names and names[-1].endswith(".git"):
        names[-1] = names[-1].removesuffix(".git")
    found = "/".join([host, *filter(None, names)])
    return found if names and len(found) <= LONGEST else ""
