"""Who may call the embedded cloud: every request is signed, and judged by the policies of who signed it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
import uuid

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from tasks.cloud.embedded.access import Access, Refused
from tests.cloud.embedded.conftest import REGION
from tests.cloud.embedded.test_api import bucket, image

SERVICES = {
    "s3": "list_buckets",
    "ec2": "describe_instances",
    "ssm": "describe_parameters",
    "route53": "list_hosted_zones",
    "sts": "get_caller_identity",
    "iam": "list_roles",
}
ISSUER = "https://ci.example.com"
ACCOUNT = "123456789012"


def client(server, service, key, secret, token=None):
    """A client with these credentials, which shows every refusal."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{server.home.load().port}",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def refusal(call, **parameters):
    """The code of the error of a call."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"]


# --- signatures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "unknown", "wrong"),
    [
        ("s3", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
        ("ec2", "AuthFailure", "AuthFailure"),
        ("ssm", "UnrecognizedClientException", "InvalidSignatureException"),
        ("route53", "InvalidClientTokenId", "SignatureDoesNotMatch"),
        ("sts", "InvalidClientTokenId", "SignatureDoesNotMatch"),
        ("iam", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ],
)
@pytest.mark.promise("no-page-calls-the-cloud", "every-signature-is-verified")
def test_a_wrong_key_or_secret_is_refused_as_each_service_does(server, service, unknown, wrong):
    known = server.home.load()
    call = SERVICES[service]
    getattr(client(server, service, known.key, known.secret), call)()
    assert refusal(getattr(client(server, service, "AKIAUNKNOWN", known.secret), call)) == unknown
    assert refusal(getattr(client(server, service, known.key, "guessed"), call)) == wrong
    assert refusal(getattr(client(server, service, known.key, known.secret, "token"), call)) == unknown


@pytest.mark.parametrize("service", ["s3", "ec2", "ssm", "route53"])
@pytest.mark.promise("every-signature-is-verified")
def test_what_was_changed_after_signing_is_refused(server, service):
    known = server.home.load()
    made = client(server, service, known.key, known.secret)

    def change(request, **_):
        if service == "s3":
            request.url += "&prefix=other" if "?" in request.url else "?prefix=other"
        elif service == "route53":
            request.url = request.url.replace("/hostedzone", "/hostedzonesbyname")
        else:
            body = request.body if isinstance(request.body, bytes) else request.body.encode()
            body = body.replace(b"Version=2016", b"Version=2017")
            request.body = b"[]" if service == "ssm" else body

    made.meta.events.register("before-send", change)
    assert refusal(getattr(made, SERVICES[service])) in (
        "SignatureDoesNotMatch",
        "AuthFailure",
        "InvalidSignatureException",
    )


@pytest.mark.promise("every-signature-is-verified")
def test_a_body_is_the_one_that_was_signed(server, cloud):
    name, known = bucket(cloud), server.home.load()
    made = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{known.port}",
        aws_access_key_id=known.key,
        aws_secret_access_key=known.secret,
        config=Config(retries={"total_max_attempts": 1}, s3={"payload_signing_enabled": True, "addressing_style": "path"}),
    )  # fmt: skip
    made.put_object(Bucket=name, Key="k", Body=b"signed")

    def change(request, **_):
        request.body = b"others"

    made.meta.events.register("before-send", change)
    assert refusal(made.put_object, Bucket=name, Key="k", Body=b"signed") == "XAmzContentSHA256Mismatch"
    assert cloud.client("s3").get_object(Bucket=name, Key="k")["Body"].read() == b"signed"


def signed(
    secret, key, at, service="sts", query="", token="", body=b"Action=GetCallerIdentity&Version=2011-06-15"
):
    """The headers of a request of its own making, by the algorithm's description."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    scope = f"{stamp[:8]}/{REGION}/{service}/aws4_request"
    kind = "application/x-www-form-urlencoded"
    digest = hashlib.sha256(body).hexdigest()
    canonical = f"POST\n/\n{query}\ncontent-type:{kind}\nhost:HOST\nx-amz-date:{stamp}\n\ncontent-type;host;x-amz-date\n{digest}"

    def headers(host):
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256",
                stamp,
                scope,
                hashlib.sha256(canonical.replace("HOST", host).encode()).hexdigest(),
            )
        )
        held = f"AWS4{secret}".encode()
        for part in scope.split("/"):
            held = hmac.digest(held, part.encode(), "sha256")
        signature = hmac.digest(held, text.encode(), "sha256").hex()
        said = f"Credential={key}/{scope}, SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
        return {
            "Authorization": f"AWS4-HMAC-SHA256 {said}",
            "X-Amz-Date": stamp,
            "X-Amz-Content-SHA256": digest,
            **({"X-Amz-Security-Token": token} if token else {}),
            "Content-Type": kind,
            "Host": host,
        }

    return headers, body


