"""Searches that the gateway runs for a model: one answer to the client, whole and streamed, whatever its parts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.errors import BadRequest
from compat.protocols import TRANSLATORS
from compat.protocols.base import AnswerMemory, MessagesSubset, SearchTool, StreamTranslator, TranslationContext, Translator
from compat.protocols.events import Found, Result
from compat.protocols.joined import EventReader
from compat.protocols.messages.client import only_searches
from compat.protocols.notes import Notes
from compat.protocols.refusals import SEARCH_MARK
from compat.protocols.request import Text, ToolResult, Unknown
from compat.protocols.sealed import PREFIX, Sealer
from compat.protocols.search import MAX_USES, SearchingReader, answered, fitting
from compat.protocols.served import SEARCH_ID, as_call, search_id, words_of
from compat.protocols.upstream_protocol import NO_SEARCH
from compat.wire.envelope import Envelope
from tests.cases.messages_client import call, events_of, message_of, plain
from tests.fakes import responses_items as items
from tests.fakes.anthropic_answers import event_bytes as messages_bytes
from tests.fakes.anthropic_answers import message as messages_message
from tests.fakes.anthropic_answers import stream_events as messages_events
from tests.fakes.anthropic_answers import text, tool_use
from tests.fakes.openai_answers import USAGE, chunk, event, text_chunks, usage_chunk
from tests.fakes.responses_answers import event_bytes, stream_events

PAIR = TRANSLATORS["anthropic.messages", "openai.chat"]
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
READ = {"name": "read", "input_schema": {"type": "object"}}
ASK = {"role": "user", "content": "Perform a web search for the query: lighthouse"}
CTX = TranslationContext(
    "claude", "deep-x", Model(id="deep-x", reasoning=True), "msg_1", 17, is_stream=True, searches=True, sealer=Sealer([b"secret"])
)
PAGES = Found((Result("https://a.example/x", "A", "Tall."), Result("https://b.example", "B")))
END = [chunk({}, "tool_calls"), usage_chunk()]
DONE = text_chunks("It is tall.")


def wants(*queries: str, first: Sequence[dict[str, Any]] = (), end: Sequence[dict[str, Any]] = tuple(END)) -> list[dict[str, Any]]:
    """A part that ends with searches."""
    calls = [
        call(at, id=f"call-{at}", function={"name": "web_search", "arguments": json.dumps({"query": query})})
        for at, query in enumerate(queries)
    ]
    return [*first, *calls, *end]


def body(**fields: Any) -> Envelope:
    return Envelope(json.dumps({"model": "claude", "max_tokens": 100, "messages": [ASK], "tools": [SEARCH], **fields}).encode())


class Session:
    """One call, whole or streamed, whose searches find `found`. `sent` are the bodies for the upstream, `asked` what was searched for."""

    def __init__(self, found: Found = PAGES, ctx: TranslationContext = CTX, pair: Translator = PAIR, **fields: Any) -> None:
        self.envelope, self.ctx, self.pair, self.found = body(**fields), ctx, pair, found
        self.sent: list[dict[str, Any]] = []
        self.asked: list[Any] = []
        self.notes: tuple[str, ...] = ()

    def _request(self, ctx: TranslationContext) -> TranslationContext:
        before = self.envelope.body
        translated = self.pair.request(self.envelope, ctx)
        assert self.envelope.body == before
        self.sent.append(json.loads(translated.body))
        self.notes = translated.notes
        return dataclasses.replace(ctx, memory=translated.memory)

    def _find(self, continuation: Any) -> list[Found]:
        self.asked += [query.words for query in continuation.queries]
        return [Found(error=query.error) if query.error else self.found for query in continuation.queries]

    def streamed(self, *parts: Sequence[dict[str, Any]], step: int = 0, has_end: bool = True) -> dict[str, Any]:
        ctx = self._request(self.ctx)
        stream, frames = self.pair.stream(ctx), b""
        for chunks in parts:
            data = b"".join(map(event, chunks)) + (event("[DONE]") if has_end else b"")
            for start in range(0, len(data), step or len(data)):
                frames += stream.feed(data[start : start + (step or len(data))])
                assert stream.failure is None
            if stream.continuation is None:
                break
            frames += stream.searched(self._find(stream.continuation))
            ctx = self._request(dataclasses.replace(ctx, continuation=stream.continuation))
            stream.resume()
        frames += stream.finish(is_whole=True)
        self.notes += tuple(stream.notes)
        self.stream: StreamTranslator = stream
        return message_of(events_of(frames))

    def whole(self, *parts: Sequence[dict[str, Any]], resumes: bool = True) -> dict[str, Any]:
        ctx = dataclasses.replace(self.ctx, is_stream=False, resumes=resumes)
        for chunks in parts:
            ctx = self._request(ctx)
            answer = self.pair.response(json.dumps(_whole(chunks)).encode(), ctx)
            if answer.continuation is None:
                self.notes += answer.notes
                return plain(json.loads(answer.body))
            ctx = dataclasses.replace(ctx, continuation=answered(answer.continuation, self._find(answer.continuation)))
        raise AssertionError("the answer did not end")


def _whole(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same answer as one body."""
    choices = [one["choices"][0] for one in chunks if one["choices"]]
    deltas = [choice["delta"] for choice in choices]
    message: dict[str, Any] = {"role": "assistant"}
    for key in ("content", "reasoning_content"):
        message[key] = "".join(delta.get(key) or "" for delta in deltas)
    message["tool_calls"] = [piece for delta in deltas for piece in delta.get("tool_calls", ())]
    return {"choices": [{"index": 0, "message": message, "finish_reason": choices[-1]["finish_reason"]}], "usage": USAGE}


