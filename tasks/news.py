"""news: who wants to know is told that a release begins, ended or was undone. No answer is waited for, and no failure is one of the release.

A webhook in Slack's form, a deployment record of GitHub or GitLab, an annotation in Grafana's form: docs/news.md.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tasks.ci import job_url
from tasks.version import Commit, Version

if TYPE_CHECKING:
    from tasks.run import Run

ANSWER = 5.0
"""Seconds that who is told has for an answer."""
LAST = 2.0
"""Seconds that the end of a run waits for all of them."""
LONGEST = 500
"""Characters of a reason that are told."""
SAID = {
    "started": "begins",
    "asked": "waits for a yes",
    "done": "is live",
    "failed": "failed",
    "undone": "is live again, by a rollback",
}
"""What is told, and the words for it."""
GITHUB = {"started": "in_progress", "done": "success", "failed": "failure", "undone": "success"}
GITLAB = {"started": "running", "done": "success", "failed": "failed", "undone": "success"}


class NotTold(Exception):
    """In words, without an address: it may be the secret."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """`what`: a key of SAID; `words`: why, if it failed; `job`: the CI's page of it; `began`, `at`: seconds since the epoch."""

    what: str
    name: str
    environment: str
    commit: Commit
    branch: str
    by: str
    subject: str
    url: str
    job: str
    words: str
    began: float
    at: float

    @property
    def text(self) -> str:
        """In a line."""
        after = f": {self.words}" if self.words else f" ({self.subject})" if self.subject else ""
        return (
            f"{self.name}: {self.commit.short} {SAID[self.what]} on {self.environment}, by {self.by}{after}"
        )


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Where an address or a token is: an environment variable, or a parameter (`/NAME`) of the folder `news` of the environment's secrets."""

    place: str
    environ: Mapping[str, str]
    parameters: Callable[[], Mapping[str, str]]

    @cached_property
    def value(self) -> str:
        """Raises NotTold where there is none."""
        found = self.parameters() if self.place.startswith("/") else self.environ
        if value := found.get(self.place.strip("/"), "").strip():
            return value
        raise NotTold(f"needs {self.place}, which is not set")


def post(url: str, content: object, headers: Mapping[str, str], method: str = "POST") -> Any:
    """The JSON of the answer; None where it is none. Raises NotTold."""
    import http.client  # 20 ms to import, and most runs tell nobody
    import urllib.error
    import urllib.request

    try:
        if not url.startswith(("http://", "https://")):
            raise ValueError(url)
        asked = urllib.request.Request(  # noqa: S310 (an address of HTTP)
            url,
            json.dumps(content).encode(),
            {"Content-Type": "application/json", "User-Agent": "release-pipeline", **headers},
            method=method,
        )
        with urllib.request.urlopen(asked, timeout=ANSWER) as answer:  # noqa: S310 (the same)
            said = answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        raise NotTold(f"answers {error.code}") from None
    except (http.client.InvalidURL, ValueError):
        raise NotTold("has an address that is none") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NotTold(f"does not answer: {type(reason).__name__}") from None
    try:
        return json.loads(said)
    except ValueError:  # as Slack's «ok»
        return None


class Webhook:
    """Whatever takes Slack's form: `text`, and `blocks` for who shows more."""

    name = "webhook"

    def __init__(self, address: Secret) -> None:
        self.address = address

    def tell(self, event: Event) -> None:
        """Raises NotTold."""
        links = {"site": event.url, "job": event.job}
        shown = " · ".join(f"<{_slack(url)}|{name}>" for name, url in links.items() if url)
        blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": _slack(event.text)}}]
        if shown:
            blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": shown}})
        post(self.address.value, {"text": _slack(event.text), "blocks": blocks}, {})


class Marker:
    """An annotation as Grafana takes it (`/api/annotations`): the span of the release, at its end."""

    name = "marker"

    def __init__(self, address: str, token: Secret | None) -> None:
        self.address, self.token = address, token

    def tell(self, event: Event) -> None:
        """Raises NotTold."""
        if event.what in ("started", "asked"):
            return
        content = {
            "time": int(event.began * 1000),
            "timeEnd": int(event.at * 1000),
            "tags": ["release", event.environment, event.what],
            "text": event.text,
        }
        post(self.address, content, {"Authorization": f"Bearer {self.token.value}"} if self.token else {})


