"""News: who wants to know is told, and whatever they answer, or do not, the release goes on."""

from __future__ import annotations

import dataclasses
import json
import socket
from types import SimpleNamespace

import pytest

from tasks import news
from tasks.news import Deployment, Event, Marker, Secret, Teller, Webhook
from tasks.settings import News as Settings
from tasks.version import Commit
from tests.conftest import copy_project, doit
from tests.listener import listening

EVENT = Event(
    what="started",
    name="shop",
    environment="production",
    commit=Commit("1a2b3c4d5e6f"),
    branch="main",
    by="kim",
    subject="Prices <b> & more",
    url="http://shop.example/",
    job="http://ci.example/1",
    words="",
    began=100.0,
    at=160.5,
)
ENDED = dataclasses.replace(EVENT, what="done")
FAILED = dataclasses.replace(EVENT, what="failed", words="release: a host is down")


def at(what):
    return dataclasses.replace(EVENT, what=what)


@pytest.fixture
def listener():
    with listening() as told:
        yield told


def secret(place, **environ):
    return Secret(place=place, environ=environ, parameters=lambda: {"webhook": environ.get("kept", "")})


def told(receiver, *events):
    """Tell a receiver; the lines that a run would show."""
    said = []
    teller = Teller([receiver], said.append)
    for each in events:
        teller.tell(each)
    teller.close()
    return said


@pytest.mark.promise("a-webhook-is-told")
def test_a_webhook_gets_slack_s_form_and_what_is_no_markup(listener):
    assert told(Webhook(secret("HOOK", HOOK=f"{listener.url}/secret")), EVENT, FAILED) == []
    begun, failed = (each.json for each in listener.heard)
    assert begun["text"] == "shop: 1a2b3c4 begins on production, by kim (Prices &lt;b&gt; &amp; more)"
    assert begun["blocks"][0]["text"] == {"type": "mrkdwn", "text": begun["text"]}
    assert begun["blocks"][1]["text"]["text"] == "<http://shop.example/|site> · <http://ci.example/1|job>"
    assert failed["text"] == "shop: 1a2b3c4 failed on production, by kim: release: a host is down"


@pytest.mark.promise("a-deployment-from-the-first-second")
def test_github_gets_a_deployment_when_a_release_begins_and_its_status(listener):
    environ = {
        "GITHUB_API_URL": listener.url,
        "GITHUB_REPOSITORY": "o/shop",
        "GITHUB_TOKEN": "t0ken",
    }
    assert told(Deployment(environ), EVENT, at("asked"), ENDED) == []
    made, begun, ended = listener.heard
    assert (made.path, made.headers["Authorization"]) == ("/repos/o/shop/deployments", "Bearer t0ken")
    assert made.json["ref"] == EVENT.commit
    assert made.json["environment"] == "production"
    assert (made.json["required_contexts"], made.json["auto_merge"]) == ([], False)
    assert begun.path == ended.path == "/repos/o/shop/deployments/7/statuses"
    assert (begun.json["state"], ended.json["state"]) == ("in_progress", "success")
    assert (ended.json["environment_url"], ended.json["log_url"]) == (EVENT.url, EVENT.job)


@pytest.mark.promise("a-deployment-from-the-first-second")
def test_gitlab_gets_a_deployment_when_a_release_begins_and_its_status(listener):
    environ = {"CI_API_V4_URL": listener.url, "CI_PROJECT_ID": "3", "CI_JOB_TOKEN": "t0ken"}
    assert told(Deployment(environ), EVENT, FAILED) == []
    made, ended = listener.heard
    assert (made.method, made.path, made.headers["Job-Token"]) == ("POST", "/projects/3/deployments", "t0ken")
    wanted = {
        "environment": "production",
        "sha": EVENT.commit,
        "ref": "main",
        "tag": False,
        "status": "running",
    }
    assert made.json == wanted
    assert (ended.method, ended.path, ended.json) == (
        "PUT",
        "/projects/3/deployments/7",
        {"status": "failed"},
    )


