"""The embedded cloud's API without containers: what it stores, and where it is as strict as AWS."""

from __future__ import annotations

import concurrent.futures
import io
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from tasks.cloud.embedded import disk
from tasks.cloud.embedded.home import CloudIdentity, Home
from tasks.cloud.interface import Cloud
from tests.cloud.embedded.conftest import Server
from tests.conftest import until

MIB = 1 << 20


def code(call, **parameters) -> str:
    """The code of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"]


def bucket(cloud: Cloud, versioned: bool = True) -> str:
    name = f"b-{uuid.uuid4().hex[:10]}"
    where = {"LocationConstraint": cloud.region}
    cloud.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=where)
    if versioned:
        cloud.client("s3").put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def image(cloud: Cloud) -> str:
    images = cloud.client("ec2").describe_images(
        Filters=[{"Name": "name", "Values": ["debian-12"]}], Owners=["self", "136693071363"]
    )["Images"]
    return images[0]["ImageId"]


def launch(cloud: Cloud, **more) -> dict:
    request = {"InstanceType": "t3.medium", "ImageId": image(cloud), "MinCount": 1, "MaxCount": 1}
    return cloud.client("ec2").run_instances(**{**request, **more})["Instances"][0]


def state(cloud: Cloud, instance: dict) -> str:
    found = cloud.client("ec2").describe_instances(InstanceIds=[instance["InstanceId"]])
    return found["Reservations"][0]["Instances"][0]["State"]["Name"]


def remembered(cloud: Cloud, name: str) -> list:
    """Everything that a restart must keep, as the API returns it."""
    versions = cloud.client("s3").list_object_versions(Bucket=name)
    ec2, route53, ssm = cloud.client("ec2"), cloud.client("route53"), cloud.client("ssm")
    zones = route53.list_hosted_zones()["HostedZones"]
    return [
        versions["Versions"],
        versions["DeleteMarkers"],
        ec2.describe_instances()["Reservations"],
        ec2.describe_security_groups()["SecurityGroups"],
        ec2.describe_key_pairs()["KeyPairs"],
        ec2.describe_subnets()["Subnets"],
        ec2.describe_images(Owners=["self", "136693071363"])["Images"],
        zones,
        [route53.list_resource_record_sets(HostedZoneId=z["Id"])["ResourceRecordSets"] for z in zones],
        ssm.get_parameters_by_path(Path="/", Recursive=True, WithDecryption=True)["Parameters"],
        cloud.client("s3").get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"],
        cloud.client("s3").head_object(Bucket=name, Key="large"),
    ]


def fill(cloud: Cloud, large: Path) -> str:
    name = bucket(cloud)
    s3, ec2, route53 = cloud.client("s3"), cloud.client("ec2"), cloud.client("route53")
    default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    encryption = {"Rules": [default]}
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration=encryption)
    for content in (b"one", b"two", b"three"):
        s3.put_object(Bucket=name, Key="small", Body=content, Metadata={"who": "me"})
    s3.put_object(Bucket=name, Key="gone", Body=b"")
    s3.delete_object(Bucket=name, Key="gone")
    s3.upload_file(str(large), name, "large")
    ec2.create_key_pair(KeyName=name, KeyType="ed25519")
    group = ec2.create_security_group(GroupName=name, Description="test")["GroupId"]
    launch(cloud, SecurityGroupIds=[group], KeyName=name)
    zone = route53.create_hosted_zone(Name=f"{name}.localhost", CallerReference=name)["HostedZone"]
    record = {"Name": f"www.{name}.localhost", "Type": "A", "TTL": 60}
    record["ResourceRecords"] = [{"Value": "10.0.0.1"}]
    changes = [{"Action": "CREATE", "ResourceRecordSet": record}]
    route53.change_resource_record_sets(HostedZoneId=zone["Id"], ChangeBatch={"Changes": changes})
    cloud.client("ssm").put_parameter(Name=f"/{name}/secret", Value="s3cret", Type="SecureString")
    return name


def without_metadata(value):
    if isinstance(value, dict):
        return {k: without_metadata(v) for k, v in value.items() if k != "ResponseMetadata"}
    return [without_metadata(v) for v in value] if isinstance(value, list) else value


@pytest.mark.promise("acknowledged-is-kept")
def test_a_killed_server_gives_everything_back(tmp_path, tmp_path_factory):
    server = Server(Home(folder=tmp_path_factory.mktemp("killed") / "cloud"))
    large = tmp_path / "large"
    large.write_bytes(os.urandom(20 * MIB))
    try:
        cloud = server.start()
        name = fill(cloud, large)
        until(lambda: "pending" not in str(cloud.client("ec2").describe_instances()))
        before = without_metadata(remembered(cloud, name))
        server.kill()
        cloud = server.start()
        assert without_metadata(remembered(cloud, name)) == before
        s3 = cloud.client("s3")
        assert s3.get_object(Bucket=name, Key="large")["Body"].read() == large.read_bytes()
        small = s3.list_object_versions(Bucket=name, Prefix="small")["Versions"]
        bodies = [s3.get_object(Bucket=name, Key="small", VersionId=each["VersionId"]) for each in small]
        assert {each["Body"].read() for each in bodies} == {b"one", b"two", b"three"}
        assert bodies[0]["Metadata"] == {"who": "me"}
    finally:
        server.kill()


@pytest.mark.promise("acknowledged-is-kept")
def test_an_upload_under_way_can_be_finished_after_a_kill(server):
    cloud = server_of(server)
    name, s3 = bucket(cloud), cloud.client("s3")
    upload = s3.create_multipart_upload(Bucket=name, Key="k")["UploadId"]
    same = {"Bucket": name, "Key": "k", "UploadId": upload}
    first = s3.upload_part(**same, PartNumber=1, Body=b"a" * (5 * MIB))["ETag"]
    server.kill()
    s3 = server.start().client("s3")
    second = s3.upload_part(**same, PartNumber=2, Body=b"b")["ETag"]
    parts = [{"ETag": first, "PartNumber": 1}, {"ETag": second, "PartNumber": 2}]
    s3.complete_multipart_upload(**same, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"a" * (5 * MIB) + b"b"
    assert s3.get_object(Bucket=name, Key="k", Range="bytes=5242879-")["Body"].read() == b"ab"


def server_of(server: Server) -> Cloud:
    from tasks.cloud.embedded import client

    return client.Embedded("eu-central-1", server.home.load)


def test_content_is_in_files_and_is_removed_with_its_objects(server, cloud):
    name, s3 = bucket(cloud, versioned=False), cloud.client("s3")
    before = set(server.home.objects.iterdir())
    s3.put_object(Bucket=name, Key="k", Body=b"x" * MIB)
    s3.put_object(Bucket=name, Key="k", Body=b"y" * (2 * MIB))
    assert [f.stat().st_size for f in set(server.home.objects.iterdir()) - before] == [2 * MIB]
    s3.delete_object(Bucket=name, Key="k")
    assert set(server.home.objects.iterdir()) == before


@pytest.mark.promise("daemon-memory-does-not-grow")
def test_memory_does_not_grow_with_uploads(server, cloud, tmp_path):
    name, s3 = bucket(cloud), cloud.client("s3")
    large = tmp_path / "large"
    large.write_bytes(os.urandom(40 * MIB))

    def resident() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024

    s3.upload_file(str(large), name, "0")
    s3.download_file(name, "0", str(tmp_path / "back"))
    before = resident()
    for number in range(6):
        s3.upload_file(str(large), name, str(number))
        s3.download_file(name, str(number), str(tmp_path / "back"))
    assert resident() - before < 60


@pytest.mark.promise("nobody-else-reads-the-cloud")
def test_secrets_are_for_the_users_eyes_only(server):
    for path in (server.home.folder, server.home.state, server.home.folder / "cloud.json"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.promise("moto-conditions")
def test_of_many_writers_one_wins(cloud):
    name, s3 = bucket(cloud), cloud.client("s3")

    def write(key: str) -> int:
        try:
            s3.put_object(Bucket=name, Key=key, Body=b"", IfNoneMatch="*")
        except s3.exceptions.ClientError as error:
            return 0 if error.response["Error"]["Code"] == "PreconditionFailed" else 100
        return 1

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number in range(20):
            assert sum(pool.map(write, [f"k{number}"] * 8)) == 1


@pytest.mark.promise("moto-conditions")
def test_conditions_hold_for_copies_and_finished_uploads(cloud):
    name, s3 = bucket(cloud), cloud.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    source = {"Bucket": name, "Key": "k"}
    assert (
        code(
            s3.copy_object,
            Bucket=name,
            Key="k",
            CopySource=source,
            MetadataDirective="REPLACE",
            IfNoneMatch="*",
        )
        == "PreconditionFailed"
    )
    upload = s3.create_multipart_upload(Bucket=name, Key="k")["UploadId"]
    same = {"Bucket": name, "Key": "k", "UploadId": upload}
    part = {"ETag": s3.upload_part(**same, PartNumber=1, Body=b"y")["ETag"], "PartNumber": 1}
    finish = {**same, "MultipartUpload": {"Parts": [part]}}
    assert code(s3.complete_multipart_upload, **finish, IfMatch='"wrong"') == "PreconditionFailed"
    s3.complete_multipart_upload(**finish)


@pytest.mark.promise("no-machine-is-made-twice", "moto-client-token")
def test_a_client_token_makes_one_instance(cloud):
    token = uuid.uuid4().hex
    first = launch(cloud, ClientToken=token)
    assert launch(cloud, ClientToken=token)["InstanceId"] == first["InstanceId"]
    ec2 = cloud.client("ec2")
    other = {"ImageId": image(cloud), "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.large"}
    assert code(ec2.run_instances, **other, ClientToken=token) == "IdempotentParameterMismatch"
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
    again = {**other, "InstanceType": "t3.medium"}
    assert code(ec2.run_instances, **again, ClientToken=token) == "IdempotentInstanceTerminated"


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"ImageId": "ami-12345678"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "t3.enormous"}, "InvalidParameterValue"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroupIds": ["sg-12345678"]}, "InvalidGroup.NotFound"),
    ],
)
@pytest.mark.promise("moto-unknown-is-refused")
def test_what_does_not_exist_is_not_launched(cloud, wrong, expected):
    request = {"ImageId": image(cloud), "InstanceType": "t3.medium", "MinCount": 1, "MaxCount": 1}
    count = len(cloud.client("ec2").describe_instances()["Reservations"])
    assert code(cloud.client("ec2").run_instances, **{**request, **wrong}) == expected
    assert len(cloud.client("ec2").describe_instances()["Reservations"]) == count


@pytest.mark.promise("moto-protection")
def test_protection_at_launch_holds(cloud):
    ec2 = cloud.client("ec2")
    id = launch(cloud, DisableApiTermination=True)["InstanceId"]
    assert code(ec2.terminate_instances, InstanceIds=[id]) == "OperationNotPermitted"
    ec2.modify_instance_attribute(InstanceId=id, DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[id])


def test_the_groups_of_an_instance_are_those_of_its_interface(cloud):
    ec2 = cloud.client("ec2")
    first, second = (
        ec2.create_security_group(GroupName=uuid.uuid4().hex, Description="x")["GroupId"] for _ in range(2)
    )
    id = launch(cloud, SecurityGroupIds=[first])["InstanceId"]
    until(lambda: state(cloud, {"InstanceId": id}) == "running")

    def groups() -> tuple[list[str], list[str]]:
        found = ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]
        (interface,) = found["NetworkInterfaces"]
        return tuple(
            [each["GroupId"] for each in of["Groups"]]
            for of in ({"Groups": found["SecurityGroups"]}, interface)
        )

    assert groups() == ([first], [first])
    ec2.modify_instance_attribute(InstanceId=id, Groups=[second])
    assert groups() == ([second], [second])
    found = ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]
    interface = found["NetworkInterfaces"][0]["NetworkInterfaceId"]
    ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[first])
    assert groups() == ([first], [first])
    ec2.terminate_instances(InstanceIds=[id])


def test_an_instance_that_names_no_group_has_the_default_one(cloud):
    assert [each["GroupName"] for each in launch(cloud)["SecurityGroups"]] == ["default"]


@pytest.mark.parametrize("named_by", ["the instance", "its interface"])
@pytest.mark.promise("moto-group-in-use")
def test_a_group_in_use_is_not_deleted(cloud, named_by):
    ec2 = cloud.client("ec2")
    group = ec2.create_security_group(GroupName=uuid.uuid4().hex, Description="x")["GroupId"]
    interface = {"NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [group]}]}
    instance = launch(cloud, **({"SecurityGroupIds": [group]} if named_by == "the instance" else interface))
    assert [each["GroupId"] for each in instance["SecurityGroups"]] == [group]
    assert code(ec2.delete_security_group, GroupId=group) == "DependencyViolation"
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    until(lambda: state(cloud, instance) == "terminated")
    ec2.delete_security_group(GroupId=group)


@pytest.mark.promise("moto-one-zone")
def test_a_caller_reference_makes_one_zone(cloud):
    route53, reference = cloud.client("route53"), uuid.uuid4().hex
    route53.create_hosted_zone(Name="a.localhost", CallerReference=reference)
    same = {"Name": "a.localhost", "CallerReference": reference}
    assert code(route53.create_hosted_zone, **same) == "HostedZoneAlreadyExists"


@pytest.mark.promise("moto-states")
def test_states_are_those_of_ec2(cloud):
    ec2, instance = cloud.client("ec2"), launch(cloud)
    same = {"InstanceIds": [instance["InstanceId"]]}
    assert instance["State"]["Name"] == "pending"
    until(lambda: state(cloud, instance) == "running")
    (stopping,) = ec2.stop_instances(**same)["StoppingInstances"]
    assert stopping["CurrentState"]["Name"] == "stopping"
    until(lambda: state(cloud, instance) == "stopped")
    assert code(ec2.reboot_instances, **same) == "IncorrectInstanceState"
    ec2.start_instances(**same)
    until(lambda: state(cloud, instance) == "running")
    (ending,) = ec2.terminate_instances(**same)["TerminatingInstances"]
    assert ending["CurrentState"]["Name"] == "shutting-down"
    until(lambda: state(cloud, instance) == "terminated")
    assert code(ec2.start_instances, **same) == "IncorrectInstanceState"


def test_addresses_are_of_the_clouds_range_and_never_shared(cloud):
    made = [launch(cloud) for _ in range(4)]
    addresses = {each["PrivateIpAddress"] for each in made}
    assert len(addresses) == 4
    assert all(each.startswith("10.250.250.") for each in addresses)
    found = cloud.client("ec2").describe_instances(InstanceIds=[made[0]["InstanceId"]])
    instance = found["Reservations"][0]["Instances"][0]
    assert instance["PublicIpAddress"] == instance["PrivateIpAddress"]


@pytest.mark.promise("no-page-calls-the-cloud")
def test_an_unsigned_request_is_refused(cloud, server):
    for path in ("/", "/moto-api/reset", "/moto-api/data.json"):
        url = f"http://127.0.0.1:{server.home.load().port}{path}"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, data=b"Action=DescribeInstances")
        assert caught.value.code == 403


def here(url: str) -> urllib.request.Request:
    """A host's URL, fetched through loopback: the signature holds for the host's name."""
    parts = urllib.parse.urlsplit(url)
    return urllib.request.Request(url.replace(parts.hostname, "127.0.0.1"), headers={"Host": parts.netloc})


@pytest.mark.promise("moto-presigned-urls-expire")
def test_a_presigned_url_ends(cloud):
    name, s3 = bucket(cloud), cloud.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    fresh, short = (here(cloud.presigned_url(name, "k", seconds)) for seconds in (60, 1))

    def refused() -> int:
        try:
            return urllib.request.urlopen(short).read() != b"x"
        except urllib.error.HTTPError as error:
            return error.code

    assert until(refused) == 403
    assert urllib.request.urlopen(fresh).read() == b"x"


@pytest.mark.promise("no-page-calls-the-cloud")
def test_another_key_or_a_made_up_signature_is_refused(cloud, server):
    name, s3 = bucket(cloud), cloud.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    url = cloud.presigned_url(name, "k", 60)
    signature = re.search("X-Amz-Signature=([0-9a-f]+)", url)[1]
    for forged in (
        url.replace(signature, "0" * 64),
        url.replace("/k?", "/other?"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(here(forged))
        assert caught.value.code == 403
    assert urllib.request.urlopen(here(url)).read() == b"x"
    guessed = "AWS4-HMAC-SHA256 Credential=embedded/20260101/eu-central-1/ssm/aws4_request, Signature=0"
    headers = {"Authorization": guessed, "X-Amz-Target": "AmazonSSM.GetParametersByPath"}
    port = server.home.load().port
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", data=b'{"Path": "/"}', headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 403


@pytest.mark.promise("a-url-s-key-opens-nothing-else")
def test_the_key_of_a_presigned_url_opens_nothing_else(cloud, server):
    name, s3 = bucket(cloud), cloud.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    key, secret = server.home.load().presigning
    assert f"X-Amz-Credential={key}%2F" in cloud.presigned_url(name, "k", 60)
    for service, asked in {
        "ec2": lambda client: client.describe_vpcs(),
        "s3": lambda client: client.get_object(Bucket=name, Key="k"),
    }.items():
        client = boto3.client(
            service,
            region_name="eu-central-1",
            endpoint_url=s3.meta.endpoint_url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
        assert code(lambda asked=asked, client=client: asked(client)) in ("AuthFailure", "InvalidAccessKeyId")
    ours = s3.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"}, ExpiresIn=60)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(ours)
    assert caught.value.code == 403


def test_a_cloud_without_a_key_for_presigning_gets_one(tmp_path):
    home = Home(folder=tmp_path / "cloud")
    home.make()
    home.change(
        CloudIdentity(id="x", subnet="10.250.249.0/24", gateway="10.250.249.1", key="key", secret="secret")
    )
    assert home.load().presigning == ("key", "secret")
    server = Server(home)
    try:
        server.start()
        assert home.load().presigning != ("key", "secret")
        kept = home.load().presigning
        server.kill()
        server.start()
        assert home.load().presigning == kept
    finally:
        server.kill()


def test_an_images_snapshot_goes_with_it_and_not_before(cloud):
    ec2 = cloud.client("ec2")
    instance = launch(cloud)
    until(lambda: state(cloud, instance) == "running")
    ami = ec2.create_image(InstanceId=instance["InstanceId"], Name=uuid.uuid4().hex)["ImageId"]
    until(lambda: ec2.describe_images(ImageIds=[ami])["Images"][0]["State"] == "available")
    disks = ec2.describe_images(ImageIds=[ami])["Images"][0]["BlockDeviceMappings"]
    snapshot = disks[0]["Ebs"]["SnapshotId"]
    assert code(ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"
    ec2.deregister_image(ImageId=ami, DeleteAssociatedSnapshots=True)
    assert code(ec2.describe_snapshots, SnapshotIds=[snapshot]) == "InvalidSnapshot.NotFound"


@pytest.mark.promise("bodies-are-bounded")
@pytest.mark.parametrize(
    ("key", "service", "length", "expected"),
    [
        ("nobody", "ec2", "1", b"401"),
        ("nobody", "ec2", str(1 << 40), b"401"),
        ("nobody", "ec2", "-1", b"401"),
        ("key", "ec2", str(1 << 40), b"400"),
        ("key", "ec2", "-1", b"400"),
        ("key", "ec2", "0x10", b"400"),
        ("key", "ec2", "chunked", b"400"),
        ("key", "s3", "1", b"403"),  # its signature covers what it says of its body
        ("", "", str(1 << 17), b"400"),  # a job's, with its token
    ],
)
def test_a_body_is_bounded_and_read_only_for_a_caller(server, key, service, length, expected):
    """No byte of the body is sent: an answer shows that the cloud did not wait for any. The signature is made up."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    credential = f"Credential={key}/{stamp[:8]}/eu-central-1/{service}/aws4_request"
    said = f"Authorization: AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"
    lines = [
        "POST / HTTP/1.1",
        "Host: x",
        f"X-Amz-Date: {stamp}",
        *([said] if key else ()),
        f"Content-Length: {length}" if length != "chunked" else "Transfer-Encoding: chunked",
    ]
    with socket.create_connection(("127.0.0.1", server.home.load().port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        if length == "chunked":
            connection.sendall(b"200000\r\n" + b"x" * (1 << 21) + b"\r\n")
            connection.shutdown(socket.SHUT_WR)  # the rest would be read and dropped
        answered = b""
        while chunk := connection.recv(4096):  # until the cloud closes the connection
            answered += chunk
    assert answered.split(b" ")[1] == expected


@pytest.mark.promise("a-name-leads-to-its-host")
def test_a_forwarder_says_which_names_it_knows(cloud, server):
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.home.load().forward_port}/", headers={"Host": "no.such.localhost"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 404
    assert "No host is named no.such.localhost (known: " in caught.value.read().decode()


@pytest.mark.parametrize("former", ["tasks.cloud.disk", "tasks.cloud.embedded.disk"])
@pytest.mark.promise("former-clouds-are-read")
def test_what_was_written_before_a_module_moved_is_read_again(former):
    found = disk._Unpickler(io.BytesIO(), "load")
    ours = ("_stored", "_key", "_fill", "_nested")
    assert [found.find_class(former, name) for name in ours] == ["load", disk._key, disk._fill, disk._nested]
