"""What `plan` says is what `release` then does: nothing unforeseen runs, nothing foreseen is idle.

Each example is a project of its own and some rounds. A round makes changes, asks `plan`, releases, and compares. Hypothesis
prints its seed with a failure; `--hypothesis-seed=N` repeats it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given
from hypothesis import strategies as st

from tasks.bucket import layout
from tasks.bucket import name as bucket_name
from tasks.cloud.embedded.address import ACCOUNT
from tasks.run import branch_identity
from tests.conftest import commit, git
from tests.hypothesis_settings import so_many
from tests.paper import cloud as paper_cloud
from tests.paper import copy_paper, users_cloud
from tests.zygote import Zygote

IDENTITY = branch_identity("testing", "main")
PACK, MACHINES = "tarball:pack", "infrastructure:environment"
FEEDS = {"server": (MACHINES,), "release": (MACHINES, PACK)}
"""The tasks whose outcome is an input of a task."""
NEW_FACTS = ("create machine", "start machine", "end machine")
"""Changes that change what the stage `infrastructure` tells the others."""
CHANGE = re.compile(
    r"(create|delete|open|close|let out|hold back|start|end|tag|retag|protect|point|repoint|unpoint) "
)
UNUSED = ("bench", "docs", "tests", "app/app", "app/packages")
"""Folders of the project that no step needs: git reads the others faster."""
LAYER = {"name": "page", "files": ["pub/page.txt"], "commands": [["cp", "pub/page.txt", "pub/made.txt"]], "outputs": ["pub/made.txt"]}  # fmt: skip

FILES = (
    *("app/pub/page.txt", "app/pub/other.txt", "app/dev/notes.txt", "README.md", "playbooks/server.yml"),
    *("playbooks/release.yml", "roles/nginx/tasks/main.yml", "roles/nginx/templates/more.j2"),
    *("roles/release/tasks/main.yml", "roles/workers/tasks/main.yml", "tasks/bucket/cache.py"),
    *("tasks/server/drift.py", "tasks/release/history.py", "tasks/infrastructure/plan.py", "tasks/commands/list.py"),
    *("tasks/tarball/build/tar.py", "tasks/tarball/sbom.py", "tasks/image.py", "applications/magento2/more.txt"),
)  # fmt: skip
SETTINGS: tuple[tuple[str, str, object], ...] = (
    *(("testing", "infrastructure.instances", value) for value in (1, 2)),
    *(("testing", "infrastructure.scale_down", value) for value in (True, False)),
    *(("testing", "infrastructure.manage", value) for value in ("all", "additive", "plan")),
    *(("testing", "infrastructure.owner", value) for value in ("kim", "lee")),
    *(("testing", "infrastructure.http_from", value) for value in (["0.0.0.0/0"], ["10.0.0.0/8"])),
    *(("testing", "infrastructure.idle_hours", value) for value in (5, 6)),
    *(("testing", "host_name", value) for value in ("one", "two")),
    *(("testing", "release.keep", value) for value in (3, 4)),
    *(("testing", "server.leftovers", value) for value in ("report", "remove")),
    *(("testing", "server.php.memory_limit", value) for value in ("1G", "2G")),
    *(("testing", "uncommitted", value) for value in ("allowed", "refused")),
    *(
        ("testing", "stages", value)
        for value in (
            ["infrastructure", "tarball", "server", "release"],
            ["infrastructure", "server", "release"],
            ["tarball", "server", "release"],
            ["infrastructure", "tarball", "release"],
        )
    ),
    *(("pipeline", "budget", value) for value in (200, 400)),
    *(("pipeline", "instance_type", value) for value in ("t3.medium", "t3.large")),
)
BY_HAND = ("close", "open", "unpoint", "repoint", "end", "stop", "untag", "no key", "no tarball", "no layer", "no ledger", "no record")  # fmt: skip
TYPED = (
    *(("tarball",), ("infrastructure",), ("server",), ("run", "--single", "server"), ("run", "--single", "release")),
    *(("forget", "server"), ("forget", PACK), ("forget", MACHINES), ("forget", "release"), ("reset-dep",)),
    *(("ignore", "server"), ("ignore", "release"), ("ignore", PACK), ("teardown",)),
)  # fmt: skip

Step = tuple[str, Any]
LIKELY = (
    *(("change", each) for each in FILES),
    *(("draft", each) for each in FILES),
    *(("set", each) for each in SETTINGS),
    *(("set uncommitted", each) for each in SETTINGS),
    *(("by hand", each) for each in BY_HAND),
    *(("type", each) for each in TYPED),
    *[("revert", None), ("put back", None), ("commit", None), ("drift", None)] * 4,
    *[("fails", each) for each in ("server", "release")] * 2,
)
STEPS = st.one_of(
    *(
        st.sampled_from([each for each in LIKELY if each[0] == kind])
        for kind in dict.fromkeys(each[0] for each in LIKELY)
    )
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What `plan` said, and what the release after it did.

    `said`: the verdicts by task. `did`: how each task ended. `plays`: the playbooks. `changes`: those of the infrastructure.
    `pointed`: whether something was written about a commit's tarball. `differs`: the tasks of which an upstream's outcome is
    no longer the one that they had. `drifted`: a host is not as recorded, which is not seen while it is down.
    """

    said: Mapping[str, Mapping[str, Any]]
    plan_code: int
    code: int
    did: Mapping[str, str]
    plays: tuple[str, ...]
    changes: tuple[str, ...]
    pointed: bool
    differs: frozenset[str]
    drifted: bool
    told: str


