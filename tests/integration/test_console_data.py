"""What the console shows of calls that were made: the store, and the live feed."""

from __future__ import annotations

import json
import time
from typing import Any

import gevent
import pytest

from compat.accounting.usage_queries import calls, one_call, session_tree
from compat.accounting.usage_views import CallFilter
from compat.config.catalog import merge
from compat.telemetry.feed import Feed, FeedFilter
from tests.conftest import RunningGateway, to_upstream
from tests.fakes import openai_answers as answers
from tests.fakes.upstream import FakeUpstream
from tests.integration.test_cancellation import wait_for

PRICED = {"models": {"their-model": {"facts": {"price": {"input": 1000.0, "output": 2000.0, "cache_read": 100.0}}}}}


@pytest.fixture
def gateway(start_gateway: Any, upstream: FakeUpstream) -> RunningGateway:
    return start_gateway(
        merge(merge(to_upstream(upstream), PRICED), {"retry": {"attempts": 3, "first_wait_s": 0.001, "max_wait_s": 0.002}})
    )


def test_a_call_is_kept_with_all_that_happened_to_it(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    upstream.script(answers.error_answer(503, "busy\x1b now"), answers.stream_answer(answers.tool_chunks()))
    headers = {"authorization": "Bearer x", "x-session-id": "s-1"}
    said = gateway.chat(stream=True, headers=headers)
    assert said.status_code == 200
    assert said.text
    wait_for(lambda: gateway.calls())
    usage = gateway.gateway.usage
    usage.flush()
    (row,) = calls(usage, CallFilter()).rows
    found = one_call(usage, row.call_id)
    assert found is not None
    _, detail = found
    assert (row.request_id, row.api, row.upstream_api, row.session, row.outcome) == (
        said.headers["x-request-id"],
        "openai.chat",
        "openai.chat",
        "s-1",
        "ok",
    )
    assert row.ttft_ms is not None
    assert (row.attempts, [one.then for one in detail.failed]) == (2, ["another attempt may succeed"])
    assert (detail.failed[0].cause, detail.failed[0].code) == ("fake: busy  now", "server_error")
    assert detail.tools == {"read_file": 1, "list_files": 1}
    assert row.cost_usd > 0
    assert sum(part.cost_usd for part in detail.parts) == pytest.approx(row.cost_usd)
    tree = session_tree(usage, row.key, "s-1")
    assert tree is not None
    assert tree.tools == detail.tools


def test_a_call_is_seen_while_it_happens(gateway: RunningGateway) -> None:
    feed: Feed = gateway.gateway.feed
    found: list[dict[str, Any]] = []

    def page() -> None:
        for piece in feed.follow(FeedFilter()):
            found.extend(json.loads(line[6:]) for line in piece.decode().splitlines() if line.startswith("data: "))

    watching = gevent.spawn(page)
    wait_for(lambda: feed.is_watched)
    assert gateway.chat(stream=True).status_code == 200
    wait_for(lambda: any(event["event"] == "call" for event in found))
    watching.kill()
    events = [event for event in found if event.get("request_id")]
    assert [event["event"] for event in events if event["event"] != "call.progress"] == [
        "call.started",
        "call.attempt",
        "call.first_token",
        "call",
    ]
    assert len({event["request_id"] for event in events}) == 1
    assert {event["model"] for event in events} == {"claude-4-sonnet"}
    assert events[-1]["outcome"] == "ok"
    assert [event["bytes_out"] > 0 and event["tokens_so_far"] >= 0 for event in events if event["event"] == "call.progress"] == [True]
    assert "Hi" not in json.dumps(found)


def test_a_page_that_is_open_does_not_hold_up_the_end(gateway: RunningGateway) -> None:
    with gateway.http.get(f"{gateway.root}/live/events", stream=True, timeout=30) as page:
        assert next(page.iter_content(None))
        began_s = time.monotonic()
        assert gateway.server.stop(30) == 0
        assert time.monotonic() - began_s < 10
