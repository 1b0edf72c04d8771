"""Spans of calls: what is in them, whose they are, and that nothing of it is ever felt by a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from compat.telemetry.traces import INSTALL, Moment, NoTraces, SpanTraces, attributes_of, exporters_of, traces_from
from tests.unit.builders import StillClock

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry's SDK is not installed")
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

RECORD: Mapping[str, Any] = {
    "request_id": "r1",
    "client": "laptop",
    "model": "claude-4-sonnet",
    "deployment": "claude/claude-sonnet-4-6",
    "attempts": 2,
    "stream": True,
    "outcome": "ok",
    "status": 200,
    "duration_ms": 1500.0,
    "ttft_ms": 250.0,
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "cache_read_tokens": 4,
    "cache_write_tokens": 0,
    "cost_usd": 0.25,
    "finish_reason": "stop",
}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ASKED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


class Fails(InMemorySpanExporter):
    """An exporter that fails as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_failing = True

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.FAILURE if self.is_failing else super().export(spans)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test tells the process is gone after it."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def made(
    exporter: Any, environment: Mapping[str, str] = ASKED, clock: StillClock | None = None
) -> tuple[SpanTraces, list[tuple[str, Mapping[str, Any]]]]:
    """Traces that have begun, and the events they told."""
    events: list[tuple[str, Mapping[str, Any]]] = []
    connect: Callable[[Mapping[str, str]], list[Any]] = lambda _: [exporter]  # noqa: E731  # the call below has its type from it
    now = (clock or StillClock()).now
    traces = SpanTraces(environment, now, lambda name, fields: events.append((name, fields)), lambda _: "anthropic", connect)
    traces.start()
    return traces, events


def flushed(traces: SpanTraces) -> None:
    traces._provider.force_flush()


def spans_of(record: Mapping[str, Any], *rest: Any, **more: Any) -> Any:
    exporter = InMemorySpanExporter()
    traces, _ = made(exporter)
    traces.ended(record, *rest, **more)
    traces.close()
    [span] = exporter.get_finished_spans()
    return span


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, NoTraces),
        ({"OTEL_SERVICE_NAME": "x"}, NoTraces),
        ({"OTEL_TRACES_EXPORTER": "none", **ASKED}, NoTraces),
        ({"OTEL_SDK_DISABLED": "TRUE", **ASKED}, NoTraces),
        ({"OTEL_TRACES_EXPORTER": " "}, NoTraces),
        (ASKED, SpanTraces),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, SpanTraces),
        ({"OTEL_TRACES_EXPORTER": "console"}, SpanTraces),
    ],
)
def test_the_environment_asks_for_traces_by_opentelemetrys_own_variables(environment: dict[str, str], kind: type) -> None:
    assert isinstance(traces_from(environment, lambda: 0.0, lambda *_: None, str), kind)


def test_without_being_asked_nothing_is_done() -> None:
    traces = traces_from({}, lambda: 0.0, lambda *_: None, str)
    traces.start()
    traces.ended(RECORD)
    traces.close()
    assert (traces.state, traces.fault) == ("off", "")


def test_a_call_is_a_span_named_by_the_conventions() -> None:
    span = spans_of(RECORD, conversation="task-7")
    assert (span.name, span.kind.name, span.status.status_code.name) == ("chat claude-4-sonnet", "CLIENT", "UNSET")
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-4-sonnet",
        "gen_ai.response.model": "claude-sonnet-4-6",
        "gen_ai.conversation.id": "task-7",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "http.response.status_code": 200,
        "openai_compat.attempts": 2,
        "openai_compat.client": "laptop",
        "openai_compat.cost_usd": 0.25,
        "openai_compat.outcome": "ok",
        "openai_compat.request_id": "r1",
        "openai_compat.upstream": "claude",
    }


def test_every_name_of_the_conventions_is_one_of_the_conventions() -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    names = attributes_of({**RECORD, "outcome": "error", "code": "x"}, str, "c")
    assert {name for name in names if name.startswith("gen_ai.")} <= known
    providers = {value.value for value in gen_ai_attributes.GenAiProviderNameValues}
    kinds = ("openai", "anthropic", "gemini", "mistral", "xai", "groq", "deepseek")
    assert {attributes_of(RECORD, lambda _, kind=kind: kind)["gen_ai.provider.name"] for kind in kinds} <= providers


@pytest.mark.parametrize(
    ("endpoint", "operation"), [("embeddings", "embeddings"), ("completions", "text_completion"), ("infill", "text_completion")]
)
def test_other_endpoints_are_other_operations(endpoint: str, operation: str) -> None:
    assert spans_of({**RECORD, "endpoint": endpoint}).name == f"{operation} claude-4-sonnet"


