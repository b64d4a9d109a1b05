"""An environment of two machines: a release is live on both, or on none."""

from __future__ import annotations

import pytest

from tasks.hosts import ssh
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tests.end_to_end.conftest import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.long]

CURRENT = "import os; print(os.path.basename(os.readlink('/srv/shop/current')))"


@pytest.fixture
def two(project):
    """The environment of another branch, with two machines."""
    settings = project / "environments" / "testing.yml"
    before = settings.read_text()
    settings.write_text(before.replace("instances: 1", "instances: 2"))
    made = Site(root=project, variables={"branch": "two"})
    page = project / "app" / "pub" / "two.php"
    try:
        assert made.stages("release")["release"] == "done"
        yield made
    finally:
        page.unlink(missing_ok=True)
        made.doit("teardown")
        settings.write_text(before)


def machines(site):
    run = site.run
    return hosts.reachable(run.cloud, run.secrets_folder, infrastructure.existing(run))


def on_each(site, program):
    return [ssh.python(each, "release", program).strip() for each in machines(site)]


def test_a_release_that_fails_on_one_host_stays_on_neither(two):
    (first,) = set(on_each(two, CURRENT))
    (two.root / "app" / "pub" / "two.php").write_text("<?php\n")
    sick = machines(two)[1]
    switched = "import subprocess; subprocess.run(['systemctl', '{}', 'php8.2-fpm'], check=True)"
    ssh.python(sick, "release", switched.format("stop"))
    failed = two.doit("release")
    assert failed.returncode == 1, failed.stdout
    assert sick.name in failed.stderr
    assert on_each(two, CURRENT) == [first, first]
    ssh.python(sick, "release", switched.format("start"))
    assert two.stages("release")["release"] == "done"
    (second,) = set(on_each(two, CURRENT))
    assert second != first