class Deployment:
    """A record of GitHub or GitLab, made when a release begins; a rollback's when it has ended, as only then the commit is known."""

    name = "deployment"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.id: object = None

    def tell(self, event: Event) -> None:
        """Raises NotTold."""
        if event.what not in GITHUB or (self.id is None and event.what == "failed"):
            return
        if self.environ.get("GITHUB_REPOSITORY"):
            self._github(event)
        elif self.environ.get("CI_PROJECT_ID"):
            self._gitlab(event)
        else:
            raise NotTold("needs a job of GitHub or GitLab, and this is none")

    def _said(self, *names: str) -> list[str]:
        if missing := [each for each in names if not self.environ.get(each)]:
            raise NotTold(f"needs {missing[0]}, which is not set")
        return [self.environ[each] for each in names]

    def _github(self, event: Event) -> None:
        base, repository, token = self._said("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
        made = f"{base}/repos/{repository}/deployments"
        if self.id is None:
            content = {
                "ref": event.commit,
                "environment": event.environment,
                "description": event.subject[:140],
                "auto_merge": False,
                "required_contexts": [],
            }
            self.id = _id(post(made, content, headers))
        status = {"state": GITHUB[event.what], "description": event.words[:140]}
        links = {"log_url": event.job, "environment_url": event.url}
        content = {**status, **{name: url for name, url in links.items() if url}}
        post(f"{made}/{self.id}/statuses", content, headers)

    def _gitlab(self, event: Event) -> None:
        base, project, token = self._said("CI_API_V4_URL", "CI_PROJECT_ID", "CI_JOB_TOKEN")
        made, headers, status = (
            f"{base}/projects/{project}/deployments",
            {"JOB-TOKEN": token},
            GITLAB[event.what],
        )
        if self.id is not None:
            post(f"{made}/{self.id}", {"status": status}, headers, "PUT")
            return
        content = {
            "environment": event.environment,
            "sha": event.commit,
            "ref": event.branch,
            "tag": False,
            "status": status,
        }
        self.id = _id(post(made, content, headers))


def _id(answer: object) -> object:
    if isinstance(answer, dict) and isinstance(answer.get("id"), int):
        return answer["id"]
    raise NotTold("answers without the id of a record")


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Teller:
    """Tells each receiver in a thread of its own. One that is slow or broken costs a line."""

    def __init__(self, receivers: list[Any], say: Callable[[str], None]) -> None:
        self.say = say
        self.told: list[tuple[Any, queue.SimpleQueue[Event | None], threading.Thread]] = []
        self.broken: set[str] = set()
        for each in receivers:
            waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
            thread = threading.Thread(target=self._tell, args=(each, waiting), name="news", daemon=True)
            self.told.append((each, waiting, thread))
            thread.start()

    def tell(self, event: Event) -> None:
        """Returns at once."""
        for _, waiting, _ in self.told:
            waiting.put(event)

    def close(self) -> None:
        """Wait for the last answers, but no longer than LAST seconds for all of them."""
        until = time.monotonic() + LAST
        for _, waiting, _ in self.told:
            waiting.put(None)
        for each, _, thread in self.told:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                self._complain(each, "has not answered, and is not waited for")
        self.told = []

    def _tell(self, receiver: Any, waiting: queue.SimpleQueue[Event | None]) -> None:
        while event := waiting.get():
            try:
                receiver.tell(event)
            except NotTold as problem:
                self._complain(receiver, str(problem))
            except Exception as problem:  # never the release's
                self._complain(receiver, f"could not be told: {type(problem).__name__}")

    def _complain(self, receiver: Any, words: str) -> None:
        if receiver.name not in self.broken:
            self.broken.add(receiver.name)
            self.say(f"the {receiver.name} {words}")


def receivers(run: Run, environ: Mapping[str, str]) -> list[Any]:
    """Those that the environment's file names."""
    said = run.environment.news

    def parameters() -> dict[str, str]:
        folder = f"{run.secrets_folder}/news"
        pages = run.cloud.client("ssm").get_paginator("get_parameters_by_path")
        found = [
            each for page in pages.paginate(Path=folder, WithDecryption=True) for each in page["Parameters"]
        ]
        return {each["Name"].rpartition("/")[2]: each["Value"] for each in found}

    def secret(place: str) -> Secret:
        return Secret(place=place, environ=environ, parameters=parameters)

    return [
        *([Webhook(secret(said.webhook))] if said.webhook else []),
        *([Deployment(environ)] if said.deployments else []),
        *(
            [Marker(said.marker, secret(said.marker_token) if said.marker_token else None)]
            if said.marker
            else []
        ),
    ]


def of(run: Run, environ: Mapping[str, str] = os.environ) -> Teller:
    """The news of a run. Without a receiver, nothing is started."""
    return Teller(receivers(run, environ), lambda words: run.console.event("news", words))


def event(
    run: Run, what: str, *, words: str = "", commit: str = "", url: str = "", began: float = 0.0
) -> Event:
    """What happens in a run. `commit`: what is live, if not the checkout's."""
    return Event(
        what=what,
        name=run.pipeline.name,
        environment=run.identity,
        commit=Version(commit or run.commit).commit,
        branch=run.branch,
        by=run.who,
        subject="" if commit else run.reason.subject,
        url=url,
        job=job_url(os.environ),
        words=" ".join(words.splitlines()[0].split())[:LONGEST] if words else "",
        began=began or time.time(),
        at=time.time(),
    )
