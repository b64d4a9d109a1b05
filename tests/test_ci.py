"""What the CI providers are told: valid for each, and nothing in it that a terminal could not do."""

from __future__ import annotations

import http.server
import importlib.machinery
import importlib.util
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

FILES = {
    ".github/workflows/pipeline.yml": ["vendor.github-workflows"],
    ".gitlab-ci.yml": ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"],
    "bitbucket-pipelines.yml": ["vendor.bitbucket-pipelines"],
}
CONTROL = r'build/ci/run (?:(?:"branch=\$\w+"|branch=main) )?(start|continue|stop|sweep --yes|image)'
CLONE = r'rm -rf checkout && git clone --quiet --depth 1 "\$CI_REPOSITORY_URL" checkout && cd checkout'


def content(path: str) -> dict:
    return yaml.load((ROOT / path).read_text(), Loader=yaml.BaseLoader)


def lines(found: object) -> list[str]:
    """Every line that a runner would type."""
    if isinstance(found, list):
        return [line for each in found for line in lines(each)]
    if not isinstance(found, dict):
        return []
    typed = found.get("script", found.get("run", []))
    typed = [typed] if isinstance(typed, str) else typed if isinstance(typed, list) else []
    return [*typed, *(line for each in found.values() for line in lines(each))]


@pytest.mark.parametrize(("path", "schema"), FILES.items())
def test_a_file_is_valid_for_its_provider(path, schema):
    command = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", *schema, ROOT / path]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", FILES)
def test_every_line_is_a_control_and_each_provider_has_all_of_them(path):
    controls = set()
    for line in lines(content(path)):
        typed = re.fullmatch(rf'(?:AWS_ROLE_ARN="\$\w+" )?{CONTROL}', line)
        assert typed or re.fullmatch(CLONE, line), line
        controls |= {typed[1]} if typed else set()
    assert controls == {"start", "continue", "stop", "sweep --yes", "image"}


@pytest.mark.parametrize("path", FILES)
def test_no_expression_of_the_provider_is_pasted_into_a_shell(path):
    """A branch's name is somebody else's text."""
    assert not [
        line
        for line in lines(content(path))
        if "${{" in line or re.search(r"(?<!\")\$", line.replace("=$", '="$'))
    ]


def test_the_default_branch_is_the_one_of_the_settings():
    name = content("pipeline.yml")["default_branch"]
    github = (ROOT / ".github/workflows/pipeline.yml").read_text()
    assert content(".github/workflows/pipeline.yml")["on"]["push"]["branches"] == [name]
    assert set(re.findall(r"ref_name == '(\w+)'", github)) == {name}
    assert list(content("bitbucket-pipelines.yml")["pipelines"]["branches"]) == [name]
    assert set(re.findall(r"branch=(\w+)", (ROOT / "bitbucket-pipelines.yml").read_text())) == {name}


def test_a_person_stands_between_staging_and_production():
    github = content(".github/workflows/pipeline.yml")["jobs"]["continue"]
    assert (github["needs"], github["environment"]["name"]) == ("start", "production")
    gitlab = content(".gitlab-ci.yml")["continue"]
    assert [rule["when"] for rule in gitlab["rules"]] == ["manual"]
    bitbucket = content("bitbucket-pipelines.yml")["pipelines"]["branches"]["main"]
    assert [each["step"].get("trigger") for each in bitbucket] == [None, "manual"]


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """build/ci/run as a module, in a checkout of its own."""
    loader = importlib.machinery.SourceFileLoader("entry", str(ROOT / "build" / "ci" / "run"))
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_loader("entry", loader))
    loader.exec_module(loaded)
    monkeypatch.setattr(loaded, "ROOT", tmp_path)
    return loaded


@pytest.mark.parametrize("name", ["OIDC_TOKEN", "BITBUCKET_STEP_OIDC_TOKEN"])
def test_a_job_is_known_to_aws_by_its_providers_token(entry, tmp_path, name):
    given = entry.credentials({"AWS_ROLE_ARN": "arn:aws:iam::1:role/builder", name: "signed"})
    assert given == {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / ".run" / "token")}
    assert (tmp_path / ".run" / "token").read_text() == "signed"
    assert (tmp_path / ".run" / "token").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OIDC_TOKEN": "signed"},
        {"AWS_ROLE_ARN": "", "OIDC_TOKEN": "signed"},
        {"AWS_ROLE_ARN": "role", "AWS_WEB_IDENTITY_TOKEN_FILE": "theirs", "OIDC_TOKEN": "signed"},
        {"AWS_ROLE_ARN": "role"},
    ],
)
def test_elsewhere_the_users_own_credentials_stay(entry, tmp_path, environ):
    assert entry.credentials(environ) == {}
    assert not (tmp_path / ".run").exists()


def test_github_gives_its_token_when_asked(entry, tmp_path):
    asked = []

    class Provider(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"value": "signed"}).encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.handle_request, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/token?api-version=2"
    told = {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "bearer"}
    entry.credentials({"AWS_ROLE_ARN": "role", **told})
    server.server_close()
    assert asked == [("/token?api-version=2&audience=sts.amazonaws.com", "Bearer bearer")]
    assert (tmp_path / ".run" / "token").read_text() == "signed"
