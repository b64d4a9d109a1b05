"""policies: rules for build/ci/iam/: who may do what to which, for every key of the bucket and every action that is named anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tasks.bucket import layout
from tests import iam
from tests.rules.roles import Finding

TESTING, STAGING, PRODUCTION, IMAGE = "testing-0d6e4079e3", "staging", "production", "image"
DRILL = "drill-staging"
POLICIES = sorted({name for names in iam.ROLES.values() for name in names})
ENVIRONMENTS = (TESTING, STAGING, PRODUCTION, IMAGE, DRILL)
BUCKET = "arn:aws:s3:::shop-releases"
BUILDERS = "compiler builder releaser branch pull-request sweeper"
EVERYBODY = f"{BUILDERS} driller pruner"
TEAM = "builder releaser branch sweeper"
SHARED = "builder releaser sweeper"
"""Who reads what belongs to an environment that all branches share, or to none: a branch reads its own."""
TYPE = {"ec2:InstanceType": "t3.medium"}
DEBIAN = "136693071363"
DIGEST = "0" * 64
KEYS = {
    "trusted": [
        *(layout.record("trusted", kind, DIGEST) for kind in get_args(layout.RecordKind)),
        *(layout.blob("trusted", kind, DIGEST) for kind in get_args(layout.BlobKind)),
        layout.beside(layout.blob("trusted", "tarballs", DIGEST), "minisig"),
    ],
    "branches": [
        *(layout.record("branches", kind, DIGEST) for kind in get_args(layout.RecordKind)),
        *(layout.blob("branches", kind, DIGEST) for kind in get_args(layout.BlobKind)),
        layout.beside(layout.blob("branches", "tarballs", DIGEST), "sbom.json"),
    ],
    "undone/trusted": [layout.undone("trusted", DIGEST)],
    "undone/branches": [layout.undone("branches", DIGEST)],
    "runs": [layout.commit_run("c" * 40), layout.CURRENT_RUN],
    "sweep": [layout.SIGHTINGS],
    "restored": [layout.restored(STAGING, "20261128T051700Z", "run")],
    "backups": [f"{layout.backups(STAGING, 'snapshots/')}{DIGEST}", layout.backups(STAGING, "config")],
}
"""Keys that no environment owns, by their folder."""
READERS = {
    **dict.fromkeys(layout.ZONES, BUILDERS),
    "undone/branches": TEAM,
    "restored": f"{SHARED} pruner",
    "backups": f"{SHARED} pruner",
}
"""Who reads them, if not those who read what belongs to no environment."""


def of_environment(name: str) -> dict[str, str]:
    """The keys that an environment owns, by their first folder."""
    return {
        "state": layout.state(name, "release"),
        "leases": layout.lease(name),
        "machines": layout.machines(name),
        "ledgers": layout.ledger(name, "i-1", "server"),
        "history": layout.history(name),
    }


WRITERS = {
    # a folder: who puts, who deletes
    "trusted": ("compiler builder", "sweeper"),
    "branches": ("branch", "sweeper"),
    "undone/trusted": ("builder releaser", "sweeper"),
    "undone/branches": ("branch", "sweeper"),
    "runs": ("builder releaser", "builder releaser sweeper"),
    "sweep": ("sweeper", ""),
    "restored": ("driller", ""),
    "backups": ("pruner", "pruner"),
}
KEEPERS = {
    # an environment: who puts and deletes what it owns
    TESTING: ("builder releaser branch", "builder releaser branch sweeper"),
    STAGING: ("builder releaser", "builder releaser"),
    PRODUCTION: ("builder releaser", "builder releaser"),
    IMAGE: ("builder releaser", "builder releaser sweeper"),
    DRILL: ("builder releaser", "builder releaser sweeper"),
}
DRILLED = ("leases", "machines", "ledgers")
"""What a drill reads, puts and deletes of its host."""
LEASED = {
    TESTING: "builder releaser branch sweeper",
    IMAGE: "builder releaser sweeper",
    DRILL: "builder releaser sweeper",
}
"""A sweep takes an environment's lease before it deletes it."""

