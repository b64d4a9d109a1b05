"""A gateway endpoint for S3: what a host of its network asks of S3 is judged by the endpoint's policy too, whoever asks."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tasks.cloud.embedded.client import Embedded
from tasks.cloud.embedded.home import CloudIdentity, Home
from tests.cloud.embedded.conftest import REGION, Server, unwanted_port
from tests.cloud.embedded.test_access import refusal
from tests.cloud.embedded.test_api import bucket, launch

SERVICE = f"com.amazonaws.{REGION}.s3"
DELETE = b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>k</Key></Object></Delete>'
Ask = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def near(tmp_path_factory) -> Iterator[Server]:
    """A cloud whose hosts have addresses of loopback, from which a test may ask."""
    home = Home(folder=tmp_path_factory.mktemp("near") / "cloud")
    home.make()
    known = {"id": "near", "subnet": "127.250.250.0/24", "gateway": "127.250.250.1"}
    home.change(CloudIdentity(**known, key="key", secret="secret", forward_port=unwanted_port()))
    made = Server(home)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def cloud(near) -> Embedded:
    return Embedded(REGION, near.home.load)


@pytest.fixture
def host(cloud) -> Iterator[dict]:
    made = launch(cloud)
    yield made
    cloud.client("ec2").terminate_instances(InstanceIds=[made["InstanceId"]])


@pytest.fixture
def ask(cloud, near, host) -> Ask:
    """Ask S3 from the host, or from elsewhere, as a user who may do everything there."""
    iam, allowed = cloud.client("iam"), {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    name = host["InstanceId"]
    iam.create_user(UserName=name)
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    keys = Credentials(made["AccessKeyId"], made["SecretAccessKey"])

    def asked(method: str, path: str, body: bytes = b"", *, elsewhere: bool = False, **headers: str):
        port = near.home.load().port
        request = AWSRequest(method, f"http://127.0.0.1:{port}{path}", data=body, headers=headers)
        S3SigV4Auth(keys, "s3", REGION).add_auth(request)
        address = "127.0.0.1" if elsewhere else host["PrivateIpAddress"]
        return fetch(port, method, path, body, address, dict(request.headers))

    return asked


def fetch(port, method, path, body, address, headers) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(address, 0))
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.fixture
def gateway(cloud) -> Iterator[Callable[..., str]]:
    """Make an endpoint of the default network, or of another one."""
    ec2, made = cloud.client("ec2"), list[str]()

    def make(policy: dict, *tables: str, network: str = "", kind: str = "Gateway") -> str:
        network = network or default(cloud)
        found = ec2.create_vpc_endpoint(
            VpcEndpointType=kind,
            VpcId=network,
            ServiceName=SERVICE,
            PolicyDocument=json.dumps(policy),
            RouteTableIds=tables or route_tables(cloud, network),
        )["VpcEndpoint"]["VpcEndpointId"]
        made.append(found)
        return found

    yield make
    there = {
        each["VpcEndpointId"]
        for each in ec2.describe_vpc_endpoints()["VpcEndpoints"]
        if each["State"] != "deleted"
    }
    ec2.delete_vpc_endpoints(VpcEndpointIds=[each for each in made if each in there])


def default(cloud) -> str:
    return cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]


def route_tables(cloud, network) -> list[str]:
    filters = [{"Name": "vpc-id", "Values": [network]}]
    found = cloud.client("ec2").describe_route_tables(Filters=filters)["RouteTables"]
    return [each["RouteTableId"] for each in found]


def admits(name: str, **more) -> dict:
    where = [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
    rule = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": where, **more}
    return {"Version": "2012-10-17", "Statement": [rule]}


def codes(ask: Ask, name: str, **more) -> list[int]:
    """What a host is answered that writes, reads, lists and deletes."""
    asked = [
        ("PUT", f"/{name}/k", b"data"),
        ("GET", f"/{name}/k"),
        ("GET", f"/{name}"),
        ("DELETE", f"/{name}/k"),
    ]
    return [ask(*each, **more)[0] for each in asked]


DONE, DENIED = [200, 200, 200, 204], [403, 403, 403, 403]


@pytest.mark.promise("an-endpoint-s-policy-holds")
def test_a_host_reaches_the_buckets_of_the_policy_alone_whatever_its_key_may_do(cloud, ask, gateway):
    ours, theirs = bucket(cloud), bucket(cloud)
    assert (codes(ask, ours), codes(ask, theirs)) == (DONE, DONE)
    gateway(admits(ours))
    assert (codes(ask, ours), codes(ask, theirs)) == (DONE, DENIED)
    status, text = ask("PUT", f"/{theirs}/k", b"data")
    assert (status, "<Code>AccessDenied</Code>" in text) == (403, True)
    assert codes(ask, theirs, elsewhere=True) == DONE, "whoever is not in the network goes another way"
    source = {"x-amz-copy-source": f"/{theirs}/k"}
    cloud.client("s3").put_object(Bucket=theirs, Key="k", Body=b"x")
    assert ask("PUT", f"/{ours}/k", **source)[0] == 403
    assert ask("POST", f"/{ours}?delete=", DELETE)[0] == 200
    assert "<Code>AccessDenied</Code>" in ask("POST", f"/{theirs}?delete=", DELETE)[1]


@pytest.mark.promise("an-endpoint-s-policy-holds")
def test_a_presigned_url_of_another_bucket_is_refused_too(cloud, near, host, gateway):
    ours, theirs = bucket(cloud), bucket(cloud)
    gateway(admits(ours))
    answers = []
    for name in (ours, theirs):
        cloud.client("s3").put_object(Bucket=name, Key="k", Body=b"x")
        there = urlsplit(cloud.presigned_url(name, "k", 60))
        path, from_host = f"{there.path}?{there.query}", host["PrivateIpAddress"]
        said = fetch(near.home.load().port, "GET", path, None, from_host, {"Host": there.netloc})
        answers.append(said[0])
    assert answers == [200, 403]


@pytest.mark.promise("an-endpoint-s-policy-holds")
def test_an_endpoint_is_for_the_route_tables_that_lead_to_it(cloud, ask, gateway, host):
    ec2, theirs = cloud.client("ec2"), bucket(cloud)
    network = default(cloud)
    other = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    gateway(admits("none"), network=other)
    gateway(admits("none"), network=network, kind="Interface")  # whose addresses are its own
    table = ec2.create_route_table(VpcId=network)["RouteTable"]["RouteTableId"]
    gateway(admits("none"), table)
    assert codes(ask, theirs) == DONE
    held = ec2.associate_route_table(RouteTableId=table, SubnetId=host["SubnetId"])["AssociationId"]
    assert codes(ask, theirs) == DENIED
    ec2.disassociate_route_table(AssociationId=held)
    assert codes(ask, theirs) == DONE


@pytest.mark.promise("an-endpoint-s-policy-holds")
def test_who_comes_by_an_endpoint_has_the_address_of_his_network(cloud, ask, gateway, host):
    """So a policy may ask for the way, and one that asks for an address of the Internet admits nobody from there."""
    name = bucket(cloud)
    for key, value in {
        "aws:SourceVpc": default(cloud),
        "aws:VpcSourceIp": host["PrivateIpAddress"],
        "aws:PrincipalAccount": "123456789012",
    }.items():
        only = {"Condition": {"StringEquals": {key: value}}}
        id = gateway(admits(name, **only))
        assert codes(ask, name) == DONE, key
        cloud.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[id])
    gateway(admits(name, Condition={"StringEquals": {"aws:SourceIp": host["PrivateIpAddress"]}}))
    assert codes(ask, name) == DENIED


@pytest.mark.promise("moto-one-endpoint-for-a-route-table")
def test_a_route_table_leads_to_one_endpoint(cloud, gateway):
    ec2, network = cloud.client("ec2"), default(cloud)
    table = route_tables(cloud, network)[0]
    gateway(admits("none"))
    other = ec2.create_route_table(VpcId=network)["RouteTable"]["RouteTableId"]
    second = gateway(admits("none"), other)
    for call in (
        lambda: gateway(admits("none")),
        lambda: ec2.modify_vpc_endpoint(VpcEndpointId=second, AddRouteTableIds=[table]),
    ):
        assert refusal(call) == "RouteAlreadyExists"
    ec2.modify_vpc_endpoint(VpcEndpointId=second, AddRouteTableIds=[other])
