"""A run in a cloud without containers, and what it has made there."""

from __future__ import annotations

import pytest

from tasks.infrastructure import stage as infrastructure
from tests.cloud.embedded.conftest import REGION, faulty, server  # noqa: F401  (fixtures)
from tests.clouds import QuietCloud, run_in


@pytest.fixture
def run(checkout, server):  # noqa: F811
    made = run_in(checkout, QuietCloud(REGION, server.home.load()), branch=checkout.parent.name)
    infrastructure.share(made)
    return made


def instances(run):
    filters = [{"Name": "tag:environment", "Values": [run.identity]}]
    return [
        each
        for page in run.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
        if each["State"]["Name"] not in ("terminated", "shutting-down")
    ]
