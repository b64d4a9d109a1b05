"""nft: one cloud's security groups in this machine's kernel. The only door to nft and to ip."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks import environ
from tasks.cloud.embedded import security_groups
from tasks.cloud.embedded.security_groups import FAMILIES, GroupRule, Port
from tasks.process import children
from tasks.process.children import ChildSilent, CommandMissing
from tasks.refusal import Refusal

LOG = logging.getLogger(__name__)
SAMPLE = Port(
    host="i-0",
    interface=1,
    address="10.64.0.10",
    groups=frozenset({"sg-0"}),
    ingress=(GroupRule(protocol="tcp", first=22, last=22, network="0.0.0.0/0"),),
)
"""What a kernel must be able to do."""


class RulesRefused(Refusal):
    """This machine does not take the rules that security groups need: nft or ip says why."""

    sentence = "cloud: {command}: {problem}"
    remedy = "nft list ruleset"


class Filter:
    """What the kernel lets the hosts of one cloud send and receive."""

    def __init__(self, name: str, subnet: str) -> None:
        self.name, self.subnet = name, subnet
        self._enforced = ""
        self._listed = b""
        """What the kernel says of the rules since they were written."""

    def enforce(self, ports: Sequence[Port]) -> None:
        """Let each host send and receive what its groups say, from now on. A failure leaves the former rules."""
        wanted = security_groups.ruleset(self.name, self.subnet, ports)
        if wanted != self._enforced:
            self._write(wanted)

    def restore(self) -> None:
        """Write the rules again where somebody else has changed them, as `nft flush ruleset` does."""
        if self._enforced and self._list() != self._listed:
            LOG.warning("somebody has changed the rules of security groups: they are written again")
            self._write(self._enforced)

    def _write(self, wanted: str) -> None:
        try:
            _nft(wanted)
            self._enforced, self._listed = wanted, self._list()
        except (CommandMissing, RulesRefused) as refusal:
            LOG.error(refusal.text)

    def _list(self) -> bytes:
        try:
            return b"".join(_run(["nft", "list", "table", family, self.name]) for family in FAMILIES)
        except (CommandMissing, RulesRefused):  # there are none
            return b""


def problem() -> str:
    """Why security groups filter nothing on this machine; empty if they do."""
    try:
        _ip("netns", "list-id")
        _nft(security_groups.ruleset("release-pipeline", "10.64.0.0/24", [SAMPLE]), "--check")
    except (CommandMissing, RulesRefused) as refusal:
        why = refusal.text.splitlines()[0].removeprefix("cloud: ")
        return f"security groups filter nothing on this machine: {why}"
    return ""


def remove(name: str) -> None:
    """Remove the rules of a cloud, if there are any. Raises RulesRefused if they stay."""
    try:
        _nft("\n".join((*security_groups.removal(name), "")))
    except (CommandMissing, RulesRefused):
        if not problem():  # on a machine that filters nothing there are none
            raise


def interface(netns: str) -> int:
    """The index of this machine's end of the cable of the container in a network namespace, plugged into a bridge; 0 without one.

    Only this machine is asked: root of the container can name what is inside of it as he likes.
    """
    inside = {each["nsid"] for each in _ip("netns", "list-id") if each.get("name") == Path(netns).name}
    for link in _ip("-details", "link", "show", "type", "veth"):
        if link.get("link_netnsid") in inside and "master" in link:
            _answer_for_the_others(link["master"])
            return int(link["ifindex"])
    LOG.error(f"{netns}: no cable leads from it to a bridge, so its host is reached by nobody")
    return 0


def _answer_for_the_others(bridge: str) -> None:
    """From host to host the way leads through this machine: so it answers whoever asks for another's hardware address."""
    try:
        Path(f"/proc/sys/net/ipv4/conf/{bridge}/proxy_arp_pvlan").write_text("1")
        Path(f"/proc/sys/net/ipv4/neigh/{bridge}/proxy_delay").write_text("0")  # else 0.8 s
    except OSError as error:
        LOG.error(f"hosts cannot reach each other: {error}")


def _nft(rules: str, *options: str) -> None:
    _run(["nft", *options, "--file", "-"], rules)


def _ip(*words: str) -> list[dict[str, Any]]:
    return [each for each in json.loads(_run(["ip", "-json", *words]) or "[]") if each]


def _run(command: Sequence[str], given: str = "") -> bytes:
    """What a program prints. Raises CommandMissing or RulesRefused."""
    with tempfile.TemporaryFile() as file:
        file.write(given.encode())
        file.seek(0)
        try:
            code, printed, said = children.ask(command, env=environ.of("cloud"), stdin=file)
        except ChildSilent as silent:
            raise RulesRefused(
                command=command[0], problem=f"no answer within {silent.facts['seconds']} s"
            ) from None
    if code:
        first = (said.decode(errors="replace").strip().splitlines() or [f"exit code {code}"])[0]
        raise RulesRefused(command=command[0], problem=first.rpartition("Error: ")[2])
    return printed
