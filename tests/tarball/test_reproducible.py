"""Two builds of one commit give the same bytes, wherever, whenever and by whom they are made."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tasks.cloud.embedded import home
from tasks.tarball import stored
from tasks.tarball.build import layers
from tasks.tarball.build.layers import Build
from tests.cloud.embedded.conftest import REGION, Server
from tests.clouds import QuietCloud, run_in
from tests.conftest import DOIT, copy_project

AS_ANOTHER_USER = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]


@pytest.fixture
def cloud(tmp_path_factory):
    """A way to a new, empty cloud: the value of XDG_STATE_HOME that leads to it."""
    started = []

    def begin():
        state = tmp_path_factory.mktemp("state")
        place = home.of({"XDG_STATE_HOME": str(state)})
        place.folder.parent.mkdir(parents=True, exist_ok=True)
        started.append(Server(place))
        started[-1].start()
        return state, started[-1]

    yield begin
    for each in started:
        each.kill()


@pytest.mark.promise("packing-is-behind-the-work")
def test_a_layer_that_is_asked_for_alone_is_stored_when_the_run_has_ended(tmp_path, cloud):
    root = copy_project(tmp_path / "one")
    state, server = cloud()
    environ = {**os.environ, "PYTHONPATH": str(root), "XDG_STATE_HOME": str(state)}
    done = subprocess.run([DOIT, "tarball:vendor"], cwd=root, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_in(root, QuietCloud(REGION, server.home.load()))
    assert layers.known(Build(run), "vendor")


def built(root, cloud, *, before=(), umask=0o022, **environ):
    """The bytes that `doit tarball` makes of a checkout in a new cloud."""
    state, server = cloud()
    answered = subprocess.run(
        [*before, DOIT, "tarball"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "XDG_STATE_HOME": str(state), **environ},
        umask=umask,
        capture_output=True,
        text=True,
    )
    assert answered.returncode == 0, answered.stdout + answered.stderr
    (digest,) = re.findall(r"\b[0-9a-f]{64}\b", answered.stdout)
    run = run_in(root, QuietCloud(REGION, server.home.load()))
    return run.store.open(stored.stored_key(run, digest)).read()


@pytest.mark.long(
    short="tests/tarball/test_stage.py::test_two_clones_at_different_places_give_the_same_bytes"
)
@pytest.mark.promise("two-builds-same-bytes")
def test_another_clone_path_time_umask_time_zone_locale_and_user_give_the_same_bytes(tmp_path, cloud):
    one, two = tmp_path / "one", tmp_path / "two" / "at another place"
    copy_project(one)
    subprocess.run(["git", "clone", "-q", one, two], check=True, umask=0o077)
    first = built(one, cloud, LC_ALL="C.UTF-8", TZ="UTC")
    second = built(
        two,
        cloud,
        before=AS_ANOTHER_USER,
        umask=0o077,
        LC_ALL="C",
        TZ="Asia/Tokyo",
        LOGNAME="another",
        HOME=str(tmp_path),
    )
    assert len(first) > 50_000
    assert first == second