def judge(seen: Seen) -> None:
    """Both ways: what runs was foreseen, and what was foreseen runs."""
    for task, verdict in seen.said.items():
        if task in seen.did or not seen.code:  # what a failure has kept from starting was not wrong
            _judge_task(seen, task, verdict["what"], seen.did.get(task, "unchanged"))
    unforeseen = {each for each, how in seen.did.items() if how == "done"} - seen.said.keys()
    assert not unforeseen, f"{unforeseen} ran, and the plan does not know them\n{seen.told}"
    work = any(each["what"] in ("run", "maybe", "point") for each in seen.said.values())
    assert seen.plan_code == (2 if work else 0), seen.told
    if not seen.code:
        _judge_changes(seen)


def _judge_task(seen: Seen, task: str, what: str, did: str) -> None:
    ran = did in ("done", "failed")
    told = f"{task}: plan says {what}, and the release: {did}\n{seen.told}"
    if what == "maybe":
        _judge_maybe(seen, task)
        assert ran == (task in seen.differs or (task == "server" and seen.drifted)), told
    elif what == "ignored":
        assert did == "ignored", told
    else:
        assert did != "ignored", told
        assert ran == (what == "run"), told
    if task == PACK and did == "unchanged":
        assert seen.pointed == (what == "point"), told
    if task in ("server", "release") and did != "failed":  # what fails may do so before its play
        assert (task in seen.plays) == ran, told


def _judge_maybe(seen: Seen, task: str) -> None:
    """Only what nobody can know yet is left open: the digest of a tarball, and the address of a machine."""
    upstream = {each: seen.said[each] for each in FEEDS.get(task, ()) if each in seen.said}
    packed = upstream.get(PACK, {"what": ""})["what"] == "run"
    machines = any(
        reason.startswith(NEW_FACTS) for reason in upstream.get(MACHINES, {"reasons": ()})["reasons"]
    )
    assert packed or machines, f"{task}: maybe, and all is known\n{seen.told}"


