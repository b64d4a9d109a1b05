"""Secrets: how each is made, which count, and what a list that shows them late does."""

from __future__ import annotations

import base64
import dataclasses
import re
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization

from tasks.infrastructure import secrets
from tasks.infrastructure.secrets import SecretExists, SecretNotListed
from tests.simulation.cloud import refused

FOLDER = "/shop/testing"


class Parameters:
    """A parameter store. `hidden`: names that so many lists do not show yet. `others`: what another run writes just before us."""

    def __init__(self, *, hidden=None, others=None):
        self.kept, self.hidden, self.others, self.written, self.lists = {}, hidden or {}, others or {}, [], 0

    def get_paginator(self, operation):
        assert operation == "get_parameters_by_path"
        return self

    def paginate(self, *, Path, WithDecryption):  # noqa: N803
        assert WithDecryption is True
        self.lists += 1
        shown = []
        for name, value in self.kept.items():
            if self.hidden.get(name.rpartition("/")[2], 0) > 0:
                self.hidden[name.rpartition("/")[2]] -= 1
            elif name.startswith(f"{Path}/"):
                shown.append({"Name": name, "Value": value})
        return [{"Parameters": shown[:1]}, {"Parameters": shown[1:]}]

    def put_parameter(self, **request):
        name = request["Name"].rpartition("/")[2]
        overwrite = request.pop("Overwrite", False)
        if name in self.others:
            self.kept[request["Name"]] = self.others.pop(name)
        if request["Name"] in self.kept and not overwrite:
            raise refused("ParameterAlreadyExists")
        self.written.append(request)
        self.kept[request["Name"]] = request["Value"]


def test_each_secret_is_made_encrypted_in_the_environment_s_folder():
    store = Parameters()
    made = secrets.ensure(store, FOLDER, secrets.OF_ROLES)
    names = ["deploy_key", "deploy_key_public", "database_password", "crypt_key"]
    names += [
        "administrator_password",
        "administrator_secret",
        "backup_password",
        "site_password",
        "mail_password",
    ]
    assert [each["Name"] for each in store.written] == [f"{FOLDER}/{each}" for each in names]
    assert {each["Type"] for each in store.written} == {"SecureString"}
    assert [each["Value"] for each in store.written] == [getattr(made, each) for each in names]
    assert len(made.database_password) >= 32
    assert len(bytes.fromhex(made.crypt_key)) == 16
    assert re.search("[a-z].*[0-9]$", made.administrator_password)
    assert len(base64.b32decode(made.administrator_secret)) == 20
    assert secrets.names(store, FOLDER) == sorted(f"{FOLDER}/{each}" for each in names)


def test_the_deploy_key_is_one_that_ssh_takes_without_a_password_and_its_public_half_is_its_own():
    made = secrets.ensure(Parameters(), FOLDER)
    private = serialization.load_ssh_private_key(made.deploy_key.encode(), password=None)
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    assert made.deploy_key_public == public.decode() == secrets.public_key(made.deploy_key)
    assert made.deploy_key_public.startswith("ssh-ed25519 ")
    assert made.deploy_key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")


@pytest.mark.parametrize(
    ("roles", "more"),
    [
        ((), set()),
        (["web"], set()),
        (["database"], {"database_password"}),
        (["shared"], {"crypt_key"}),
        (["web", "shared", "database"], {"database_password", "crypt_key"}),
        (["release"], {"administrator_password", "administrator_secret"}),
    ],
)
def test_a_secret_is_made_for_the_roles_that_are_told_it(roles, more):
    store = Parameters()
    made = secrets.ensure(store, FOLDER, roles)
    assert {each["Name"].rpartition("/")[2] for each in store.written} == {*secrets.ALWAYS, *more}
    assert bool(made.database_password) is ("database_password" in more)
    assert bool(made.crypt_key) is ("crypt_key" in more)


@pytest.mark.promise("secrets-are-made-once")
def test_what_is_there_is_taken_and_nothing_is_written():
    store = Parameters()
    made = secrets.ensure(store, FOLDER, secrets.OF_ROLES)
    store.put_parameter = lambda **_: pytest.fail("it is written")
    assert secrets.ensure(store, FOLDER, secrets.OF_ROLES) == made
    assert secrets.known(store, FOLDER) == made