ANYTHING = "builder releaser"
BRANCHED, DRILLS, MAKERS = f"{ANYTHING} branch", f"{ANYTHING} driller", f"{ANYTHING} branch driller"
Held = Mapping[str, tuple[str, str, str, str, str, str, str]]
HELD: Held = {
    # who may, by the tags of the thing: testing, staging, production, image, drill, ours without environment, of another project or none
    "ec2:AuthorizeSecurityGroupIngress": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, DRILLS, ANYTHING, ""),
    "ec2:RevokeSecurityGroupIngress": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ""),
    "ec2:AuthorizeSecurityGroupEgress": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, DRILLS, ANYTHING, ""),
    "ec2:RevokeSecurityGroupEgress": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, DRILLS, ANYTHING, ""),
    "ec2:StartInstances": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ""),
    "ec2:GetConsoleOutput": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, DRILLS, ANYTHING, ""),
    "ec2:CreateTags": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ""),
    "ec2:DescribeInstanceAttribute": (ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ""),
    "ec2:TerminateInstances": (f"{BRANCHED} sweeper", ANYTHING, "", "builder sweeper", "driller sweeper", "sweeper", ""),
    "ec2:DeleteSecurityGroup": (f"{BRANCHED} sweeper", ANYTHING, "", "builder sweeper", "driller sweeper", "sweeper", ""),
    "ec2:DeleteKeyPair": (f"{BRANCHED} sweeper", ANYTHING, "", "builder sweeper", "driller sweeper", "sweeper", ""),
    "ec2:DeleteVolume": ("sweeper", "", "", "sweeper", "sweeper", "sweeper", ""),
    "ec2:StopInstances": ("", "", "", "builder", "", "", ""),
    "ec2:CreateImage": ("", "", "", "builder", "", "", ""),
    "ec2:ModifyInstanceAttribute": ("", "", "", "", "", "", ""),
    "ec2:DeregisterImage": ("builder sweeper",) * 6 + ("",),
    "ec2:DeleteSnapshot": ("builder sweeper",) * 6 + ("",),
}  # fmt: skip
MADE: Held = {
    # who may make a thing with these tags
    "ec2:RunInstances": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, DRILLS, ANYTHING, ""),
    "ec2:CreateSecurityGroup": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, DRILLS, ANYTHING, ""),
    "ec2:ImportKeyPair": (BRANCHED, ANYTHING, ANYTHING, ANYTHING, DRILLS, ANYTHING, ""),
    "ec2:CreateImage": ("builder",) * 6 + ("",),
}
KIND = {
    "SecurityGroup": "security-group",
    "KeyPair": "key-pair",
    "Volume": "volume",
    "Snapshot": "snapshot",
    "Image": "image",
}
LOOK = {
    "ec2:DescribeImages": f"{TEAM} driller",
    "ec2:DescribeInstanceTypes": MAKERS,
    "ec2:DescribeSnapshots": "builder sweeper",
    "ec2:DescribeSubnets": MAKERS,
    "ec2:DescribeInstances": f"{TEAM} driller",
    "ec2:DescribeKeyPairs": f"{TEAM} driller",
    "ec2:DescribeSecurityGroups": f"{TEAM} driller",
    "ec2:DescribeVolumes": "sweeper",
    "route53:ListHostedZonesByName": f"compiler {TEAM} driller",
    "ssm:DescribeParameters": "sweeper",
}
SECRETS = {
    # an action: who may, for a parameter of testing, staging, production, image, drill
    "ssm:GetParametersByPath": (
        f"{ANYTHING} branch sweeper",
        ANYTHING,
        ANYTHING,
        f"{ANYTHING} sweeper",
        "driller sweeper",
    ),
    "ssm:PutParameter": (f"{ANYTHING} branch", ANYTHING, ANYTHING, ANYTHING, "driller"),
    "ssm:DeleteParameter": (
        f"{ANYTHING} branch sweeper",
        ANYTHING,
        ANYTHING,
        f"{ANYTHING} sweeper",
        "driller sweeper",
    ),
    "ssm:GetParameter": ("", "", "", "", ""),
}
NAMES = {
    f"{TESTING}.shop.localhost": f"{ANYTHING} branch sweeper",
    f"de.{TESTING}.shop.localhost": f"{ANYTHING} branch sweeper",
    "staging.shop.localhost": ANYTHING,
    "de.staging.shop.localhost": ANYTHING,
    "production.shop.localhost": ANYTHING,
    "image.shop.localhost": f"{ANYTHING} sweeper",
    f"{TESTING}.branches.shop.localhost": f"{ANYTHING} branch sweeper",
    "_acme-challenge.branches.shop.localhost": ANYTHING,
    "_acme-challenge.production.shop.localhost": ANYTHING,
    f"{DRILL}.shop.localhost": f"{ANYTHING} sweeper driller",
    "shop.localhost": "",
    "another.localhost": "",
    "testing-1.shop.localhost.example": "",
}
PASSED = {
    # a role: who may give it to a machine
    "shop-machine-testing-web": f"{ANYTHING} branch",
    "shop-machine-production": ANYTHING,
    "builder": "",
    "releaser": "",
    "another-machine-testing": "",
}
Policies = Mapping[str, Mapping[str, Any]]


