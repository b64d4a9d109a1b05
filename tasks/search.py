"""search: the search engine that the application asks, and the refusal where it needs one and has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from tasks.run import Run

ROLE = "search"
STAND_IN = "stand-in"


class SearchMissing(Refusal):
    """The application needs a search engine, and the environment's file names none."""

    sentence = "environments/{environment}.yml: server.search.host: is empty, and the profile {profile} needs a search engine"
    remedy = "$EDITOR environments/{environment}.yml  # server: {{search: {{host: search.example.com}}}}"
    exit_code = UNKNOWN


class StandInRefused(Refusal):
    """The stand-in for a search engine is for testing: for environments of branches, and for the embedded cloud."""

    sentence = "environments/{environment}.yml: server.search.host: stand-in is for testing environments only, one for each branch"
    remedy = "$EDITOR environments/{environment}.yml  # server: {{search: {{host: search.example.com}}}}"
    exit_code = UNKNOWN


class SearchPasswordMissing(Refusal):
    """A user logs in to the search engine, and nobody has brought the password."""

    sentence = "environments/{environment}.yml: server.search.user: is {user}, and there is no password"
    remedy = "doit secrets set search_password < FILE"


def has_stand_in(run: Run) -> bool:
    """Whether the stand-in answers on the environment's machines. Raises SearchMissing or StandInRefused."""
    if ROLE not in run.profile.server.roles:
        return False
    host, alone = _said(run)["host"], run.cloud.own
    if host == "" and not alone:
        raise SearchMissing(environment=run.environment_name, profile=run.profile.name)
    if host == STAND_IN and not (alone or run.environment.per_branch):
        raise StandInRefused(environment=run.environment_name)
    return host in ("", STAND_IN)


def variables(run: Run) -> dict[str, object]:
    """What the settings leave open, as variables of the role: an index has the environment's own name before it."""
    stand_in = has_stand_in(run)
    if ROLE not in run.profile.server.roles:
        return {}
    said = _said(run)
    here: dict[str, object] = {"search_host": "127.0.0.1", "search_user": ""} if stand_in else {}
    return {**here, "search_stand_in": stand_in, "search_prefix": said["prefix"] or run.identity}


def user(run: Run) -> str:
    """Who logs in to the search engine; empty for nobody."""
    wanted = ROLE in run.profile.server.roles and not has_stand_in(run)
    return str(_said(run)["user"]) if wanted else ""


def password(run: Run, brought: str) -> str:
    """The user's password; empty for nobody. Raises SearchPasswordMissing."""
    if user(run) and not brought:
        raise SearchPasswordMissing(environment=run.environment_name, user=user(run))
    return brought if user(run) else ""


def found(run: Run) -> str:
    """Which search engine is asked, in words. Raises SearchMissing or StandInRefused."""
    if has_stand_in(run):
        return "the stand-in on each machine"
    return (
        f"{_said(run)['host']}:{_said(run)['port']}" if ROLE in run.profile.server.roles else "none is needed"
    )


def _said(run: Run) -> dict[str, object]:
    """What the profile says, and over it the environment's settings."""
    return {**run.profile.server.roles[ROLE], **run.environment.server.roles[ROLE]}
