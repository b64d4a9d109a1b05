"""jobs: rules for the files of the CI providers: each job has its role, its limits and its gate, and keeps logs alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.rules.roles import Finding
from tests.runners import CONTROL, FILES, lines

GITHUB, GITLAB, BITBUCKET = (FILES[name] for name in ("github", "gitlab", "bitbucket"))
DEFAULT, BRANCH = "the default branch", "another branch"
ROLES = {
    ("tarball", DEFAULT): "COMPILER_ROLE",
    ("start", DEFAULT): "BUILDER_ROLE",
    ("start", BRANCH): "BRANCH_ROLE",
    ("continue", DEFAULT): "RELEASER_ROLE",
    ("rollback", DEFAULT): "RELEASER_ROLE",
    ("stop", DEFAULT): "RELEASER_ROLE",
    ("stop", BRANCH): "BRANCH_ROLE",
    ("sweep --yes", DEFAULT): "SWEEPER_ROLE",
    ("certificates", DEFAULT): "RELEASER_ROLE",
    ("drill", DEFAULT): "DRILLER_ROLE",
    ("backup --forget", DEFAULT): "PRUNER_ROLE",
    ("image", DEFAULT): "BUILDER_ROLE",
    ("verify", BRANCH): "PULL_REQUEST_ROLE",
}
"""Whose rights a control has, by where it runs."""
BY_PERMISSION = ("continue", "rollback", "sweep --yes", "certificates", "drill", "backup --forget", "image")
"""Controls whose custom pipelines of Bitbucket run where the permissions of their environment say."""
KEPT = re.compile(r"(checkout/)?\.run/(logs/?(\*\*)?|report\.md|report\.env)")
"""What a job may keep: the rest of .run/ has its token."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a provider: what it types, where it runs, whose rights it has."""

    path: str
    name: str
    control: str
    place: str
    role: str

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.path}: {self.name}"


@functools.cache
def _texts(text: str) -> Any:
    return yaml.load(text, Loader=yaml.BaseLoader)


def content(root: Path, path: str) -> Any:
    """A file of a provider, every value a text."""
    return _texts((root / path).read_text())


def github(root: Path) -> dict[str, Mapping[str, Any]]:
    """The jobs of GitHub, by name."""
    return content(root, GITHUB)["jobs"]


def gitlab(root: Path) -> dict[str, Mapping[str, Any]]:
    """The jobs of GitLab, by name."""
    return {
        name: each
        for name, each in content(root, GITLAB).items()
        if isinstance(each, dict) and "script" in each
    }