def test_a_rollback_s_record_is_made_when_it_has_ended(listener):
    environ = {"CI_API_V4_URL": listener.url, "CI_PROJECT_ID": "3", "CI_JOB_TOKEN": "t0ken"}
    assert told(Deployment(environ), at("undone")) == []
    assert [each.json["status"] for each in listener.heard] == ["success"]
    assert told(Deployment(environ), FAILED) == []
    assert len(listener.heard) == 1, "there is no record that could have failed"


@pytest.mark.promise("a-marker-for-metrics")
def test_a_marker_is_the_span_of_a_release(listener):
    marker = Marker(f"{listener.url}/api/annotations", secret("T", T="t0ken"))
    assert told(marker, EVENT, ENDED) == []
    (heard,) = listener.heard
    assert (heard.path, heard.headers["Authorization"]) == ("/api/annotations", "Bearer t0ken")
    assert heard.json == {
        "time": 100_000,
        "timeEnd": 160_500,
        "tags": ["release", "production", "done"],
        "text": ENDED.text,
    }


def every(url):
    """Each receiver, all at one address."""
    github = {"GITHUB_API_URL": url, "GITHUB_REPOSITORY": "o/shop", "GITHUB_TOKEN": "t0ken"}
    gitlab = {"CI_API_V4_URL": url, "CI_PROJECT_ID": "3", "CI_JOB_TOKEN": "t0ken"}
    return {
        "webhook": Webhook(secret("HOOK", HOOK=f"{url}/t0ken")),
        "GitHub": Deployment(github),
        "GitLab": Deployment(gitlab),
        "marker": Marker(f"{url}/annotations", None),
    }


ALL = [*every("")]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("status", [500, 401])
@pytest.mark.promise("news-hold-nothing-up")
def test_an_error_is_one_line(listener, name, status):
    listener.status = status
    receiver = every(listener.url)[name]
    assert told(receiver, EVENT, ENDED, ENDED) == [f"the {receiver.name} answers {status}"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.promise("news-hold-nothing-up", "news-show-no-secret")
def test_one_that_is_not_there_is_one_line(name):
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        receiver = every(f"http://127.0.0.1:{nobody.getsockname()[1]}")[name]
        said = told(receiver, EVENT, ENDED)
    assert said == [f"the {receiver.name} does not answer: ConnectionRefusedError"]


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("webhook", b"ok", []),
        ("marker", b"\xff<html>", []),
        ("GitHub", b"\xff<html>", ["the deployment answers without the id of a record"]),
        ("GitLab", b'{"id": "../../users"}', ["the deployment answers without the id of a record"]),
        ("GitHub", b"[]", ["the deployment answers without the id of a record"]),
    ],
)
@pytest.mark.promise("news-hold-nothing-up")
def test_garbage_is_one_line_where_it_matters(listener, name, answer, said):
    listener.answer = answer
    assert told(every(listener.url)[name], EVENT, ENDED) == said


@pytest.mark.parametrize("name", ALL)
@pytest.mark.promise("news-hold-nothing-up")
def test_one_that_is_slow_is_not_waited_for(listener, name, monkeypatch):
    monkeypatch.setattr(news, "LAST", 0.3)
    listener.held.clear()  # it answers when the test lets it: after the end
    receiver = every(listener.url)[name]
    said = told(receiver, EVENT if name in ("GitHub", "GitLab") else ENDED)
    assert said == [f"the {receiver.name} has not answered, and is not waited for"]
    assert listener.heard


def test_one_that_is_slow_holds_no_other_one_up(listener, monkeypatch):
    monkeypatch.setattr(news, "LAST", 0.5)
    with listening() as slow:
        slow.held.clear()
        said = []
        both = Teller([every(slow.url)["webhook"], every(listener.url)["marker"]], said.append)
        both.tell(ENDED)
        both.close()
        assert len(listener.heard) == 1
        assert said == ["the webhook has not answered, and is not waited for"]