def kinds(message: dict[str, Any]) -> list[str]:
    return [block["type"] for block in message["content"]]


ROWS: dict[str, tuple[list[Sequence[dict[str, Any]]], list[str], int]] = {
    "none": ([DONE], ["text"], 0),
    "one": ([wants("lighthouse"), DONE], ["server_tool_use", "web_search_tool_result", "text"], 1),
    "two at once": (
        [wants("a", "b"), DONE],
        ["server_tool_use", "server_tool_use", "web_search_tool_result", "web_search_tool_result", "text"],
        2,
    ),
    "words and thoughts before, and another one after it": (
        [wants("a", first=[chunk({"reasoning_content": "Hm."}), chunk({"content": "I look."})]), wants("b"), DONE],
        ["thinking", "text", *["server_tool_use", "web_search_tool_result"] * 2, "text"],
        2,
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_whole_and_streamed_answers_with_searches_are_equal(row: Any) -> None:
    parts, expected, searches = row
    streamed = Session().streamed(*parts)
    assert kinds(streamed) == expected
    assert streamed == Session().whole(*parts)
    assert streamed["stop_reason"] == "end_turn"
    counts = streamed["usage"]
    assert (counts.get("server_tool_use") or {}).get("web_search_requests", 0) == searches
    told = sum(USAGE[name] * len(parts) for name in ("prompt_tokens",))
    assert counts["input_tokens"] + counts["cache_read_input_tokens"] == told


@pytest.mark.parametrize("step", [1, 7, 64])
def test_it_is_the_same_in_every_split(step: int) -> None:
    parts = ROWS["words and thoughts before, and another one after it"][0]
    assert Session().streamed(*parts, step=step) == Session().streamed(*parts)


@pytest.mark.parametrize("has_end", [True, False])
def test_the_client_sees_the_search_and_what_it_found(has_end: bool) -> None:
    message = Session().streamed(wants("lighthouse"), DONE, has_end=has_end)
    search, found, text = message["content"]
    assert (search["name"], search["input"]) == ("web_search", {"query": "lighthouse"})
    assert search["id"] == found["tool_use_id"] == search_id("call-0")
    assert search["id"].replace("_", "").isalnum()
    assert [(one["type"], one["title"], one["url"]) for one in found["content"]] == [
        ("web_search_result", "A", "https://a.example/x"),
        ("web_search_result", "B", "https://b.example"),
    ]
    assert text["text"] == "It is tall."


def test_the_model_gets_a_function_and_then_what_it_found_with_its_own_thoughts() -> None:
    session = Session(tool_choice={"type": "tool", "name": "web_search"})
    session.streamed(wants("lighthouse", first=[chunk({"reasoning_content": "Hm."}), chunk({"content": "I look."})]), DONE)
    first, second = session.sent
    assert session.asked == ["lighthouse"]
    assert [tool["function"]["name"] for tool in first["tools"]] == ["web_search"]
    assert first["tools"][0]["function"]["parameters"]["required"] == ["query"]
    assert first["tool_choice"] == {"type": "function", "function": {"name": "web_search"}}
    assert "tool_choice" not in second
    assert second["tools"] == first["tools"]
    assert second["messages"][: len(first["messages"])] == first["messages"]
    said, result = second["messages"][len(first["messages"]) :]
    assert (said["content"], said["reasoning_content"]) == ("I look.", "Hm.")
    assert [one["function"] for one in said["tool_calls"]] == [{"name": "web_search", "arguments": '{"query": "lighthouse"}'}]
    assert result == {"role": "tool", "tool_call_id": "call-0", "content": "A: https://a.example/x\nTall.\nB: https://b.example"}
    assert "emulated=web_search" in session.notes


def test_a_history_with_searches_says_what_the_answer_was_made_of() -> None:
    session = Session()
    message = session.streamed(wants("lighthouse"), DONE)
    later = Session(messages=[ASK, {"role": "assistant", "content": message["content"]}, {"role": "user", "content": "Thanks."}])
    later.streamed(DONE)
    made, said = session.sent[1]["messages"], later.sent[0]["messages"]
    assert said[0] == made[0]
    assert said[1]["tool_calls"][0]["id"] == made[1]["tool_calls"][0]["id"] == "call-0"
    assert json.loads(said[1]["tool_calls"][0]["function"]["arguments"]) == {"query": "lighthouse"}
    assert said[2] == made[2]
    assert said[3] == {"role": "assistant", "content": "It is tall."}


def test_no_more_searches_are_run_than_the_client_allows() -> None:
    tools = [{**SEARCH, "max_uses": 1}]
    message = Session(tools=tools).streamed(wants("a", "b"), wants("c"), DONE)
    assert message == Session(tools=tools).whole(wants("a", "b"), wants("c"), DONE)
    errors = [block["content"] for block in message["content"] if block["type"] == "web_search_tool_result"][1:]
    assert errors == [{"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}] * 2


def test_there_is_a_bound_where_the_client_names_none() -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    message = Session(tools=tools).streamed(wants(*map(str, range(MAX_USES + 1))), DONE)
    assert isinstance(message["content"][2 * MAX_USES + 1]["content"], dict)


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"query": 5}', '{"query": " "}', '{"q": "a"}'])
def test_a_search_for_nothing_is_an_error_that_the_model_sees(arguments: str) -> None:
    part = [call(0, function={"name": "web_search", "arguments": arguments}), *END]
    session = Session()
    message = session.streamed(part, DONE)
    assert message["content"][1]["content"]["error_code"] == "invalid_tool_input"
    assert session.sent[1]["messages"][-1]["content"] == "error: invalid_tool_input"
    assert message["content"][0]["id"] == search_id("search_0")


def test_a_search_that_found_nothing_says_so() -> None:
    session = Session(Found())
    message = session.streamed(wants("a"), DONE)
    assert message["content"][1].get("content") == []
    assert session.sent[1]["messages"][-1]["content"] == "Nothing was found."


def test_a_search_beside_calls_of_the_clients_own_tools_is_not_run() -> None:
    part = [*wants("a", end=()), call(1, id="call_1", function={"name": "read", "arguments": "{}"}), *END]
    streamed, whole = Session(tools=[SEARCH, READ]), Session(tools=[SEARCH, READ])
    message = streamed.streamed(part)
    assert sorted(kinds(message)) == ["server_tool_use", "tool_use", "web_search_tool_result"]
    assert kinds(whole.whole(part)) == kinds(message)
    assert message["stop_reason"] == "tool_use"
    assert streamed.asked == whole.asked == []
    assert "unrun=web_search" in streamed.notes
    assert "unrun=web_search" in whole.notes


def test_the_last_part_that_may_be_asked_for_is_the_end() -> None:
    streamed = Session()
    ctx = streamed._request(CTX)
    stream = PAIR.stream(ctx)
    frames = stream.feed(b"".join(map(event, wants("a"))) + event("[DONE]"))
    stream.settle()
    message = message_of(events_of(frames + stream.finish(is_whole=True)))
    assert message["content"][1]["content"]["error_code"] == "unavailable"
    assert message["stop_reason"] == "end_turn"
    assert message == Session().whole(wants("a"), resumes=False)


def test_usage_of_an_answer_that_is_cut_short_is_that_of_all_parts() -> None:
    session = Session()
    ctx = session._request(CTX)
    stream = PAIR.stream(ctx)
    stream.feed(b"".join(map(event, wants("a"))) + event("[DONE]"))
    assert stream.continuation is not None
    stream.searched([PAGES])
    stream.resume()
    assert stream.stop_reason is None
    stream.feed(event(chunk({"content": "It is tall, and white."})))
    usage = stream.usage_so_far()
    assert usage.is_estimate
    assert usage.prompt_tokens >= 11


def test_sealed_reasoning_goes_back_before_its_search() -> None:
    pair = TRANSLATORS["anthropic.messages", "openai.responses"]
    ctx = dataclasses.replace(CTX, refused_parameters=frozenset({SEARCH_MARK}))
    first = pair.request(body(), ctx)
    assert [tool["type"] for tool in json.loads(first.body)["tools"]] == ["function"]
    ctx = dataclasses.replace(ctx, memory=first.memory)
    reasoning = items.reasoning("Hm.")
    stream = pair.stream(ctx)
    said = [reasoning, items.function_call("web_search", '{"query": "a"}', "call_s")]
    frames = stream.feed(event_bytes(stream_events(said)))
    assert stream.continuation is not None
    frames += stream.searched([PAGES])
    second = json.loads(pair.request(body(), dataclasses.replace(ctx, continuation=stream.continuation)).body)
    assert [item["type"] for item in second["input"]] == ["message", "reasoning", "function_call", "function_call_output"]
    assert second["input"][1]["encrypted_content"] == reasoning["encrypted_content"]
    stream.resume()
    frames += stream.feed(event_bytes(stream_events([items.message()])))
    assert kinds(message_of(events_of(frames + stream.finish(is_whole=True)))) == [
        "thinking",
        "server_tool_use",
        "web_search_tool_result",
        "text",
    ]


def test_a_refusal_before_a_search_does_not_go_back() -> None:
    session = Session()
    session.streamed(wants("a", first=[chunk({"refusal": "No."})]), DONE)
    assert session.sent[1]["messages"][1]["content"] is None


def test_thoughts_without_a_secret_are_left_out() -> None:
    session = Session(ctx=dataclasses.replace(CTX, sealer=None))
    session.streamed(wants("a", first=[chunk({"reasoning_content": "Hm."})]), DONE)
    assert "reasoning_content" not in session.sent[1]["messages"][1]


def test_its_clients_keep_the_thoughts() -> None:
    ctx = dataclasses.replace(CTX, memory=AnswerMemory(search=SearchTool("web_search"), runs_search=True))
    reader = SearchingReader(_never, ctx, Notes())
    assert reader.thinking is None


def _never(ctx: TranslationContext, notes: Notes) -> EventReader:
    return _Never(ctx, notes)


class _Never(EventReader):
    """Reads nothing."""

    thinking = None

    def read(self, block: bytes) -> Any:
        raise AssertionError

    def end(self, *, is_whole: bool) -> Any:
        raise AssertionError

    def whole(self, body: bytes) -> Any:
        raise AssertionError

    def usage_so_far(self) -> Any:
        raise AssertionError

    def resume(self) -> None:
        raise AssertionError


def test_only_readers_that_search_take_what_was_found() -> None:
    with pytest.raises(NotImplementedError):
        _Never(CTX, Notes()).searched([])
    with pytest.raises(NotImplementedError):
        TRANSLATORS["openai.chat", "openai.chat"].stream(CTX).searched([])


# Where no search is configured.


def test_a_request_for_nothing_but_a_search_is_answered_with_words() -> None:
    ctx = dataclasses.replace(CTX, searches=False)
    answer = PAIR.foregone(body(), ctx)
    assert answer is not None
    message = json.loads(answer.body)
    assert message["content"] == [{"type": "text", "text": NO_SEARCH}]
    assert (message["stop_reason"], answer.stop_reason, answer.notes) == ("end_turn", "end_turn", ("search=not_configured",))


@pytest.mark.parametrize("tools", [[READ], [SEARCH, READ], [], None, "web_search_", {"a": "web_search_"}, ["web_search_"]])
def test_no_other_request_is(tools: Any) -> None:
    assert PAIR.foregone(body(tools=tools), dataclasses.replace(CTX, searches=False)) is None


def test_a_long_list_of_tools_is_not_even_looked_at() -> None:
    assert not only_searches(body(tools=[SEARCH, {**READ, "description": "x" * 20_000}]))


def test_nothing_is_foregone_where_searches_are_run() -> None:
    assert PAIR.foregone(body(), CTX) is None


# The client's request.


@pytest.mark.parametrize(
    "fields",
    [
        {"max_uses": 0},
        {"max_uses": "8"},
        {"max_uses": True},
        {"allowed_domains": "a.example"},
        {"blocked_domains": [5]},
        {"allowed_domains": ["a.example"] * 101},
        {"allowed_domains": ["a.example"], "blocked_domains": ["b.example"]},
    ],
)
def test_a_search_that_is_not_sound_is_refused(fields: Any) -> None:
    with pytest.raises(BadRequest, match=r"^tools\[0\]"):
        PAIR.request(body(tools=[{**SEARCH, **fields}]), CTX)


RESULTS = [
    Result("https://example.com/blog/a", "1"),
    Result("https://docs.example.com/x", "2"),
    Result("https://notexample.com/", "3"),
    Result("https://[bad", "4"),
    Result("https://example.com/blogs", "5"),
]


@pytest.mark.parametrize(
    ("tool", "left"),
    [
        (SearchTool("s"), "12345"),
        (SearchTool("s", allowed=("example.com",)), "125"),
        (SearchTool("s", allowed=("example.com/blog/",)), "1"),
        (SearchTool("s", allowed=("Docs.Example.com",)), "2"),
        (SearchTool("s", blocked=("example.com",)), "34"),
        (SearchTool("s", blocked=("com",)), "4"),
    ],
)
def test_results_are_of_the_domains_that_the_client_wants(tool: SearchTool, left: str) -> None:
    assert "".join(one.title for one in fitting(RESULTS, tool)) == left


# Blocks of a server's tools in a history.


def _blocks() -> Iterator[tuple[Any, Any]]:
    yield {"type": "server_tool_use", "id": f"{SEARCH_ID}zz", "name": "web_search", "input": {}}, f"{SEARCH_ID}zz"
    yield {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}, "srvtoolu_1"
    yield {"type": "server_tool_use", "id": search_id("call é"), "name": "web_search", "input": {}}, "call é"


@pytest.mark.parametrize(("value", "call_id"), list(_blocks()))
def test_the_calls_id_comes_back_out_of_a_searchs(value: Any, call_id: str) -> None:
    assert as_call(Unknown("w", "anthropic.messages", value["type"], value)).call_id == call_id


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "Nothing was found."),
        ({"type": "web_search_tool_result_error", "error_code": "unavailable"}, "error: unavailable"),
        ([{"type": "web_search_result", "title": "A", "url": "u", "encrypted_content": "of Anthropic"}], "A: u"),
        ([{"type": "web_search_result", "title": "A", "url": "u", "encrypted_content": f"{PREFIX}?!"}], "A: u"),
        ([{"type": "web_search_result", "title": "A", "url": "u", "encrypted_content": f"{PREFIX}/w"}], "A: u"),
        ([{"type": "web_search_result", "title": "A", "url": "u", "encrypted_content": 5}], "A: u"),
    ],
)
def test_what_a_search_found_is_words(content: Any, words: str) -> None:
    value = {"type": "web_search_tool_result", "tool_use_id": "s", "content": content}
    result = as_call(Unknown("w", "anthropic.messages", "web_search_tool_result", value))
    assert isinstance(result, ToolResult)
    assert [block.text for block in result.blocks if isinstance(block, Text)] == [words]