def bitbucket(root: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The steps of Bitbucket: where they run, of which pipeline, what they say."""
    pipelines = content(root, BITBUCKET)["pipelines"]
    for step in pipelines["branches"]["main"]:
        yield DEFAULT, step["step"]["name"], _merged(step["step"])
    for step in pipelines["pull-requests"]["**"]:
        yield BRANCH, step["step"]["name"], _merged(step["step"])
    for name, steps in pipelines["custom"].items():
        for step in steps:
            yield BRANCH, name, _merged(step["step"])


def _merged(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step with what it shares: the loader that keeps every value a text does not merge."""
    return {**step.get("<<", {}), **{name: each for name, each in step.items() if name != "<<"}}


def _control(job: Mapping[str, Any]) -> str:
    return next((found[1] for line in lines(job) if (found := re.search(f"{CONTROL}$", line))), "")


def jobs(root: Path) -> list[Job]:
    """Every job of every provider; one that runs in two places is two."""
    found = []
    for name, job in github(root).items():
        role = job["env"]["AWS_ROLE_ARN"]
        either = re.fullmatch(r"\$\{\{ (.*) && vars\.(\w+) \|\| vars\.(\w+) \}\}", role)
        if either and "github.ref == 'refs/heads/main'" in either[1]:
            places = {DEFAULT: either[2], BRANCH: either[3]}
        else:
            only = re.fullmatch(r"\$\{\{ vars\.(\w+) \}\}", role)
            # a job whose role does not depend on the branch must not run for another one
            alone = "github.ref == 'refs/heads/main'" in job["if"]
            places = {DEFAULT if alone else BRANCH: only[1] if only else role}
        found += [
            Job(path=GITHUB, name=name, control=_control(job), place=place, role=each)
            for place, each in places.items()
        ]
    for name, job in gitlab(root).items():
        when = " ".join(rule["if"] for rule in job["rules"])
        default = (
            when.endswith("$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH")
            or when == '$CI_PIPELINE_SOURCE == "schedule"'
        )
        role = job["variables"]["AWS_ROLE_ARN"].removeprefix("$")
        place = DEFAULT if default else BRANCH
        found.append(Job(path=GITLAB, name=name, control=_control(job), place=place, role=role))
    for place, name, step in bitbucket(root):
        role = re.search(r'AWS_ROLE_ARN="\$(\w+)"', " ".join(lines(step)))
        control = _control(step)
        # a custom pipeline runs where somebody starts it: of these the environment's permissions name the branch
        there = DEFAULT if control in BY_PERMISSION or "branch=main" in str(step) else place
        found.append(
            Job(path=BITBUCKET, name=name, control=control, place=there, role=role[1] if role else "")
        )
    return found


def a_job_has_the_role_of_its_place(root: Path) -> list[Finding]:
    """A branch's job never has the rights of the default branch's."""
    found = [
        f"{job}: `{job.control}` on {job.place} has {job.role or 'no role'}, not {ROLES.get((job.control, job.place))}"
        for job in jobs(root)
        if ROLES.get((job.control, job.place)) != job.role
    ]
    for path in FILES.values():
        controls = {(job.control, job.place) for job in jobs(root) if job.path == path}
        found += [
            f"{path}: nobody types {control} on {place}"
            for control, place in ROLES
            if (control, place) not in controls
        ]
    return found


def a_token_says_whose_job_it_is(root: Path) -> list[Finding]:
    """On GitHub a job with an environment has a token without a ref, on Bitbucket one without has a token that any branch's job has."""
    found = [
        f"{GITHUB}: {name}: any branch's job can name the environment {job['environment']['name']}"
        for name, job in github(root).items()
        if "environment" in job
        and job["environment"]["name"] not in ("production", "testing/${{ github.ref_name }}")
    ]
    for _, name, step in bitbucket(root):
        privileged = re.search(r"COMPILER|BUILDER|RELEASER|SWEEPER|DRILLER|PRUNER", " ".join(lines(step)))
        if privileged and "deployment" not in step:
            found.append(f"{BITBUCKET}: {name}: any branch's job has a token like it")
    return found


def a_job_has_an_end_and_waits_for_its_like(root: Path) -> list[Finding]:
    """A time limit, one at a time for what it changes, a whole clone, and no failure passed over."""
    found = []
    for name, job in github(root).items():
        where = f"{GITHUB}: {name}"
        if not 0 < int(job.get("timeout-minutes", 0)) <= 60:
            found.append(f"{where}: has no end")
        if not job.get("concurrency"):
            found.append(f"{where}: runs beside its like")
        if re.search(r"continue-on-error|cancel-in-progress': 'true", str(job)):
            found.append(f"{where}: a failure is passed over, or a run is cut off")
        clone = next((step for step in job["steps"] if "actions/checkout@" in step.get("uses", "")), {})
        if (clone.get("with") or {}).get("fetch-depth") != "0":
            found.append(f"{where}: does not know what the default branch has")
    for name, job in gitlab(root).items():
        where = f"{GITLAB}: {name}"
        if not job.get("resource_group"):
            found.append(f"{where}: runs beside its like")
        optional = job.get("allow_failure") == "true" or any(
            rule.get("allow_failure") == "true" and rule.get("when") != "manual" for rule in job["rules"]
        )
        if optional:
            found.append(f"{where}: a failure is passed over")
    said = content(root, GITLAB)
    if said["default"].get("timeout") != "1 hour" or said["variables"].get("GIT_DEPTH") != "0":
        found.append(f"{GITLAB}: a job has no end, or does not know what the default branch has")
    said = content(root, BITBUCKET)
    if said["options"].get("max-time") != "60" or said["clone"].get("depth") != "full":
        found.append(f"{BITBUCKET}: a step has no end, or does not know what the default branch has")
    for _, name, step in bitbucket(root):
        control = _control(step)
        alone = "deployment" in step or "concurrency-group" in step
        if control in ("tarball", *BY_PERMISSION) and not alone:
            found.append(f"{BITBUCKET}: {name}: runs beside its like")
    return found


def nothing_is_pruned_beside_a_drill(root: Path) -> list[Finding]:
    """A drill restores without a lock: a backup whose packs are made anew meanwhile would count as none. It may fail, and holds up nothing."""
    found = []
    jobs = github(root)
    after = jobs["prune"].get("needs") == "drill" and jobs["prune"]["if"].startswith("always() && ")
    if not after or jobs["prune"].get("concurrency") != jobs["drill"].get("concurrency"):
        found.append(f"{GITHUB}: prune: runs beside drill, or not after one that fails")
    jobs = gitlab(root)
    if jobs["prune"].get("resource_group") != jobs["drill"].get("resource_group"):
        found.append(f"{GITLAB}: prune: runs beside drill")
    return found


def a_person_stands_before_production(root: Path) -> list[Finding]:
    """`continue` waits behind the provider's gate, for the environment `production`, on the default branch."""
    found = []
    job = github(root)["continue"]
    gate = (job.get("needs"), job.get("environment", {}).get("name"), job.get("concurrency"))
    if gate != ("start", "production", "production") or job["if"] != "github.ref == 'refs/heads/main'":
        found.append(f"{GITHUB}: continue: is behind {gate}")
    job = gitlab(root)["continue"]
    gate = (
        job.get("environment", {}).get("name"),
        job.get("resource_group"),
        [rule.get("when") for rule in job["rules"]],
    )
    if gate != ("production", "production", ["manual"]) or "allow_failure" in str(job["rules"]):
        found.append(f"{GITLAB}: continue: is behind {gate}")
    for place, name, step in bitbucket(root):
        if _control(step) != "continue":
            continue
        if step.get("deployment") != "production" or (place == DEFAULT and step.get("trigger") != "manual"):
            found.append(f"{BITBUCKET}: {name}: nobody stands before production")
    return found


def a_job_is_given_a_token_and_nothing_more(root: Path) -> list[Finding]:
    """OIDC for AWS; the code may be read and not written; no event of a stranger; logs alone are kept."""
    found = []
    said = content(root, GITHUB)
    if said["permissions"] != {"contents": "read", "id-token": "write"}:
        found.append(f"{GITHUB}: may {said['permissions']}")
    found += [
        f"{GITHUB}: {name}: has permissions of its own"
        for name, job in github(root).items()
        if "permissions" in job
    ]
    if strange := set(said["on"]) - {"push", "delete", "pull_request", "schedule", "workflow_dispatch"}:
        found.append(f"{GITHUB}: begins at {sorted(strange)}")
    if said["on"]["push"] != {"branches": ["main"]}:
        found.append(f"{GITHUB}: begins at {said['on']['push']}")
    if content(root, GITLAB)["default"].get("id_tokens") != {"OIDC_TOKEN": {"aud": "sts.amazonaws.com"}}:
        found.append(f"{GITLAB}: its token is not for AWS")
    found += [
        f"{BITBUCKET}: {name}: has no token"
        for _, name, step in bitbucket(root)
        if step.get("oidc") != "true"
    ]
    for path in FILES.values():
        text = (root / path).read_text()
        if re.search(r"AWS_SECRET_ACCESS_KEY|AWS_ACCESS_KEY_ID|secrets\.", text):
            found.append(f"{path}: a key is stored")
        for kept in _kept(content(root, path)):
            if not KEPT.fullmatch(kept):
                found.append(f"{path}: keeps {kept}")
        for line in lines(content(root, path)):
            if not re.search(rf"{CONTROL}$|^rm -rf checkout && git clone ", line):
                found.append(f"{path}: types {line!r}")
            if "${{" in line or re.search(r"(?<!\")\$", line.replace("=$", '="$')):
                found.append(f"{path}: an expression is pasted into a shell: {line!r}")
    return found


def _kept(said: Any) -> Iterator[str]:
    """Every path that a job keeps."""
    if isinstance(said, list):
        for each in said:
            yield from _kept(each)
    elif isinstance(said, dict):
        for name, each in said.items():
            if name in ("path", "paths", "dotenv"):
                yield from each.split() if isinstance(each, str) else each
            else:
                yield from _kept(each)


RULES: tuple[Callable[[Path], list[Finding]], ...] = (
    a_job_has_the_role_of_its_place,
    a_token_says_whose_job_it_is,
    a_job_has_an_end_and_waits_for_its_like,
    nothing_is_pruned_beside_a_drill,
    a_person_stands_before_production,
    a_job_is_given_a_token_and_nothing_more,
)
