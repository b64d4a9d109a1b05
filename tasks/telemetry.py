"""telemetry: a run as a trace of OpenTelemetry: a span for the run, for each task, and for each phase on a host.

It is made from the run's journal when the run has ended, so that nothing waits for it, and a run without an endpoint imports nothing of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LAST = 2.0
"""Seconds that the end of a run waits until the trace is taken."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NANO = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Span:
    """`began`, `ended`: seconds since the epoch; `problem`: why it failed, empty where it did not."""

    name: str
    began: float
    ended: float
    problem: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    inner: tuple[Span, ...] = ()


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the standard variables name an endpoint for traces."""
    off = (
        environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environ.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return any(environ.get(each) for each in ENDPOINTS) and not off


def of_journal(content: Mapping[str, Any]) -> Span:
    """The spans of a run, by its journal."""
    ended = content["began"] + content["seconds"]
    failed = content["outcome"] in ("failed", "interrupted")
    return Span(
        name=content["command"],
        began=content["began"],
        ended=ended,
        problem=" ".join([*content.get("failures", ()), content["outcome"]][0].split()) if failed else "",
        attributes={
            "cicd.pipeline.name": content["command"],
            "cicd.pipeline.result": "failure" if failed else "success",
            "deployment.environment.name": content["environment"],
            "vcs.ref.head.revision": content["commit"],
            "user.name": content["by"],
        },
        inner=tuple(_of_task(name, told, content["phases"]) for name, told in content["stages"].items()),
    )


def _of_task(name: str, told: Mapping[str, Any], phases: list[Mapping[str, Any]]) -> Span:
    inner = [
        Span(
            name=each["phase"],
            began=each["began"],
            ended=each["began"] + each["seconds"],
            problem=each["problem"],
            attributes={"host.name": each["host"]},
        )
        for each in phases
        if each["stage"] == name
    ]
    return Span(
        name=name,
        began=told["began"],
        ended=told["began"] + told["seconds"],
        problem=told["outcome"] if told["outcome"] in ("failed", "interrupted") else "",
        attributes={"cicd.pipeline.task.name": name, "outcome": told["outcome"], "words": told["words"]},
        inner=tuple(inner),
    )


def send(
    content: Mapping[str, Any], name: str, say: Callable[[str], None], environ: Mapping[str, str] = os.environ
) -> None:
    """Send the trace of a run, within LAST seconds or behind the run's back. What goes wrong is a line. `name`: of the service, unless a variable says it."""
    if not wanted(environ):
        return
    told: list[str] = []

    def work() -> None:
        try:
            told.extend([] if _exported(of_journal(content), name) else ["the trace was not taken"])
        except Exception as problem:  # a variable that is none, a library's own: never the run's
            told.append(f"the trace was not sent: {type(problem).__name__}")

    thread = threading.Thread(target=work, name="telemetry", daemon=True)
    thread.start()
    thread.join(LAST)
    for words in ["the trace was not taken yet, and is not waited for"] if thread.is_alive() else told:
        say(words)


def _exported(root: Span, name: str) -> bool:
    import logging  # 0.2 s to import, all of it; and few runs are traced

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.trace import Status, StatusCode, set_span_in_context

    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # the run says it in a line

    class Kept(SpanProcessor):
        def __init__(self) -> None:
            self.spans: list[ReadableSpan] = []

        def on_end(self, span: ReadableSpan) -> None:
            self.spans.append(span)

    kept, resource = Kept(), Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: name}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("release-pipeline")

    def add(each: Span, context: Any) -> None:
        span = tracer.start_span(
            each.name, context, attributes=dict(each.attributes), start_time=int(each.began * NANO)
        )
        for one in each.inner:
            add(one, set_span_in_context(span))
        if each.problem:
            span.set_status(Status(StatusCode.ERROR, each.problem))
        span.end(int(each.ended * NANO))

    add(root, None)
    return OTLPSpanExporter().export(kept.spans) is SpanExportResult.SUCCESS
