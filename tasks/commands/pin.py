"""pin: `doit pin HOST`: accept the SSH host keys that a machine offers, once somebody has compared them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks import forms
from tasks.commands.base import Command, flag, run_of
from tasks.commands.open import HostUnknown
from tasks.infrastructure import find, hosts
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run


class PinUnconfirmed(Refusal):
    """`doit pin` was not confirmed. Nobody is there to compare fingerprints, so that they must be given."""

    sentence = "pin: {host} offers {fingerprints}: not pinned without a yes, or --yes and the FINGERPRINT"
    remedy = "doit pin {host}"


class FingerprintsDiffer(Refusal):
    """A machine offers no key of the fingerprints that were given to `doit pin`: it may be another machine."""

    sentence = "pin: {host} offers no key of that fingerprint, but {fingerprints}"
    remedy = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub  # on {host} itself, over its serial console"


class NothingOffered(Refusal):
    """A machine does not answer on its SSH port, so there is nothing to pin."""

    sentence = "pin: {host} does not answer on port 22"
    remedy = "doit plan infrastructure"


class PinCommand(Command):
    """`doit pin HOST`: pins the keys that a machine offers, in place of those that its console has not shown."""

    name = "pin"
    doc_purpose = "accept the SSH host keys that a machine offers, where its console does not show them"
    doc_usage = "HOST [FINGERPRINT ...]"
    doc_description = (
        "HOST: an instance id. A machine prints its keys at its first start only; one that was adopted, or was restarted before "
        "they were read, is pinned by hand. The command shows the fingerprints that it finds and asks. With a FINGERPRINT, only "
        "a key that has it is pinned. In CI: infrastructure.host_keys of the environment's file."
    )
    cmd_options = (flag("yes", "do not ask; a FINGERPRINT must be given", short="y"),)

    def _execute(self, yes: bool = False, pos_args: list[str] | None = None) -> int:
        id, *given = pos_args or [""]
        if not id or not all(map(forms.FINGERPRINT.holds, given)):
            raise self.misread(pos_args or [])
        run = run_of(self.task_list)
        _accept_host(run, id)
        offered = hosts.offered(run, id)
        if not offered:
            raise NothingOffered(host=id)
        shown = [f"{key.split()[0]} {mark}" for mark, key in offered.items()]
        chosen = {mark: key for mark, key in offered.items() if not given or mark in given}
        if not chosen:
            raise FingerprintsDiffer(host=id, fingerprints=", ".join(shown))
        before = hosts.host_keys(run.store, run.identity).get(id)
        if before == list(chosen.values()):
            self.console.line(f"{id} is pinned to these keys already")
            return 0
        for line in shown:
            self.console.line(line)
        question = f"Is this {id}{', whose pinned keys are others' if before else ''}? Pin {len(chosen)} of them? [y/N] "
        if not (yes and given) and not _confirmed(question):
            raise PinUnconfirmed(host=id, fingerprints=", ".join(shown))
        hosts.pin(run, {id: list(chosen.values())})
        self.console.line(f"{id} is pinned: {', '.join(chosen)}")
        return 0


def _accept_host(run: Run, id: str) -> None:
    known = [each.id for each in find.machines(run.cloud.client("ec2"), find.of(run))]
    if id not in known:
        raise HostUnknown(host=id, known=", ".join(known) or "none")


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")