@pytest.mark.parametrize(("minutes", "code"), [(0, 200), (14, 200), (-14, 200), (16, 403), (-16, 403)])
@pytest.mark.promise("every-signature-is-verified")
def test_a_signature_of_another_time_is_refused(server, minutes, code):
    known = server.home.load()
    headers, body = signed(known.secret, known.key, time.time() + minutes * 60)
    host = f"127.0.0.1:{known.port}"
    asked = urllib.request.Request(f"http://{host}/", data=body, headers=headers(host))
    try:
        answered = urllib.request.urlopen(asked).status
    except urllib.error.HTTPError as error:
        answered = error.code
    assert answered == code


@pytest.mark.promise("every-signature-is-verified")
def test_what_could_be_read_in_two_ways_is_refused(server):
    known = server.home.load()
    host = f"127.0.0.1:{known.port}"
    query = "Action=TerminateInstances"
    headers, body = signed(known.secret, known.key, time.time(), query=query)
    asked = urllib.request.Request(f"http://{host}/?{query}", data=body, headers=headers(host))
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked)
    assert caught.value.code == 400


# --- roles, and what they may do ------------------------------------------------------------------


def statement(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


TRUSTED = document(
    {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
)


@pytest.fixture
def assume(server, cloud):
    """Clients of a new role with these statements."""

    def made(*statements, trust=TRUSTED, **more):
        name = f"role-{uuid.uuid4().hex[:8]}"
        iam = client(server, "iam", "key", "secret")
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(*statements))
        sts = client(server, "sts", "key", "secret")
        taken = sts.assume_role(RoleArn=arn, RoleSessionName="kim", **more)["Credentials"]
        given = (taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
        return lambda service: client(server, service, *given)

    return made


@pytest.mark.promise("every-call-is-judged")
def test_a_role_reads_and_writes_what_its_policy_names(assume, cloud):
    name = bucket(cloud)
    for key in ("mine/1", "yours/1"):
        cloud.client("s3").put_object(Bucket=name, Key=key, Body=b"x")
    s3 = assume(
        statement(["s3:GetObject", "s3:DeleteObject"], f"arn:aws:s3:::{name}/mine/*"),
        statement("s3:ListBucket", f"arn:aws:s3:::{name}", Condition={"StringLike": {"s3:prefix": "mine/*"}}),
    )("s3")
    assert s3.get_object(Bucket=name, Key="mine/1")["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket=name, Prefix="mine/")["KeyCount"] == 1
    for call, more in {
        "get_object": {"Key": "yours/1"},
        "put_object": {"Key": "mine/1", "Body": b"y"},
        "list_objects_v2": {"Prefix": "yours/"},
        "get_bucket_tagging": {},
        "put_bucket_policy": {"Policy": document()},
        "delete_bucket": {},
    }.items():
        assert refusal(getattr(s3, call), Bucket=name, **more) == "AccessDenied", call
    assert refusal(s3.list_buckets) == "AccessDenied"
    url = s3.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "mine/1"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"x"
    url = s3.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "yours/1"}, ExpiresIn=60)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url)
    assert caught.value.code == 403


