"""`GET /metrics`: for whom, and what is in it."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import flask
import pytest

from compat.accounting.keys import ClientKeys, new_key
from compat.accounting.usage_store import NoUsage
from compat.cluster.peers import NoCommons
from compat.config.sections import CacheSettings, KeySettings, LogSettings
from compat.endpoints.answers import error_body
from compat.endpoints.metrics import metrics_blueprint, readings_of
from compat.errors import GatewayError
from compat.reuse.answer_cache import AnswerCache, MemoryShelf
from compat.telemetry.calllog import CallLog
from compat.telemetry.metrics import Metrics, Readings
from compat.vault.memory import MemoryVault

CIRCUITS = [
    {"upstream": "up", "state": "open"},
    {"upstream": "up", "state": "open"},
    {"upstream": "up", "state": "closed"},
    {"upstream": "other", "state": "half-open"},
]
GATES = {"up": {"limit": 16, "in_flight": 1, "waiting": 2}}


class Reports:
    def __init__(self, report: Any) -> None:
        self.report = lambda: report

    def __len__(self) -> int:
        return 10


def make_gateway(folder: Path, keys: dict[str, KeySettings] | None = None) -> Any:
    shelf = MemoryShelf(CacheSettings(), lambda: 0.0)
    shelf.put("key", b"packed")
    log = CallLog(LogSettings(terminal=False), folder, lambda: 0.0)
    log.dropped = 7
    log.write("call", {})
    return types.SimpleNamespace(
        keys=ClientKeys(keys or {}),
        metrics=Metrics(),
        commons=NoCommons(),
        policies=types.SimpleNamespace(circuits=Reports(CIRCUITS), gates=Reports(GATES), affinity=range(11), pacing=range(12)),
        router=range(17),
        transport=types.SimpleNamespace(idle=18),
        flights=range(13),
        refusals=range(14),
        cache_watch=range(15),
        log=log,
        vault=MemoryVault(max_bytes=1000, ttl_s=1.0, clock=lambda: 0.0),
        answers=AnswerCache(CacheSettings(), shelf),
        usage=NoUsage(),
        limits=types.SimpleNamespace(entries={"limit counts": 16}),
    )


def client_of(gateway: Any) -> Any:
    app = flask.Flask("test")
    app.register_blueprint(metrics_blueprint(gateway))
    app.register_error_handler(GatewayError, lambda error: error_body(error).response())
    return app.test_client()


def test_readings_are_what_the_collaborators_tell(tmp_path: Path) -> None:
    assert readings_of(make_gateway(tmp_path)) == Readings(
        gates=GATES,
        stores={"vault": (0, 0), "answers": (1, 518)},
        counts={
            "circuits": 10,
            "routes": 17,
            "idle connections": 18,
            "sessions": 11,
            "rate limits": 12,
            "shared answers": 13,
            "refused parameters": 14,
            "prompt cache watch": 15,
            "log queue": 1,
            "usage queue": 0,
            "vault queue": 0,
            "limit counts": 16,
        },
        circuits={("up", "open"): 2, ("other", "half-open"): 1},
        dropped={"log lines": 7, "usage records": 0, "thinking": 0},
    )


def test_prometheus_gets_what_is_going_on_now(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    gateway.metrics.began()
    answer = client_of(gateway).get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert answer.headers["cache-control"] == "no-store"
    assert "openai_compat_in_flight 1.0\n" in answer.text
    assert 'openai_compat_queued{upstream="up"} 2.0\n' in answer.text
    assert 'openai_compat_dropped_total{what="log lines"} 7.0\n' in answer.text


def test_openmetrics_is_spoken_to_who_asks_for_it(tmp_path: Path) -> None:
    answer = client_of(make_gateway(tmp_path)).get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.data.endswith(b"# EOF\n")


@pytest.mark.parametrize(("header", "status"), [(None, 401), ("Bearer wrong", 401), ("right", 200)])
def test_with_keys_configured_it_takes_one(tmp_path: Path, header: str | None, status: int) -> None:
    key, digest = new_key()
    client = client_of(make_gateway(tmp_path, {"laptop": KeySettings(hash=digest)}))
    headers = {} if header is None else {"authorization": f"Bearer {key}" if header == "right" else header}
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == status
    assert ("openai_compat" in answer.text) is (status == 200)
