"""`doit secrets`: what is shown, what may be brought, and what is refused."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from tasks import administrator
from tasks.commands.base import WordsNotTaken
from tasks.commands.secrets import NotInstalled, SecretEmpty, SecretsCommand, SecretUnknown
from tasks.console.console import Console
from tasks.infrastructure import secrets
from tasks.infrastructure.secrets import SecretExists
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import IdleHosts, QuietCloud, run_in, secrets_of


@pytest.fixture
def told():
    return io.StringIO()


@pytest.fixture
def run(checkout, server, told):  # noqa: F811
    cloud = QuietCloud(REGION, server.home.load())
    return run_in(checkout, cloud, IdleHosts(), Console(stream=told), branch=checkout.parent.name)


@pytest.fixture
def type_words(run, monkeypatch):
    """Type `doit secrets` with words; `said` is on the standard input."""

    def type_words(*words, said="", as_json=False):
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        command = SecretsCommand(task_loader=None)
        command.task_list = [SimpleNamespace(meta={"run": run})]
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
        (["show", "all"], WordsNotTaken, "the command is doit secrets show admin | show mail | set NAME"),
        ([], WordsNotTaken, "the command is doit secrets"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(type_words, words, refusal, sentence):
    with pytest.raises(refusal, match=sentence):
        type_words(*words)
