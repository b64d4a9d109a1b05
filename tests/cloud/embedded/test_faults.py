"""The faults of a cloud: what AWS does now and then, it does every time that it is due."""

from __future__ import annotations

import uuid

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tasks.cloud.embedded.faults import PACE
from tests.cloud.embedded.test_api import bucket, image, launch, state
from tests.conftest import until


def impatient(cloud, service):
    """A client that shows every refusal."""
    address = cloud.client(service).meta.endpoint_url
    return boto3.client(
        service,
        region_name=cloud.region,
        endpoint_url=address,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def codes(call, times: int, **parameters) -> list[str]:
    found = []
    for _ in range(times):
        try:
            call(**parameters)
            found.append("")
        except ClientError as error:
            found.append(error.response["Error"]["Code"])
    return found


@pytest.mark.parametrize(
    ("service", "method", "expected"),
    [
        ("ec2", "describe_vpcs", "RequestLimitExceeded"),
        ("s3", "list_buckets", "SlowDown"),
        ("route53", "list_hosted_zones", "Throttling"),
        ("ssm", "describe_parameters", "ThrottlingException"),
    ],
)
@pytest.mark.promise("faults-are-counted")
def test_some_requests_are_throttled_and_boto3_copes(faulty, service, method, expected):
    assert set(codes(getattr(impatient(faulty, service), method), 12)) == {"", expected}
    assert set(codes(getattr(faulty.client(service), method), 12)) == {""}


@pytest.mark.promise("faults-are-counted")
def test_a_new_instance_is_unknown_at_first_then_pending_for_seconds(faulty):
    instance = launch(faulty)
    with pytest.raises(ClientError) as caught:
        state(faulty, instance)
    assert caught.value.response["Error"]["Code"] == "InvalidInstanceID.NotFound"
    assert state(faulty, instance) == "pending"
    until(lambda: state(faulty, instance) == "running")
    assert PACE.pending > 2.5


def test_a_group_stays_in_use_while_its_instance_ends(faulty):
    ec2 = faulty.client("ec2")
    group = ec2.create_security_group(GroupName=uuid.uuid4().hex, Description="x")["GroupId"]
    instance = launch(faulty, SecurityGroupIds=[group])
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    with pytest.raises(ClientError) as caught:
        ec2.delete_security_group(GroupId=group)
    assert caught.value.response["Error"]["Code"] == "DependencyViolation"
    until(lambda: not codes(ec2.delete_security_group, 1, GroupId=group)[0])


@pytest.mark.promise("faults-are-counted")
def test_some_conditional_writes_meet_another_one(faulty):
    name, s3 = bucket(faulty), faulty.client("s3")
    found = codes(s3.put_object, 6, Bucket=name, Key="k", Body=b"", IfNoneMatch="*")
    assert found.count("ConditionalRequestConflict") == 2
    assert set(found) - {""} == {"ConditionalRequestConflict", "PreconditionFailed"}


@pytest.mark.promise("faults-are-counted")
def test_lists_come_in_pages_of_five(faulty):
    name, s3 = bucket(faulty), faulty.client("s3")
    for number in range(7):
        s3.put_object(Bucket=name, Key=f"folder/{number}", Body=b"")
    first = s3.list_objects_v2(Bucket=name)
    assert (first["KeyCount"], first["IsTruncated"]) == (5, True)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=name)
    assert sum(page["KeyCount"] for page in pages) == 7

    ec2 = faulty.client("ec2")
    for _ in range(6):
        ec2.create_security_group(GroupName=uuid.uuid4().hex, Description="x")
    assert len(ec2.describe_security_groups()["SecurityGroups"]) == 5
    pages = ec2.get_paginator("describe_security_groups").paginate()
    assert len({g["GroupId"] for page in pages for g in page["SecurityGroups"]}) >= 7

    ssm = faulty.client("ssm")
    for number in range(7):
        ssm.put_parameter(Name=f"/pages/{number}", Value="x", Type="String")
    assert len(ssm.get_parameters_by_path(Path="/pages")["Parameters"]) == 5
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/pages")
    assert sum(len(page["Parameters"]) for page in pages) == 7

    route53 = faulty.client("route53")
    zone = route53.create_hosted_zone(Name="pages.localhost", CallerReference="p")["HostedZone"]["Id"]
    for number in range(6):
        record = {"Name": f"{number}.pages.localhost", "Type": "A", "TTL": 60}
        record["ResourceRecords"] = [{"Value": "10.0.0.1"}]
        changes = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
        route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=changes)
    assert len(route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]) == 5
    pages = route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone)
    assert sum(len(page["ResourceRecordSets"]) for page in pages) == 8


def test_the_image_is_found_as_ever(faulty):
    assert image(faulty).startswith("ami-")
