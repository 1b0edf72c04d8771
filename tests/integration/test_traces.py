"""Traces over real sockets: a collector gets a span for each call, over OTLP, and a collector that is gone stops nothing."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes.openai_answers import error_answer
from tests.fakes.upstream import Answer, FakeUpstream
from tests.integration.services_folder import until
from tests.unit.service.command_line import CommandLine

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OpenTelemetry's exporter is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.slow

CANARY = "sk-canary-0123456789"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=Answer((b"",), 200, (("content-type", "application/x-protobuf"),), "length")) as running:
        yield running


@pytest.fixture
def line(tmp_path: Path, upstream: FakeUpstream) -> Iterator[CommandLine]:
    made = CommandLine(tmp_path)
    made.configure(
        "discovery.enabled = false\nembedded.enabled = false\n[server]\nport = 0\n[log]\nterminal = false\n"
        "[retry]\nfirst_wait_s = 0.001\n"
        f'[upstreams.fake]\nkind = "openai"\nbase_url = "{upstream.url}"\napi_keys = ["{CANARY}"]\nmodels = ["their-model"]\n'
        '[models."claude-4-sonnet"]\nroute = ["fake/their-model"]\n'
    )
    yield made
    for started in made.running:
        started.close()


def call(root: str, **headers: str) -> requests.Response:
    body = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "a secret prompt"}]}
    return requests.post(f"{root}/v1/chat/completions", json=body, timeout=30, headers={"authorization": "Bearer client-key", **headers})


def spans(collector: FakeUpstream) -> list[Any]:
    found = []
    for request in collector.requests:
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        document = ExportTraceServiceRequest.FromString(body)
        found += [span for resource in document.resource_spans for scope in resource.scope_spans for span in scope.spans]
    return found


def test_a_collector_gets_a_span_for_each_call_and_no_secret(line: CommandLine, upstream: FakeUpstream, collector: FakeUpstream) -> None:
    """Those that wait when the gateway is stopped leave as well. What `.env` says counts."""
    (line.folder / ".env").touch(mode=0o600)
    (line.folder / ".env").write_text(f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{collector.port}\n")
    gateway = line.start()
    upstream.script(error_answer(500, "broken inside"), upstream.default)
    assert call(gateway.root, traceparent=PARENT, **{"x-session-id": "task-7"}).status_code == 200
    assert requests.get(f"{gateway.root}/healthz", timeout=30).json()["traces"] == {"state": "on", "fault": ""}
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.end()[0] == 0
    [span] = spans(collector)
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("chat claude-4-sonnet", *PARENT.split("-")[1:3])
    assert [event.name for event in span.events] == ["attempt.failed"]
    attributes = {one.key: one.value for one in span.attributes}
    assert attributes["gen_ai.usage.input_tokens"].int_value == 11
    assert attributes["gen_ai.conversation.id"].string_value == "task-7"
    assert {request.path for request in collector.requests} == {"/v1/traces"}
    said = b"".join(gzip.decompress(one.body) if one.headers.get("content-encoding") else one.body for one in collector.requests)
    assert not any(word in said for word in (b"a secret prompt", CANARY.encode(), b"client-key"))
    assert not any("traceparent" in request.headers for request in upstream.requests), "upstreams are told nothing"


def test_a_collector_that_is_gone_stops_no_call_and_no_end(line: CommandLine) -> None:
    gateway = line.start(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="100", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    for _ in range(5):
        assert call(gateway.root).status_code == 200

    def health() -> dict[str, Any]:
        report: dict[str, Any] = requests.get(f"{gateway.root}/healthz", timeout=30).json()
        return report

    until(lambda: health()["traces"]["state"] == "failed", "it is told")
    for _ in range(5):
        assert call(gateway.root).status_code == 200
    assert health()["status"] == "degraded"
    gateway.process.send_signal(signal.SIGTERM)
    code, said = gateway.end()
    assert code == 0
    assert "Traceback" not in said
    assert "opentelemetry" not in said.lower(), "it is said in our log, once"
    assert sum(entry["event"] == "traces.failed" for entry in gateway.log()) == 1


def test_without_variables_nothing_is_loaded(line: CommandLine) -> None:
    gateway = line.start()
    assert call(gateway.root).status_code == 200
    assert requests.get(f"{gateway.root}/healthz", timeout=30).json()["traces"] == {"state": "off", "fault": ""}
    program = "import sys, app; assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", program], cwd=line.folder, env=line.environment, check=True, timeout=30)
