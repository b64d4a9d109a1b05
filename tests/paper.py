"""paper: a copy of the project for the whole pipeline against the embedded cloud, without hosts and playbooks."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import yaml

from tasks import endpoints
from tasks.cloud.caller import Caller
from tasks.cloud.embedded import client, home
from tasks.cloud.embedded.home import Home
from tasks.hosts.ansible import Recap
from tasks.hosts.playbook_events import PlaybookFailed
from tasks.release.stage import LIVE
from tests.cloud.embedded.conftest import Server
from tests.clouds import UnreachedHosts
from tests.conftest import ROOT, commit, copy_project

RUN = "command_line.this_run(Path.cwd())"
MOTD = "file /etc/motd"
ASK = (ROOT / endpoints.PROGRAM).read_text()


class PaperHosts(UnreachedHosts):
    """Hosts on which every play succeeds and changes one thing. FAILS names a playbook that fails, IDLE one that does nothing.

    HOSTS names a folder: `played` has a line for each playbook, `phases` one for each call of a program, and while
    there is `drifted`, a file is not as recorded.
    """

    live = ""

    def play(self, playbook, *, variables, **_):
        if os.environ.get("HOSTS"):
            with _state("played").open("a") as played:
                played.write(f"{playbook}\n")
        if os.environ.get("FAILS") == playbook:
            raise PlaybookFailed(stage=playbook, host="i-1", role=playbook, task="do it", message="no")
        if os.environ.get("IDLE") != playbook:
            self.live = variables.get("release_sha256", self.live)
        if playbook == "server":
            with contextlib.suppress(OSError):
                _state("drifted").unlink()
        return Recap(changed=1, ok=1, seconds=0.0, recorded={})

    def phases(self, program, phases, *, stage, plan, **_):
        if os.environ.get("HOSTS"):
            with _state("phases").open("a") as asked:
                asked.write(" ".join(phases) + "\n")
        if "live" in phases:
            self.play(stage, variables={"release_sha256": plan["sha256"]})
        return []

    def python(self, host, stage, program):
        """The digest of what is live, or what `ledger_host` answers for a host that has nothing. Services elsewhere answer it."""
        if program.endswith(ASK):
            return "[]"
        if program.endswith(LIVE.partition("{name}")[2]):
            return self.live
        asked = re.search(r'json\.loads\((".*")\)\)\)\)$', program.rstrip().splitlines()[-1])
        about = json.loads(json.loads(asked[1])).get("about", {}) if asked else {}
        things = {MOTD: {"task": "base : greet", "facts": {"digest": "as written"}}}
        ledger = {"things": things, "leftovers": {}, "folders": [], "files": [], "settings": {}, **about}
        facts = {MOTD: {"digest": "by hand" if _state("drifted").exists() else "as written"}}
        return json.dumps({"ledger": ledger, "done": {}, "stays": {}, "facts": facts, "strange": []})


class RestoringHosts(PaperHosts):
    """Hosts whose program of backups answers `said`: exit code, output, complaints. `played`: the variables of the last play."""

    MEASURES: ClassVar[dict] = {
        "snapshot": "0123456789abcdef",
        "time": f"{datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=8):%Y-%m-%dT%H:%M:%S}",
        "seconds": 12.5,
        "tables": {"odd": [3000, "digest"]},
        "files": {"pub/media": 51},
        "compared": True,
    }

    def __init__(self, code=0, complaints="", **more):
        measures = json.dumps({**self.MEASURES, **more})
        self.said = [code, "" if code else f"01234567 can be restored\n{measures}\n", complaints]
        self.played = {}

    def play(self, playbook, *, hosts, variables, own=None, **more):
        (host,) = hosts
        self.played = {**variables, **(own or {}).get(host.name, {})}
        return super().play(playbook, hosts=hosts, variables=variables, **more)

    def python(self, host, stage, program, **more):
        if "/usr/local/sbin/backup" in program:
            return json.dumps(self.said)
        return super().python(host, stage, program)


class PaperCloud(client.Embedded):
    """The user's embedded cloud, whose machines have no console. PERSON names the caller."""

    ahead: ClassVar[dict] = {}
    """Clients by cloud and service, made ahead: making one takes longer than most calls. Forked processes have them."""

    def host_keys(self, instance_id, say):
        return [f"ssh-ed25519 {instance_id}"]

    def _connect(self, service):
        if any(name.startswith("AWS_") for name in os.environ):  # what they do to a new client is to be seen
            return super()._connect(service)
        return self.ahead.get((self._identity, service)) or super()._connect(service)

    def caller(self):
        return Caller(arn=f"arn:aws:iam::123456789012:user/{os.environ.get('PERSON', 'kim')}")


def connect_ahead() -> None:
    """Make the clients of the user's cloud, for the processes that are forked. They connect when they are used."""
    users = cloud()
    for service in ("ec2", "route53", "s3", "ssm"):
        PaperCloud.ahead[users._identity, service] = users.client(service)


def _state(name: str) -> Path:
    return Path(os.environ.get("HOSTS", os.devnull)) / name


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


def without_machines(root: Path) -> None:
    """Hand the paper in, in the dodo.py of a project."""
    dodo = (root / "dodo.py").read_text()
    assert RUN in dodo
    (root / "dodo.py").write_text(
        dodo.replace(
            RUN, "command_line.this_run(Path.cwd(), cloud=paper.cloud(), hosts=paper.PaperHosts())"
        ).replace("from tasks.commands import", "from tests import paper\nfrom tasks.commands import")
    )


def without_layers(folder: Path) -> None:
    """Let a profile build nothing."""
    profile = folder / "profile.yml"
    without = {"layers": [], "stamps": {}, "inherits": {}}
    profile.write_text(yaml.safe_dump({**yaml.safe_load(profile.read_text()), **without}, sort_keys=False))


def copy_paper(root: Path) -> Path:
    """A copy of this repository on branch main, with a profile that builds nothing."""
    copy_project(root)
    without_machines(root)
    without_layers(root / "applications" / "magento2")
    commit(root, "machines are names")
    return root
