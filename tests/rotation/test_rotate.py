"""A secret is rotated: visitors are served after every step, wherever it is cut off it goes on, and what was valid ends."""

from __future__ import annotations

import itertools

import pytest

from tasks.infrastructure import hosts, memory, secrets
from tasks.infrastructure.plan import key_mark
from tasks.rotation import known as names
from tasks.rotation import rotate
from tasks.rotation.rotate import NotRotated
from tasks.server import certificates
from tests.clouds import Killed
from tests.rotation.test_known import after as later

pytestmark = pytest.mark.services


def kept(run):
    return secrets.known(run.cloud.client("ssm"), run.secrets_folder)


def cut_off_anywhere(run, name, well):
    """Rotate it, cut off after the first step, after the second one, and so on; after each step all must be well."""
    run.cloud.well = well
    for step in itertools.count(1):
        run.cloud.calls.clear()
        run.cloud.dies_at = step
        try:
            list(rotate.rotate(run, name))
        except Killed:
            pass
        else:
            return step
        finally:
            run.cloud.dies_at = None
    return 0


@pytest.mark.promise("a-rotation-fails-no-request", "a-rotation-goes-on")
def test_the_application_is_let_in_after_every_step_and_the_former_password_is_refused_at_the_end(run, host):
    def well():
        assert host.enters(host.configured)

    first = kept(run).database_password
    assert host.enters(first)
    steps = cut_off_anywhere(run, "database_password", well)
    assert steps > 8, run.cloud.calls
    before = kept(run)
    (line,) = rotate.rotate(run, "database_password")
    after = kept(run)
    assert line.startswith("database_password: another one on i-")
    assert line.endswith("the former one is refused")
    assert after.database_password not in ("", first, before.database_password)
    assert [host.enters(each) for each in (first, before.database_password, after.database_password)] == [
        *(False, False, True)
    ]
    assert host.configured == after.database_password
    assert not after.database_password_before


@pytest.mark.promise("a-rotation-fails-no-request")
def test_a_role_that_forgets_the_former_password_fails_visitors_and_the_test_sees_it(run, host):
    """The rule broken: provisioning that accepts the new one alone."""
    whole = host.play
    host.play = lambda playbook, *, variables, **more: whole(
        playbook, variables={**variables, "database_password_before": ""}, **more
    )

    def well():
        assert host.enters(host.configured)

    with pytest.raises(AssertionError):
        cut_off_anywhere(run, "database_password", well)


@pytest.mark.promise("the-former-deploy-key-ends", "a-rotation-goes-on")
def test_the_deploy_key_logs_in_after_every_step_and_the_former_one_does_not_at_the_end(run, host):
    def well():
        assert secrets.public_key(kept(run).deploy_key).split()[1] in host.admitted.read_text()

    first = kept(run)
    assert cut_off_anywhere(run, "deploy_key", well) > 6, run.cloud.calls
    (line,) = rotate.rotate(run, "deploy_key")
    after = kept(run)
    assert "1 other keys log in as" in line, "who was put there by hand is named"
    admitted = host.admitted.read_text()
    assert after.deploy_key_public.split()[1] in admitted
    assert "AAAAbyhand alice" in admitted
    assert len(admitted.splitlines()) == 2
    assert first.deploy_key_public.split()[1] not in admitted + host.root.read_text()
    assert (after.deploy_key_next, after.deploy_key_before) == ("", "")
    assert after.deploy_key_public == secrets.public_key(after.deploy_key)
    (pair,) = run.cloud.client("ec2").describe_key_pairs(KeyNames=[run.name])["KeyPairs"]
    assert {"Key": "mark", "Value": key_mark(after.deploy_key_public)} in pair["Tags"]


@pytest.mark.promise("the-former-host-keys-end", "a-rotation-goes-on")
def test_the_pipeline_knows_the_host_after_every_step_and_only_its_new_key_at_the_end(run, host):
    (id,) = hosts.host_keys(run.store, run.identity)

    def well():
        assert host.shown() in hosts.host_keys(run.store, run.identity)[id]

    first = host.shown()
    assert cut_off_anywhere(run, "host_keys", well) > 4, run.cloud.calls
    assert hosts.host_keys(run.store, run.identity)[id] == [host.shown()]
    assert host.shown() != first