@pytest.mark.parametrize(
    "address", ["slack.example/t0ken", "file:///etc/t0ken", "http://[t0ken", "http://a b/t0ken"]
)
@pytest.mark.promise("news-show-no-secret")
def test_an_address_that_is_none_is_not_shown(address):
    assert told(Webhook(secret("HOOK", HOOK=address)), EVENT) == ["the webhook has an address that is none"]


def test_a_secret_is_a_variable_or_a_parameter(listener):
    assert told(Webhook(secret("/webhook", kept=listener.url)), EVENT) == []
    assert len(listener.heard) == 1
    assert told(Webhook(secret("/webhook")), EVENT) == ["the webhook needs /webhook, which is not set"]
    assert told(Webhook(secret("HOOK")), EVENT) == ["the webhook needs HOOK, which is not set"]


def test_a_machine_that_is_no_ci_has_no_deployments():
    assert told(Deployment({}), EVENT) == ["the deployment needs a job of GitHub or GitLab, and this is none"]
    assert told(Deployment({"GITHUB_REPOSITORY": "o/shop", "GITHUB_API_URL": "http://a"}), EVENT) == [
        "the deployment needs GITHUB_TOKEN, which is not set"
    ]


def test_who_is_told_stands_in_the_environment_s_file():
    run = SimpleNamespace(environment=SimpleNamespace(news=Settings()))
    assert news.receivers(run, {}) == []
    run.environment.news = Settings(webhook="HOOK", deployments=True, marker="http://a/", marker_token="T")
    assert [each.name for each in news.receivers(run, {})] == ["webhook", "deployment", "marker"]


DODO = """
from pathlib import Path
from tasks.commands import command_line
from tasks.graph.stage import Outcome, stage
from tasks.source import NoCommit
from doit.dependency import JsonDB
JsonDB.void = JsonDB.remove
RUN = command_line.this_run(Path.cwd())
DOIT_CONFIG = {
    "backend": "json", "dep_file": ".run/doit.json", "reporter": "stages", "default_tasks": ["release"], "verbosity": 2,
}


def act(run):
    if Path(".run/fail").exists():
        raise NoCommit(name="x")
    return Outcome(facts={"commit": "0123456789"}, done="live", unchanged="as before")


def task_release():
    return stage(RUN, act, parts=lambda run: {"a": 1})


def task_rollback():
    return stage(RUN, act, always=True)


def task_other():
    return stage(RUN, act, always=True)
"""


@pytest.mark.promise("a-webhook-is-told", "news-hold-nothing-up", "news-show-no-secret")
def test_a_run_tells_that_it_begins_and_how_it_ends_and_one_without_work_tells_nothing(tmp_path, listener):
    root = copy_project(tmp_path / "shop")
    (root / "dodo.py").write_text(DODO)
    (root / ".run").mkdir()
    environment = root / "environments" / "testing.yml"
    environment.write_text(f"{environment.read_text()}news:\n  webhook: HOOK\n")

    def said(*words):
        listener.heard.clear()
        ended = doit(root, *words, HOOK=f"{listener.url}/t0ken")
        assert "t0ken" not in ended.stdout + ended.stderr
        return ended, [each.json["text"].partition(" on ")[0][14:] for each in listener.heard]

    (root / ".run" / "fail").touch()
    ended, texts = said("release")
    assert (ended.returncode, texts) == (1, ["begins", "failed"])
    (root / ".run" / "fail").unlink()
    ended, texts = said("release")
    assert (ended.returncode, texts) == (0, ["begins", "is live"])
    assert said("release")[1] == []
    assert said("other")[1] == []
    assert said("rollback")[1] == ["begins", "is live again, by a rollback"]
    assert listener.heard[1].json["text"].startswith("shop: 0123456 ")
    listener.status = 500
    ended, _ = said("rollback")
    assert (ended.returncode, ended.stdout.count("the webhook answers 500")) == (0, 1)
    logged = json.dumps([each.read_text() for each in root.glob(".run/logs/**/*") if each.is_file()])
    assert "t0ken" not in logged