def _judge_changes(seen: Seen) -> None:
    if MACHINES not in seen.said:
        return
    verdict = seen.said[MACHINES]
    foreseen = (
        {each for each in verdict["reasons"] if CHANGE.match(each)} if verdict["what"] == "run" else set()
    )
    done = set(seen.changes)
    if any(each.startswith("start machine") for each in foreseen):  # it may get another address
        done -= {each for each in done if each.startswith("repoint")}
    if any("its new machines" in each for each in foreseen):  # nobody knows their addresses
        foreseen, done = (
            {
                re.sub(
                    r"(point .* to|open port \d+ for|let out tcp \d+ for) (its new machines|10\..*)",
                    r"\1 …",
                    each,
                )
                for each in some
            }
            for some in (foreseen, done)
        )
    assert done == foreseen, f"changes: {done ^ foreseen}\n{seen.told}"


class Shop:
    """A project of its own, with an environment `testing` of its own, in the cloud that all share."""

    numbers = itertools.count()

    def __init__(self, field: Field) -> None:
        self.field = field
        self.name = f"shop{next(self.numbers)}"
        self.root = field.folder / self.name
        self.hosts = field.folder / f"{self.name}-hosts"
        self.hosts.mkdir()
        shutil.copytree(field.base, self.root, symlinks=True)
        self.counter = itertools.count()
        self.fails = ""
        self.ignored: list[str] = []
        self.said: list[str] = []
        self._put("pipeline", "name", self.name)
        self._put("pipeline", "dns_zone", f"{self.name}.localhost")
        self._put("testing", "infrastructure.scale_down", True)
        commit(self.root, "a project of its own")
        self.first = git(self.root, "rev-parse", "HEAD")
        self.doit("release")

    def begin(self) -> None:
        """Put every file back for another sequence. What is live is what the last one has released."""
        self.said.append("# ---")
        git(self.root, "reset", "-q", "--hard", self.first)
        git(self.root, "clean", "-qfd")
        if self.ignored:
            self.doit("forget", *self.ignored)
            self.ignored.clear()

    def doit(self, *words: str, **environ: str) -> tuple[int, str]:
        """A call of `doit`. Whatever it answers, it is no bug."""
        made = {**self.field.environ, "HOSTS": str(self.hosts), **environ}
        code, said = self.field.zygote.call(list(words), self.root, made)
        self.said.append(f"$ doit {' '.join(words)}  # {code}\n{said}")
        assert code in (0, 1, 2), said
        assert "Traceback" not in said, said
        assert "bug of the pipeline" not in said, said
        return code, said

    # --- the steps ---

    def take(self, step: Step) -> None:
        """Take a step."""
        self.said.append(f"# {step}")
        name, argument = step
        action: Callable[[Any], object] = {
            "change": lambda path: (self._write(path), commit(self.root)),
            "draft": self._write,
            "set": lambda what: (self._set(what), self._commit()),
            "set uncommitted": self._set,
            "by hand": self._by_hand,
            "type": self._type,
            "revert": lambda _: self._revert(),
            "put back": lambda _: (git(self.root, "checkout", "-q", "--", "."), git(self.root, "clean", "-qfd")),
            "commit": lambda _: self._commit(),
            "drift": lambda _: (self.hosts / "drifted").touch(),
            "fails": lambda stage: setattr(self, "fails", stage),
        }[name]  # fmt: skip
        action(argument)

    def _type(self, words: tuple[str, ...]) -> None:
        self.doit(*words)
        if words[0] == "ignore":
            self.ignored.extend(words[1:])

    def _write(self, path: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as text:
            text.write(f"# {next(self.counter)}\n")

    def _commit(self) -> None:
        if git(self.root, "status", "--porcelain"):
            commit(self.root)

    def _revert(self) -> None:
        """What was committed last is taken back by another commit, and the changed files are put back with it."""
        git(self.root, "checkout", "-q", "--", ".")
        git(self.root, "clean", "-qfd")
        if git(self.root, "rev-parse", "HEAD") != self.first:
            git(
                self.root,
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.com",
                "revert",
                "--no-edit",
                "HEAD",
            )

    def _set(self, what: tuple[str, str, object]) -> None:
        self._put(*what)

    def _put(self, file: str, dotted: str, value: object) -> None:
        path = self.root / ("pipeline.yml" if file == "pipeline" else f"environments/{file}.yml")
        content = yaml.safe_load(path.read_text())
        *above, last = dotted.split(".")
        place = content
        for each in above:
            place = place.setdefault(each, {})
        place[last] = value
        if dotted == "stages":
            content.pop("also", None)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def _by_hand(self, what: str) -> None:
        ec2, route53, s3 = (self.field.client(each) for each in ("ec2", "route53", "s3"))
        ours = [{"Name": "tag:project", "Values": [self.name]}]
        groups = ec2.describe_security_groups(Filters=ours)["SecurityGroups"]
        machines = [
            each["InstanceId"]
            for reservation in ec2.describe_instances(
                Filters=[*ours, {"Name": "instance-state-name", "Values": ["running"]}]
            )["Reservations"]
            for each in reservation["Instances"]
        ]
        web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        opened = {**web, "FromPort": 8080, "ToPort": 8080}
        if what == "close" and any(each["FromPort"] == 80 for each in _permissions(groups)):
            kept = [each for each in _permissions(groups) if each["FromPort"] == 80]
            ec2.revoke_security_group_ingress(GroupId=groups[0]["GroupId"], IpPermissions=kept)
        elif what == "open" and groups and not any(each["FromPort"] == 8080 for each in _permissions(groups)):
            ec2.authorize_security_group_ingress(GroupId=groups[0]["GroupId"], IpPermissions=[opened])
        elif what == "end" and machines:
            ec2.terminate_instances(InstanceIds=machines[:1])
        elif what == "stop" and machines:
            ec2.stop_instances(InstanceIds=machines[:1])
        elif what == "untag" and machines:
            ec2.delete_tags(Resources=machines, Tags=[{"Key": "Name"}])
        elif what == "no key":
            ec2.delete_key_pair(KeyName=f"{self.name}-{IDENTITY}")
        elif what in ("unpoint", "repoint"):
            self._change_record(route53, what)
        elif what.startswith("no "):
            gone = {"tarball": "tarballs/", "layer": "layers/", "ledger": "ledgers/", "record": "state/"}[
                what[3:]
            ]
            for key in self.keys():
                if gone in key and (key.startswith("state/") <= key.endswith("server.json")):
                    s3.delete_object(Bucket=self.bucket, Key=key)

    def _change_record(self, route53: Any, what: str) -> None:
        for zone in route53.list_hosted_zones()["HostedZones"]:
            if zone["Name"].rstrip(".") != f"{self.name}.localhost":
                continue
            for each in route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]:
                if each["Type"] == "A":
                    other = {**each, "ResourceRecords": [{"Value": "10.9.9.9"}]}
                    change = {"Action": "DELETE", "ResourceRecordSet": each} if what == "unpoint" else {"Action": "UPSERT", "ResourceRecordSet": other}  # fmt: skip
                    route53.change_resource_record_sets(
                        HostedZoneId=zone["Id"], ChangeBatch={"Changes": [change]}
                    )

    # --- what is compared ---

    @property
    def bucket(self) -> str:
        """The project's bucket."""
        return bucket_name.default(self.name, ACCOUNT, "eu-central-1")

    def keys(self) -> dict[str, str]:
        """The bucket's keys, each with its version."""
        pages = self.field.client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {each["Key"]: each["ETag"] for page in pages for each in page.get("Contents", ())}

    def look(self) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """The version of each pointer of a commit, and what doit keeps of each task that has an upstream or is one."""
        keys, found = self.keys(), {}
        for task in (*FEEDS, MACHINES, PACK):
            key = layout.state(IDENTITY, task)
            if key in keys:
                body = self.field.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()
                found[task] = json.loads(body)["doit"] or {}
        return {key: version for key, version in keys.items() if "/commits/" in key}, found

    def release(self) -> Seen:
        """Ask `plan`, release, and look at what that did."""
        plan_code, said = self.doit("plan", "--json", "--detailed-exitcode", "release")
        if plan_code == 1:  # a refusal: the release must have the same one
            code, _ = self.doit("release")
            assert code == 1, "\n".join(self.said)
            return Seen(said={}, plan_code=0, code=code, did={}, plays=(), changes=(), pointed=False, differs=frozenset(), drifted=False, told="")  # fmt: skip
        before, had = self.look()
        drifted = (self.hosts / "drifted").exists()
        (self.hosts / "played").unlink(missing_ok=True)
        for old in self.root.glob(".run/logs/*/*/run.json"):
            old.unlink()
        code, heard = self.doit("release", FAILS=self.fails)
        journals = [json.loads(each.read_text()) for each in self.root.glob(".run/logs/*/*/run.json")]
        did = {name: each["outcome"] for found in journals for name, each in found["stages"].items()}
        played = self.hosts / "played"
        self.fails = ""
        after, has = self.look()
        verdicts = {each["task"]: each for each in json.loads(said[said.find("[\n") :])}
        differs = {
            task
            for task, feeds in FEEDS.items()
            for each in feeds
            if each in verdicts
            and had.get(task, {}).get("_values_:", {}).get(f"_result:{each}")
            != has.get(each, {}).get("result:")
        }
        lines = re.findall(r"^  infrastructure (.*)$", heard, re.MULTILINE)
        return Seen(
            said=verdicts,
            plan_code=plan_code,
            code=code,
            did=did,
            plays=tuple(played.read_text().split()) if played.exists() else (),
            changes=tuple(each for each in lines if CHANGE.match(each)),
            pointed=after != before,
            differs=frozenset(differs),
            drifted=drifted,
            told="\n".join(self.said),
        )