@pytest.mark.promise("every-call-is-judged")
def test_of_a_batch_only_what_may_be_deleted_is(assume, cloud):
    name = bucket(cloud)
    keys = ["mine/1", "yours/1", "yours/<&>"]
    for key in keys:
        cloud.client("s3").put_object(Bucket=name, Key=key, Body=b"x")
    s3 = assume(statement("s3:DeleteObject", f"arn:aws:s3:::{name}/mine/*"))("s3")
    answer = s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key} for key in keys]})
    assert [each["Key"] for each in answer["Deleted"]] == ["mine/1"]
    assert [(each["Key"], each["Code"]) for each in answer["Errors"]] == [
        (key, "AccessDenied") for key in keys[1:]
    ]
    assert [each["Key"] for each in cloud.client("s3").list_objects_v2(Bucket=name)["Contents"]] == keys[1:]
    none = s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key} for key in keys[1:]]})
    assert ("Deleted" in none, none["Errors"]) == (False, answer["Errors"])


@pytest.mark.promise("every-call-is-judged")
def test_who_may_not_list_a_bucket_is_not_told_what_is_missing(assume, cloud):
    name = bucket(cloud)
    got = statement("s3:GetObject", f"arn:aws:s3:::{name}/*")
    assert refusal(assume(got)("s3").get_object, Bucket=name, Key="none") == "AccessDenied"
    lists = statement("s3:ListBucket", f"arn:aws:s3:::{name}")
    assert refusal(assume(got, lists)("s3").get_object, Bucket=name, Key="none") == "NoSuchKey"


