"""proxy: how SSH gets to a host that has no address here: through a jump host, or AWS Session Manager."""

from __future__ import annotations

import shlex

SESSION_MANAGER = "session-manager"
PATIENCE = 10
"""Seconds that a jump host has for an answer."""


def command(through: str, id: str, region: str) -> str:
    """OpenSSH's ProxyCommand for the host `id`; empty where it is reached by its address. `through`: the setting `ssh_through`."""
    if not through:
        return ""
    if through == SESSION_MANAGER:
        return shlex.join(_session(id, region))
    name, _, port = through.partition(":")
    # with this user's own settings, keys and known hosts: the jump host is none of the pipeline's
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={PATIENCE}", *(["-p", port] if port else [])]
    return f"{shlex.join(['ssh', *options])} -W '[%h]:%p' {shlex.quote(name)}"


def _session(id: str, region: str) -> list[str]:
    """As AWS's documentation of Session Manager has it for ~/.ssh/config."""
    return [
        *("aws", "ssm", "start-session", "--region", region, "--target", id),
        *("--document-name", "AWS-StartSSHSession", "--parameters", "portNumber=%p"),
    ]
