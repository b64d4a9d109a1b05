"""environ: which of the caller's environment variables a child process gets: only those that its line names.

What a release does is decided in the repository. So a variable that happens to be set, such as ANSIBLE_RUN_TAGS, GIT_DIR,
PIP_INDEX_URL or PYTHONPATH, reaches no child that it is not meant for:

    child      is                               gets                                           because
    every      anything else, ssh and           EVERY                                          each option is the pipeline's own
               Ansible among it
    here       git on this clone                EVERY, XDG_CONFIG_HOME                         safe.directory, ignored files
    remote     git that asks the remote         EVERY, SSH_AUTH_SOCK, GIT_SSH…, proxies        it logs in as the caller
    terminal   ssh for `doit ssh`               EVERY, TERM, LANG, LC_…                        a person looks at it
    build      a layer's commands               PATH, and what the layer's line in the         the rest would decide bytes
                                                profile names, such as COMPOSER_AUTH
    fetching   those with `network: true`       the same, and proxies                          they ask a registry
    cloud      the embedded cloud and podman    EVERY, XDG_…, DBUS_SESSION_BUS_ADDRESS,        containers belong to the user
                                                proxies

In this process, boto3 reads AWS_… for `cloud: aws`, which is how a person or a CI job says who they are.
build/ci/run starts all of it without PYTHON….
"""

from __future__ import annotations

import os
from collections.abc import Mapping

EVERY = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR")
"""Where programs, the user's files and temporary files are."""

FIXED = {"LANG": "C.UTF-8"}
"""Texts, their order and their encoding are the same on every machine."""

PROXIES = (
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""The way to a registry. What comes from there is held to the digests of a lock file."""

CHILDREN: Mapping[str, tuple[str, ...]] = {
    "every": EVERY,
    "here": (*EVERY, "XDG_CONFIG_HOME"),
    "remote": (
        *(*EVERY, "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY"),
        *(
            "GIT_SSH",
            "GIT_SSH_COMMAND",
            "GIT_SSH_VARIANT",
            "GIT_ASKPASS",
            "GIT_SSL_CAINFO",
            "GIT_SSL_NO_VERIFY",
        ),
        *PROXIES,
    ),
    "terminal": (*EVERY, "TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES"),
    "build": ("PATH",),
    "fetching": ("PATH", *PROXIES),
    "cloud": (
        *(*EVERY, "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"),
        *("DBUS_SESSION_BUS_ADDRESS", *PROXIES),
    ),
}
"""The caller's variables that each child gets."""


def of(child: str = "every", environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a child: FIXED, and of the caller's what its line names."""
    return FIXED | {name: environ[name] for name in CHILDREN[child] if name in environ}
