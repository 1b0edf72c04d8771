"""Traces for OpenTelemetry: one span for each call, named by its conventions for generative AI.

    traces = traces_from(environment, clock.now, on_event, provider_of)    # `NoTraces` unless the environment asks for them
    traces.start()                                                         # in the process that serves, after any fork
    traces.ended(record, moments, parent, conversation)                    # a call is over: the record that goes to the log

The SDK is no requirement: it is imported when the variables of its specification ask for traces (`OTEL_TRACES_EXPORTER`,
`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`), and all else about it (headers, sampling, the resource) is said by
its other variables. Where it is missing, or the collector is gone, calls go on, and that is said once.

A span is made when its call is over, from named fields: no prompt, no answer and no key is in one. It goes beneath the client's own span
where that came in a `traceparent`; upstreams get no trace headers. Spans wait in the SDK's bounded queue, which a greenlet empties.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import gevent

from compat import __version__
from compat.storage.background import OnEvent
from compat.telemetry.fields import STOP_REASON, USUAL_ENDPOINT
from compat.telemetry.metrics import OPERATIONS

CLOSE_S = 2.0
"""How long the last spans may take to leave."""

INSTALL = "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
ASKING = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_SERVICE = "openai-compat"
_MAX_CHARS = 500
_NANO = 1_000_000_000

_PROVIDERS: Mapping[str, str] = {"gemini": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai"}
"""Kinds of upstreams that the conventions call otherwise."""

_FIELDS: Mapping[str, str] = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "stream": "gen_ai.request.stream",
    "status": "http.response.status_code",
    "request_id": "openai_compat.request_id",
    "client": "openai_compat.client",
    "outcome": "openai_compat.outcome",
    "attempts": "openai_compat.attempts",
    "cost_usd": "openai_compat.cost_usd",
    "cache": "openai_compat.answer_cache",
}
"""Field of a record -> attribute of its span."""


class Moment(NamedTuple):
    """Something that happened to a call: an attempt that failed, an answer that was carried on. `time_s` is in seconds since 1970."""

    time_s: float
    name: str
    fields: Mapping[str, object]


class NoTraces:
    """Where spans go when nobody asked for any. Nothing here raises.

    `state` is `off`, `on`, or `failed`: asked for, and impossible.
    """

    fault = ""
    state = "off"

    def start(self) -> None:
        """Begin to export."""

    def carry_on(self, provider_of: Callable[[str], str]) -> None:
        """Ask `provider_of` from now on, see `traces_from`: the configuration has changed."""

    def ended(self, record: Mapping[str, Any], moments: Sequence[Moment] = (), parent: str = "", conversation: str = "") -> None:
        """A call is over. `parent` is the client's `traceparent`, `conversation` its own id for its session."""

    def close(self) -> None:
        """Export what waits, within `CLOSE_S`, and end."""


def traces_from(environment: Mapping[str, str], now: Callable[[], float], on_event: OnEvent, provider_of: Callable[[str], str]) -> Traces:
    """Traces as the environment asks for them. `provider_of` is the kind of an upstream by its name."""
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    is_none = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    if is_disabled or is_none or not any(environment.get(name, "").strip() for name in ASKING):
        return NoTraces()
    return SpanTraces(environment, now, on_event, provider_of)


