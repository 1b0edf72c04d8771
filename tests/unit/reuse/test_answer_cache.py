"""The answer cache: for whom, for which calls, how long, and how it says what it did."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.config.sections import CacheSettings
from compat.errors import BadRequest
from compat.protocols.base import AnswerMemory, TranslatedRequest
from compat.protocols.chat.chunks import completion_frames
from compat.protocols.chat.client import CHAT
from compat.protocols.client_protocol import Identity
from compat.reuse.answer_cache import KB, AnswerCache, Decision, MemoryShelf, RedisShelf
from compat.routing.router import Deployment
from compat.storage.redis_link import RETRY_S, Link, redis_client, redis_errors
from compat.upstream.client import Upstream
from compat.upstream.kinds import UPSTREAM_KINDS
from compat.wire.envelope import Envelope
from tests.fakes.redis_server import RedisServer, needs_redis

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
MISS = Decision("miss", looks=True, keeps=True)


def envelope(**changes: Any) -> Envelope:
    return Envelope(json.dumps({**QUESTION, **changes}).encode())


def request(headers: dict[str, str] | None = None, **changes: Any) -> TranslatedRequest:
    return TranslatedRequest(envelope(**changes).body, headers or {})


def deployment(name: str = "up", target: str = "m", url: str = "http://up/v1") -> Deployment:
    return Deployment(Upstream(name, UPSTREAM_KINDS["openai"], url), target, Model(id=target))


def answer(content: str = "Hello", reason: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
    return json.dumps({"id": "chatcmpl-1", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 5}}).encode()


class Bench:
    def __init__(self, shelf: Any = None, **settings: Any) -> None:
        self.now_s = 50.0
        self.settings = CacheSettings(**settings)
        self.shelf = shelf or MemoryShelf(self.settings, lambda: self.now_s)
        self.cache = AnswerCache(self.settings, self.shelf)

    def keep(self, key: str, content: str = "Hello") -> None:
        self.cache.recording(self.cache.decide(CHAT, envelope(), "on"), key, CHAT).whole(answer(content))

    def find(self, key: str) -> str | None:
        decision = self.cache.decide(CHAT, envelope(), "on")
        kept = self.cache.lookup(decision, key)
        assert decision.verdict == ("miss" if kept is None else "hit")
        return kept.said[0].text if kept else None


@pytest.mark.parametrize(
    ("enabled", "asked", "decision"),
    [
        (False, "", Decision("")),
        (False, "on", MISS),
        (False, " ON ", MISS),
        (False, "off", Decision("bypass;off")),
        (False, "refresh", Decision("bypass;refresh", keeps=True)),
        (True, "", MISS),
        (True, "on", MISS),
        (True, "off", Decision("bypass;off")),
        (True, "refresh", Decision("bypass;refresh", keeps=True)),
    ],
)
def test_it_is_off_unless_asked_for(enabled: bool, asked: str, decision: Decision) -> None:
    assert Bench(enabled=enabled).cache.decide(CHAT, envelope(), asked) == decision


@pytest.mark.parametrize("asked", ["yes", "1", "on, off", "\x1b"])
def test_a_wish_that_is_none_is_refused(asked: str) -> None:
    with pytest.raises(BadRequest, match="'on', 'off' or 'refresh'"):
        Bench().cache.decide(CHAT, envelope(), asked)


TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", **TOOL}]}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"tools": [TOOL]}, "bypass;tools"),
        ({"functions": [{"name": "f"}]}, "bypass;tools"),
        ({"tools": [], "functions": None}, "miss"),
        ({"messages": [{"role": "user", "content": "a"}, CALL]}, "bypass;tool-results"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "bypass;tool-results"),
        ({"messages": [{"role": "tool", "tool_call_id": "1", "content": "b"}]}, "bypass;tool-results"),
        ({"messages": [{"role": "function", "name": "f", "content": "b"}]}, "bypass;tool-results"),
        ({"messages": [{"role": "assistant", "content": "a", "tool_calls": []}]}, "miss"),
        ({"messages": [{"role": ["tool"], "content": 'says "role": "tool"'}]}, "miss"),
        ({"messages": ["a"]}, "bypass;messages"),
        ({"messages": {}}, "bypass;messages"),
    ],
    ids=str,
)
@pytest.mark.parametrize("asked", ["on", "refresh"])
def test_calls_with_tools_or_tool_results_pass_it_by(changes: dict[str, Any], verdict: str, asked: str) -> None:
    decision = Bench().cache.decide(CHAT, envelope(**changes), asked)
    assert decision.verdict == ("bypass;refresh" if (verdict, asked) == ("miss", "refresh") else verdict)
    assert decision.keeps is (verdict == "miss")
    assert decision.looks is (verdict == "miss" and asked == "on")


def test_escapes_hide_no_tool_result() -> None:
    body = rb'{"model": "m", "messages": [{"\u0072ole": "\u0074ool", "content": "x"}]}'
    assert Bench().cache.decide(CHAT, Envelope(body), "on").verdict == "bypass;tool-results"


def test_a_kept_answer_is_found_again() -> None:
    bench = Bench()
    assert bench.find("key") is None
    bench.keep("key")
    assert bench.find("key") == "Hello"


def test_a_refresh_replaces_what_is_there_and_does_not_look() -> None:
    bench = Bench()
    bench.keep("key", "old")
    decision = bench.cache.decide(CHAT, envelope(), "refresh")
    assert bench.cache.lookup(decision, "key") is None
    bench.cache.recording(decision, "key", CHAT).whole(answer("new"))
    assert (decision.verdict, bench.find("key"), bench.shelf.entries) == ("bypass;refresh", "new", 1)


@pytest.mark.parametrize("asked", ["off", ""])
def test_without_a_wish_nothing_is_looked_for_or_kept(asked: str) -> None:
    bench = Bench()
    bench.keep("key")
    decision = bench.cache.decide(CHAT, envelope(), asked)
    assert bench.cache.lookup(decision, "key") is None
    recording = bench.cache.recording(decision, "other", CHAT)
    recording.whole(answer())
    recording.feed(completion_frames(answer(), wants_usage=False))
    recording.ended()
    assert bench.shelf.entries == 1


def test_a_stream_that_ended_is_kept_and_one_that_did_not_is_not() -> None:
    bench = Bench()
    frames = completion_frames(answer(), wants_usage=True)
    for key, ends in (("ended", True), ("left", False)):
        recording = bench.cache.recording(MISS, key, CHAT)
        recording.feed(frames[:40])
        recording.feed(frames[40:])
        if ends:
            recording.ended()
            recording.ended()
    assert (bench.find("ended"), bench.find("left"), bench.shelf.entries) == ("Hello", None, 1)


@pytest.mark.parametrize("body", [answer(reason="length"), answer(""), b'{"error": {"message": "x"}}'])
def test_what_is_no_whole_answer_is_not_kept(body: bytes) -> None:
    bench = Bench()
    bench.cache.recording(MISS, "key", CHAT).whole(body)
    assert bench.shelf.entries == 0


def test_a_hit_is_a_whole_answer_and_a_valid_stream() -> None:
    bench = Bench()
    bench.keep("key")
    kept = bench.cache.lookup(Decision("miss", looks=True), "key")
    assert kept is not None
    body = CHAT.again(kept.said, Identity("chatcmpl-9", 7, "alias"))
    frames = completion_frames(body, wants_usage=True)
    chunks = [json.loads(block[6:]) for block in frames.split(b"\n\n") if block and block != b"data: [DONE]"]
    assert frames.endswith(b"data: [DONE]\n\n")
    assert {one["id"] for one in chunks} == {"chatcmpl-9"}
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks if one["choices"]) == "Hello"
    assert ["role" in one["choices"][0]["delta"] for one in chunks if one["choices"]] == [True, False, False]
    assert chunks[-1]["usage"]["total_tokens"] == 0


def test_the_key_is_the_whole_question_the_client_and_the_deployment() -> None:
    cache = Bench().cache
    variants = [
        ("a", deployment(), request()),
        ("b", deployment(), request()),
        ("a", deployment("other"), request()),
        ("a", deployment(target="m2"), request()),
        ("a", deployment(url="http://elsewhere/v1"), request()),
        ("a", deployment(), request({"anthropic-beta": "x"})),
        ("a", deployment(), request(temperature=0)),
        ("a", deployment(), request(temperature=0.0)),
        ("a", deployment(), request(model="m2")),
        ("a", deployment(), request(messages=[{"role": "user", "content": "hi"}])),
        ("a", deployment(), replace(request(), memory=AnswerMemory(echo="x"))),
        ("a", deployment(), replace(request(), memory=AnswerMemory(stop=("x",)))),
        ("a", deployment(), replace(request(), memory=AnswerMemory(stop=("x", "y")))),
        ("au", deployment("p"), request()),
        ("a", deployment("up", "m\n"), request()),
    ]
    keys = [cache.key(*variant, CHAT) for variant in variants]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 for key in keys)
    assert keys[0] == cache.key(*variants[0], CHAT)


def test_the_same_question_streamed_is_the_same_question() -> None:
    cache = Bench().cache
    streamed = request(stream=True, stream_options={"include_usage": True})
    assert (
        cache.key("a", deployment(), request(), CHAT)
        == cache.key("a", deployment(), streamed, CHAT)
        == cache.key("a", deployment(), request(stream=False), CHAT)
    )


def test_entries_expire() -> None:
    bench = Bench(ttl_s=10.0)
    bench.keep("key")
    bench.now_s += 9.9
    assert bench.find("key") == "Hello"
    bench.now_s += 0.1
    assert bench.find("key") is None
    assert (bench.shelf.entries, bench.shelf.size_bytes) == (0, 0)


def test_memory_is_bounded_and_the_least_used_go_first() -> None:
    bench = Bench(max_mb=1)
    for number in range(4):
        bench.keep(str(number), "a" * 250 * KB)
    assert bench.find("0") is not None
    bench.keep("4", "b" * 250 * KB)
    assert [bench.find(str(number)) is not None for number in range(5)] == [True, False, True, True, True]
    assert bench.shelf.size_bytes <= KB * KB


@pytest.mark.parametrize("as_stream", [False, True])
def test_an_entry_that_is_too_large_is_not_kept(as_stream: bool) -> None:
    bench = Bench(max_entry_kb=4)
    for size, count in ((3 * KB, 1), (5 * KB, 1)):
        recording = bench.cache.recording(MISS, str(size), CHAT)
        if as_stream:
            for frame in itertools.repeat(completion_frames(answer("a" * size), wants_usage=False), 1):
                recording.feed(frame)
                recording.feed(b"")
            recording.ended()
        else:
            recording.whole(answer("a" * size))
        assert bench.shelf.entries == count


# Redis.


class FakeRedis:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.is_gone = False
        self.expiry_ms = 0

    def get(self, key: str) -> Any:
        if self.is_gone:
            raise ConnectionError
        return self.values.get(key)

    def set(self, key: str, value: bytes, *, px: int) -> None:
        if self.is_gone:
            raise ConnectionError
        self.values[key] = value
        self.expiry_ms = px


def redis_bench(client: Any, errors: tuple[type[Exception], ...] = (OSError,), **settings: Any) -> tuple[Bench, list[str]]:
    events: list[str] = []
    bench = Bench(**settings)
    link = Link("cache", lambda: bench.now_s, lambda name, _: events.append(name), errors)
    bench.shelf = RedisShelf(bench.settings, client, link)
    bench.cache = AnswerCache(bench.settings, bench.shelf)
    return bench, events


def test_on_redis_answers_are_kept_under_a_prefix_with_an_end() -> None:
    client = FakeRedis()
    bench, _ = redis_bench(client, ttl_s=1.5)
    bench.keep("key")
    assert list(client.values) == ["openai-compat:answer:key"]
    assert client.expiry_ms == 1500
    assert bench.find("key") == "Hello"
    client.values["openai-compat:answer:key"] = b"damaged"
    assert bench.find("key") is None
    assert (bench.shelf.entries, bench.shelf.size_bytes, bench.shelf.fault) == (0, 0, "")


def test_without_redis_every_call_is_a_miss_and_it_comes_back() -> None:
    client = FakeRedis()
    bench, events = redis_bench(client)
    bench.keep("key")
    client.is_gone = True
    assert bench.find("key") is None
    bench.keep("other")
    assert bench.shelf.fault == "Redis can't be used: ConnectionError"
    client.is_gone = False
    bench.now_s += RETRY_S
    assert bench.find("key") == "Hello"
    assert (events, bench.shelf.fault) == (["cache.failed", "cache.recovered"], "")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@needs_redis
@pytest.mark.heavy
def test_two_workers_share_answers_on_a_real_server(redis: RedisServer) -> None:
    benches = [redis_bench(redis_client(redis.url), redis_errors())[0] for _ in range(2)]
    benches[0].keep("key", "Grüße")
    assert benches[1].find("key") == "Grüße"
    ttl_ms = redis_client(redis.url).pttl("openai-compat:answer:key")
    assert 3_590_000 < ttl_ms <= 3_600_000


@needs_redis
@pytest.mark.heavy
def test_a_real_server_that_dies_and_comes_back() -> None:
    with RedisServer() as server:
        bench, events = redis_bench(redis_client(server.url), redis_errors())
        bench.keep("key")
        server.stop()
        assert bench.find("key") is None
        server.start()
        bench.now_s += RETRY_S
        assert bench.find("key") is None
        bench.keep("key")
        assert bench.find("key") == "Hello"
        assert events == ["cache.failed", "cache.recovered"]
