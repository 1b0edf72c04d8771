"""A server that fails is left alone for a while, which is said once; so is its recovery."""

from __future__ import annotations

from typing import Any

import pytest

from compat.storage.redis_link import LIMITER_ERRORS, RETRY_S, Link, limiter_options, redis_client, redis_errors


class Bench:
    def __init__(self) -> None:
        self.now_s = 50.0
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.asked = 0
        self.fails = False
        self.link = Link("cache", lambda: self.now_s, lambda name, fields: self.events.append((name, dict(fields))), (OSError,))

    def ask(self) -> str | None:
        return self.link.ask(self._question)

    def _question(self) -> str:
        self.asked += 1
        if self.fails:
            raise ConnectionResetError("to redis://:password@server")
        return "answer"


def test_a_server_that_is_well_answers() -> None:
    bench = Bench()
    assert [bench.ask(), bench.ask()] == ["answer", "answer"]
    assert (bench.asked, bench.link.fault, bench.events) == (2, "", [])


def test_a_value_that_no_gateway_wrote_is_told_once_of_each_kind_and_is_no_fault_of_the_server() -> None:
    bench = Bench()
    for what in ("a claim", "a claim", "a count", "a claim"):
        bench.link.distrust(what)
    words = "Redis holds {} that no gateway wrote; it is ignored"
    assert bench.events == [("cache.value_failed", {"reason": words.format(what)}) for what in ("a claim", "a count")]
    assert (bench.link.fault, bench.ask()) == ("", "answer")


def test_a_server_that_failed_is_left_alone_then_asked_once() -> None:
    bench = Bench()
    bench.fails = True
    assert [bench.ask() for _ in range(5)] == [None] * 5
    assert bench.asked == 1
    bench.now_s += RETRY_S
    assert [bench.ask() for _ in range(5)] == [None] * 5
    assert bench.asked == 2
    assert bench.events == [("cache.failed", {"reason": "Redis can't be used: ConnectionResetError"})]
    assert "password" not in bench.link.fault


def test_only_one_call_tries_while_the_others_go_on() -> None:
    bench = Bench()
    bench.fails = True
    bench.ask()
    bench.now_s += RETRY_S
    others = []
    bench.link.ask(lambda: others.append(bench.ask()))
    assert others == [None]
    assert bench.asked == 1


def test_a_server_that_is_well_again_says_so() -> None:
    bench = Bench()
    bench.fails = True
    bench.ask()
    bench.fails = False
    bench.now_s += RETRY_S
    assert bench.ask() == "answer"
    assert bench.link.fault == ""
    assert [name for name, _ in bench.events] == ["cache.failed", "cache.recovered"]
    assert bench.ask() == "answer"


def test_what_is_not_the_servers_fault_leaves() -> None:
    bench = Bench()
    with pytest.raises(ZeroDivisionError):
        bench.link.ask(lambda: 1 // 0)
    assert bench.link.fault == ""


def test_a_client_is_made_without_a_connection_and_fails_at_once_where_there_is_no_server() -> None:
    client = redis_client("redis://:secret@127.0.0.1:1/0")
    with pytest.raises(redis_errors()):
        client.get("key")
    with pytest.raises(ValueError, match="scheme"):
        redis_client("http://127.0.0.1")


def test_the_limiters_storage_names_the_fault_beneath_its_own_error() -> None:
    from limits.storage import storage_from_string

    url = "redis://:secret@127.0.0.1:1/0"
    events: list[Any] = []
    link = Link("limits", lambda: 0.0, lambda *event: events.append(event), LIMITER_ERRORS)
    storage = storage_from_string(url, **limiter_options(url))
    assert link.ask(lambda: storage.incr("key", 10, 1)) is None
    assert events == [("limits.failed", {"reason": "Redis can't be used: ConnectionError"})]
    assert limiter_options("memory://") == {"wrap_exceptions": True}
