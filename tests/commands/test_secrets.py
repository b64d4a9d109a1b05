"""`doit secrets`: what is shown, what may be brought, and what is refused."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from tasks import administrator
from tasks.commands.base import WordsNotTaken
from tasks.commands.secrets import (
    HostsBehind,
    NoAuthority,
    NotInstalled,
    SecretEmpty,
    SecretsCommand,
    SecretUnknown,
)
from tasks.console.console import Console
from tasks.graph.inputs import Named
from tasks.infrastructure import secrets
from tasks.infrastructure.secrets import SecretExists
from tasks.promotion.rules import Frozen
from tasks.rotation.rotate import NotRotated
from tasks.server import certificates
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import IdleHosts, QuietCloud, run_in, secrets_of


@pytest.fixture
def told():
    return io.StringIO()


@pytest.fixture
def run(checkout, server, told):  # noqa: F811
    cloud = QuietCloud(REGION, server.home.load())
    return run_in(checkout, cloud, IdleHosts(), Console(stream=told), branch=checkout.parent.name)


class OneInput:
    """The records of one input, whose id was `as then`; `checker` says what it is now."""

    backend = SimpleNamespace(get=lambda task, path: "as then")
    checker = SimpleNamespace(id=lambda path: "as then" if path == "roles/same" else "as now")

    def get_values(self, task):
        return {"inputs": {"egress": "open"}}


def provisioning(path, egress):
    """The stage `server`, with a path and a setting as inputs."""
    return SimpleNamespace(
        name="server",
        meta={},
        file_dep=[path],
        uptodate=[(Named(lambda: {"egress": egress}), [], {})],
        value_savers=[],
    )


@pytest.fixture
def graph():
    """The other stages of the graph."""
    return []


@pytest.mark.promise("a-rotation-brings-nothing-else")
@pytest.mark.parametrize(
    ("path", "egress", "changed"),
    [("roles/nginx", "open", "roles/nginx changed"), ("roles/same", "listed", "egress open → listed")],
)
def test_no_rotation_brings_other_roles_or_settings_to_the_hosts(type_words, graph, path, egress, changed):
    graph.append(provisioning(path, egress))
    for word in ("database_password", "--all"):
        with pytest.raises(HostsBehind, match=changed):
            type_words("rotate", word)
    graph[:] = [provisioning("roles/same", "open")]
    with pytest.raises(NotRotated, match="nothing was made yet"):
        type_words("rotate", "database_password")


@pytest.mark.promise("a-rotation-fails-no-request")
def test_production_s_secrets_are_not_rotated_in_a_freeze(checkout, server, told, monkeypatch):  # noqa: F811
    path = checkout / "environments" / "production.yml"
    path.write_text(f"{path.read_text()}freezes: [2020-01-01/2090-01-01]\n")
    cloud = QuietCloud(REGION, server.home.load())
    command = SecretsCommand(task_loader=None)
    run = run_in(checkout, cloud, IdleHosts(), Console(stream=told), environment="production", branch="main")
    command.task_list = [SimpleNamespace(name="release", meta={"run": run})]
    with pytest.raises(Frozen, match=r"^secrets: production is frozen"):
        command._execute(pos_args=["rotate", "--all"])


@pytest.fixture
def type_words(run, graph, monkeypatch):
    """Type `doit secrets` with words; `said` is on the standard input."""

    def type_words(*words, said="", as_json=False):
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        command = SecretsCommand(task_loader=None)
        command.task_list = [SimpleNamespace(name="release", meta={"run": run}), *graph]
        command.dep_manager = OneInput()
        return command._execute(as_json=as_json, pos_args=list(words))

    return type_words


@pytest.mark.promise("the-administrator-signs-in")
def test_user_password_code_and_page_are_shown_once_they_are_made(run, type_words, told):
    with pytest.raises(NotInstalled, match="has no administrator yet\n    doit release"):
        type_words("show", "admin")
    known = secrets_of(run)
    type_words("show", "admin", as_json=True)
    shown = json.loads(told.getvalue())
    assert (shown["user"], shown["password"]) == ("admin", known.administrator_password)
    assert shown["page"] == administrator.page(run)
    assert len(shown["code"]) == 6


@pytest.mark.promise("trusted-once")
def test_the_certificate_of_the_authority_is_shown_without_its_key(run, type_words, told):
    with pytest.raises(NoAuthority, match="testing has no authority of its own yet\n    doit server"):
        type_words("show", "authority")
    ssm = run.cloud.client("ssm")
    certificates.ensure_authority(ssm, run.authority_folder, run.pipeline.dns_zone, run.clock.now())
    type_words("show", "authority")
    assert told.getvalue() == certificates.root(ssm, run.authority_folder)
    assert "PRIVATE" not in told.getvalue()


@pytest.mark.promise("what-is-brought-counts")
def test_a_crypt_key_is_brought_before_the_first_release_and_no_other_one_after_it(run, type_words):
    type_words("set", "crypt_key", said="key-of-the-old-shop\n")
    assert secrets_of(run).crypt_key == "key-of-the-old-shop"
    with pytest.raises(SecretExists):
        type_words("set", "crypt_key", said="another")
    type_words("set", "search_password", said="one")
    type_words("set", "search_password", said="two")
    assert secrets.known(run.cloud.client("ssm"), run.secrets_folder).search_password == "two"


@pytest.mark.parametrize(
    ("words", "refusal", "sentence"),
    [
        (["set", "deploy_key"], SecretUnknown, r"deploy_key is no secret .*\(known: crypt_key, search_password, relay_password, certificate\)"),
        (["set", "crypt_key"], SecretEmpty, "the standard input has no crypt_key"),
        (["show", "all"], WordsNotTaken, r"the command is doit secrets \[rotate NAME \| rotate --all \| set NAME \| show admin \| show mail \| show site \| show authority\]"),
        (["rotate"], WordsNotTaken, "the command is doit secrets"),
        (["rotate", "crypt_key"], NotRotated, "crypt_key is not rotated in testing-.*: not here"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(type_words, words, refusal, sentence):
    with pytest.raises(refusal, match=sentence):
        type_words(*words)
