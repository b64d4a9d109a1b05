"""web_identity: a CI job's token for AWS, new each time where the provider gives new ones."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

WITHIN = 30.0
"""Seconds that the provider has to answer."""


def loader(environ: Mapping[str, str]) -> Callable[[str], Callable[[], str]]:
    """What makes, for the file with the job's token, the function that returns a token which is valid now.

    GitHub's tokens live for five minutes, and a role's credentials for an hour: a longer job has to ask again. GitLab's and
    Bitbucket's tokens are given once, and are read from the file.
    """
    url, secret = environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"), environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")

    def of(file: str) -> Callable[[], str]:
        return lambda: _asked(url, secret) if url and secret else Path(file).read_text()

    return of


def _asked(url: str, secret: str) -> str:
    request = urllib.request.Request(  # noqa: S310  # the provider's own URL
        f"{url}&audience=sts.amazonaws.com", headers={"Authorization": f"Bearer {secret}"}
    )
    with urllib.request.urlopen(request, timeout=WITHIN) as answer:  # noqa: S310
        return str(json.load(answer)["value"])
