"""The whole story: branches side by side, QA's change, a sweep, a merge, staging, production under load, a bad commit."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench import yes
from tasks.infrastructure import find
from tasks.infrastructure.plan import Existing
from tasks.promotion import record as promotion_record
from tasks.release import history, outside
from tests.conftest import DOIT, commit, copy_project, doit, git
from tests.end_to_end.conftest import Site

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.long(
        short="tests/commands/test_controls.py::test_a_commit_goes_from_staging_to_production_with_one_tarball"
    ),
]

PAGE = "app/app/code/Shop/Catalog/view/frontend/templates/page.phtml"
PATCHES = "app/app/code/Shop/Catalog/Setup/Patch/Schema"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with a remote and a signing key, in a cloud of its own that has a baked image."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = copy_project(tmp_path / "shop")
    git(tmp_path, "init", "-q", "--bare", "origin.git")
    git(made, "remote", "add", "origin", str(tmp_path / "origin.git"))
    key = said(doit(made, "key")).split("[")[1].split("]")[0]
    with (made / "pipeline.yml").open("a") as file:
        file.write(f"public_keys: [{key}]\nsweep: {{grace_hours: 0}}\n")
    change(made, "environments/production.yml", lambda text: text.replace("manage: plan", "manage: additive"))
    said(doit(made, "image"))
    yield made
    assert doit(made, "cloud", "delete").returncode == 0


def said(answered, code=0):
    assert answered.returncode == code, answered.stdout + answered.stderr
    assert "Traceback" not in answered.stderr
    return answered.stderr if code else answered.stdout


def change(root, path, changed):
    """Change a file, commit, push; the commit."""
    (root / path).write_text(changed((root / path).read_text()))
    made = commit(root, f"changes {path}")
    git(root, "push", "-q", "origin", "HEAD")
    return made


def mark(words):
    """A change of every page."""
    return lambda text: text.replace("</body>", f"<p>{words}</p>\n</body>")


def branches(root, *names):
    for name in names:
        git(root, "branch", name)
        git(root, "push", "-q", "origin", name)


def timed(root, *typed):
    begun = time.monotonic()
    said(doit(root, *typed))
    return time.monotonic() - begun


@contextlib.contextmanager
def visited(site):
    """Two visitors, as long as it lasts; what each of them was answered."""
    over, answers = threading.Event(), ([], [])

    def visit(seen):
        while not over.is_set():
            seen.append(site.get()[0])

    with ThreadPoolExecutor(2) as visitors:
        found = visitors.map(visit, answers)
        try:
            yield answers
        finally:
            over.set()
        list(found)


def test_from_three_branches_at_once_to_production_under_load(root, record_property, tmp_path):
    site = {name: Site(root=root, variables={"branch": name}) for name in ("alone", "one", "two", "three")}
    site |= {name: Site(root=root, variables={"environment": name}) for name in ("staging", "production")}

    # three branches at once, against one
    branches(root, *(name for name in site if "branch" in site[name].variables))
    alone = timed(root, "branch=alone", "start")
    begun = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda name: timed(root, f"branch={name}", "start"), ("one", "two", "three")))
    together = time.monotonic() - begun
    record_property("seconds of one, and of three at once", f"{alone:.0f}, {together:.0f}")
    assert together < 4 * alone  # they share two cores, and wait for nothing else
    assert {site[name].get()[0] for name in ("alone", "one", "two", "three")} == {200}
    assert len({site[name].host.address for name in ("alone", "one", "two", "three")}) == 4

    # QA's change is released to one of them
    git(root, "checkout", "-q", "one")
    qa = change(root, PAGE, mark("as QA has asked"))
    said(doit(root, "start"))
    assert "as QA has asked" in site["one"].get()[1]
    assert "as QA has asked" not in site["two"].get()[1]

    # one is stopped, from any checkout
    said(doit(root, "branch=two", "stop"))
    assert site["one"].get()[0] == site["three"].get()[0] == 200

    # one is deleted, and swept: when it is missed for the first time, that is only remembered
    git(root, "push", "-q", "origin", "--delete", "three")
    git(root, "branch", "-D", "three")
    said(doit(root, "sweep", "--yes"))
    assert site["three"].get()[0] == 200
    said(doit(root, "sweep", "--yes"))
    assert find.everything(site["three"].run) == Existing()
    assert site["one"].get()[0] == 200

    # the merge goes to staging, and what staging runs goes on
    git(root, "checkout", "-q", "main")
    git(root, "merge", "-q", "--ff-only", "one")
    said(doit(root, "start"))
    assert "as QA has asked" in site["staging"].get()[1]
    shown = said(doit(root, "continue", GITHUB_TRIGGERING_ACTOR="lee"))
    assert "the first release" in shown
    assert "as QA has asked" in site["production"].get()[1]
    assert digests(site) == {digest_of(site["staging"], qa)}

    # another change goes to production while it is visited
    new = change(root, PAGE, mark(" and more"))
    said(doit(root, "start"))
    run = site["production"].run
    shop = outside.site(run, run.host_name, outside.visitor(run))
    with visited(site["production"]) as answers:
        seconds = yes.seconds_to_visitors(
            [DOIT, "continue"],
            root,
            lambda: shop.get("/"),
            "and more",
            PYTHONPATH=str(root),
            GITHUB_TRIGGERING_ACTOR="lee",
        )
    record_property("seconds from the yes to visitors", f"{seconds:.2f}")
    assert (
        seconds < 3
    )  # two visitors who never rest share the cores with it: `bench/release.py` has it without them
    record_property("requests during the release", str(sum(map(len, answers))))
    assert min(map(len, answers)) > 10
    assert set(itertools.chain(*answers)) == {200}
    assert "and more" in site["production"].get()[1]
    record = promotion_record.read(site["production"].run.store, new)
    assert (record.state, record.steps[-1].by) == ("live", "lee")
    assert digests(site) == {record.digest}

    # one that changes the database goes out: who comes while it does is asked to wait, and nobody before or after
    shutil.copy(root / PATCHES / "AddQuantity.php", root / PATCHES / "AddWeight.php")
    weight = {"AddQuantity": "AddWeight", "quantity INT": "weight INT"}
    change(
        root,
        f"{PATCHES}/AddWeight.php",
        lambda text: re.sub("|".join(weight), lambda it: weight[it[0]], text),
    )
    said(doit(root, "start"))
    with visited(site["production"]) as answers:
        assert "migrations: 1 file:" in said(doit(root, "continue", GITHUB_TRIGGERING_ACTOR="lee"))
    columns = site["production"].ssh('mysql -N shop -e "SHOW COLUMNS FROM catalog_product"', tmp=tmp_path)
    assert "weight" in columns
    assert answers
    for seen in answers:
        assert [status for status, _ in itertools.groupby(seen)] in ([200], [200, 503, 200])
    record = promotion_record.current(site["production"].run.store)
    assert digests(site) == {record.digest}

    # a testing host ends itself some day, these never do
    timers = "systemctl list-timers --all --plain --no-legend"
    assert "self_shutdown.timer" in site["one"].ssh(timers, tmp=tmp_path)
    for name in ("staging", "production"):
        assert "self_shutdown.timer" not in site[name].ssh(timers, tmp=tmp_path)

    # a bad commit fails on staging, and production never hears of it
    bad = change(root, "app/pub/health_check.php", lambda text: "<?php http_response_code(500);\n")
    said(doit(root, "start"), code=1)
    assert f"the run of {bad[:7]} does not wait: failed" in said(doit(root, "continue"), code=1)
    assert digests(site) == {record.digest}
    assert site["production"].get()[0] == 200


def digests(site):
    """What staging and production run."""
    store = site["staging"].run.store
    return {history.read(store, name)[-1].digest for name in ("staging", "production")}


def digest_of(site, commit):
    return promotion_record.read(site.run.store, commit).digest
