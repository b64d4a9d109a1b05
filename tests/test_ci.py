"""What the CI providers are told: valid for each, and nothing in it that a terminal could not do."""

from __future__ import annotations

import http.server
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks import environ
from tasks.cloud.embedded.home import Home
from tasks.commands import command_line
from tasks.infrastructure import find
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import Existing
from tests.cloud.embedded.conftest import REGION, Server
from tests.clouds import QuietCloud, run_in
from tests.conftest import ROOT, copy_project, git
from tests.runners import CONTROL, FILES, PERSON, Runner, content, line, lines

SCHEMAS = {
    "github": ["vendor.github-workflows"],
    "gitlab": ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"],
    "bitbucket": ["vendor.bitbucket-pipelines"],
}
CLONE = r'rm -rf checkout && git clone --quiet --depth 1 "\$CI_REPOSITORY_URL" checkout && cd checkout'


@pytest.mark.parametrize("provider", FILES)
@pytest.mark.promise("ci-files-fit-their-schema")
def test_a_file_is_valid_for_its_provider(provider):
    check = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema"]
    command = [*check, *SCHEMAS[provider], ROOT / FILES[provider]]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", FILES.values())
@pytest.mark.promise("a-job-is-one-line")
def test_every_line_is_a_control_and_each_provider_has_all_of_them(path):
    controls = set()
    for each in lines(content(path)):
        typed = re.fullmatch(rf'(?:AWS_ROLE_ARN="\$\w+" )?{CONTROL}', each)
        assert typed or re.fullmatch(CLONE, each), each
        controls |= {typed[1]} if typed else set()
    assert controls == {
        "tarball",
        "start",
        "continue",
        "rollback",
        "stop",
        "sweep --yes",
        "certificates",
        "drill",
        "backup --forget",
        "image",
        "verify",
    }


@pytest.mark.parametrize("path", FILES.values())
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
    assert set(re.findall(r"github.ref == '(.+?)'", github)) == {f"refs/heads/{name}"}
    assert list(content("bitbucket-pipelines.yml")["pipelines"]["branches"]) == [name]
    assert set(re.findall(r"branch=(\w+)", (ROOT / "bitbucket-pipelines.yml").read_text())) == {name}


@pytest.mark.promise("builder-role-for-the-default-branch", "jobs-are-for-branches")
def test_a_tag_or_a_pull_request_has_no_job_that_takes_it_for_a_branch():
    """On GitHub a tag may be chosen for a job by hand, on GitLab its push is one like a branch's."""
    github = content(".github/workflows/pipeline.yml")
    assert set(github["on"]) == {"push", "delete", "pull_request", "schedule", "workflow_dispatch"}
    assert set(github["on"]["push"]) == {"branches"}
    assert "ref_name ==" not in (ROOT / ".github/workflows/pipeline.yml").read_text()
    for name, control in {"start-testing": "start", "stop": "stop"}.items():
        assert f"inputs.control == '{control}' && github.ref_type == 'branch'" in github["jobs"][name]["if"]
    jobs = [
        each for each in content(".gitlab-ci.yml").values() if isinstance(each, dict) and "script" in each
    ]
    assert jobs
    for job in jobs:
        for rule in job["rules"]:
            if "PULL_REQUEST" in str(job):
                assert rule["if"] == '$CI_PIPELINE_SOURCE == "merge_request_event"'
                continue
            schedule = rule["if"] == '$CI_PIPELINE_SOURCE == "schedule"'
            other = "$CI_COMMIT_BRANCH && $CI_COMMIT_BRANCH != $CI_DEFAULT_BRANCH"
            default = "&& $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"
            assert schedule or rule["if"].endswith((default, other)), rule
    assert set(content("bitbucket-pipelines.yml")["pipelines"]) == {"branches", "pull-requests", "custom"}


@pytest.mark.promise("builder-role-for-the-default-branch")
def test_only_the_default_branch_s_jobs_have_the_role_that_writes_what_it_trusts():
    jobs = content(".github/workflows/pipeline.yml")["jobs"]
    builders = {name: job for name, job in jobs.items() if "BUILDER_ROLE" in job["env"]["AWS_ROLE_ARN"]}
    assert builders
    for name, job in builders.items():
        role, when = job["env"]["AWS_ROLE_ARN"], job["if"]
        assert "github.ref == 'refs/heads/main' && vars.BUILDER_ROLE" in role or "refs/heads/main" in when, (
            name
        )
    jobs = [each for each in content(".gitlab-ci.yml").values() if isinstance(each, dict)]
    builders = [each for each in jobs if each.get("variables", {}).get("AWS_ROLE_ARN") == "$BUILDER_ROLE"]
    assert builders
    for job in builders:
        (rule,) = job["rules"]
        assert rule["if"].endswith("&& $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH")
    steps = content("bitbucket-pipelines.yml")["pipelines"]
    by_hand = [
        name for name, found in steps["custom"].items() if any("BUILDER" in each for each in lines(found))
    ]
    assert by_hand == ["image"]
    assert steps["custom"]["image"][0]["step"]["deployment"] == "image", "its permissions name the branch"