class Field:
    """Where the projects are: a copy of this one, the cloud, and what answers a call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = copy_paper(folder / "base")
        for each in UNUSED:
            shutil.rmtree(self.base / each)
        profile = self.base / "applications" / "magento2" / "profile.yml"
        said = {**yaml.safe_load(profile.read_text()), "layers": [LAYER]}
        del (
            said["server"]["roles"]["database"],
            said["server"]["groups"],
        )  # with it an environment has one machine
        profile.write_text(yaml.safe_dump(said, sort_keys=False))
        for path in ("app/pub/page.txt", "app/pub/other.txt", "app/dev/notes.txt"):
            (self.base / path).parent.mkdir(parents=True, exist_ok=True)
            (self.base / path).write_text("first\n")
        commit(self.base, "a layer that costs nothing")
        self.zygote = Zygote(folder)
        names = ("PATH", "HOME", "LANG", "XDG_STATE_HOME")
        self.environ = {name: os.environ[name] for name in names if name in os.environ}
        self.client = paper_cloud().client
        self.shop: Shop | None = None


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """The cloud without containers, and a project whose hosts are paper."""
    with users_cloud(tmp_path_factory.mktemp("state")):
        made = Field(tmp_path_factory.mktemp("field"))
        yield made
        made.zygote.close()


def _permissions(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "IpProtocol": "tcp",
            "FromPort": each["FromPort"],
            "ToPort": each["ToPort"],
            "IpRanges": each["IpRanges"],
        }
        for group in groups[:1]
        for each in group["IpPermissions"]
    ]


def play(field: Field, rounds: Sequence[Sequence[Step]]) -> list[Seen]:
    """Take the steps of each round, and judge each release. After a failure, the next sequence gets a new project."""
    shop, field.shop = field.shop or Shop(field), None
    shop.begin()
    seen = []
    for steps in rounds:
        for step in steps:
            shop.take(step)
        seen.append(shop.release())
        judge(seen[-1])
    field.shop = shop
    return seen


def trial(field: Field, number: int, rounds: int) -> None:
    """Try so many sequences. The seed is printed: `pytest --hypothesis-seed=N` repeats it."""
    counted: Counter[str] = Counter()

    @so_many(number)
    @given(st.lists(st.lists(STEPS, max_size=3), min_size=1, max_size=rounds))
    def holds(sequence: list[list[Step]]) -> None:
        counted.update(["sequences"])
        for each in itertools.chain.from_iterable(sequence):
            counted.update(["steps"])
            event(each[0])
        for seen in play(field, sequence):
            counted.update(["releases"])
            counted.update(each["what"] for each in seen.said.values())

    try:
        holds()
    finally:
        print(dict(counted))  # noqa: T201  what was tried


ALL = ["infrastructure", "tarball", "server", "release"]
STORY: tuple[tuple[str, list[Step], dict[str, str]], ...] = (
    (
        "code that changes no machine",
        [("change", "tasks/infrastructure/plan.py")],
        {MACHINES: "unchanged", "server": "run"},
    ),
    (
        "a port, which is nothing to those behind it",
        [("by hand", "close")],
        {MACHINES: "run", "server": "unchanged", "release": "unchanged"},
    ),
    (
        "a machine that is still to be made, and its name",
        [("set", ("testing", "infrastructure.instances", 2))],
        {MACHINES: "run", "server": "maybe", "release": "maybe"},
    ),
    (
        "a stopped machine, which may be as recorded",
        [("by hand", "stop")],
        {MACHINES: "run", "server": "maybe", "release": "maybe"},
    ),
    (
        "a forgotten record of machines that are there",
        [("type", ("forget", MACHINES))],
        {MACHINES: "unchanged", "server": "unchanged", "release": "unchanged"},
    ),
    (
        "changes that are only planned",
        [("set", ("testing", "infrastructure.manage", "plan")), ("by hand", "close")],
        {MACHINES: "unchanged", "server": "unchanged"},
    ),
    (
        "a stage that is no longer there",
        [("set", ("testing", "stages", ALL[1:])), ("change", "roles/nginx/tasks/main.yml")],
        {"server": "run"},
    ),
    (
        "an upstream that was not there last time",
        [("set", ("testing", "stages", ALL))],
        {MACHINES: "unchanged", "server": "run"},
    ),
    (
        "an ignored stage, and what comes behind it",
        [("type", ("ignore", "server")), ("change", "app/pub/page.txt")],
        {PACK: "run", "server": "ignored", "release": "ignored"},
    ),
)
"""What `plan` once foresaw wrongly, one after the other in one project: the steps, and what it must say."""


@pytest.mark.long(short="tests/graph/test_plan_holds.py::test_five_sequences_go_as_planned")
def test_what_was_once_foreseen_wrongly_is_foreseen(field):
    seen = play(field, [[], *(steps for _, steps, _ in STORY)])
    for (name, _, expected), each in zip(STORY, seen[1:], strict=True):
        assert {task: each.said[task]["what"] for task in expected} == expected, name


@pytest.mark.promise("plan-lists-the-same-changes", "plan-says-what-runs", "the-plan-holds")
def test_five_sequences_go_as_planned(field):
    trial(field, 5, rounds=1)


@pytest.mark.long(short="tests/graph/test_plan_holds.py::test_five_sequences_go_as_planned")
def test_a_hundred_sequences_go_as_planned(field):
    trial(field, 100, rounds=2)


@pytest.mark.promise("the-plan-holds")
def test_a_plan_that_always_says_run_is_found(field):
    (seen,) = play(field, [[("change", "README.md")]])
    for what in ("run", "maybe", "unchanged"):
        always = {task: {**each, "what": what} for task, each in seen.said.items()}
        with pytest.raises(AssertionError):
            judge(replace(seen, said=always))
