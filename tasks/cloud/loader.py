"""loader: how botocore finds and reads its descriptions of the AWS services, quickly. Imported with boto3 only."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
from typing import Any

import botocore.loaders

SERVICES = [
    *("budgets", "ec2", "iam", "route53", "s3", "service-quotas", "ssm", "sts"),
    *("sso", "sso-oidc", "signin"),
]
"""The AWS services that the pipeline uses, and those that botocore asks for the credentials of a person's profile."""


class PlainJson(botocore.loaders.JSONFileLoader):
    """Reads into plain dictionaries: ordered ones, as botocore makes, take twice as long, some 40 ms for EC2."""

    def load_file(self, file_path: str) -> Any:
        """What the file says; None if there is none of that name."""
        for ending, opened in ((".json", open), (".json.gz", gzip.open)):
            with contextlib.suppress(FileNotFoundError), opened(file_path + ending, "rb") as file:
                return json.load(file)
        return None


class Loader(botocore.loaders.Loader):
    """Names the services that are used; botocore would search the folders of four hundred, once per kind of file."""

    FILE_LOADER_CLASS = PlainJson

    def list_available_services(self, type_name: str) -> list[str]:
        """The names of the services."""
        return SERVICES


@functools.cache
def shared() -> Loader:
    """The one of this process: it keeps what it has read, 10 to 100 ms for each service and each cloud."""
    return Loader()