@pytest.mark.promise("a-rotation-goes-on")
def test_all_are_rotated_and_one_that_was_cut_off_goes_on_where_it_was(run, host):
    before, authority = kept(run), certificates.root(run.cloud.client("ssm"), run.authority_folder)
    run.cloud.dies_at = 20
    with pytest.raises(Killed):
        list(rotate.rotate_all(run))
    run.cloud.dies_at = None
    said = dict(line.split(": ", 1) for line in rotate.rotate_all(run))
    assert [*said] == [*names.ROTATABLE]
    assert said["database_password"].startswith("done before, 2")
    assert said["backup_password"] == said["backup_key"] == "it backs nothing up"
    assert said["signing_key"].startswith("pipeline.yml names no public_keys")
    after = kept(run)
    for name in (
        "database_password",
        "deploy_key",
        "own_certificate",
        "mail_password",
    ):
        assert getattr(after, name) not in ("", getattr(before, name)), name
    assert after.crypt_key == before.crypt_key
    assert authority != certificates.root(run.cloud.client("ssm"), run.authority_folder) != ""
    assert "database_password: another one" in "".join(rotate.rotate_all(run)), "the next one begins anew"


@pytest.mark.long(
    short="tests/rotation/test_rotate.py::test_all_are_rotated_and_one_that_was_cut_off_goes_on_where_it_was"
)
@pytest.mark.promise("an-old-rotation-begins-anew")
def test_all_that_was_cut_off_a_day_ago_begins_anew_and_says_so(run, host):
    run.cloud.dies_at = 20
    with pytest.raises(Killed):
        list(rotate.rotate_all(run))
    run.cloud.dies_at = None
    begun = memory.read(run.store, run.identity)["rotating"]
    assert begun["done"][0] == "database_password"
    before = kept(run).database_password
    first, second, *_ = rotate.rotate_all(later(run, 1))
    assert first == f"all: begun {begun['at']} and never finished, so they begin anew"
    assert second.startswith("database_password: another one")
    assert kept(run).database_password != before


@pytest.mark.long(
    short="tests/rotation/test_rotate.py::test_all_are_rotated_and_one_that_was_cut_off_goes_on_where_it_was"
)
@pytest.mark.promise("an-old-rotation-begins-anew")
def test_one_without_a_date_begins_anew(run, host):
    memory.change(run.store, run.identity, lambda known: {**known, "rotating": {"done": ["mail_password"]}})
    said = [*rotate.rotate_all(run)]
    assert said[0].startswith("all: begun at a time that nobody knows")
    assert not any("done before" in line for line in said)


@pytest.mark.promise("an-old-rotation-begins-anew")
def test_a_single_one_is_no_part_of_all(run, host):
    run.cloud.dies_at = 20
    with pytest.raises(Killed):
        list(rotate.rotate_all(run))
    run.cloud.dies_at = None
    list(rotate.rotate(run, "mail_password"))
    said = dict(line.split(": ", 1) for line in rotate.rotate_all(run))
    assert said["database_password"].startswith("done before, 2")
    assert said["mail_password"].startswith("another one")


@pytest.mark.long(
    short="tests/rotation/test_rotate.py::test_all_are_rotated_and_one_that_was_cut_off_goes_on_where_it_was"
)
@pytest.mark.promise("an-old-rotation-begins-anew")
def test_one_that_was_cut_off_by_itself_ends_before_all_begin(run, host):
    """The value that it ends with is as old as its beginning."""
    run.cloud.dies_at = 4
    with pytest.raises(Killed):
        list(rotate.rotate(run, "database_password"))
    run.cloud.dies_at = None
    begun = kept(run)
    assert begun.database_password not in ("", begun.database_password_before)
    said = [line.partition(":")[0] for line in rotate.rotate_all(run)]
    assert said[:3] == ["database_password", "database_password", "backup_password"]
    assert kept(run).database_password not in ("", begun.database_password, begun.database_password_before)


NOT_ROTATED = {
    "crypt_key": "not here: what the database has is encrypted with it",
    "administrator": "in the application's admin",
    "search_password": "doit secrets set search_password",
    "mood": "no secret of that name (known: database_password, ",
    "backup_key": "it backs nothing up",
    "signing_key": "pipeline.yml names no public_keys",
}


def test_what_is_not_rotated_is_refused_with_the_reason(run):
    for name, why in NOT_ROTATED.items():
        with pytest.raises(NotRotated) as refused:
            list(rotate.rotate(run, name))
        assert f"secrets: {name} is not rotated in {run.identity}: {why}" in str(refused.value)
    assert run.cloud.calls == []
