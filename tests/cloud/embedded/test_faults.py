"""The faults of a cloud: what AWS does now and then, it does every time that it is due."""

from __future__ import annotations

import uuid

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tasks.bucket import create
from tasks.bucket.store import RecordTaken
from tasks.cloud.embedded.faults import LATE, PACE, UNKNOWN, YOUNG, Rate
from tests.cloud.embedded.conftest import REGION
from tests.cloud.embedded.test_api import image, launch, state
from tests.clouds import run_in
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


def bucket(cloud) -> str:
    """A new bucket, asked for until no other request for it is under way."""
    name, s3 = f"b-{uuid.uuid4().hex[:10]}", cloud.client("s3")
    place = {"LocationConstraint": cloud.region}
    codes(s3.create_bucket, 2, Bucket=name, CreateBucketConfiguration=place)
    codes(s3.put_bucket_versioning, 2, Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def caught_up(call, **parameters):
    """Read until nothing is behind."""
    for _ in LATE:
        call(**parameters)


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
        ("ssm", "describe_parameters", "ThrottlingException"),
    ],
)
@pytest.mark.promise("faults-are-counted")
def test_some_requests_are_throttled_and_boto3_copes(faulty, service, method, expected):
    assert set(codes(getattr(impatient(faulty, service), method), 12)) == {"", expected}
    assert set(codes(getattr(faulty.client(service), method), 12)) == {""}


def test_route_53_takes_five_requests_in_any_second():
    at = [0.0]
    rate = Rate(5, now=lambda: at[0])
    taken = []
    for number in range(16):  # eight a second
        at[0] = number / 8
        taken.append(rate.takes())
    assert taken == ([True] * 5 + [False] * 3) * 2


@pytest.mark.promise("faults-are-counted")
def test_a_new_instance_is_unknown_at_first_then_pending_for_seconds(faulty):
    instance, seen = launch(faulty), []

    def looked():
        try:
            seen.append(state(faulty, instance))
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
        return seen[-1]

    until(lambda: looked() == "running")
    assert seen[0] == "InvalidInstanceID.NotFound"
    assert "pending" in seen
    assert PACE.pending > 2.5


def test_a_group_stays_in_use_while_its_instance_ends(faulty):
    ec2 = faulty.client("ec2")
    group = ec2.create_security_group(GroupName=uuid.uuid4().hex, Description="x")["GroupId"]
    for _ in range(UNKNOWN):
        assert codes(launch, 1, cloud=faulty, SecurityGroupIds=[group]) == ["InvalidGroup.NotFound"]
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
    caught_up(ec2.describe_security_groups)
    assert len(ec2.describe_security_groups()["SecurityGroups"]) == 5
    pages = ec2.get_paginator("describe_security_groups").paginate()
    assert len({g["GroupId"] for page in pages for g in page["SecurityGroups"]}) >= 7

    ssm = faulty.client("ssm")
    for number in range(7):
        ssm.put_parameter(Name=f"/pages/{number}", Value="x", Type="String")
    caught_up(ssm.get_parameters_by_path, Path="/pages")
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
    caught_up(route53.list_resource_record_sets, HostedZoneId=zone)
    assert len(route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]) == 5
    pages = route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone)
    assert sum(len(page["ResourceRecordSets"]) for page in pages) == 8


def test_the_image_is_found_as_ever(faulty):
    assert image(faulty).startswith("ami-")


