"""jobs: the provider that signs their tokens, the roles as the project ships them, and the cloud as a job sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import trust
from tasks.cloud.embedded.address import ACCOUNT
from tasks.cloud.embedded.client import job_of
from tasks.cloud.embedded.home import Home
from tasks.settings import Ci
from tests.cloud.embedded.conftest import REGION
from tests.cloud.embedded.test_access import Issuer
from tests.clouds import QuietCloud
from tests.iam import ROLES, attached


def provide(iam: Any, home: Home, ci: Ci, trusts: Callable[[str], str]) -> Issuer:
    """Make the provider and the roles of the account. `trusts`: a role's trust policy, as JSON."""
    issuer = Issuer(f"https://{trust.provider(ci)}")
    home.register_issuer(issuer.url, [issuer.jwk()])
    audience = trust.audience(ci)
    iam.create_open_id_connect_provider(Url=issuer.url, ClientIDList=[audience], ThumbprintList=["0" * 40])
    for role, names in ROLES.items():
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=trusts(role))
        for name in names:
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(attached(name)))
    return issuer


def cloud_of(home: Home, role: str, token: Path, person: str = "kim") -> QuietCloud:
    """The cloud as a job sees it: with the token in this file, the role that it asks for, and who started it."""
    environ = {
        "AWS_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/{role}",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ROLE_SESSION_NAME": person,
    }
    return QuietCloud(REGION, home.load(), job_of(environ))
