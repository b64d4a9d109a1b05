"""What a person asks of an environment that runs: status, history, its hosts and what they tell."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.end_to_end


def told(site, *arguments):
    answered = site.doit(*arguments, "--json")
    assert answered.returncode == 0, answered.stderr
    return json.loads(answered.stdout)


@pytest.mark.promise("json-for-programs")
def test_an_environment_is_shown_with_its_release_and_its_health(site):
    (found,) = [each for each in told(site, "status") if each["environment"] == site.run.identity]
    newest = told(site, "history")[-1]
    assert (found["digest"], found["commit"]) == (newest["digest"], newest["commit"])
    assert found["health"].startswith("healthy: 200")
    assert found["url"] == told(site, "open")["url"]
    assert site.run.identity in site.doit("status").stdout
    assert newest["digest"][:16] in site.doit("history").stdout


@pytest.mark.promise("ssh-exit-code")
def test_a_host_is_logged_in_to_by_name_or_without(site):
    (host,) = told(site, "ssh")
    assert "key" not in host
    assert site.doit("ssh", "echo", "a=hello").stdout == "a=hello\n"
    assert site.doit("ssh", host["name"], "exit", "7").returncode == 7
    refused = site.doit("ssh", "i-0")
    assert refused.returncode == 3
    assert f"i-0 is no host of this environment (known: {host['name']})" in refused.stderr


@pytest.mark.promise("logs-name-their-host")
def test_the_journal_of_the_hosts_is_shown(site):
    (host,) = told(site, "ssh")
    site.doit("ssh", "logger", "a-word-to-be-found")
    assert "a-word-to-be-found" in site.doit("logs").stdout
    lines = site.doit("logs", "--json").stdout.splitlines()
    assert {json.loads(line)["host"] for line in lines} == {host["name"]}


@pytest.mark.promise("due-of-each-stage")
def test_each_stage_says_whether_it_is_due(site):
    standing = {each["task"]: each for each in told(site, "list", "--status")}
    assert standing["release"]["what"] == "unchanged"
    assert standing["release"]["at"]
    assert "class release unchanged" in site.doit("graph", "--status").stdout
    assert told(site, "graph", "--status")["due"]["server"] == "unchanged"
