"""The machine image: its fingerprint, how it is made and removed through the cloud's API, and which machines start from it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import os
import subprocess
import sys
import time
import uuid
import zlib

import pytest

from tasks import image, source
from tasks.bucket.lease import EnvironmentHeld, Lease
from tasks.commands import command_line
from tasks.console.console import Console
from tasks.hosts.playbook_events import PlaybookBroken
from tasks.image import Image, superfluous
from tasks.infrastructure import find
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import Existing
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixtures)
from tests.clouds import IdleHosts, Killed, QuietCloud, run_in
from tests.conftest import commit, copy_project, git, sampled


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("project") / "shop")


@pytest.fixture
def said():
    """Everything that is printed."""
    return io.StringIO()


@pytest.fixture
def run(project, server, said, request):  # noqa: F811
    """A run in which Ansible has nothing to do, for a project of its own."""
    cloud = QuietCloud(REGION, server.home.load())
    shop = run_in(project, cloud, hosts=IdleHosts(), console=Console(said), branch="main")
    name = f"shop-{zlib.crc32(request.node.name.encode()):08x}"
    made = dataclasses.replace(shop, pipeline=dataclasses.replace(shop.pipeline, name=name))
    infrastructure.share(made)
    return made


def nothing_of_the_host(run):
    assert find.everything(image._builder(run)) == Existing()


def another(run):
    """The same project's throw-away host, in another process."""
    return dataclasses.replace(image._builder(run), id=uuid.uuid4().hex)


# --- the fingerprint ------------------------------------------------------------------------------


@pytest.mark.promise("one-fingerprint-in-every-clone")
def test_the_fingerprint_is_the_same_in_a_shallow_clone_at_another_place(project, tmp_path):
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{project}", "other")
    assert image.fingerprint(command_line.read(tmp_path / "other", {})) == image.fingerprint(
        command_line.read(project, {})
    )


@pytest.mark.parametrize(
    ("path", "before", "after", "same"),
    [
        ("roles/nginx/tasks/main.yml", "---", "---\n# x", False),
        ("playbooks/image.yml", "---", "---\n# x", False),
        ("pipeline.yml", "image: debian-12", "image: debian-13", False),
        ("environments/testing.yml", "per_branch", "server: {php: {version: '8.3'}}\nper_branch", False),
        ("applications/magento2/profile.yml", "extensions: [bcmath, ", "extensions: [", False),
        ("environments/testing.yml", "per_branch", "server: {php: {memory_limit: 1G}}\nper_branch", True),
        ("app/pub/index.php", "<?php", "<?php // x", True),
        ("playbooks/release.yml", "---", "---\n# x", True),
    ],
)
@pytest.mark.promise("fingerprint-of-what-is-baked")
def test_the_fingerprint_is_that_of_roles_playbook_and_image_settings(
    project, tmp_path, path, before, after, same
):
    git(tmp_path, "clone", "-q", str(project), "other")
    file = tmp_path / "other" / path
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
    changed = image.fingerprint(command_line.read(tmp_path / "other", {}))
    assert (changed == image.fingerprint(command_line.read(project, {}))) is same


@pytest.mark.promise("one-fingerprint-in-every-clone")
def test_an_image_of_uncommitted_changes_is_known_by_its_content(project, tmp_path):
    git(tmp_path, "clone", "-q", str(project), "other")
    role = tmp_path / "other" / "roles" / "nginx" / "tasks" / "main.yml"
    role.write_text(role.read_text() + "# a change\n")
    uncommitted = image.fingerprint(command_line.read(tmp_path / "other", {}))
    source._snapshot.cache_clear()
    commit(tmp_path / "other")
    assert image.fingerprint(command_line.read(tmp_path / "other", {})) == uncommitted


# --- which images go ------------------------------------------------------------------------------


def an(id, state="available"):
    return Image(id=id, state=state, fingerprint="f", made=id)


@pytest.mark.parametrize(
    ("images", "used", "gone"),
    [
        ([], set(), []),
        (["3", "2"], set(), []),
        (["4", "3", "2", "1"], set(), ["2", "1"]),
        (["4", "3", "2", "1"], {"2"}, ["1"]),
        (["4", "3", "2", "1"], {"4", "1"}, ["2"]),
    ],
)
@pytest.mark.promise("newest-two-images-stay")
def test_the_newest_two_stay_and_so_does_what_a_machine_runs_on(images, used, gone):
    assert [each.id for each in superfluous([an(id) for id in images], used)] == gone