def test_each_environment_has_its_own():
    store = Parameters()
    assert secrets.ensure(store, "/shop/other").deploy_key != secrets.ensure(store, FOLDER).deploy_key


@pytest.mark.parametrize("name", ["deploy_key", "deploy_key_public"])
def test_without_its_deploy_key_an_environment_s_secrets_are_not_known(name):
    store = Parameters()
    assert secrets.known(store, FOLDER) is None
    assert secrets.names(store, FOLDER) == []
    secrets.ensure(store, FOLDER, secrets.OF_ROLES)
    del store.kept[f"{FOLDER}/{name}"]
    assert secrets.known(store, FOLDER) is None


def test_a_secret_that_a_newer_pipeline_has_is_no_obstacle():
    store = Parameters()
    made = secrets.ensure(store, FOLDER)
    assert secrets.known(store, FOLDER) == made
    store.kept[f"{FOLDER}/mood"] = "good"
    found = secrets.known(store, FOLDER)
    assert found == dataclasses.replace(made, others={"mood": "good"})
    assert (found.value("mood"), found.value("crypt_key"), found.value("nothing")) == (
        "good",
        made.crypt_key,
        "",
    )


@pytest.fixture
def waits(monkeypatch):
    seconds = []
    monkeypatch.setattr(
        secrets, "children", SimpleNamespace(wait=lambda pause, stage: seconds.append((pause, stage)))
    )
    return seconds


@pytest.mark.promise("late-lists-lose-no-secret")
@pytest.mark.parametrize("lists", [0, 1, 19])
def test_where_another_run_was_faster_its_secret_counts_however_late_it_is_listed(waits, lists):
    store = Parameters(others={"database_password": "theirs"}, hidden={"database_password": lists})
    made = secrets.ensure(store, FOLDER, ["database"])
    assert made.database_password == "theirs"
    assert waits == [(secrets.POLL, "infrastructure")] * lists


def test_a_secret_that_is_never_listed_is_named(waits):
    store = Parameters(others={"deploy_key": "theirs"}, hidden={"deploy_key": 999})
    with pytest.raises(
        SecretNotListed, match=rf"the parameter {FOLDER}/deploy_key exists and is not listed\n    doit inf"
    ):
        secrets.ensure(store, FOLDER)
    assert len(waits) == 20


def test_what_the_cloud_refuses_is_not_taken_for_another_run_s_secret(waits):
    store = Parameters()
    store.put_parameter = lambda **_: (_ for _ in ()).throw(refused("AccessDeniedException"))
    with pytest.raises(ClientError):
        secrets.ensure(store, FOLDER)
    assert waits == []


@pytest.mark.promise("what-is-brought-counts")
def test_a_secret_that_is_brought_counts_and_another_crypt_key_is_refused():
    store = Parameters()
    secrets.bring(store, FOLDER, "crypt_key", "theirs")
    secrets.bring(store, FOLDER, "crypt_key", "theirs")
    for password in ("first", "changed"):
        secrets.bring(store, FOLDER, "search_password", password)
    made = secrets.ensure(store, FOLDER, ["shared"])
    assert (made.crypt_key, made.search_password) == ("theirs", "changed")
    with pytest.raises(SecretExists, match="crypt_key exists, and data may be encrypted with it"):
        secrets.bring(store, FOLDER, "crypt_key", "another")
    assert secrets.ensure(store, FOLDER, ["shared"]).crypt_key == "theirs"
    assert f"{FOLDER}/search_password" in secrets.expected(FOLDER, ())


@pytest.mark.promise("no-secret-in-records")
def test_no_secret_shows_where_they_are_printed():
    made = secrets.ensure(Parameters(), FOLDER, secrets.OF_ROLES)
    shown = repr(made)
    for secret in (made.database_password, made.crypt_key, *made.deploy_key.splitlines()[1:-1]):
        assert secret
        assert secret not in shown
