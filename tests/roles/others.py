"""others: a role that somebody else has made, as a tarball on a server of this machine."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILES = {
    "meta/main.yml": "galaxy_info: {author: somebody, min_ansible_version: '2.9'}\ndependencies: []\n",
    "defaults/main.yml": "greeting_text: hello\ngreeting_path: /etc/greeting\n",
    "tasks/main.yml": """---
- include_tasks: "{{ ansible_os_family | lower }}.yml"
""",
    "tasks/debian.yml": """---
- name: greet | write the greeting
  copy:
    content: "{{ greeting_text }}, {{ greeting_words.first }}\\n"
    dest: "{{ greeting_path }}"
    mode: "0644"
""",
    "vars/odd.yml": "odd: !unsafe '{{ nothing }}'\n",
}
"""As roles of others are: short module names, facts, a file for each family, variables of any shape."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A server with tarballs. `url`: its address; `folder`: what it has."""

    url: str
    folder: Path

    def put(self, files: Mapping[str, str] = FILES, version: str = "1.2.0", *members: tarfile.TarInfo) -> str:
        """A tarball of a version, with members of any kind after the files; its digest."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz") as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(f"greeting-{version}/{name}")
                member.size = len(text.encode())
                tar.addfile(member, io.BytesIO(text.encode()))
            for member in members:
                tar.addfile(member)
        (self.folder / f"{version}.tar.gz").write_bytes(made.getvalue())
        return hashlib.sha256(made.getvalue()).hexdigest()

    def require(self, root: Path, sha256: str, version: str = "1.2.0", name: str = "greeting") -> None:
        """Let a project require it."""
        role = {"name": name, "version": version, "src": f"{self.url}/{{version}}.tar.gz", "sha256": sha256}
        (root / "requirements.yml").write_text(json.dumps({"roles": [role]}))


@contextlib.contextmanager
def shelf(folder: Path) -> Iterator[Shelf]:
    """The server, until the end of the block."""
    folder.mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            """Nothing is printed."""

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield Shelf(url=f"http://127.0.0.1:{server.server_port}", folder=folder)
    finally:
        server.shutdown()
        server.server_close()