def test_what_another_tool_gave_may_be_nothing() -> None:
    value = {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"type": "x"}}
    result = as_call(Unknown("w", "anthropic.messages", "code_execution_tool_result", value))
    assert isinstance(result, ToolResult)
    assert result.blocks == ()
    assert words_of({"type": "x"}) == ""


# Services that are like Anthropic's.


SUBSET = MessagesSubset(frozenset({"model", "messages", "tools", "max_tokens", "stream"}), frozenset({"text", "tool_use", "tool_result"}))
LIKE = TRANSLATORS["anthropic.messages", "anthropic.messages"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_gateway_searches_for_services_that_are_like_anthropics_and_do_not(stream: bool) -> None:
    ctx = dataclasses.replace(CTX, subset=SUBSET, is_stream=stream)
    parts = [[tool_use("web_search", {"query": "a"})], [text("It is tall.")]]
    said: list[bytes] = []
    running: Any = None
    for blocks in parts:
        request = LIKE.request(body(stream=stream), ctx)
        ctx = dataclasses.replace(ctx, memory=request.memory)
        if stream:
            running = running or LIKE.stream(ctx)
            said.append(running.feed(messages_bytes(messages_events(blocks))))
            if running.continuation is not None:
                said.append(running.searched([PAGES]))
                ctx = dataclasses.replace(ctx, continuation=running.continuation)
                running.resume()
        else:
            answer = LIKE.response(json.dumps(messages_message(blocks)).encode(), ctx)
            said = [answer.body]
            if answer.continuation is not None:
                ctx = dataclasses.replace(ctx, continuation=answered(answer.continuation, [PAGES]))
    message = message_of(events_of(b"".join(said) + running.finish(is_whole=True))) if stream else json.loads(said[0])
    assert kinds(message) == ["server_tool_use", "web_search_tool_result", "text"]
    sent = json.loads(request.body)["messages"]
    assert [block["type"] for turn in sent[1:] for block in turn["content"]][:2] == ["tool_use", "tool_result"]


def test_where_it_can_not_the_answer_says_so_and_services_that_search_are_left_alone() -> None:
    ctx = dataclasses.replace(CTX, subset=SUBSET, searches=False)
    answer = LIKE.foregone(body(), ctx)
    assert answer is not None
    assert NO_SEARCH in str(json.loads(answer.body)["content"])
    assert LIKE.foregone(body(), dataclasses.replace(ctx, subset=None)) is None
    own = dataclasses.replace(SUBSET, tools=frozenset({"web_search"}))
    assert LIKE.foregone(body(), dataclasses.replace(ctx, subset=own)) is None
    assert json.loads(LIKE.request(body(), dataclasses.replace(ctx, subset=own, searches=True)).body)["tools"] == [SEARCH]
