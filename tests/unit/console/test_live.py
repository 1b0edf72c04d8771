"""The feed of calls as they happen: who sees what of it, and for how long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from compat.calls.gateway import Gateway
from compat.console.live import MAX_S
from compat.factory import create_app
from tests.unit.builders import StillClock, make_gateway
from tests.unit.console.test_access import ADA, BOB, SETTINGS, signed_in


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = make_gateway(tmp_path, SETTINGS)
    yield gateway
    gateway.feed.close()


def follow(client: Client, query: str = "", **headers: str) -> Iterator[bytes]:
    """The frames that a visitor gets, after the first comment."""
    answer = client.get(f"/live/events{query}", headers=headers)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    frames: Any = iter(answer.response)
    assert next(frames).startswith(b":")
    return frames


def happen(gateway: Gateway) -> None:
    for client, model, level in (("ada", "m", "info"), ("key-canary", "m", "error"), ("key-canary", "n", "info")):
        gateway.feed.add("call", {"client": client, "model": model}, level)
    gateway.feed.flush()


def seen(frames: bytes) -> list[tuple[str, str]]:
    events = [json.loads(line[6:]) for line in frames.decode().splitlines() if line.startswith("data: ")]
    return [(event["client"], event["model"]) for event in events]


@pytest.mark.parametrize(
    ("key", "query", "wanted"),
    [
        (ADA, "", [("ada", "m"), ("key-canary", "m"), ("key-canary", "n")]),
        (ADA, "?key=ada", [("ada", "m")]),
        (ADA, "?level=error", [("key-canary", "m")]),
        (ADA, "?model=n", [("key-canary", "n")]),
        (BOB, "", [("key-canary", "m"), ("key-canary", "n")]),
        (BOB, "?key=ada", [("key-canary", "m"), ("key-canary", "n")]),
    ],
    ids=["all", "of one key", "errors", "of one model", "one's own", "of another's key"],
)
def test_a_visitor_sees_what_is_asked_for_of_what_is_theirs(gateway: Gateway, key: str, query: str, wanted: list[Any]) -> None:
    frames = follow(signed_in(gateway, key), query)
    happen(gateway)
    assert seen(next(frames)) == wanted


def test_a_feed_goes_on_where_it_was(gateway: Gateway) -> None:
    client = signed_in(gateway)
    frames = follow(client)
    happen(gateway)
    first = next(frames).decode()
    last_id = first.split("id: ")[1].split("\n")[0]
    again: Any = iter(client.get("/live/events", headers={"last-event-id": last_id}).response)
    assert seen(next(again)) == [("key-canary", "m"), ("key-canary", "n")]


def test_a_feed_ends_after_a_while_for_the_browser_to_come_back(gateway: Gateway) -> None:
    frames, clock = follow(signed_in(gateway)), gateway.clock
    assert isinstance(clock, StillClock)
    clock.monotonic_s += MAX_S
    assert list(frames) == []


def test_a_feed_ends_with_the_sign_in(gateway: Gateway) -> None:
    frames, clock = follow(signed_in(gateway)), gateway.clock
    assert isinstance(clock, StillClock)
    clock.now_s += 13 * 3600
    assert list(frames) == []


def test_without_client_keys_everything_is_seen(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    frames = follow(Client(create_app(gateway)))
    happen(gateway)
    assert len(seen(next(frames))) == 3
    gateway.feed.close()
