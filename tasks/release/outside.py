"""outside: the site as visitors get it: at its own address, over TLS where its URLs say so, trusting whom they trust."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING

from tasks import run as runs
from tasks.infrastructure import secrets
from tasks.release.phases import PLAIN, Site, Visitor
from tasks.server import certificates

if TYPE_CHECKING:
    from tasks.run import Run


def site(run: Run, name: str, visitor: Visitor) -> Site:
    """The run's site under one of its host names."""
    return Site(name, *run.cloud.http_address(name, https=run.https), visitor)


def visitor(run: Run) -> Visitor:
    """One of the run's site, who has its password if it asks for one. Asks the parameter store."""
    tls = trust(run, run.environment_name) if run.https else None
    return (
        Visitor(https=run.https, tls=tls, authorization=_authorization(run))
        if tls or run.protected
        else PLAIN
    )


def trust(run: Run, environment_name: str) -> ssl.SSLContext:
    """Those whom this machine trusts, and the authority that environments of this name have."""
    folder = runs.authority_folder(run.pipeline, environment_name)
    made = ssl.create_default_context()
    if root := certificates.root(run.cloud.client("ssm"), folder):
        made.load_verify_locations(cadata=root)
    return made


def _authorization(run: Run) -> str:
    known = secrets.known(run.cloud.client("ssm"), run.secrets_folder) if run.protected else None
    if not known or not known.site_password:
        return ""
    return f"Basic {base64.b64encode(f'{run.pipeline.name}:{known.site_password}'.encode()).decode()}"
