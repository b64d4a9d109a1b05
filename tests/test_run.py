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


ARN = "arn:aws:iam::210987654321:role/releases"


@pytest.mark.parametrize(
    ("pipeline", "text", "sentence"),
    [
        ("", f"role: {ARN}\naccount: '123456789012'", "1: role: should be a role in the account 123456789012 (account), not"),
        ("", "role: a role", "1: role: should be a role's name, or its ARN, or empty, not 'a role'"),
        ("cloud: aws\ndns_zone: shop.example.com\n", "dns_zone: live.localhost", "1: dns_zone: should be a zone that others resolve, as cloud is aws, not 'live.localhost'"),
        ("cloud: aws\ndns_zone: shop.example.com\n", "stages: [server]\ninfrastructure: {instances: 1}", "2: infrastructure.ssh_from: should be given, the networks of who provisions: as cloud is aws, everybody reaches these machines, not left out"),
        ("bucket: shop\n", "stages: [server]\nregion: eu-west-1", "2: bucket: should be a bucket there: shop of pipeline.yml is in another region, not empty"),
        ("bucket: shop\naccount: '123456789012'\n", f"role: {ARN}", "1: bucket: should be a bucket there: shop of pipeline.yml is in another account"),
        ("", "role: x\ninfrastructure:\n  ssh_through: session-manager", "3: infrastructure.ssh_through: should be a jump host or empty"),
        ("", "bucket: x-y\ntakes_from: staging", "2: stages: should be a list without tarball: what staging has built is in another bucket"),
    ],
)  # fmt: skip
@pytest.mark.promise("a-place-fits-together")
def test_a_place_that_does_not_fit_together_is_refused_with_its_line(checkout, pipeline, text, sentence):
    names = [line.partition(":")[0] for line in pipeline.splitlines()]
    path = checkout / "pipeline.yml"
    kept = [line for line in path.read_text().splitlines() if line.partition(":")[0] not in names]
    path.write_text("\n".join([*kept, pipeline]))
    (checkout / "environments" / "production.yml").write_text(text)
    with pytest.raises(SettingWrong) as caught:
        run.environment(checkout, "production", {})
    assert f"environments/production.yml:{sentence}" in caught.value.text
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("pipeline", "text"),
    [
        ("bucket: shop\n", "role: releases"),
        ("bucket: shop\n", "region: eu-west-1\nbucket: shop-west"),
        ("", f"role: {ARN}\ntakes_from: staging\nstages: [release]"),
        ("", "account: '123456789012'\ntakes_from: staging"),
    ],
)
def test_a_place_that_fits_together_is_taken(checkout, pipeline, text):
    path = checkout / "pipeline.yml"
    path.write_text(f"{path.read_text()}{pipeline}")
    (checkout / "environments" / "production.yml").write_text(text)
    assert any(run.environment(checkout, "production", {}).place)


def test_production_takes_from_staging(checkout):
    assert run.environment(checkout, "production", {}).takes_from == "staging"


@pytest.mark.parametrize("branch", ["main", "feature/x", "ünï"])
@pytest.mark.promise("a-branch-s-environment-is-named-by-its-hash")
def test_the_environment_of_a_branch_is_named_by_its_hash(branch):
    name = run.branch_identity("testing", branch)
    assert name == f"testing-{hashlib.sha256(branch.encode()).hexdigest()[:10]}"


@pytest.mark.parametrize(
    ("name", "text"),
    [("a" * 64, ""), ("a" * 53, "per_branch: true"), ("qa_1", ""), ("b", f"host_name: {'x.' * 124}x"), ("c" * 64, "host_name: qa"), ("d", f"stores: {{{'x.' * 124}x: {{code: a}}}}")],
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


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("stores: {DE: {code: x}}", ["de"]),
        ("host_name: www\nstores: {www.de: {code: x}}", ["www.de"]),
        ("per_branch: true\nstores: {de: {code: x}}", [f"de.{run.branch_identity('qa', 'x')}"]),
        ("per_branch: true\nhost_name: test\nstores: {de: {code: x}}", ["de.test"]),
    ],
)
@pytest.mark.promise("stores-have-names")
def test_a_store_is_below_the_zone_and_below_the_environment_of_a_branch(checkout, text, names):
    (checkout / "environments" / "qa.yml").write_text(text)
    made = command_line.read(checkout, {"environment": "qa", "branch": "x"}, cloud=Nowhere("eu-central-1"))
    assert made.host_names == (made.host_name, *(f"{each}.shop.localhost" for each in names))


class Nowhere(Aws):
    """A cloud that nobody asks."""