def exporters_of(environment: Mapping[str, str]) -> list[Any]:
    """The exporters that `OTEL_TRACES_EXPORTER` names, over HTTP where it names none. `ImportError`, `LookupError`, `ValueError`."""
    protocol = next((environment[name].strip() for name in _PROTOCOLS if environment.get(name, "").strip()), _HTTP)
    exporters = []
    for name in (environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp").split(","):
        wanted = name.strip()
        if wanted in {"otlp", "otlp_proto_grpc"} and (protocol != _HTTP or wanted != "otlp"):
            raise ValueError(f"only OTLP over {_HTTP} works with gevent: set OTEL_EXPORTER_OTLP_PROTOCOL={_HTTP}")
        known = "otlp_proto_http" if wanted == "otlp" else wanted
        found = list(importlib.metadata.entry_points(group="opentelemetry_traces_exporter", name=known))
        if not found:
            raise LookupError(f"there is no exporter '{wanted}': {INSTALL}")
        exporters.append(found[0].load()())
    return exporters


class SpanTraces:
    """Spans by the SDK. Mutable: the tracer and its provider, made by `start`; `fault`, how the last export went.

    `connect` makes exporters of OpenTelemetry's. `on_event` gets `traces.failed` and `traces.recovered`.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        now: Callable[[], float],
        on_event: OnEvent,
        provider_of: Callable[[str], str],
        connect: Callable[[Mapping[str, str]], Iterable[Any]] = exporters_of,
    ) -> None:
        self.fault = ""
        self._environment = environment
        self._now = now
        self._on_event = on_event
        self._provider_of = provider_of
        self._connect = connect
        self._provider: Any = None
        self._tracer: Any = None

    @property
    def state(self) -> str:
        """See `NoTraces`."""
        return "on" if self._tracer is not None and not self.fault else "failed"

    def start(self) -> None:
        """See `NoTraces`. What `.env` says of the SDK is put into the environment, where the SDK looks for it."""
        for name, value in self._environment.items():
            if name.startswith("OTEL_"):
                os.environ.setdefault(name, value)
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # its faults are reported in our log, once
        try:
            self._make_tracer()
        except ImportError:
            self._note_fault(f"OpenTelemetry's SDK is not installed: {INSTALL}")
        except (LookupError, ValueError) as error:
            self._note_fault(str(error))

    def carry_on(self, provider_of: Callable[[str], str]) -> None:
        """See `NoTraces`."""
        self._provider_of = provider_of

    def ended(self, record: Mapping[str, Any], moments: Sequence[Moment] = (), parent: str = "", conversation: str = "") -> None:
        """See `NoTraces`."""
        if self._tracer is None:
            return
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        end_s = self._now()
        attributes = attributes_of(record, self._provider_of, conversation)
        span = self._tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {attributes['gen_ai.request.model']}",
            TraceContextTextMapPropagator().extract({"traceparent": parent}, Context()),
            SpanKind.CLIENT,
            attributes,
            start_time=_nano(end_s - record["duration_ms"] / 1000),
        )
        for moment in moments:
            fields = {f"openai_compat.{name}": _clean(value) for name, value in moment.fields.items() if name != "request_id"}
            span.add_event(moment.name, fields, _nano(moment.time_s))
        if record["outcome"] == "error":
            span.set_status(Status(StatusCode.ERROR, str(_clean(record.get("error", "")))))
        span.end(_nano(end_s))

    def close(self) -> None:
        """See `NoTraces`."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is not None:
            with gevent.Timeout(CLOSE_S, False):
                provider.shutdown()

    def _make_tracer(self) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporters = self._connect(self._environment)
        named = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or _SERVICE, "service.version": __version__})
        provider = TracerProvider(resource=named, shutdown_on_exit=False)
        for exporter in exporters:
            telling: Any = _Telling(exporter, self._heard)
            provider.add_span_processor(BatchSpanProcessor(telling))
        self._provider, self._tracer = provider, provider.get_tracer("openai_compat", __version__)

    def _heard(self, is_sent: bool) -> None:
        if not is_sent:
            self._note_fault("spans can't be exported: see OTEL_EXPORTER_OTLP_ENDPOINT")
        elif self.fault:
            self.fault = ""
            self._on_event("traces.recovered", {})

    def _note_fault(self, reason: str) -> None:
        was_well, self.fault = not self.fault, reason
        if was_well:
            self._on_event("traces.failed", {"reason": reason})


Traces = NoTraces | SpanTraces


class _Telling:
    """An exporter that reports how it went."""

    def __init__(self, exporter: Any, on_result: Callable[[bool], None]) -> None:
        self._exporter = exporter
        self._on_result = on_result

    def export(self, spans: Any) -> Any:
        """Export some spans."""
        is_sent = False
        try:
            result = self._exporter.export(spans)
            is_sent = result.name == "SUCCESS"
        finally:
            self._on_result(is_sent)
        return result

    def shutdown(self) -> None:
        """Export nothing more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what the exporter itself keeps."""
        return bool(self._exporter.force_flush(timeout_millis))


def attributes_of(record: Mapping[str, Any], provider_of: Callable[[str], str], conversation: str = "") -> dict[str, Any]:
    """The attributes of a call's span."""
    upstream, _, target = (record.get("deployment") or "").partition("/")
    endpoint = record.get("endpoint", USUAL_ENDPOINT)
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": OPERATIONS.get(endpoint, endpoint),
        "gen_ai.request.model": _clean(record["model"]),
    }
    if upstream:
        kind = provider_of(upstream)
        attributes |= {"gen_ai.provider.name": _PROVIDERS.get(kind, kind), "gen_ai.response.model": _clean(target)}
        attributes["openai_compat.upstream"] = _clean(upstream)
    if conversation:
        attributes["gen_ai.conversation.id"] = _clean(conversation)
    attributes |= {attribute: _clean(record[name]) for name, attribute in _FIELDS.items() if record.get(name) is not None}
    if "ttft_ms" in record:
        attributes["gen_ai.response.time_to_first_chunk"] = record["ttft_ms"] / 1000
    if record.get(STOP_REASON):
        attributes["gen_ai.response.finish_reasons"] = (_clean(record[STOP_REASON]),)
    if record["outcome"] != "ok":
        attributes["error.type"] = _clean(record.get("code") or record["outcome"])
    return attributes


def _clean(value: object) -> Any:
    """A number as it is; text that any exporter can write, within bounds."""
    if isinstance(value, bool | int | float):
        return value
    return str(value)[:_MAX_CHARS].encode("utf-8", "replace").decode()


def _nano(time_s: float) -> int:
    return round(time_s * _NANO)
