"""renewal: one certificate of an ACME authority for all environments of a name: kept, ordered where it ends soon, brought to hosts."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doit import Globals

from tasks.bucket.lease import Lease
from tasks.cloud.errors import denied, refusal_of
from tasks.infrastructure import hosts, name_servers, secrets
from tasks.process import children
from tasks.refusal import Refusal
from tasks.run import AUTHORITY
from tasks.server import acme, certificates, challenges
from tasks.server.challenges import STAGE, Look

if TYPE_CHECKING:
    from tasks.hosts.ssh import Host
    from tasks.run import Run

ORDERED = "acme"
"""The setting `certificates` of environments whose certificate is ordered."""
RENEWED = 1 / 3
"""What is left of its life when the scheduled job orders another one."""
LATE = 1 / 9
"""What is left when a release does: the job has failed for weeks."""
ENDS = "certificate_ends"
"""What the stage `server` keeps of a certificate that the pipeline has made."""
PATIENCE = 900.0
"""Seconds for which a run waits until another one has ordered."""


class CertificateMissing(Refusal):
    """An environment's certificate is to be ordered, and there is none yet that its hosts could be given."""

    sentence = "server: the certificate for {names}: {why}"
    remedy = "doit certificates"
    any_environment = True


class OrderDenied(Refusal):
    """A role that may read the certificate, and not order one: a branch's. There is none that hosts could be given."""

    sentence = "certificates: {names}: {why}, and this role may not order one ({problem})"
    remedy = "doit certificates  # by the role releaser, as CI's scheduled job does"
    any_environment = True


@dataclass(frozen=True, kw_only=True)
class OrderedCertificate:
    """A certificate with its key, and the directory of the authority that has issued it."""

    directory: str
    pem: str = dataclasses.field(repr=False)


def wanted(run: Run) -> bool:
    """Whether the environment's certificate is ordered."""
    return run.environment.certificates == ORDERED and "certificates" in run.profile.server.roles


def names(run: Run) -> tuple[str, ...]:
    """What it is for: every branch, or the site's own host names."""
    zone = run.pipeline.dns_zone
    return (f"*.{zone}", zone) if run.environment.per_branch else run.host_names


