"""aws: what a client of AWS sends, by botocore's own rules, without an account."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest

from tasks.cloud.aws import Aws

SESSION = botocore.session.Session()
REGIONS = [
    region
    for partition in SESSION.get_available_partitions()
    for region in SESSION.get_available_regions("s3", partition_name=partition)
]
SUFFIXES = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-us-gov": "amazonaws.com"}


@pytest.fixture
def key(monkeypatch, tmp_path):
    """Credentials in the environment, and nothing else of AWS's."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")


@pytest.mark.promise("presigned-for-the-region")
@pytest.mark.parametrize("region", REGIONS)
def test_a_presigned_url_names_the_regions_own_endpoint_and_is_of_version_4(key, region):
    url = urlsplit(Aws(region).presigned_url("shop-releases", "trusted/tarballs/1.tar.zst", 60))
    bucket, _, endpoint = (url.hostname or "").partition(".")
    partition = SESSION.get_partition_for_region(region)
    suffix = SUFFIXES.get(partition) or endpoint.removeprefix(f"s3.{region}.")
    assert (url.scheme, bucket, endpoint) == ("https", "shop-releases", f"s3.{region}.{suffix}")
    query = parse_qs(url.query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Credential"][0].split("/")[2:] == [region, "s3", "aws4_request"]
    assert query["X-Amz-SignedHeaders"] == ["host"]  # a host sends no other header


def test_botocore_lists_the_regions_of_every_partition():
    assert {"eu-central-1", "us-east-1", "cn-north-1", "us-gov-west-1", "ap-east-1"} <= set(REGIONS)


def test_of_several_accounts_each_description_of_a_service_is_read_once(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    own = Aws("eu-central-1")
    other = own.at(region="eu-west-1", role="", account="")
    models = [each.client("ec2").meta.service_model for each in (own, other)]
    assert models[0]._service_description is models[1]._service_description
    assert [each.client("ec2").meta.region_name for each in (own, other)] == ["eu-central-1", "eu-west-1"]