def test_a_failed_image_goes_and_one_being_made_is_not_counted():
    images = [an("5", "pending"), an("4", "failed"), an("3"), an("2")]
    assert [each.id for each in superfluous(images, set())] == ["4"]


@pytest.mark.promise("an-image-for-each-processor")
def test_each_processor_has_its_newest_two():
    graviton = [dataclasses.replace(an(id), architecture="arm64") for id in ("9", "8", "7")]
    assert [each.id for each in superfluous([*graviton, an("3"), an("2"), an("1")], set())] == ["7", "1"]


# --- its life -------------------------------------------------------------------------------------


@pytest.mark.promise("the-bake-host-ends", "a-known-image-is-not-baked")
def test_an_image_is_made_once_and_leaves_no_host(run):
    first = image.bake(run)
    assert first.changed
    assert image.differences(run) == []
    nothing_of_the_host(run)
    run.cloud.calls.clear()
    second = image.bake(run)
    assert (second.changed, second.facts) == (False, first.facts)
    assert set(run.cloud.calls) == {"PutObject"}, "the lease alone"


def later(run, days):
    """The same run, some days from now."""

    class Clock:
        def __getattr__(self, name):
            return getattr(run.clock, name)

        def now(self):
            return run.clock.now() + datetime.timedelta(days=days)

    return dataclasses.replace(run, clock=Clock())


@pytest.mark.promise("old-images-are-baked-anew")
def test_an_image_that_is_too_old_is_baked_anew_and_used_until_then(run):
    first = image.bake(run).facts["image"]
    assert image.differences(later(run, 29)) == []
    old = later(run, 31)
    assert image.differences(old) == [f"{first} is older than 30 days"]
    assert image.start(old) == first
    second = image.bake(old)
    assert second.changed
    assert second.facts["image"] != first
    never = dataclasses.replace(old, pipeline=dataclasses.replace(old.pipeline, image_days=0))
    assert image.differences(never) == []


@pytest.mark.promise("an-image-for-each-processor")
def test_a_machine_of_another_processor_starts_from_no_baked_image_of_this_one(run):
    image.bake(run)
    kind = dataclasses.replace(run.environment.infrastructure, instance_type="t4g.medium")
    arm = dataclasses.replace(run, environment=dataclasses.replace(run.environment, infrastructure=kind))
    assert image.start(run)
    assert image.start(arm) is None
    assert image.differences(arm) == [f"there is no image of fingerprint {image.fingerprint(run)}"]


def test_another_bake_of_the_project_is_waited_for_and_then_named(run):
    busy = Lease(another(run), ttl=30)
    busy.take()
    lease = Lease(another(run), ttl=30)
    with pytest.raises(EnvironmentHeld, match="image"):
        lease.take(0)
    busy.free()
    made = image.bake(run)
    busy = Lease(another(run), ttl=30)
    busy.take()
    assert image.bake(run).facts == made.facts, "an existing image needs no host and no wait"
    busy.free()


def test_an_image_is_tagged_with_its_project_and_its_content(run):
    made = image.bake(run).facts
    (found,) = run.cloud.client("ec2").describe_images(ImageIds=[made["image"]])["Images"]
    tags = {each["Key"]: each["Value"] for each in found["Tags"]}
    assert tags["project"] == run.pipeline.name
    assert tags["fingerprint"] == image.fingerprint(run)


def test_nothing_of_an_environment_is_made_for_it(run):
    hosts = []
    run.cloud.client("ec2").meta.events.register(
        "before-parameter-build.ec2.RunInstances", lambda params, **_: hosts.append(params)
    )
    image.bake(run)
    (host,) = hosts
    tags = {each["Key"]: each["Value"] for each in host["TagSpecifications"][0]["Tags"]}
    assert tags["environment"] == "image"
    assert run.identity not in str(host)


