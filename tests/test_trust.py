"""Which CI jobs may assume which role: by the tokens that each provider really signs."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from tasks import trust
from tasks.cloud.embedded.judge import AccessRequest, judge
from tasks.settings import Ci
from tests import second_opinion
from tests.conftest import ROOT
from tests.rules import jobs

ACCOUNT = second_opinion.ACCOUNT
WORKSPACE, REPOSITORY, STEP = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "123")
ENVIRONMENTS = {name: f"{{{digit * 8}-0000-4000-8000-000000000000}}" for name, digit in zip(("staging", "production", "image", "sweep", "build", "drill", "prune"), "456789a", strict=True)}  # fmt: skip
CI = {
    "github": Ci(provider="github", repository="team/shop", environments={"releaser": ("production",)}),
    "gitlab": Ci(provider="gitlab", repository="team/shop"),
    "bitbucket": Ci(
        provider="bitbucket",
        repository=f"{{{REPOSITORY}}}",
        workspace="team",
        workspace_id=WORKSPACE,
        environments={
            "compiler": (ENVIRONMENTS["build"],),
            "builder": (ENVIRONMENTS["staging"], ENVIRONMENTS["image"]),
            "releaser": (ENVIRONMENTS["production"],),
            "sweeper": (ENVIRONMENTS["sweep"],),
            "driller": (ENVIRONMENTS["drill"],),
            "pruner": (ENVIRONMENTS["prune"],),
        },
    ),
}
AUDIENCES = {
    "github": "sts.amazonaws.com",
    "gitlab": "sts.amazonaws.com",
    "bitbucket": f"ari:cloud:bitbucket::workspace/{WORKSPACE}",
}
G, L, B = "repo:team/shop", "project_path:team/shop:ref_type", f"{{{REPOSITORY}}}"
MAIN = "compiler builder releaser branch sweeper driller pruner"
TOKENS = [
    # which roles it may assume, the provider, the token's sub, and whose it is
    (MAIN, "github", f"{G}:ref:refs/heads/main", "start, stop, sweep, drill and image on main; stop of a deleted branch"),
    ("releaser", "github", f"{G}:environment:production", "continue"),
    ("branch", "github", f"{G}:environment:testing/feature/x", "start of a branch"),
    ("branch", "github", f"{G}:ref:refs/heads/feature/x", "stop of a branch"),
    ("pull-request", "github", f"{G}:pull_request", "verify"),
    ("", "github", f"{G}:environment:staging", "any branch's job that names the environment"),
    ("", "github", f"{G}:environment:image", "any branch's job that names the environment"),
    ("", "github", f"{G}:ref:refs/tags/main", "a tag"),
    ("branch", "github", f"{G}:ref:refs/heads/main2", "a branch that begins like it"),
    ("", "github", "repo:team/shop2:ref:refs/heads/main", "another repository"),
    ("", "github", "repo:team/shop-fork:pull_request", "another repository"),
    ("", "github", "repo:Team/shop:ref:refs/heads/main", "another owner"),
    (f"{MAIN} pull-request", "gitlab", f"{L}:branch:ref:main", "start, continue, stop, sweep, drill and image on main"),
    ("branch pull-request", "gitlab", f"{L}:branch:ref:feature/x", "start and stop of a branch, verify"),
    ("", "gitlab", f"{L}:tag:ref:main", "a tag"),
    ("", "gitlab", "project_path:fork/shop:ref_type:branch:ref:main", "a merge request of a fork"),
    ("", "gitlab", "project_path:team/shop/x:ref_type:branch:ref:main", "another project"),
    ("compiler branch pull-request", "bitbucket", f"{B}:{ENVIRONMENTS['build']}:{{{STEP}}}", "build on main"),
    ("builder branch pull-request", "bitbucket", f"{B}:{ENVIRONMENTS['staging']}:{{{STEP}}}", "start on main"),
    ("releaser branch pull-request", "bitbucket", f"{B}:{ENVIRONMENTS['production']}:{{{STEP}}}", "continue"),
    ("builder branch pull-request", "bitbucket", f"{B}:{ENVIRONMENTS['image']}:{{{STEP}}}", "image"),
    ("sweeper branch pull-request", "bitbucket", f"{B}:{ENVIRONMENTS['sweep']}:{{{STEP}}}", "sweep"),
    ("driller branch pull-request", "bitbucket", f"{B}:{ENVIRONMENTS['drill']}:{{{STEP}}}", "drill"),
    ("pruner branch pull-request", "bitbucket", f"{B}:{ENVIRONMENTS['prune']}:{{{STEP}}}", "backup --forget"),
    ("branch pull-request", "bitbucket", f"{B}:{{{STEP}}}", "start and stop of a branch, verify"),
    ("", "bitbucket", f"{{{STEP}}}:{ENVIRONMENTS['staging']}:{{{STEP}}}", "another repository"),
]  # fmt: skip


def asked(ci, sub, aud):
    """The request of a job, and whom it names."""
    provider = trust.provider(ci)
    return AccessRequest(
        action="sts:AssumeRoleWithWebIdentity",
        resource=f"arn:aws:iam::{ACCOUNT}:role/any",
        context={f"{provider}:sub": sub, f"{provider}:aud": aud},
        principal=(f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}",),
    )


def admitted(ci, sub, aud):
    return [
        role
        for role in trust.ROLES
        if judge(
            [],
            asked(ci, sub, aud),
            resource_policy=trust.policy(ci, "main", role, ACCOUNT),
            must_admit=True,
        ).allowed
    ]


@pytest.mark.parametrize(("who", "provider", "sub", "whose"), TOKENS)
@pytest.mark.promise("trust-by-token", "builder-role-for-the-default-branch")
def test_a_job_assumes_the_roles_of_its_place(who, provider, sub, whose):
    assert set(admitted(CI[provider], sub, AUDIENCES[provider])) == set(who.split()), whose


@pytest.mark.parametrize("provider", CI)
@pytest.mark.promise("trust-by-token")
def test_a_token_for_somebody_else_assumes_nothing(provider):
    sub = next(sub for _, named, sub, _ in TOKENS if named == provider)
    for audience in ("https://github.com/team", "api.example.com", ""):
        assert admitted(CI[provider], sub, audience) == []
    other = next(each for name, each in CI.items() if name != provider)
    assert admitted(other, sub, AUDIENCES[provider]) == []


@pytest.mark.parametrize("provider", CI)
@pytest.mark.promise("two-opinions")
def test_another_evaluator_says_the_same_to_every_token(provider):
    """It knows the condition keys of a few providers: so ours have the names of one of these."""
    named, known = f'"{trust.provider(CI[provider])}:', '"accounts.google.com:'
    for role in trust.ROLES:
        document = trust.policy(CI[provider], "main", role, ACCOUNT)
        theirs = json.loads(json.dumps(document).replace(named, known))
        requests = [
            asked(CI[provider], sub, AUDIENCES[provider]) for _, each, sub, _ in TOKENS if each == provider
        ]
        renamed = [
            dataclasses.replace(
                each, context=json.loads(json.dumps(dict(each.context)).replace(named, known))
            )
            for each in requests
        ]
        said = second_opinion.say([(each, []) for each in renamed], theirs)
        ours = [judge([], each, resource_policy=document, must_admit=True).effect for each in requests]
        assert [(each.effect, each.unknown) for each in said] == [(effect, ()) for effect in ours], role


@pytest.mark.promise("trust-by-token")
def test_every_job_of_the_three_files_has_a_token_that_its_role_admits():
    """What each job's token says, from what its file says of it."""
    roles = {f"{role.upper().replace('-', '_')}_ROLE": role for role in trust.ROLES}
    seen = 0
    for name, job in jobs.github(ROOT).items():
        environment = job.get("environment", {}).get("name", "").replace("${{ github.ref_name }}", "feature")
        for variable in re.findall(r"vars\.(\w+)", job["env"]["AWS_ROLE_ARN"]):
            ref = "feature" if variable == "BRANCH_ROLE" else "main"
            sub = f"{G}:environment:{environment}" if environment else f"{G}:ref:refs/heads/{ref}"
            if name == "verify":
                sub = f"{G}:pull_request"
            assert roles[variable] in admitted(CI["github"], sub, AUDIENCES["github"]), (name, sub)
            seen += 1
    for name, job in jobs.gitlab(ROOT).items():
        role = roles[job["variables"]["AWS_ROLE_ARN"].removeprefix("$")]
        sub = f"{L}:branch:ref:{'feature' if role in ('branch', 'pull-request') else 'main'}"
        assert role in admitted(CI["gitlab"], sub, AUDIENCES["gitlab"]), (name, sub)
        seen += 1
    for _, name, step in jobs.bitbucket(ROOT):
        role = roles[re.search(r"\"\$(\w+)\"", str(step["script"]))[1]]
        environment = ENVIRONMENTS[step["deployment"]] + ":" if "deployment" in step else ""
        sub = f"{B}:{environment}{{{STEP}}}"
        assert role in admitted(CI["bitbucket"], sub, AUDIENCES["bitbucket"]), (name, sub)
        seen += 1
    assert seen > 20


