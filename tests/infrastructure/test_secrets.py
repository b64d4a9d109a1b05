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
