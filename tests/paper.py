"""paper: a copy of the project for the whole pipeline against the embedded cloud, without hosts and playbooks."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from tasks.cloud.caller import Caller
from tasks.cloud.embedded import client, home
from tasks.cloud.embedded.home import Home
from tasks.hosts.ansible import Recap
from tasks.hosts.hosts import Hosts
from tasks.hosts.playbook_events import PlaybookFailed
from tests.cloud.embedded.conftest import Server
from tests.conftest import commit, copy_project

RUN = "command_line.this_run(Path.cwd())"


class PaperHosts(Hosts):
    """Hosts on which every play succeeds and changes one thing. FAILS names a playbook that fails."""

    def play(self, playbook, **_):
        if os.environ.get("FAILS") == playbook:
            raise PlaybookFailed(stage=playbook, host="i-1", role=playbook, task="do it", message="no")
        return Recap(changed=1, ok=1, seconds=0.0, recorded={})

    def python(self, host, stage, program, *, quick=False):
        """What `ledger_host` answers for a host that has nothing."""
        asked = re.search(r'json\.loads\((".*")\)\)\)\)$', program.rstrip().splitlines()[-1])
        about = json.loads(json.loads(asked[1])).get("about", {}) if asked else {}
        ledger = {"things": {}, "leftovers": {}, "folders": [], "files": [], "settings": {}, **about}
        return json.dumps({"ledger": ledger, "done": {}, "stays": {}, "facts": {}, "strange": []})


class PaperCloud(client.Embedded):
    """The user's embedded cloud, whose machines have no console. PERSON names the caller."""

    def host_keys(self, instance_id, say):
        return [f"ssh-ed25519 {instance_id}"]

    def caller(self):
        return Caller(arn=f"arn:aws:iam::123456789012:user/{os.environ.get('PERSON', 'kim')}")


def cloud() -> PaperCloud:
    """The user's cloud, which runs already."""
    return PaperCloud("eu-central-1", lambda: home.of(os.environ).load())


@contextlib.contextmanager
def users_cloud(folder: Path) -> Iterator[Server]:
    """A server without containers, where doit looks for the user's cloud."""
    made = Server(Home(folder=folder / "release-pipeline" / "cloud"))
    made.home.folder.parent.mkdir()
    made.start()
    before = os.environ["XDG_STATE_HOME"]
    os.environ["XDG_STATE_HOME"] = str(folder)
    try:
        yield made
    finally:
        os.environ["XDG_STATE_HOME"] = before
        made.kill()


def copy_paper(root: Path) -> Path:
    """A copy of this repository on branch main, with a profile that builds nothing."""
    copy_project(root)
    dodo = (root / "dodo.py").read_text()
    assert RUN in dodo
    (root / "dodo.py").write_text(
        dodo.replace(
            RUN, "command_line.this_run(Path.cwd(), cloud=paper.cloud(), hosts=paper.PaperHosts())"
        ).replace("from tasks.commands import", "from tests import paper\nfrom tasks.commands import")
    )
    profile = root / "applications" / "magento2" / "profile.yml"
    without = {"layers": [], "stamps": {}, "inherits": {}}
    profile.write_text(yaml.safe_dump({**yaml.safe_load(profile.read_text()), **without}, sort_keys=False))
    commit(root, "machines are names")
    return root