def kept(run: Run) -> OrderedCertificate | None:
    """What was ordered last; None where there is none, or none that can be read."""
    text = secrets.ordered(run.cloud.client("ssm"), run.authority_folder)
    try:
        return OrderedCertificate(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def lacking(run: Run, found: OrderedCertificate | None, share: float) -> str:
    """Why another one is to be ordered; empty while what is left of its life is more than this share."""
    if not found:
        return "there is none yet"
    if found.directory != run.pipeline.acme.directory:
        return f"it is one of {found.directory}"
    now = run.clock.now()
    if wrong := certificates.problem(found.pem, names(run), now):
        return f"it {wrong}"
    begins, ends = certificates.span(found.pem)
    return f"it ends on {ends:%Y-%m-%d}" if ends - now < (ends - begins) * share else ""


def useless(run: Run, found: OrderedCertificate | None) -> str:
    """Why hosts could not serve the site with it; empty where they could."""
    wrong = certificates.problem(found.pem, run.host_names, run.clock.now()) if found else ""
    return f"it {wrong}" if wrong else "" if found else "there is none yet"


def site(run: Run) -> str:
    """What hosts get; empty where there is none yet. A release gives them none, so it is not looked at here."""
    found = kept(run)
    return found.pem if found else ""


def accept(run: Run) -> None:
    """Raises CertificateMissing where hosts that are provisioned now would get none that counts."""
    if wanted(run) and not _brought(run) and (why := useless(run, kept(run))):
        raise CertificateMissing(names=", ".join(names(run)), why=why)


def ensure(run: Run, look: Look = name_servers.texts) -> None:
    """Before hosts are provisioned: order one where there is none, or where it was not renewed in time.

    Whatever fails: while the one that is kept counts, it is used. Raises OrderDenied, and what `order` raises.
    """
    if not wanted(run) or _brought(run) or not (why := lacking(run, found := kept(run), LATE)):
        return
    try:
        order(run, LATE, look)
    except children.Cancelled:
        raise
    except Exception as error:
        said: Exception = error
        if denied(error):
            said = OrderDenied(names=", ".join(names(run)), why=why, problem=_one_line(error))
        if useless(run, found):
            raise said from None
        run.console.event(STAGE, "no other certificate was ordered, so hosts keep the one that there is:")
        run.console.line(str(said if isinstance(said, Refusal) else refusal_of(said) or repr(said)))


def order(run: Run, share: float, look: Look = name_servers.texts, *, anew: bool = False) -> str:
    """Order a certificate and keep it, unless another run has meanwhile; what it has done, in words.

    Under a lease of its own: branches share the certificate. `anew`: whatever is kept. Raises EnvironmentHeld, ChallengeUnseen,
    ChallengeTaken, AuthorityRefused or AuthoritySilent.
    """
    shared = dataclasses.replace(run, named_identity=f"{run.environment_name}{AUTHORITY}")
    lease = Lease(shared, on_lost=children.interrupt)
    lease.take(PATIENCE, say=run.console.say(STAGE))
    try:
        found = kept(run)
        why = lacking(run, found, share)
        if not why and found and not anew:
            return f"is valid until {certificates.span(found.pem)[1]:%Y-%m-%d}"
        for each in challenges.clear(run, dict.fromkeys(map(challenges.name_of, names(run)))):
            run.console.event(STAGE, f"removed {each}, which an order had left that did not end")
        ssm, told = run.cloud.client("ssm"), run.pipeline.acme
        run.console.event(STAGE, f"orders {', '.join(names(run))}: {why or 'asked for'}")
        pem = acme.order(
            directory=told.directory,
            contact=told.contact,
            account_key=secrets.account_key(
                ssm, run.accounts_folder, run.environment_name, acme.new_account_key
            ),
            names=names(run),
            prove=functools.partial(challenges.shown, run, look=look),
        )
        lease.check()
        document = json.dumps(dataclasses.asdict(OrderedCertificate(directory=told.directory, pem=pem)))
        secrets.settle(ssm, run.authority_folder, {secrets.ORDERED: document})
        return f"is a new one, valid until {certificates.span(pem)[1]:%Y-%m-%d}"
    finally:
        lease.free(remove=True)


def mark(pem: str) -> str:
    """By what a certificate is compared: what a host has, what was given to it, and what is kept."""
    return hashlib.sha256(pem.encode()).hexdigest()


def given(run: Run, pem: str, *, own: bool) -> dict[str, str]:
    """What is known later of the certificate that hosts got. `own`: whether the pipeline has made it."""
    if wanted(run):
        return {"certificate": mark(pem)}
    return {ENDS: certificates.span(pem)[1].isoformat()} if own else {}


def differences(run: Run) -> list[str]:
    """Why hosts must be provisioned for their certificate's sake."""
    if not wanted(run):
        return _ending(run)
    if _brought(run):
        return []
    found = kept(run)
    # a branch may not order: while what there is counts, it would be due for ever
    if why := useless(run, found) if run.environment.per_branch else lacking(run, found, LATE):
        return [f"the certificate for {names(run)[0]}: {why}"]
    if not found or Globals.dep_manager.get_values("server").get("certificate") == mark(found.pem):
        return []
    return [f"the certificate for {names(run)[0]} is a new one, valid until {_end(found):%Y-%m-%d}"]


def _ending(run: Run) -> list[str]:
    """Of one that was made here: provisioning makes another one, and releases of code alone need none for a year."""
    manager = Globals.dep_manager  # None outside of a command: nothing is known then
    said = manager.get_values("server").get(ENDS) if manager else None
    ends = datetime.datetime.fromisoformat(said) if said else None
    if not ends or ends > run.clock.now() + certificates.RENEWED:
        return []
    return [f"the certificate for {run.host_name}: it ends on {ends:%Y-%m-%d}"]


def _end(found: OrderedCertificate) -> datetime.datetime:
    return certificates.span(found.pem)[1]


def _brought(run: Run) -> bool:
    """Whether somebody has brought a certificate for this environment, which counts."""
    known = secrets.known(run.cloud.client("ssm"), run.secrets_folder)
    return bool(known and known.certificate)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


# --- to the hosts ---------------------------------------------------------------------------------

HAS = """
import hashlib, os
path = "/etc/ssl/site.pem"
begun = any(map(os.path.exists, ("/run/certificate", "/var/lib/provisioning")))
has = hashlib.sha256(open(path, "rb").read()).hexdigest() if os.path.exists(path) else ""
print("interrupted" if has and begun else has)
"""
"""Answers by the mark of a host's certificate; by nothing where it was never provisioned, and by `interrupted` where nginx may not have it."""


def deliver(run: Run) -> Sequence[str]:
    """Give it to the environment's running hosts that have another one; their ids.

    A host that does not answer holds up no other. Raises CertificateMissing, and at the end the first refusal of SSH, or that of the play.
    """
    if _brought(run):
        return ()
    accept(run)
    pem = site(run)
    behind: list[Host] = []
    silent: list[Refusal] = []
    for each in hosts.known(run):
        try:
            (host,) = hosts.reachable(run, [each])
            if run.hosts.python(host, STAGE, HAS).strip() not in ("", mark(pem)):
                behind.append(host)
        except children.Cancelled:
            raise
        except Refusal as refusal:
            silent.append(refusal)
    if behind:
        run.hosts.play(
            "certificates",
            hosts=behind,
            variables={"certificates_own": False, "certificates_site": pem},
            strategy=run.environment.strategy,
            console=run.console,
            log=run.log(STAGE),
        )
    if silent:
        raise silent[0]
    return [each.name for each in behind]
