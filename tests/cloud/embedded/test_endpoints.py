"""Endpoints: a URL of AWS's client is fetched from the embedded cloud, as a host would fetch it from S3."""

from __future__ import annotations

import contextlib
import http.client
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tasks.cloud.aws import Aws
from tests.cloud.embedded.test_api import bucket


@pytest.fixture
def fetched(cloud, server):
    """Fetch a URL from the embedded cloud, whatever host it names."""

    def fetch(url: str) -> tuple[int, str]:
        parts, port = urlsplit(url), server.home.load().port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Host": parts.netloc})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    return fetch


@pytest.fixture
def stored(cloud, server, monkeypatch, tmp_path) -> str:
    """A bucket with an object; AWS's client has the key that the embedded cloud presigns with."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    key, secret = server.home.load().presigning
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    name = bucket(cloud)
    cloud.client("s3").put_object(Bucket=name, Key="k", Body=b"x")
    return name


def test_a_url_of_awss_client_is_fetched(fetched, stored):
    assert fetched(Aws("eu-central-1").presigned_url(stored, "k", 60)) == (200, "x")


@pytest.mark.promise("s3-is-asked-at-its-place")
@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1", "us-west-2"])
def test_another_regions_endpoint_redirects(fetched, stored, region):
    status, text = fetched(Aws(region).presigned_url(stored, "k", 60))
    assert (status, "TemporaryRedirect" in text) == (307, True)


@pytest.mark.promise("s3-is-asked-at-its-place")
def test_the_global_endpoint_redirects(fetched, stored):
    """So it was before: botocore's default."""
    s3 = boto3.client("s3", region_name="eu-central-1", config=Config(signature_version="s3v4"))
    url = s3.generate_presigned_url("get_object", Params={"Bucket": stored, "Key": "k"}, ExpiresIn=60)
    assert urlsplit(url).netloc == f"{stored}.s3.amazonaws.com"
    assert fetched(url)[0] == 307


@pytest.mark.promise("s3-is-asked-at-its-place")
def test_version_2_of_the_signature_is_refused(fetched, stored):
    s3 = boto3.client("s3", region_name="eu-west-1")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": stored, "Key": "k"}, ExpiresIn=60)
    assert "AWSAccessKeyId" in url  # what botocore does in regions of before 2014
    status, text = fetched(url)
    assert (status, "AWS4-HMAC-SHA256" in text) == (400, True)


@pytest.mark.promise("s3-is-asked-at-its-place")
def test_a_signature_for_another_region_is_refused(cloud, stored):
    s3 = boto3.client(
        "s3",
        region_name="us-west-2",
        endpoint_url=cloud.client("s3").meta.endpoint_url,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    answers = []
    s3.meta.events.register_first("needs-retry.s3", lambda response, **_: answers.append(response))
    with contextlib.suppress(ClientError):  # botocore asks again, signed for the region that it was told
        s3.list_objects_v2(Bucket=stored)
    assert answers[0][1]["Error"]["Code"] == "AuthorizationHeaderMalformed"