@pytest.mark.promise("a-person-before-production")
def test_a_person_stands_between_staging_and_production():
    github = content(".github/workflows/pipeline.yml")["jobs"]["continue"]
    assert (github["needs"], github["environment"]["name"]) == ("start", "production")
    gitlab = content(".gitlab-ci.yml")["continue"]
    assert [rule["when"] for rule in gitlab["rules"]] == ["manual"]
    bitbucket = content("bitbucket-pipelines.yml")["pipelines"]["branches"]["main"]
    assert [each["step"].get("trigger") for each in bitbucket] == [None, None, "manual"]


@pytest.mark.promise("rollback-under-the-gate-of-continue")
def test_production_is_rolled_back_by_hand_with_the_role_the_gate_and_the_turn_of_continue():
    github = content(".github/workflows/pipeline.yml")["jobs"]
    same = ("environment", "env", "concurrency", "container")
    assert {each: github["rollback"][each] for each in same} == {
        each: github["continue"][each] for each in same
    }
    assert github["rollback"]["if"] == "inputs.control == 'rollback' && github.ref == 'refs/heads/main'"
    gitlab = content(".gitlab-ci.yml")
    same = ("environment", "variables", "resource_group")
    assert {each: gitlab["rollback"][each] for each in same} == {
        each: gitlab["continue"][each] for each in same
    }
    ((rule,), (as_continue,)) = (gitlab[each]["rules"] for each in ("rollback", "continue"))
    assert (rule["if"], rule["when"]) == (as_continue["if"], "manual")
    assert gitlab["rollback"]["needs"] == [], "it waits for no job that waits for a person"
    custom = content("bitbucket-pipelines.yml")["pipelines"]["custom"]
    (rollback,), (go_on,) = ([each["step"] for each in custom[name]] for name in ("rollback", "continue"))
    assert rollback["deployment"] == go_on["deployment"] == "production"
    typed = [line(provider, "rollback") for provider in FILES]
    assert typed[:2] == ["build/ci/run environment=production rollback"] * 2
    assert typed[2] == f'AWS_ROLE_ARN="$RELEASER_ROLE" {typed[0]}'


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """build/ci/run as a module, in a checkout of its own."""
    loader = importlib.machinery.SourceFileLoader("entry", str(ROOT / "build" / "ci" / "run"))
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_loader("entry", loader))
    loader.exec_module(loaded)
    monkeypatch.setattr(loaded, "ROOT", tmp_path)
    return loaded


def test_doit_starts_with_this_checkout_s_code_whatever_the_caller_s_python_is_told(entry, tmp_path):
    strange = {
        "PYTHONPATH": "/nowhere",
        "PYTHONHOME": "/nowhere",
        "PYTHONSTARTUP": "/nowhere",
        "PATH": "/bin",
    }
    got = entry.handed_on({**strange, "CI": "true"})
    assert {name for name in got if name.startswith("PYTHON")} == {"PYTHONPATH", "PYTHONUTF8"}
    assert (got["PYTHONPATH"], got["CI"], got["PATH"]) == (str(tmp_path), "true", f"{entry.BIN}:/bin")


@pytest.mark.parametrize("name", ["OIDC_TOKEN", "BITBUCKET_STEP_OIDC_TOKEN"])
@pytest.mark.promise("no-key-is-stored")
def test_a_job_is_known_to_aws_by_its_providers_token(entry, tmp_path, name):
    given = entry.credentials({"AWS_ROLE_ARN": "arn:aws:iam::1:role/builder", name: "signed"})
    (path,) = given.values()
    assert given == {"AWS_WEB_IDENTITY_TOKEN_FILE": path}
    assert [Path(path).read_text(), Path(path).read_text()] == [
        "signed",
        "signed",
    ]  # boto3 reads it again and again
    assert not (tmp_path / ".run").exists()
    inherited = subprocess.run(["cat", path], capture_output=True, text=True)
    assert inherited.returncode == 1
    os.close(int(Path(path).name))


@pytest.mark.promise("tokens-are-handed-to-nobody")
def test_no_token_is_handed_on_and_no_child_may_ask_for_one(entry):
    assert set(entry.handed_on(dict.fromkeys(entry.TOKENS, "signed"))) == {"PATH", "PYTHONPATH", "PYTHONUTF8"}
    asking = dict.fromkeys(("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"), "github")
    assert not [child for child in environ.CHILDREN if environ.of(child, asking).keys() & asking.keys()]


