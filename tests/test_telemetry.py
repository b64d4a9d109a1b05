"""Telemetry: a run's trace is made of its journal, and an endpoint that does not take it holds nothing up."""

from __future__ import annotations

import json
import socket

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tasks import telemetry
from tests.conftest import copy_project, doit
from tests.listener import listening
from tests.test_news import DODO

PHASE = {"stage": "release", "host": "i-1", "seconds": 1.5, "problem": ""}
CONTENT = {
    "command": "doit release",
    "environment": "staging",
    "commit": "1a2b3c4",
    "by": "kim",
    "began": 100.0,
    "seconds": 20.0,
    "outcome": "done",
    "failures": [],
    "stages": {
        "server": {"outcome": "unchanged", "words": "as before", "seconds": 1.0, "began": 101.0},
        "release": {"outcome": "done", "words": "live", "seconds": 9.0, "began": 110.0},
    },
    "phases": [{**PHASE, "phase": "bring", "began": 111.0}, {**PHASE, "phase": "live", "began": 112.5}],
}


@pytest.fixture
def listener():
    with listening() as told:
        told.answer = b""
        yield told


def spans(listener):
    """The spans that a listener has got, with the name of their parents, and the name of the service."""
    request = ExportTraceServiceRequest()
    for each in listener.heard:
        request.MergeFromString(each.body)
    found = {}
    for resource in request.resource_spans:
        names = {each.key: each.value.string_value for each in resource.resource.attributes}  # of the service
        for each in (span for scope in resource.scope_spans for span in scope.spans):
            found[each.span_id] = (each, names["service.name"])
    return [
        (span.name, found[span.parent_span_id][0].name if span.parent_span_id else "", span, service)
        for span, service in found.values()
    ]


def sent(url, content=CONTENT, **environ):
    said = []
    telemetry.send(content, "shop", said.append, {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **environ})
    return said


@pytest.fixture
def endpoint(listener, monkeypatch):
    """The library reads the variables of its process."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listener.url)
    return listener


@pytest.mark.promise("a-trace-of-the-run")
def test_a_run_its_tasks_and_the_phases_on_hosts_are_spans_within_each_other(endpoint):
    assert sent(endpoint.url) == []
    assert {each.path for each in endpoint.heard} == {"/v1/traces"}
    assert {(name, parent) for name, parent, *_ in spans(endpoint)} == {
        ("doit release", ""),
        ("server", "doit release"),
        ("release", "doit release"),
        ("bring", "release"),
        ("live", "release"),
    }
    live, service = next((span, service) for name, _, span, service in spans(endpoint) if name == "live")
    assert (live.start_time_unix_nano, live.end_time_unix_nano) == (112_500_000_000, 114_000_000_000)
    assert ([each.value.string_value for each in live.attributes], service) == (["i-1"], "shop")


def test_what_failed_is_an_error_with_its_reason(endpoint):
    failed = {"outcome": "failed", "failures": ["release: i-1: Check:\n  503"]}
    stages = {"release": {**CONTENT["stages"]["release"], "outcome": "failed"}}
    phases = [{**PHASE, "phase": "live", "began": 111.0, "problem": "release: i-1: Check: 503"}]
    sent(endpoint.url, {**CONTENT, **failed, "stages": stages, "phases": phases})
    assert {name: span.status.message for name, _, span, _ in spans(endpoint) if span.status.code == 2} == {
        "doit release": "release: i-1: Check: 503",
        "release": "failed",
        "live": "release: i-1: Check: 503",
    }


def test_the_service_s_name_may_be_said(endpoint, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "delivery")
    sent(endpoint.url)
    assert {service for *_, service in spans(endpoint)} == {"delivery"}


@pytest.mark.promise("a-trace-holds-nothing-up")
def test_an_endpoint_that_refuses_is_one_line(endpoint, capfd):
    endpoint.status = 400
    assert sent(endpoint.url) == ["the trace was not taken"]
    assert capfd.readouterr() == ("", ""), "the library says nothing of its own"


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.promise("a-trace-holds-nothing-up")
def test_an_endpoint_that_does_not_answer_or_is_busy_is_not_waited_for(endpoint, monkeypatch, status, capfd):
    monkeypatch.setattr(telemetry, "LAST", 1.0)
    endpoint.status = status
    if status == 200:
        endpoint.held.clear()
    assert sent(endpoint.url) == ["the trace was not taken yet, and is not waited for"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.promise("a-trace-holds-nothing-up")
def test_an_endpoint_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(telemetry, "LAST", 1.0)
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        (said,) = sent(url)
    assert said.startswith("the trace was not taken")


@pytest.mark.promise("a-trace-holds-nothing-up")
def test_an_endpoint_that_is_none_is_one_line(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "no such thing")
    (said,) = sent("no such thing")
    assert said.startswith("the trace was not ")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_there_is_no_trace(environ):
    assert not telemetry.wanted(environ)


IMPORTED = """
import atexit, json, sys
atexit.register(lambda: json.dump([each for each in sys.modules if each.startswith("opentelemetry")], open(".run/imported", "w")))
"""


@pytest.mark.promise("a-trace-of-the-run", "no-trace-costs-nothing")
def test_a_run_sends_its_trace_and_one_without_an_endpoint_imports_nothing_of_it(tmp_path, listener):
    root = copy_project(tmp_path / "shop")
    (root / "dodo.py").write_text(DODO + IMPORTED)
    (root / ".run").mkdir()
    for words in (["list"], ["release"], ["release"]):
        assert doit(root, *words).returncode == 0
        assert json.loads((root / ".run" / "imported").read_text()) == [], words
    assert listener.heard == []
    assert doit(root, "rollback", OTEL_EXPORTER_OTLP_ENDPOINT=listener.url).returncode == 0
    assert json.loads((root / ".run" / "imported").read_text()) != []
    assert {(name, parent) for name, parent, *_ in spans(listener)} == {
        ("doit rollback", ""),
        ("rollback", "doit rollback"),
    }
