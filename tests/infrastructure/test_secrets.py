"""Secrets: made once, shown never."""

from __future__ import annotations

import pytest

from tasks.infrastructure import secrets
from tests.clouds import secrets_of


@pytest.mark.promise("secrets-are-made-once", "secrets-are-encrypted")
def test_secrets_are_made_once_and_never_shown(run):
    first = secrets_of(run)
    assert secrets_of(run) == first
    # line by line: `repr` escapes a key's newlines
    hidden = [first.database_password, first.crypt_key, *first.deploy_key.splitlines()[1:-1]]
    assert all(hidden)
    assert [each for each in hidden if each in repr(first)] == []
    parameters = run.cloud.client("ssm").describe_parameters(
        ParameterFilters=[{"Key": "Path", "Values": [run.secrets_folder]}]
    )["Parameters"]
    assert {each["Type"] for each in parameters} == {"SecureString"}
    assert len(parameters) == len(secrets.MAKE)


@pytest.mark.promise("secrets-are-made-once")
def test_what_is_known_is_asked_without_making_anything(run):
    ssm = run.cloud.client("ssm")
    assert secrets.known(ssm, run.secrets_folder) is None
    assert secrets.names(ssm, run.secrets_folder) == []
    made = secrets_of(run)
    assert secrets.known(ssm, run.secrets_folder) == made


class LateList:
    """The parameter store of a run, whose lists are so many versions behind."""

    def __init__(self, ssm, behind):
        self.ssm, self.shown = ssm, [[] for _ in range(behind)]

    def put_parameter(self, **request):
        return self.ssm.put_parameter(**request)

    def get_paginator(self, operation):
        return self

    def paginate(self, **request):
        pages = self.ssm.get_paginator("get_parameters_by_path").paginate(**request)
        self.shown.append([each for page in pages for each in page["Parameters"]])
        return [{"Parameters": self.shown.pop(0)}]


@pytest.mark.parametrize("behind", [1, 3])
@pytest.mark.promise("late-lists-lose-no-secret")
def test_a_list_that_is_behind_changes_no_secret(run, behind):
    ssm = run.cloud.client("ssm")
    made = secrets.ensure(LateList(ssm, behind), run.secrets_folder, secrets.OF_ROLES)
    assert secrets.known(ssm, run.secrets_folder) == made
    again = secrets.ensure(LateList(ssm, behind), run.secrets_folder, secrets.OF_ROLES)
    assert (again.deploy_key, again.crypt_key) == (made.deploy_key, made.crypt_key)