@pytest.mark.promise("every-call-is-judged")
def test_a_bucket_s_policy_denies_the_administrator_too(assume, cloud):
    name, s3 = bucket(cloud), cloud.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    denies = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{name}/*",
    }
    s3.put_bucket_policy(Bucket=name, Policy=document(denies))
    assert refusal(s3.get_object, Bucket=name, Key="k") == "AccessDenied"
    s3.delete_bucket_policy(Bucket=name)
    s3.get_object(Bucket=name, Key="k")
    gives = {**denies, "Effect": "Allow"}
    s3.put_bucket_policy(Bucket=name, Policy=document(gives))
    assume(statement("ec2:DescribeInstances"))("s3").get_object(Bucket=name, Key="k")


OWN = {"StringEquals": {"aws:ResourceTag/project": "shop"}}
MADE = {"StringEquals": {"aws:RequestTag/project": "shop"}}
INSTANCES, IMAGES = "arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:*::image/*"
WITH = [f"arn:aws:ec2:*:*:{kind}/*" for kind in ("subnet", "security-group", "network-interface", "volume")]
TAGGING = statement("ec2:CreateTags", Condition={"StringEquals": {"ec2:CreateAction": "RunInstances"}})


def tagged(**tags):
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"TagSpecifications": [{"ResourceType": "instance", "Tags": listed}]}


def launch(ec2, cloud, **more):
    request = {"InstanceType": "t3.medium", "ImageId": image(cloud), "MinCount": 1, "MaxCount": 1, **more}
    return ec2.run_instances(**request)["Instances"][0]["InstanceId"]


@pytest.mark.promise("every-call-is-judged")
def test_a_machine_is_made_only_as_the_policy_says(assume, cloud):
    size = {"StringEquals": {"ec2:InstanceType": "t3.medium", "aws:RequestTag/project": "shop"}}
    owned = {"StringEquals": {"ec2:Owner": ["136693071363", "${aws:PrincipalAccount}"]}}
    run = "ec2:RunInstances"
    ec2 = assume(
        statement(run, INSTANCES, Condition=size),
        statement(run, IMAGES, Condition=owned),
        statement(run, WITH),
        TAGGING,
    )("ec2")
    launch(ec2, cloud, **tagged(project="shop"))
    for wrong in (
        {},
        tagged(project="other"),
        {**tagged(project="shop"), "InstanceType": "t3.large"},
        {**tagged(project="shop"), "KeyName": "another"},
        {**tagged(project="shop"), "IamInstanceProfile": {"Name": "admin"}},
    ):
        with pytest.raises(ClientError) as caught:
            launch(ec2, cloud, **wrong)
        assert caught.value.response["Error"]["Code"] == "UnauthorizedOperation", wrong
    without = assume(statement(run, INSTANCES, Condition=size), statement(run, IMAGES), statement(run, WITH))(
        "ec2"
    )
    with pytest.raises(ClientError, match="CreateTags"):
        launch(without, cloud, **tagged(project="shop"))
    others = {"StringEquals": {"ec2:Owner": "${aws:PrincipalAccount}"}}
    strict = assume(
        statement(run, INSTANCES, Condition=size),
        statement(run, IMAGES, Condition=others),
        statement(run, WITH),
        TAGGING,
    )("ec2")
    with pytest.raises(ClientError, match=r"image/ami-"):
        launch(strict, cloud, **tagged(project="shop"))


@pytest.mark.promise("every-call-is-judged")
def test_a_machine_s_tags_decide_who_ends_it_and_who_may_tag_it(assume, cloud):
    admin = cloud.client("ec2")
    ours, theirs = launch(admin, cloud, **tagged(project="shop")), launch(admin, cloud, **tagged(project="x"))
    untagged = {"Null": {"aws:RequestTag/project": "true"}, **OWN}
    ec2 = assume(
        statement("ec2:TerminateInstances", INSTANCES, Condition=OWN),
        statement("ec2:CreateTags", INSTANCES, Condition=untagged),
    )("ec2")
    assert refusal(ec2.terminate_instances, InstanceIds=[theirs]) == "UnauthorizedOperation"
    assert refusal(ec2.terminate_instances, InstanceIds=[ours, theirs]) == "UnauthorizedOperation"
    ec2.create_tags(Resources=[ours], Tags=[{"Key": "commit", "Value": "c"}])
    for id, tag in ((ours, "project"), (theirs, "commit")):
        named = [{"Key": tag, "Value": "shop"}]
        assert refusal(ec2.create_tags, Resources=[id], Tags=named) == "UnauthorizedOperation"
    assert refusal(ec2.delete_tags, Resources=[ours], Tags=[{"Key": "project"}]) == "UnauthorizedOperation"
    ec2.terminate_instances(InstanceIds=[ours])


@pytest.mark.promise("every-call-is-judged")
def test_a_role_is_passed_to_a_machine_only_by_who_may(assume, server, cloud):
    iam, name = client(server, "iam", "key", "secret"), f"p-{uuid.uuid4().hex[:8]}"
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUSTED)["Role"]["Arn"]
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    run = statement("ec2:*")
    profile = {"IamInstanceProfile": {"Name": name}}
    with pytest.raises(ClientError, match="iam:PassRole"):
        launch(assume(run)("ec2"), cloud, **profile)
    passed = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    launch(assume(run, statement("iam:PassRole", arn, Condition=passed))("ec2"), cloud, **profile)


@pytest.mark.promise("every-call-is-judged")
def test_parameters_and_names_are_judged_too(assume, cloud):
    zone = cloud.client("route53").create_hosted_zone(
        Name=f"{uuid.uuid4().hex}.localhost", CallerReference=uuid.uuid4().hex
    )
    id, names = (
        zone["HostedZone"]["Id"].rpartition("/")[2],
        "route53:ChangeResourceRecordSetsNormalizedRecordNames",
    )
    own = zone["HostedZone"]["Name"].rstrip(".")
    clients = assume(
        statement("ssm:PutParameter", "arn:aws:ssm:*:*:parameter/shop/testing-*"),
        statement(
            "route53:ChangeResourceRecordSets",
            f"arn:aws:route53:::hostedzone/{id}",
            Condition={"ForAllValues:StringLike": {names: [f"testing-*.{own}"]}},
        ),
    )
    ssm, route53 = clients("ssm"), clients("route53")
    ssm.put_parameter(Name="/shop/testing-1/x", Value="v", Type="SecureString")
    assert (
        refusal(ssm.put_parameter, Name="/shop/staging/x", Value="v", Type="String")
        == "AccessDeniedException"
    )
    assert refusal(ssm.get_parameter, Name="/shop/testing-1/x") == "AccessDeniedException"

    def point(*hosts):
        changes = [
            {
                "Action": "UPSERT",
                "ResourceRecordSet": {
                    "Name": f"{host}{own}",
                    "Type": "A",
                    "TTL": 60,
                    "ResourceRecords": [{"Value": "10.0.0.1"}],
                },
            }
            for host in hosts
        ]
        route53.change_resource_record_sets(HostedZoneId=id, ChangeBatch={"Changes": changes})

    point("testing-1.")
    for hosts in (("www.",), ("testing-1.", "")):
        with pytest.raises(ClientError, match="AccessDenied"):
            point(*hosts)


@pytest.mark.promise("every-call-is-judged")
def test_a_session_s_policy_bounds_it_and_its_role_s_end_is_its_own(assume, server, cloud):
    bound = document(statement("ec2:DescribeVpcs"))
    ec2 = assume(statement("ec2:*"), Policy=bound)("ec2")
    ec2.describe_vpcs()
    assert refusal(ec2.describe_instances) == "UnauthorizedOperation"
    sts = client(server, "sts", "key", "secret")
    assert (
        refusal(sts.assume_role, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/none", RoleSessionName="kim")
        == "AccessDenied"
    )


@pytest.mark.promise("every-call-is-judged")
def test_a_user_has_the_rights_of_his_groups(server, cloud):
    iam, name = client(server, "iam", "key", "secret"), f"u-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    iam.create_group(GroupName=name)
    iam.put_group_policy(
        GroupName=name, PolicyName="own", PolicyDocument=document(statement("ec2:DescribeVpcs"))
    )
    made = iam.create_access_key(UserName=name)["AccessKey"]
    ec2 = client(server, "ec2", made["AccessKeyId"], made["SecretAccessKey"])
    assert refusal(ec2.describe_vpcs) == "UnauthorizedOperation"
    iam.add_user_to_group(GroupName=name, UserName=name)
    ec2.describe_vpcs()
    assert refusal(ec2.describe_instances) == "UnauthorizedOperation"


# --- tokens of a CI provider ----------------------------------------------------------------------


class Issuer:
    """An identity provider of the tests, which signs what it is told."""

    def __init__(self, url=ISSUER):
        self.url, self.key = url, rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwk(self):
        numbers = self.key.public_key().public_numbers()
        sizes = {"n": numbers.n, "e": numbers.e}
        parts = {
            name: coded(value.to_bytes((value.bit_length() + 7) // 8, "big")) for name, value in sizes.items()
        }
        return {"kty": "RSA", "kid": "1", "alg": "RS256", **parts}

    def token(self, sub, aud="sts.amazonaws.com", **more):
        now = int(time.time())
        header = {"alg": "RS256", "typ": "JWT", "kid": "1"}
        said = {"iss": self.url, "sub": sub, "aud": aud, "iat": now, "exp": now + 300, **more}
        text = ".".join(coded(json.dumps(each).encode()) for each in (header, said))
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{coded(signature)}"


def coded(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def issuer(server):
    made = Issuer()
    server.home.register_issuer(made.url, [made.jwk()])
    iam = client(server, "iam", "key", "secret")
    iam.create_open_id_connect_provider(
        Url=made.url, ClientIDList=["sts.amazonaws.com"], ThumbprintList=["0" * 40]
    )
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/ci.example.com"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {"ci.example.com:aud": "sts.amazonaws.com"},
            "StringLike": {"ci.example.com:sub": "repo:team/shop:*"},
        },
    }
    iam.create_role(RoleName="ci", AssumeRolePolicyDocument=document(trust))
    iam.put_role_policy(
        RoleName="ci", PolicyName="own", PolicyDocument=document(statement("ec2:DescribeVpcs"))
    )
    return made


def take(server, token, role="ci", **more):
    sts = client(server, "sts", "", "")
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    return sts.assume_role_with_web_identity(
        RoleArn=arn, RoleSessionName="kim", WebIdentityToken=token, **more
    )


SUB = "repo:team/shop:ref:refs/heads/main"


@pytest.mark.promise("every-token-is-verified")
def test_a_job_assumes_its_role_with_its_provider_s_token(server, issuer):
    taken = take(server, issuer.token(SUB))["Credentials"]
    given = (taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    client(server, "ec2", *given).describe_vpcs()
    assert client(server, "sts", *given).get_caller_identity()["Arn"].endswith(":assumed-role/ci/kim")
    assert refusal(client(server, "ec2", *given).describe_instances) == "UnauthorizedOperation"
    assert refusal(client(server, "ec2", *given[:2]).describe_vpcs) == "AuthFailure"


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (lambda issuer: issuer.token("repo:team/shop2:ref:refs/heads/main"), "AccessDenied"),
        (lambda issuer: issuer.token(SUB, aud="another"), "InvalidIdentityToken"),
        (lambda issuer: issuer.token(SUB, iss="https://elsewhere.example.com"), "InvalidIdentityToken"),
        (lambda issuer: Issuer().token(SUB), "InvalidIdentityToken"),
        (lambda issuer: issuer.token(SUB, exp=int(time.time()) - 1), "ExpiredTokenException"),
        (lambda issuer: issuer.token(SUB, nbf=int(time.time()) + 600), "InvalidIdentityToken"),
        (lambda issuer: issuer.token(SUB)[:-8] + "AAAAAAAA", "InvalidIdentityToken"),
        (lambda issuer: issuer.token(SUB).rpartition(".")[0] + ".", "InvalidIdentityToken"),
        (lambda issuer: "no token", "InvalidIdentityToken"),
    ],
)  # fmt: skip
@pytest.mark.promise("every-token-is-verified")
def test_another_s_token_is_refused(server, issuer, forge, code):
    with pytest.raises(ClientError) as caught:
        take(server, forge(issuer))
    assert caught.value.response["Error"]["Code"] == code


@pytest.mark.promise("every-token-is-verified")
def test_a_token_does_not_make_a_role_that_admits_no_provider(server, issuer, assume):
    with pytest.raises(ClientError, match="AccessDenied"):
        take(server, issuer.token(SUB), role="none")


def test_a_session_outlives_a_restart(server, issuer):
    taken = take(server, issuer.token(SUB), DurationSeconds=900)["Credentials"]
    given = (taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    server.kill()
    server.start()
    client(server, "ec2", *given).describe_vpcs()


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("s3", "ExpiredToken"),
        ("ec2", "RequestExpired"),
        ("ssm", "ExpiredTokenException"),
        ("sts", "ExpiredToken"),
        ("iam", "ExpiredToken"),
    ],
)
@pytest.mark.promise("every-signature-is-verified")
def test_a_session_ends_with_its_time(service, code):
    account, begun = "1" + str(uuid.uuid4().int)[:11], time.time()
    role = iam_backends[account]["aws"].create_role("r", TRUSTED, "/", None, "", [], 3600)
    session = sts_backends[account]["aws"].assume_role("eu-central-1", "kim", role.arn, None, 900, None)
    judged = Access(
        key="key", secret="secret", presigning=("", ""), account=account, region=REGION, issuers=dict
    )

    def asked(at):
        headers, body = signed(
            session.secret_access_key, session.access_key_id, at, service, token=session.session_token
        )
        environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers("x").items()}
        environ |= {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "CONTENT_TYPE": environ["HTTP_CONTENT_TYPE"]}
        found = judged.authenticate(environ, at)
        judged.accept(found, environ, body)
        return found.arn

    assert asked(begun + 890).endswith("/r/kim")
    with pytest.raises(Refused) as caught:
        asked(begun + 910)
    assert code.encode() in b"".join(caught.value.answer(service)[2])
