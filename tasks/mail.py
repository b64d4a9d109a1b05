"""mail: what becomes of the application's mail: caught on the hosts, relayed, or refused; and the page that shows what was caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from tasks.infrastructure.secrets import Secrets
    from tasks.run import Run

ROLE = "mail"
CAUGHT = "caught"
"""The environment's `mail` with which nothing leaves."""
USER = "mail"
"""Who reads what was caught."""
PATH = "/caught-mail/"
"""Where, on the site's own address."""


class MailNotCaught(Refusal):
    """The environment's mail goes to its recipients, or is refused: there is no page of it."""

    sentence = "command line: {environment} catches no mail"
    remedy = "$EDITOR environments/{file}.yml  # mail: caught, in environments of branches"
    exit_code = UNKNOWN


class MailPageMissing(Refusal):
    """The environment was not provisioned yet, so its page of caught mail has no password."""

    sentence = "secrets: {environment} has no page of caught mail yet"
    remedy = "doit server"


class RelayPasswordMissing(Refusal):
    """A user logs in to the relay, and nobody has brought the password."""

    sentence = "environments/{environment}.yml: server.mail.relay_user: is {user}, and there is no password"
    remedy = "doit environment={environment} secrets set relay_password < FILE"


def caught(run: Run) -> bool:
    """Whether every mail stays on the environment's hosts."""
    return ROLE in run.profile.server.roles and run.environment.mail == CAUGHT


def page(run: Run) -> str:
    """The address of the page that shows it. Raises MailNotCaught."""
    if not caught(run):
        raise MailNotCaught(environment=run.identity, file=run.environment_name)
    return f"{run.url.rstrip('/')}{PATH}"


def relay_user(run: Run) -> str:
    """Who logs in to the relay; empty for nobody."""
    if ROLE not in run.profile.server.roles:
        return ""
    return str({**run.profile.server.roles[ROLE], **run.environment.server.roles[ROLE]}["relay_user"])


def relay_password(run: Run, brought: str) -> str:
    """The user's password; empty for nobody. Raises RelayPasswordMissing."""
    if relay_user(run) and not brought:
        raise RelayPasswordMissing(environment=run.environment_name, user=relay_user(run))
    return brought if relay_user(run) else ""


def variables(run: Run, known: Secrets) -> dict[str, object]:
    """What the pipeline tells the role. Raises RelayPasswordMissing."""
    if ROLE not in run.profile.server.roles:
        return {}
    return {
        "mail_catch": caught(run),
        "mail_path": PATH,
        "mail_password": known.mail_password if caught(run) else "",
        "mail_relay_password": relay_password(run, known.relay_password),
    }