def load(root: Path) -> Policies:
    """The policies, by name."""
    return {name: iam.policy(name, root) for name in POLICIES}


def who(told: Policies, action: str, resource: str, context: iam.Context | None = None) -> str:
    """The roles that may make a call."""
    return " ".join(
        role
        for role, names in iam.ROLES.items()
        if iam.allowed([told[name] for name in names], action, resource, context)
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """A call, and the roles that may make it."""

    wanted: str
    action: str
    resource: str
    context: iam.Context


def _row(wanted: str, action: str, resource: str, context: iam.Context | None = None) -> Row:
    return Row(wanted=wanted, action=action, resource=resource, context=context or {})


def rows() -> Iterator[Row]:
    """All of them."""
    yield from _of_the_bucket()
    yield from _of_machines()
    yield from _of_instance_profiles()
    yield from _of_names_and_secrets()


def _compared(root: Path, said: Iterable[Row]) -> list[Finding]:
    told, found = load(root), list[Finding]()
    for row in said:
        may, should = set(who(told, row.action, row.resource, row.context).split()), set(row.wanted.split())
        where = f"{row.action} on {row.resource} {dict(row.context)}"
        found += [f"build/ci/iam/{role}.json: {role} may {where}" for role in sorted(may - should)]
        found += [f"build/ci/iam/{role}.json: {role} may not {where}" for role in sorted(should - may)]
    return found


def the_bucket_is_written_by_whom_it_should(root: Path) -> list[Finding]:
    """Every kind of key, of every environment: who reads, puts and deletes it."""
    seen = {found.kind for keys in KEYS.values() for key in keys if (found := layout.parse(key))}
    seen |= {layout.parse(key).kind for key in of_environment(STAGING).values()}
    return _compared(root, _of_the_bucket()) + [
        f"tests/rules/policies.py: has no row for a key of {each}"
        for each in sorted({*get_args(layout.Kind)} - seen)
    ]


OBJECT_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")


def _of_the_bucket() -> Iterator[Row]:
    for folder, keys in KEYS.items():
        readers = READERS.get(folder, SHARED)
        for key in keys:
            for action, wanted in zip(OBJECT_ACTIONS, (readers, *WRITERS[folder]), strict=True):
                yield _row(wanted, action, f"{BUCKET}/{key}")
    for name in ENVIRONMENTS:
        puts, deletes = KEEPERS[name]
        readers = TEAM if name == TESTING else SHARED
        compiler = " compiler" if name == STAGING else ""
        for folder, key in of_environment(name).items():
            may_put = LEASED.get(name, puts) if folder == "leases" else puts
            may_read = readers + compiler if folder == "state" else readers
            drills = " driller" if name == DRILL and folder in DRILLED else ""
            may_read, may_put, may_delete = may_read + drills, may_put + drills, deletes + drills
            for action, wanted in zip(OBJECT_ACTIONS, (may_read, may_put, may_delete), strict=True):
                yield _row(wanted, action, f"{BUCKET}/{key}")
        for task in ("tarball:vendor", "infrastructure:shared"):
            yield _row(puts + compiler, "s3:PutObject", f"{BUCKET}/{layout.state(name, task)}")
        yield _row(puts, "s3:PutObject", f"{BUCKET}/{layout.state(name, 'infrastructure:environment')}")
    for key in ("new/x", "states/x", "branche", "run/x"):
        yield _row("", "s3:PutObject", f"{BUCKET}/{key}")
        yield _row("", "s3:DeleteObject", f"{BUCKET}/{key}")
    for action in OBJECT_ACTIONS:
        yield _row("", action, "arn:aws:s3:::shop-releases-2/trusted/x")
    yield _row("", "s3:ListBucket", "arn:aws:s3:::shop-releases-2")
    yield _row(EVERYBODY, "s3:ListBucket", BUCKET)
    yield _row(EVERYBODY, "s3:GetBucketTagging", BUCKET)


def _tags(kind: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Contexts, with the column of the tables above that they belong to."""
    for column, name in enumerate(ENVIRONMENTS):
        yield column, {f"aws:{kind}Tag/project": "shop", f"aws:{kind}Tag/environment": name}
    yield 5, {f"aws:{kind}Tag/project": "shop"}
    for more in ({}, *({f"aws:{kind}Tag/environment": name} for name in ENVIRONMENTS)):
        yield 6, more
        yield 6, {f"aws:{kind}Tag/project": "another", **more}


def _resource(action: str) -> str:
    kind = next(
        (kind for word, kind in KIND.items() if action.endswith((word, f"{word}Ingress", f"{word}Egress"))),
        "instance",
    )
    account = "" if kind in ("image", "snapshot") else "1"
    return f"arn:aws:ec2:eu-central-1:{account}:{kind}/x-1"


def machines_are_changed_and_ended_by_whom_they_should(root: Path) -> list[Finding]:
    """Every action, by the tags of what it is done to: of which environment, of ours at all."""
    return _compared(root, (*_of_machines(), *_of_instance_profiles()))


def _of_machines() -> Iterator[Row]:
    for action, columns in HELD.items():
        resource = (
            "arn:aws:ec2:eu-central-1:1:instance/x-1" if action == "ec2:CreateImage" else _resource(action)
        )
        for column, context in _tags("Resource"):
            yield _row(columns[column], action, resource, context)
    for action, columns in MADE.items():
        for column, context in _tags("Request"):
            more = TYPE if action == "ec2:RunInstances" else {}
            yield _row(columns[column], action, _resource(action), {**context, **more})
    for kind in ("security-group", "key-pair"):  # a machine is made with what is its environment's own
        for column, context in _tags("Resource"):
            resource = f"arn:aws:ec2:eu-central-1:1:{kind}/x-1"
            yield _row(MADE["ec2:RunInstances"][column], "ec2:RunInstances", resource, context)
    for name in ENVIRONMENTS:
        for tag in ("project", "environment"):
            context = {
                "aws:ResourceTag/project": "shop",
                "aws:ResourceTag/environment": name,
                f"aws:RequestTag/{tag}": "shop",
            }
            yield _row("", "ec2:CreateTags", _resource("ec2:CreateTags"), context)
    made = {
        "RunInstances": (MAKERS, ""),
        "CreateImage": ("", "builder"),
        "CreateVolume": ("", ""),
    }
    for call, who_tags in made.items():
        for resource, wanted in zip((_resource("x"), _resource("ec2:CreateImage")), who_tags, strict=True):
            yield _row(wanted, "ec2:CreateTags", resource, {"ec2:CreateAction": call})
    for kind in ("subnet", "network-interface"):  # what every account has, and carries no tag of ours
        yield _row(MAKERS, "ec2:RunInstances", f"arn:aws:ec2:eu-central-1:1:{kind}/x-1")
    yield _row(MAKERS, "ec2:CreateSecurityGroup", "arn:aws:ec2:eu-central-1:1:vpc/x-1")
    for size in ({}, {"ec2:InstanceType": "x2iedn.32xlarge"}):
        for _, context in _tags("Request"):
            yield _row("", "ec2:RunInstances", _resource("ec2:RunInstances"), {**context, **size})
    for owner, wanted in {
        DEBIAN: MAKERS,
        "1": MAKERS,
        "2": "",
        "amazon": "",
    }.items():
        yield _row(wanted, "ec2:RunInstances", _resource("ec2:CreateImage"), {"ec2:Owner": owner})
    yield _row("", "ec2:RunInstances", _resource("ec2:CreateImage"))
    for value, wanted in {"true": ANYTHING, "false": ""}.items():
        for column, context in _tags("Resource"):
            asked = {**context, "ec2:Attribute/DisableApiTermination": value}
            may = wanted if column < 6 else ""
            yield _row(may, "ec2:ModifyInstanceAttribute", _resource("ec2:ModifyInstanceAttribute"), asked)


def names_and_secrets_are_read_and_written_by_whom_they_should(root: Path) -> list[Finding]:
    """DNS names below the zone, parameters of the environment; the signing key is the builder's, to read."""
    return _compared(root, _of_names_and_secrets())


def _of_names_and_secrets() -> Iterator[Row]:
    parameter = "arn:aws:ssm:eu-central-1:1:parameter"
    for action, columns in SECRETS.items():
        for name, wanted in zip(ENVIRONMENTS, columns, strict=True):
            yield _row(wanted, action, f"{parameter}/shop/{name}")
            yield _row(wanted, action, f"{parameter}/shop/{name}/database_password")
        for other in ("shop/other/x", "another/staging", "shop-signing", "shop-signing/key"):
            signs = action == "ssm:GetParameter" and other == "shop-signing/key"
            yield _row("builder" if signs else "", action, f"{parameter}/{other}")
        for account in ("shop-acme", "shop-acme/testing"):
            yield _row("" if action == "ssm:GetParameter" else ANYTHING, action, f"{parameter}/{account}")
        yield _row("", action, f"{parameter}/shop-acme-2/testing")
    for name in (STAGING, PRODUCTION):  # by its name: no other secret of theirs is a drill's
        yield _row("driller pruner", "ssm:GetParameter", f"{parameter}/shop/{name}/backup_password")
        yield _row("", "ssm:GetParameter", f"{parameter}/shop/{name}/backup_key_secret")
    zone, change = "arn:aws:route53:::hostedzone/Z1", "route53:ChangeResourceRecordSets"
    for name, wanted in NAMES.items():
        record = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
        yield _row(wanted, change, zone, {record: [name]})
        yield _row("", change, zone, {record: [name, "shop.localhost"]})
    for action, wanted in LOOK.items():
        yield _row(wanted, action, "*")


def _of_instance_profiles() -> Iterator[Row]:
    ours = {"iam:PassedToService": "ec2.amazonaws.com"}
    for name, wanted in PASSED.items():
        role = f"arn:aws:iam::1:role/{name}"
        yield _row(wanted, "iam:PassRole", role, ours)
        yield _row("", "iam:PassRole", role, {"iam:PassedToService": "lambda.amazonaws.com"})
        yield _row("", "sts:AssumeRole", role)
    yield _row("driller", "sts:AssumeRole", "arn:aws:iam::1:role/shop-backup-reader")
    request = "arn:aws:ec2:eu-central-1:1:spot-instances-request/*"
    yield _row("branch", "ec2:RunInstances", request)


def no_role_has_an_action_that_no_table_knows(root: Path) -> list[Finding]:
    """No wildcard; nothing on everything but what looks; no element that is not judged here."""
    known = {
        *HELD,
        *MADE,
        *LOOK,
        *SECRETS,
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:ListBucket",
    }
    known |= {"s3:GetBucketTagging", "s3:AbortMultipartUpload", "route53:ChangeResourceRecordSets"}
    known |= {"route53:ListResourceRecordSets", "route53:GetChange", "iam:PassRole", "sts:AssumeRole"}
    told, found = load(root), list[Finding]()
    for name in POLICIES:
        path = f"build/ci/iam/{name}.json"
        for statement in told[name]["Statement"]:
            where = f"{path}: {statement.get('Sid')}"
            found += [f"{where}: {each}" for each in statement.keys() - iam.ELEMENTS]
            found += [f"{where}: {each} is in no table" for each in statement["Action"] if each not in known]
            reads = all(each in LOOK for each in statement["Action"])
            found += [
                f"{where}: on everything" for each in statement["Resource"] if each == "*" and not reads
            ]
            sets = [key for key in statement.get("Condition", {}) if not key.startswith("ForAllValues:")]
            found += [
                f"{where}: {key} lets more names through beside one"
                for key in sets
                if "RecordNames" in str(statement["Condition"][key])
            ]
            if statement["Effect"] != "Allow":
                found.append(f"{where}: {statement['Effect']}")
    return found


RULES: tuple[Callable[[Path], list[Finding]], ...] = (
    the_bucket_is_written_by_whom_it_should,
    machines_are_changed_and_ended_by_whom_they_should,
    names_and_secrets_are_read_and_written_by_whom_they_should,
    no_role_has_an_action_that_no_table_knows,
)