@pytest.mark.promise("the-bake-host-ends")
def test_a_host_on_which_the_playbook_fails_is_ended(run, monkeypatch):
    def fail(*_, **__):
        raise PlaybookBroken(stage="image", message="broken")

    run.hosts.play = fail
    with pytest.raises(PlaybookBroken):
        image.bake(run)
    nothing_of_the_host(run)
    assert image.found(run) == []


@pytest.mark.parametrize("calls", sampled(range(0, 26, 2)))
@pytest.mark.promise("killed-bake-begins-anew")
def test_a_bake_killed_after_any_call_is_cleaned_up_by_the_next(run, calls, monkeypatch):
    with monkeypatch.context() as dying:
        dying.setattr(image, "_end", _only_alive(image._end, run))
        run.cloud.calls.clear()
        run.cloud.dies_after = calls
        with contextlib.suppress(Killed):
            image.bake(run)
    run.cloud.dies_after = None
    image.bake(run)
    assert image.differences(run) == []
    assert len(image.found(run)) == 1
    nothing_of_the_host(run)


def _only_alive(end, run):
    """A killed process runs no `finally`."""

    def ended(builder):
        if len(run.cloud.calls) > run.cloud.dies_after:
            raise Killed
        end(builder)

    return ended


@pytest.mark.promise("newest-two-images-stay")
def test_older_images_go_when_a_third_is_made(run, monkeypatch):
    made = []
    for number in range(4):
        monkeypatch.setattr(image, "fingerprint", lambda run, number=number: f"{number}")
        time.sleep(1.1)  # images are dated by the second
        made.append(image.bake(run).facts["image"])
    assert {each.id for each in image.found(run)} == set(made[-2:])


@pytest.mark.promise("newest-two-images-stay")
def test_an_image_in_use_stays(run, monkeypatch):
    monkeypatch.setattr(image, "fingerprint", lambda run: "old")
    old = image.bake(run).facts["image"]
    infrastructure.converge(run, baked=image.start)
    for number in range(3):
        monkeypatch.setattr(image, "fingerprint", lambda run, number=number: f"{number}")
        image.bake(run)
    assert old in {each.id for each in image.found(run)}


# --- who starts from it ---------------------------------------------------------------------------


def started_from(run):
    pages = run.cloud.client("ec2").get_paginator("describe_instances")
    filters = [{"Name": "tag:environment", "Values": [run.identity]}, *find.of(run)[:1]]
    (id,) = {
        each["ImageId"]
        for page in pages.paginate(Filters=filters)
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    }
    return id


@pytest.mark.promise("new-machines-start-from-it")
def test_a_new_machine_starts_from_the_baked_image_and_says_so(run, said):
    made = image.bake(run).facts["image"]
    infrastructure.converge(run, baked=image.start)
    assert started_from(run) == made
    assert f"starts from the baked image {made}" in said.getvalue()


@pytest.mark.promise("new-machines-start-from-it")
def test_without_a_baked_image_it_starts_from_the_image_of_the_settings_and_says_so(run, said, monkeypatch):
    made = image.bake(run).facts["image"]
    monkeypatch.setattr(image, "fingerprint", lambda run: "another")
    infrastructure.converge(run, baked=image.start)
    assert started_from(run) != made
    assert "starts from debian-12: no baked image of another" in said.getvalue()


@pytest.mark.promise("machines-are-not-replaced")
def test_a_machine_that_is_there_is_not_replaced_for_a_newer_image(run):
    infrastructure.converge(run, baked=image.start)
    before = started_from(run)
    image.bake(run)
    assert infrastructure.differences(run) == []
    assert not infrastructure.converge(run, baked=image.start).changed
    assert started_from(run) == before


def test_the_graph_hands_the_baked_image_to_infrastructure(project):
    code = "import dodo; from tasks import image; (made,) = (each for each in dodo.task_infrastructure() "
    code += (
        "if each['name'] == 'environment'); print(made['actions'][0][1][0].keywords['baked'] is image.start)"
    )
    environ = {**os.environ, "PYTHONPATH": str(project)}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environ, capture_output=True, text=True, check=True
    ).stdout
    assert printed == "True\n"


def test_the_throw_away_host_never_starts_from_a_baked_image(run):
    image.bake(run)
    assert image.start(image._builder(run)) is None