def test_a_span_lasts_as_long_as_its_call() -> None:
    span = spans_of(RECORD)
    assert span.end_time == 1_700_000_000 * 10**9
    assert span.end_time - span.start_time == 1_500_000_000


def test_a_failed_call_says_how() -> None:
    record = {**RECORD, "outcome": "error", "status": 504, "code": "upstream_timeout", "error": "claude was silent"}
    span = spans_of(record)
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "claude was silent")
    assert span.attributes["error.type"] == "upstream_timeout"


def test_a_client_that_left_is_no_error_of_ours() -> None:
    span = spans_of({**RECORD, "outcome": "cancelled", "status": 499})
    assert (span.status.status_code.name, span.attributes["error.type"]) == ("UNSET", "cancelled")


def test_a_call_that_led_nowhere_has_no_provider() -> None:
    record = {"model": "nothing", "deployment": None, "outcome": "error", "status": 404, "duration_ms": 1.0, "code": "model_not_found"}
    names = spans_of(record).attributes.keys()
    assert not {"gen_ai.provider.name", "gen_ai.response.model", "gen_ai.usage.input_tokens"} & set(names)


def test_what_happened_on_the_way_is_in_it() -> None:
    moments = [Moment(1_699_999_999.0, "attempt.failed", {"request_id": "r1", "deployment": "claude/x", "error": "busy", "attempt": 1})]
    [event] = spans_of(RECORD, moments).events
    assert (event.name, event.timestamp) == ("attempt.failed", 1_699_999_999 * 10**9)
    assert dict(event.attributes) == {"openai_compat.deployment": "claude/x", "openai_compat.error": "busy", "openai_compat.attempt": 1}


def test_it_goes_beneath_the_clients_own_span() -> None:
    span = spans_of(RECORD, parent=PARENT)
    assert format(span.context.trace_id, "032x") == PARENT.split("-")[1]
    assert format(span.parent.span_id, "016x") == PARENT.split("-")[2]


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-01", "\ud800", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", PARENT * 100])
def test_a_parent_that_is_none_is_passed_over(parent: str) -> None:
    assert spans_of(RECORD, parent=parent).parent is None


def test_a_client_that_does_not_trace_this_call_is_followed() -> None:
    exporter = InMemorySpanExporter()
    traces, _ = made(exporter)
    traces.ended(RECORD, parent=PARENT.removesuffix("01") + "00")
    traces.close()
    assert exporter.get_finished_spans() == ()


def test_text_is_bounded_and_can_be_written() -> None:
    record = {**RECORD, "model": "\ud800" + "x" * 10_000}
    name = spans_of(record).attributes["gen_ai.request.model"]
    assert len(name) == 500
    name.encode()


def test_a_collector_that_is_gone_is_told_once_and_so_is_its_return() -> None:
    exporter = Fails()
    traces, events = made(exporter)
    for _ in range(3):
        traces.ended(RECORD)
        flushed(traces)
    assert [name for name, _ in events] == ["traces.failed"]
    assert (traces.state, "can't be exported" in traces.fault) == ("failed", True)
    exporter.is_failing = False
    traces.ended(RECORD)
    flushed(traces)
    traces.close()
    assert [name for name, _ in events] == ["traces.failed", "traces.recovered"]
    assert traces.fault == ""


def test_a_missing_sdk_is_told_with_the_command_that_brings_it() -> None:
    events: list[str] = []

    def missing(_: Mapping[str, str]) -> list[Any]:
        raise ImportError("no module")

    traces = SpanTraces(ASKED, lambda: 0.0, lambda name, _: events.append(name), str, missing)
    traces.start()
    traces.ended(RECORD)
    traces.close()
    assert events == ["traces.failed"]
    assert INSTALL in traces.fault
    assert traces.state == "failed"


def test_exporters_are_found_by_name() -> None:
    assert [type(one).__name__ for one in exporters_of({"OTEL_TRACES_EXPORTER": "otlp, console"})] == [
        "OTLPSpanExporter",
        "ConsoleSpanExporter",
    ]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "nothing"}, "there is no exporter 'nothing'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
    ],
)
def test_what_cant_be_done_is_told(environment: dict[str, str], words: str) -> None:
    traces = SpanTraces(environment, lambda: 0.0, lambda *_: None, str)
    traces.start()
    assert words in traces.fault
    assert traces.state == "failed"


def test_the_service_has_our_name_unless_it_was_given_another() -> None:
    assert spans_of(RECORD).resource.attributes["service.name"] == "openai-compat"
    exporter = InMemorySpanExporter()
    traces, _ = made(exporter, {**ASKED, "OTEL_SERVICE_NAME": "mine"})
    traces.ended(RECORD)
    traces.close()
    assert exporter.get_finished_spans()[0].resource.attributes["service.name"] == "mine"
