"""run: an environment's file is held to what stands beside it."""

from __future__ import annotations

import hashlib

import pytest

from tasks import run
from tasks.cloud.aws import Aws
from tasks.commands import command_line
from tasks.settings import SettingWrong


@pytest.mark.parametrize(
    ("upstream", "hint"),
    [("stagign", r"did you mean staging\? known: staging, testing"), ("production", "known: ")],
)
def test_an_environment_takes_only_from_another_one_that_exists(checkout, upstream, hint):
    path = checkout / "environments" / "production.yml"
    path.write_text(path.read_text().replace("takes_from: staging", f"takes_from: {upstream}"))
    with pytest.raises(SettingWrong, match=rf"production\.yml:3: takes_from: should be another environment \({hint}") as caught:  # fmt: skip
        run.environment(checkout, "production", {})
    assert caught.value.exit_code == 3


def test_production_takes_from_staging(checkout):
    assert run.environment(checkout, "production", {}).takes_from == "staging"


@pytest.mark.parametrize("branch", ["main", "feature/x", "ünï"])
@pytest.mark.promise("a-branch-s-environment-is-named-by-its-hash")
def test_the_environment_of_a_branch_is_named_by_its_hash(branch):
    name = run.branch_identity("testing", branch)
    assert name == f"testing-{hashlib.sha256(branch.encode()).hexdigest()[:10]}"


@pytest.mark.parametrize(
    ("name", "text"),
    [("a" * 64, ""), ("a" * 53, "per_branch: true"), ("qa_1", ""), ("b", f"host_name: {'x.' * 124}x"), ("c" * 64, "host_name: qa")],
)  # fmt: skip
@pytest.mark.promise("names-fit-into-dns")
def test_an_environment_whose_host_name_is_none_of_dns_is_refused(checkout, name, text):
    (checkout / "environments" / f"{name}.yml").write_text(text)
    with pytest.raises(run.HostNameTooLong, match="is no host name") as caught:
        command_line.read(checkout, {"environment": name}, cloud=Nowhere("eu-central-1"))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "text"), [("QA", ""), ("a" * 52, "per_branch: true"), ("qa_1", "host_name: qa")]
)
def test_an_environment_whose_host_name_fits_is_taken(checkout, name, text):
    (checkout / "environments" / f"{name}.yml").write_text(text)
    made = command_line.read(checkout, {"environment": name, "branch": "x"}, cloud=Nowhere("eu-central-1"))
    assert made.host_name == made.host_name.lower()


class Nowhere(Aws):
    """A cloud that nobody asks."""
