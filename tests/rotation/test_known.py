"""`doit secrets` lists what there is, how old it is and who uses it; it asks for no value."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
from types import SimpleNamespace

import pytest

from tasks.clock import SYSTEM
from tasks.commands.secrets import SecretsCommand
from tasks.console.console import Console
from tasks.infrastructure import memory, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.profile import Profile
from tasks.rotation import known
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import IdleHosts, QuietCloud, run_in, secrets_of


class UnreadCloud(QuietCloud):
    """A cloud that notes what is asked of the parameter store."""

    def _connect(self, service):
        client = super()._connect(service)
        if service == "ssm":
            client.meta.events.register("before-parameter-build", self._asked)
        return client

    def _asked(self, params, model, **_):
        self.asked = [*getattr(self, "asked", []), (model.name, params.get("WithDecryption", False))]


@pytest.fixture
def told():
    return io.StringIO()


@pytest.fixture
def run(checkout, server, told):  # noqa: F811
    cloud = UnreadCloud(REGION, server.home.load())
    return run_in(checkout, cloud, IdleHosts(), Console(stream=told), branch=checkout.parent.name)


def typed(run, *words, as_json=False):
    command = SecretsCommand(task_loader=None)
    command.task_list = [SimpleNamespace(name="release", meta={"run": run})]
    return command._execute(as_json=as_json, pos_args=list(words))


def after(run, days):
    """The same run, so many days later."""
    later = dataclasses.replace(
        SYSTEM, now=lambda: datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    )
    return dataclasses.replace(run, clock=later)


@pytest.mark.promise("secrets-are-listed")
def test_each_secret_is_listed_with_its_age_and_who_uses_it_and_no_value_is_asked_for(run, told):
    made = secrets_of(run)
    run.cloud.asked = []
    typed(after(run, 400))
    assert {decrypted for _, decrypted in run.cloud.asked} == {False}
    lines = told.getvalue().splitlines()
    rows = {line.split()[0]: line for line in lines[1:]}
    assert [*rows] == [
        *("database_password", "backup_password", "mail_password", "site_password", "deploy_key"),
        *("crypt_key", "administrator"),
    ]
    assert "400 days, older than 365" in rows["database_password"]
    assert "the role database" in rows["database_password"]
    assert rows["database_password"].endswith("doit secrets rotate database_password")
    assert "not here" in rows["crypt_key"]
    for name in secrets.NAMES:
        value = getattr(made, name)
        assert not value or value not in told.getvalue(), name


@pytest.mark.promise("secrets-are-listed")
def test_what_is_young_unfinished_rotated_or_nobody_s_is_said(run, told):
    secrets_of(run)
    infrastructure.share(run)
    ssm = run.cloud.client("ssm")
    secrets.keep(ssm, run.secrets_folder, {"database_password_before": "x", "news/chat": "y", "mood": "z"})
    rotated = {"deploy_key": {"at": "2026-11-28 08:00 UTC", "by": "ada"}}
    memory.change(run.store, run.identity, lambda kept: {**kept, "rotated": rotated})
    found = {each.name: each for each in known.listed(after(run, 3))}
    assert found["database_password"].unfinished
    assert not found["deploy_key"].unfinished
    assert found["deploy_key"].by == "ada"
    assert not any(each.stale for each in found.values())
    assert found["news/chat"].users == "docs/news.md"
    assert found["mood"].users == "nothing of the pipeline"
    typed(run, as_json=True)
    shown = {each["name"]: each for each in json.loads(told.getvalue())}
    assert shown["database_password"]["unfinished"] is True
    assert "not finished" in said(run, told)


def said(run, told):
    told.truncate(0)
    typed(run)
    return told.getvalue()


def test_nothing_is_listed_before_there_is_anything(run, told):
    typed(run)
    assert len(told.getvalue().splitlines()) == 1


def test_every_secret_that_the_pipeline_keeps_is_declared_once():
    declared = [name for each in known.KNOWN for name in each.parameters]
    assert sorted([*declared, *secrets.ROTATING]) == sorted(secrets.NAMES)
    assert {each.name for each in known.KNOWN if each.way == known.ROTATED} == {*known.ROTATABLE}


def test_every_role_that_is_said_to_use_a_secret_is_one(run):
    """A role that is renamed or gone would leave the list wrong."""
    assert isinstance(run.profile, Profile)
    words = {
        word.strip(":,()")
        for each in known.KNOWN
        for before, word in zip(each.users.split(), each.users.split()[1:], strict=False)
        if before == "role"
    }
    assert words
    assert words <= {path.name for path in (run.root / "roles").iterdir()}