@pytest.mark.promise("late-reads")
@pytest.mark.parametrize("service", ["ec2", "ssm", "route53"])
def test_after_changes_reads_are_up_to_three_of_them_behind_and_then_are_not(faulty, service):
    client, name = faulty.client(service), uuid.uuid4().hex
    if service == "ec2":
        groups = {"Name": "group-name", "Values": [f"{name}-*"]}
        make = lambda number: client.create_security_group(GroupName=f"{name}-{number}", Description="x")  # noqa: E731
        read = lambda: len(client.describe_security_groups(Filters=[groups])["SecurityGroups"])  # noqa: E731
    elif service == "ssm":
        make = lambda number: client.put_parameter(Name=f"/{name}/{number}", Value="x", Type="String")  # noqa: E731
        read = lambda: len(client.get_parameters_by_path(Path=f"/{name}")["Parameters"])  # noqa: E731
    else:
        zone = client.create_hosted_zone(Name=f"{name}.localhost", CallerReference=name)["HostedZone"]["Id"]
        read = lambda: len(client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]) - 2  # noqa: E731

        def make(number):
            record = {
                "Name": f"{number}.{name}.localhost",
                "Type": "A",
                "TTL": 60,
                "ResourceRecords": [{"Value": "10.0.0.1"}],
            }
            entry = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
            client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=entry)

    for number in range(3):
        make(number)
    assert [read() for _ in range(6)] == [0, 3, 1, 2, 3, 3]
    make(3)
    assert read() == 1


@pytest.mark.promise("late-reads")
def test_what_is_new_is_unknown_to_the_first_changes_that_name_it(faulty):
    ec2 = impatient(faulty, "ec2")
    group = faulty.client("ec2").create_security_group(GroupName=uuid.uuid4().hex, Description="x")["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    said = codes(ec2.authorize_security_group_ingress, 5, GroupId=group, IpPermissions=[rule])
    assert [each for each in said if each != "RequestLimitExceeded"][:3] == ["InvalidGroup.NotFound"] * 2 + [
        ""
    ]


@pytest.mark.promise("a-new-bucket-is-waited-for")
def test_a_bucket_s_first_requests_meet_another_one_and_its_first_objects_are_not_found_at_once(faulty):
    name, s3 = f"b-{uuid.uuid4().hex}", impatient(faulty, "s3")
    place = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    versioned = {"VersioningConfiguration": {"Status": "Enabled"}}

    def said(method, times, **parameters):
        asked = codes(getattr(s3, method), times + 1, Bucket=name, **parameters)
        return [each for each in asked if each != "SlowDown"][:times]

    assert said("create_bucket", 2, **place) == ["OperationAborted", ""]
    assert said("put_bucket_versioning", 2, **versioned) == ["OperationAborted", ""]
    said("put_object", 1, Key="state/x.json", Body=b"{}")
    assert said("get_object", 3, Key="state/x.json") == ["NoSuchKey", "NoSuchKey", ""]
    assert faulty.client("s3").list_objects_v2(Bucket=name)["KeyCount"] == 1
    for number in range(YOUNG):
        said("put_object", 1, Key=f"{number}", Body=b"{}")
    said("put_object", 1, Key="late", Body=b"{}")
    assert said("head_object", 1, Key="late") == [""], "the quarter of an hour is over"


@pytest.mark.promise("a-new-bucket-is-waited-for")
def test_on_such_a_cloud_the_bucket_is_made_and_what_is_written_is_read(checkout, faulty):
    run = run_in(checkout, faulty, branch="young")
    create.make_bucket(run.store, "shop", REGION)
    again = run_in(checkout, faulty, branch="young").store  # another run, which has read the bucket's tags
    etag = run.store.write("state/a.json", {"by": "a"}, seen=None)
    assert run.store.read("state/a.json").etag == etag, "not taken for missing by who has written it"
    etag = run.store.write("state/a.json", {"by": "b"}, seen=etag)
    assert again.read("state/a.json").value["by"] == "b", "nor by another run"
    run.store.write("state/a.json", {"by": "c"}, seen=etag)
    with pytest.raises(RecordTaken, match="changed by c"):
        again.write("state/a.json", {"by": "d"}, seen=None)
    run.store.put("blob", b"x")
    assert again.size("blob") == 1
    run.store.put("other", b"x")
    assert again.open("other").read() == b"x"
    assert again.read("state/none.json") is None
    assert not again.exists("none")
