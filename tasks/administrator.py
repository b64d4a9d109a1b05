"""administrator: the first administrator of the application, as the profile installs one."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING

from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from tasks.profile import Install
    from tasks.run import Run

STEP = 30
"""Seconds for which a code is valid."""


class NoAdministrator(Refusal):
    """The profile does not install the application, so the pipeline knows no administrator."""

    sentence = "command line: the profile {profile} installs no administrator"
    remedy = "doit help"
    exit_code = UNKNOWN


def of(run: Run) -> Install:
    """How the profile installs. Raises NoAdministrator."""
    if run.profile.release.install is None:
        raise NoAdministrator(profile=run.profile.name)
    return run.profile.release.install


def page(run: Run) -> str:
    """The address of the administrator's page. Raises NoAdministrator."""
    return f"{run.url.rstrip('/')}{of(run).page}"


def code(secret: str, seconds: float) -> str:
    """The code of six digits for a time, as RFC 6238 has it."""
    digest = hmac.digest(base64.b32decode(secret), (int(seconds) // STEP).to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"