@pytest.mark.parametrize(
    ("provider", "login", "session"),
    [
        ("github", "kim", "kim"),
        ("gitlab", "kim.lee_2", "kim.lee_2"),
        ("bitbucket", "{0f3a-77}", "0f3a-77"),
        ("github", "dependabot[bot]", "dependabot-bot"),
        ("github", "k", "k-"),
        ("gitlab", "x" * 80, "x" * 64),
    ],
)
@pytest.mark.parametrize("more", [{}, {"AWS_WEB_IDENTITY_TOKEN_FILE": "theirs"}])
@pytest.mark.promise("the-session-is-the-person")
def test_a_jobs_session_is_named_after_the_person_who_started_it(entry, provider, login, session, more):
    """AWS takes 2 to 64 of the characters of a word and `=,.@-`."""
    environ = {"AWS_ROLE_ARN": "role", "OIDC_TOKEN": "signed", "AWS_ROLE_SESSION_NAME": "pipeline", **more}
    given = entry.credentials({**environ, PERSON[provider]: login})
    assert given["AWS_ROLE_SESSION_NAME"] == session
    assert re.fullmatch(r"[\w=,.@-]{2,64}", session)


@pytest.mark.promise("the-session-is-the-person")
def test_the_session_is_named_after_the_one_that_reports_name(entry):
    assert entry.CI_PERSON == command_line.CI_PERSON
    assert set(entry.CI_PERSON) == set(PERSON.values())


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"GITHUB_TRIGGERING_ACTOR": "kim"},
        {"OIDC_TOKEN": "signed"},
        {"AWS_ROLE_ARN": "", "OIDC_TOKEN": "signed"},
        {"AWS_ROLE_ARN": "role", "AWS_WEB_IDENTITY_TOKEN_FILE": "theirs", "OIDC_TOKEN": "signed"},
        {"AWS_ROLE_ARN": "role"},
    ],
)
def test_elsewhere_the_users_own_credentials_stay(entry, tmp_path, environ):
    assert entry.credentials(environ) == {}
    assert not (tmp_path / ".run").exists()


@pytest.mark.promise("no-key-is-stored")
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
    given = entry.credentials({"AWS_ROLE_ARN": "role", **told})
    server.server_close()
    assert asked == [("/token?api-version=2&audience=sts.amazonaws.com", "Bearer bearer")]
    assert Path(given["AWS_WEB_IDENTITY_TOKEN_FILE"]).read_text() == "signed"


# --- the lines, as a runner types them: on a cloud whose machines are only names -------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(Home(folder=tmp_path_factory.mktemp("state") / "release-pipeline" / "cloud"))
    made.home.folder.parent.mkdir()
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The repository that everybody clones."""
    root = copy_project(tmp_path_factory.mktemp("project") / "shop")
    for provider in FILES:
        git(root, "branch", f"feature/{provider}")
    return root


@pytest.fixture
def runner(project, server, tmp_path, monkeypatch):
    """A new runner of a provider, for a ref."""
    monkeypatch.setenv("XDG_STATE_HOME", str(server.home.folder.parents[1]))
    return lambda provider, ref, **variables: Runner(tmp_path / provider, project, provider, ref, **variables)


@pytest.mark.parametrize(
    ("provider", "ref", "containing", "variables"),
    [
        # the event of a deleted branch: the default branch is checked out
        ("github", "main", "", {"BRANCH": "feature/github"}),
        ("gitlab", "main", "branch=", {"CI_COMMIT_REF_NAME": "feature/gitlab"}),
        ("bitbucket", "feature/bitbucket", "BRANCH_ROLE", {}),
    ],
)
@pytest.mark.promise("stop-tears-down-a-branch", "stop-from-any-checkout", "deleted-branch-is-stopped")
def test_what_one_runner_has_made_another_one_takes_away(
    runner, project, server, provider, ref, containing, variables
):
    run = run_in(project, QuietCloud(REGION, server.home.load()), branch=f"feature/{provider}")
    infrastructure.share(run)
    infrastructure.converge(run)
    other = runner(provider, ref, **variables)
    stopped = other.type(line(provider, "stop", containing))
    assert stopped.returncode == 0, stopped.stderr
    assert f"| by | kim-at-{provider} |" in (other.root / ".run" / "report.md").read_text()
    assert f"{run.identity} is gone" in stopped.stdout
    assert find.everything(run) == Existing()


@pytest.mark.parametrize("provider", FILES)
def test_nothing_goes_on_that_no_staging_has_proved(runner, provider):
    refused = runner(provider, "main").type(line(provider, "continue"))
    assert (refused.returncode, refused.stdout.count("done")) == (1, 0)
    assert refused.stderr.startswith("continue: ")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("provider", FILES)
def test_a_sweep_runs_from_any_clone_and_leaves_its_report(runner, project, server, provider):
    infrastructure.share(run_in(project, QuietCloud(REGION, server.home.load()), branch="main"))
    other = runner(provider, "main")
    swept = other.type(line(provider, "sweep --yes"))
    assert swept.returncode == 0, swept.stderr
    assert "`doit sweep --yes`" in (other.root / ".run" / "report.md").read_text()
