"""ci: what GitHub, GitLab and Bitbucket say of a job: which branch it is about, and which commit is on that branch."""

from __future__ import annotations

from collections.abc import Mapping

BRANCH = (
    "GITHUB_HEAD_REF",  # a pull request's own branch; empty elsewhere
    "GITHUB_REF_NAME",
    "CI_COMMIT_REF_NAME",  # GitLab
    "BITBUCKET_BRANCH",
)
"""What a job is about. Some of them name a tag too, or a branch of another repository."""

TAG = ("CI_COMMIT_TAG", "BITBUCKET_TAG")
REQUEST = (
    "GITHUB_HEAD_REF",
    "CI_MERGE_REQUEST_IID",
    "CI_EXTERNAL_PULL_REQUEST_IID",
    "BITBUCKET_PR_ID",
)
"""Set in a job of a pull request: its checkout is a merge, and its branch may be another repository's."""

STATED = (
    ("GITHUB_REF", "refs/heads/{}", "GITHUB_SHA"),
    ("CI_COMMIT_BRANCH", "{}", "CI_COMMIT_SHA"),
    ("BITBUCKET_BRANCH", "{}", "BITBUCKET_COMMIT"),
)
"""Where each provider says that a job is a branch's, how, and at which commit."""


def branch(environ: Mapping[str, str]) -> str:
    """The branch that the job is about; empty for a tag, and where there is no job."""
    if _of_tag(environ):
        return ""
    return next((environ[name] for name in BRANCH if environ.get(name)), "")


def of_request(environ: Mapping[str, str]) -> bool:
    """Whether the job is a pull request's."""
    return any(environ.get(name) for name in REQUEST)


def job_url(environ: Mapping[str, str]) -> str:
    """The page of the job, for people; empty where there is none."""
    if environ.get("GITHUB_RUN_ID"):
        server, repository = (environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY"))
        return f"{server}/{repository}/actions/runs/{environ['GITHUB_RUN_ID']}"
    if environ.get("BITBUCKET_BUILD_NUMBER"):
        origin = environ.get("BITBUCKET_GIT_HTTP_ORIGIN", "")
        return f"{origin}/pipelines/results/{environ['BITBUCKET_BUILD_NUMBER']}"
    return environ.get("CI_JOB_URL", "")


def states(environ: Mapping[str, str], branch: str, commit: str) -> bool:
    """Whether the provider says that this commit is on the branch. It says so of no pull request and of no tag."""
    if _of_tag(environ) or of_request(environ):
        return False
    # a job may have checked out another commit than the one that it is about
    return any(
        environ.get(name) == words.format(branch) and environ.get(at) == commit for name, words, at in STATED
    )


def _of_tag(environ: Mapping[str, str]) -> bool:
    return environ.get("GITHUB_REF_TYPE") == "tag" or any(environ.get(name) for name in TAG)
