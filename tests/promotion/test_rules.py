"""Which commits may continue, and why others may not; and what a commit would change."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from tasks.application import ApplicationFolder
from tasks.digest import Digest
from tasks.promotion.record import PromotionRecord, Step
from tasks.promotion.rules import Facts, Reach, kinds, lines, refusal
from tasks.release.undone import Mark
from tasks.settings import Environment
from tasks.tarball.stored import Pointer
from tasks.version import Version

COMMIT, OTHER = Version("c" * 40), Version("b" * 40)
DIGEST, ANOTHER = Digest("d" * 64), Digest("e" * 64)
KIM, LEE = "arn:aws:iam::1:user/kim", "arn:aws:iam::1:user/lee"
KIM_BUILDS, KIM_RELEASES, LEE_RELEASES = (
    f"arn:aws:sts::1:assumed-role/{session}" for session in ("builder/kim", "releaser/Kim", "releaser/lee")
)
NAMELESS = "arn:aws:sts::1:assumed-role/releaser/botocore-session-1764000000"
NOON = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)


def run_of(*states, digest=DIGEST, arn=KIM):
    steps = [Step(state=state, at="2026-11-24 11:00 UTC", arn=arn, by="kim") for state in states]
    return PromotionRecord(commit=COMMIT, branch="main", digest=digest, steps=tuple(steps))


WAITING = run_of("started", "built", "staged", "waiting")
LATER = dataclasses.replace(
    WAITING, steps=(*WAITING.steps[:-1], dataclasses.replace(WAITING.steps[-1], at="2026-11-24 11:30 UTC"))
)
FAILED = dataclasses.replace(
    LATER,
    steps=(*WAITING.steps, dataclasses.replace(LATER.steps[-1], state="failed", words="the health check")),
)
GOOD = Facts(
    commit=COMMIT,
    record=WAITING,
    current=COMMIT,
    pointer=Pointer(digest=DIGEST, role="builder"),
    proved=DIGEST,
    running=OTHER,
    contained=True,
    arn=LEE,
    now=NOON,
)
UNDONE = Mark(digest=DIGEST, environment="production", at="2026-11-24 11:00 UTC", by="kim")
PLAIN = Environment(takes_from="staging")


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({}, {}),
        ({}, {"running": None, "contained": None}),
        ({}, {"record": run_of("started", "waiting", "continuing")}),
        ({}, {"record": run_of("started", "waiting", "live"), "current": OTHER}),
        ({}, {"record": run_of("started", "waiting", "live", "undone")}),
        ({"builders": ("builder",)}, {}),
        ({"freezes": ("2026-11-25/2026-11-30",)}, {}),
        ({"freezes": ("2026-11-20/2026-11-24T12:00",)}, {}),
        ({"approvals": "different_person"}, {}),
        ({"approvals": "different_person"}, {"record": run_of("started", "waiting", arn=KIM_BUILDS), "arn": LEE_RELEASES}),
        ({"approvals": "none"}, {"arn": KIM}),
    ],
)  # fmt: skip
@pytest.mark.promise("only-listed-builders", "no-release-in-a-freeze")
def test_a_proved_commit_may_continue(settings, facts):
    environment = dataclasses.replace(PLAIN, **settings)
    assert refusal("production", environment, dataclasses.replace(GOOD, **facts)) is None


@pytest.mark.parametrize(
    ("settings", "facts", "sentence"),
    [
        ({}, {"undone": UNDONE, "record": None}, "continue: dddddddddddddddd goes no further: kim has undone it in production, 2026-11-24 11:00 UTC\n    doit allow dddddddddddddddd"),
        ({}, {"record": run_of("started", "waiting", "live", "undone"), "current": OTHER}, "does not wait: superseded"),
        ({}, {"record": None}, "continue: ccccccc has not been on staging, which runs ccccccc"),
        ({}, {"record": None, "current": None}, "continue: ccccccc has not been on staging\n"),
        ({}, {"record": run_of("started")}, "the run of ccccccc does not wait: started since"),
        ({}, {"record": run_of("started", "built", "failed")}, "does not wait: failed since 2026-11-24 11:00 UTC by kim"),
        ({}, {"record": run_of("started", "waiting", "stopped")}, "does not wait: stopped since 2026-11-24 11:00 UTC by kim\n"),
        ({}, {"record": FAILED}, "does not wait: failed since 2026-11-24 11:30 UTC by kim (the health check)\n"),
        ({}, {"record": run_of("started", "waiting", "superseded")}, "does not wait: superseded"),
        ({}, {"record": LATER, "current": OTHER}, "continue: the run of ccccccc does not wait: superseded since 2026-11-24 11:30 UTC by kim (by the run of bbbbbbb)"),
        ({}, {"current": None}, "does not wait: superseded"),
        ({}, {"pointer": None}, "staging has not proved dddddddddddd: the commit has no tarball"),
        ({}, {"pointer": Pointer(digest=ANOTHER)}, "staging has not proved eeeeeeeeeeee: the commit's tarball is another one"),
        ({}, {"proved": ANOTHER}, "staging has not proved dddddddddddd: it runs eeeeeeeeeeee"),
        ({}, {"proved": None}, "staging has not proved dddddddddddd: nothing is released there"),
        ({}, {"record": run_of("started", "waiting", digest=None), "pointer": None, "proved": None}, "has not proved any tarball of it: the commit has no tarball"),
        ({"builders": ("ci", "image")}, {}, "production takes tarballs of ci, image, and dddddddddddd was built by builder"),
        ({"builders": ("ci",)}, {"pointer": Pointer(digest=DIGEST)}, "was built by an unknown role"),
        ({}, {"contained": False}, "continue: production runs bbbbbbb, which ccccccc does not contain\n    git merge bbbbbbb"),
        ({}, {"contained": None}, "production runs bbbbbbb, which this clone's history does not reach\n    git fetch --unshallow"),
        ({"freezes": ("2026-11-24/2026-11-25",)}, {}, "continue: production is frozen from 2026-11-24 00:00 to 2026-11-25 00:00 UTC"),
        ({"freezes": ("2026-11-24T13:59+02:00/2026-11-24T14:01+02:00",)}, {}, "production is frozen from"),
        ({"freezes": ("2026-11-24T12:00/2026-11-24T12:01",)}, {}, "production is frozen from 2026-11-24 12:00"),
        ({"approvals": "different_person"}, {"arn": KIM}, "continue: production requires another person's approval, and kim has started"),
        ({"approvals": "different_person"}, {"record": run_of("started", "waiting", arn=KIM_BUILDS), "arn": KIM_RELEASES}, "and kim has started"),
        ({"approvals": "different_person"}, {"record": run_of("started", "waiting", arn=KIM_BUILDS), "arn": KIM}, "and kim has started"),
        ({"approvals": "different_person"}, {"arn": "arn:aws:iam::1:root"}, "production requires another person's approval, and arn:aws:iam::1:root names no person"),
        ({"approvals": "different_person"}, {"arn": NAMELESS}, "botocore-session-1764000000 names no person"),
        ({"approvals": "different_person"}, {"record": run_of("started", "waiting", arn=NAMELESS)}, "names no person"),
    ],
)  # fmt: skip
@pytest.mark.promise(
    "only-a-waiting-run-goes-on",
    "only-the-tarball-of-staging-goes-on",
    "only-listed-builders",
    "no-older-commit-goes-live",
    "no-release-in-a-freeze",
    "another-person-continues",
    "no-person-no-approval",
)
def test_a_commit_that_may_not_continue_is_refused_with_the_reason(settings, facts, sentence):
    environment = dataclasses.replace(PLAIN, **settings)
    refused = refusal("production", environment, dataclasses.replace(GOOD, **facts))
    assert sentence in refused.text


REACH = Reach(
    stages={
        "infrastructure": {"tasks/infrastructure", "tasks/cloud"},
        "server": {
            "roles/nginx",
            "applications/magento2",
            "playbooks/server.yml",
            "tasks/server",
            "tasks/cloud",
        },
    },
    application=ApplicationFolder(path="app", pipeline=None, exclude=(), keep=()),
    migrations=("*/Setup/*", "*/etc/db_schema.xml"),
)


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("app/app/code/Shop/Catalog/Setup/Patch/Schema/AddQuantity.php", ["migrations"]),
        ("app/app/code/Shop/Catalog/etc/db_schema.xml", ["migrations"]),
        ("app/pub/index.php", ["application"]),
        ("application.md", ["other"]),
        ("roles/nginx/tasks/main.yml", ["server"]),
        ("roles/nginx_too/tasks/main.yml", ["other"]),
        ("playbooks/server.yml", ["server"]),
        ("applications/magento2/nginx.conf.j2", ["server"]),
        ("environments/production.yml", ["settings"]),
        ("pipeline.yml", ["settings"]),
        ("tasks/infrastructure/apply.py", ["infrastructure"]),
        ("tasks/server/ledger_host.py", ["server"]),
        ("tasks/cloud/aws.py", ["infrastructure", "server"]),
        ("dodo.py", ["the pipeline itself"]),
        ("tasks/graph/stage.py", ["the pipeline itself"]),
        ("tasks/commands/run.py", ["the pipeline itself"]),
        ("requirements.lock", ["the pipeline itself"]),
        ("README.md", ["other"]),
    ],
)
@pytest.mark.promise("a-file-counts-under-every-stage")
def test_a_change_counts_under_every_stage_that_depends_on_it(path, reached):
    assert kinds([path], REACH) == {kind: [path] for kind in reached}


@pytest.mark.promise("five-names-of-a-kind")
def test_five_files_of_a_kind_are_named_unless_it_reaches_no_machine():
    paths = [f"roles/nginx/{number}" for number in range(7)]
    assert list(lines(kinds(["README.md", *paths, "dodo.py"], REACH))) == [
        f"server: 7 files: {', '.join(paths[:5])} and 2 more",
        "the pipeline itself: 1 file: dodo.py",
        "other, which reaches no machine: 1 file",
    ]
    assert list(lines(kinds([], REACH))) == []


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (1, "1 file: 0"),
        (2, "2 files: 0, 1"),
        (5, "5 files: 0, 1, 2, 3, 4"),
        (6, "6 files: 0, 1, 2, 3, 4 and 1 more"),
    ],
)
def test_no_more_files_are_counted_than_are_not_named(number, line):
    assert list(lines({"server": [str(each) for each in range(number)]})) == [f"server: {line}"]