@pytest.mark.parametrize(
    ("ci", "role", "sentence"),
    [
        (Ci(), "builder", "trust: pipeline.yml does not say which provider runs CI\n    $EDITOR pipeline.yml  # ci.provider"),
        (Ci(provider="github"), "builder", "which repository of github CI runs for"),
        (Ci(provider="bitbucket", repository="{1}"), "builder", "# ci.workspace"),
        (Ci(provider="bitbucket", repository="{1}", workspace="team"), "builder", "# ci.workspace_id"),
        (Ci(provider="bitbucket", repository="{1}", workspace="team", workspace_id=WORKSPACE), "builder", "# ci.environments.builder"),
        (CI["github"], "bilder", "trust: there is no role bilder (did you mean builder? known: compiler, builder, releaser,"),
    ],
)  # fmt: skip
def test_what_the_settings_lack_is_named(ci, role, sentence):
    with pytest.raises((trust.CiUnset, trust.RoleUnknown)) as refused:
        trust.policy(ci, "main", role, ACCOUNT)
    assert sentence in refused.value.text


def test_a_policy_is_what_aws_takes():
    made = trust.policy(CI["github"], "main", "builder", ACCOUNT)
    assert json.loads(json.dumps(made)) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Builder",
                "Effect": "Allow",
                "Principal": {
                    "Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
                },
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    "StringEquals": {
                        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
                        "token.actions.githubusercontent.com:sub": [f"{G}:ref:refs/heads/main"],
                    }
                },
            }
        ],
    }
