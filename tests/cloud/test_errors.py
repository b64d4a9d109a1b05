"""errors: whatever the SDK raises becomes a refusal, and the embedded cloud asks nothing of the user's AWS settings."""

from __future__ import annotations

import pytest

from tasks.cloud import errors
from tasks.cloud.aws import Aws, CredentialsMissing, CredentialsRefused
from tasks.cloud.embedded import client
from tasks.cloud.embedded.home import CloudIdentity
from tasks.cloud.errors import AwsSettingsWrong
from tasks.refusal import Refusal

KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
ROLE = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", *KEYS, *ROLE):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.mark.parametrize(
    ("environ", "kind", "sentence"),
    [
        ({**KEYS, "AWS_PROFILE": "nosuch"}, CredentialsMissing, "profile (nosuch) could not be found"),
        ({**KEYS, "AWS_ENDPOINT_URL": "localhost:5000"}, AwsSettingsWrong, "Invalid endpoint: localhost:5000"),
        ({**ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/nosuch"}, CredentialsRefused, "No such file or directory: '/nosuch'"),
        ({**KEYS, "AWS_CONFIG_FILE": "broken"}, CredentialsMissing, "Unable to parse config file"),
    ],
)  # fmt: skip
def test_settings_of_aws_that_do_not_work_are_a_sentence(monkeypatch, tmp_path, environ, kind, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").write_text("[default\nx")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    try:
        Aws("eu-central-1").caller()
    except Exception as error:
        said = error if isinstance(error, Refusal) else errors.refusal_of(error)
    assert isinstance(said, kind)
    assert said.exit_code == 1
    assert sentence in said.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_PROFILE", "nosuch"),
        ("AWS_DEFAULT_PROFILE", "nosuch"),
        ("AWS_CONFIG_FILE", "broken"),
        ("AWS_SHARED_CREDENTIALS_FILE", "broken"),
        ("AWS_CA_BUNDLE", "/nosuch"),
        ("AWS_MAX_ATTEMPTS", "x"),
        ("AWS_RETRY_MODE", "x"),
        ("AWS_DEFAULTS_MODE", "x"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "x"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "x"),
        ("AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", "x"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "x"),
    ],
)
def test_the_embedded_cloud_takes_nothing_from_the_users_aws_settings(monkeypatch, tmp_path, name, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").write_text("[default\nx")
    monkeypatch.setenv(name, value)
    identity = CloudIdentity(id="x", subnet="10.250.251.0/24", gateway="10.250.251.1", port=1)
    made = client.Embedded("eu-central-1", lambda: identity).client("s3")
    assert made.meta.endpoint_url == "http://127.0.0.1:1"
    assert made.meta.region_name == "eu-central-1"


def test_an_error_of_our_own_is_not_the_sdks():
    with pytest.raises(ValueError, match="ours") as caught:
        _ours()
    assert errors.refusal_of(caught.value) is None


def _ours():
    raise ValueError("ours")
