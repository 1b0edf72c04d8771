"""What of an answer is worth keeping: the same from a whole answer and from its stream in every split, and only what is all text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.protocols.chat.chunks import DONE, completion_frames
from compat.protocols.chat.client import CHAT
from compat.protocols.client_protocol import Identity
from compat.reuse.whole_answer import Assembly, Kept, kept_of, pack, unpack
from compat.wire.sse import KEEP_ALIVE

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def choice(content: Any = "Hello", reason: Any = "stop", index: Any = 0, **message: Any) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": content, **message}, "finish_reason": reason, "logprobs": None}


def whole(*choices: Any, **more: Any) -> bytes:
    return json.dumps({"id": "chatcmpl-1", "created": 5, "model": "m", "choices": list(choices), "usage": USAGE, **more}).encode()


def chunk(delta: Any, reason: Any = None, index: Any = 0, **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": index, "delta": delta, "finish_reason": reason, **more}]}).encode() + b"\n\n"


def assembled(*frames: bytes) -> Kept | None:
    assembly = Assembly(CHAT)
    for frame in frames:
        assembly.feed(frame)
    return assembly.kept()


KEPT = [
    pytest.param(whole(choice()), id="text"),
    pytest.param(whole(choice("Grüße \u2028 \U0001f600\n\n")), id="any text"),
    pytest.param(
        whole(choice(reasoning_content="Hm.", refusal=None, tool_calls=[], annotations=[])), id="reasoning, and fields with nothing"
    ),
    pytest.param(whole(choice("a", index=1), choice("b", index=0)), id="two choices"),
    pytest.param(whole(choice(reasoning="Hm.") | {"native_finish_reason": "end_turn", "stop_reason": 7}), id="a server's notes on the end"),
]


@pytest.mark.parametrize("body", KEPT)
def test_a_stream_keeps_what_its_whole_answer_keeps(body: bytes) -> None:
    frames = completion_frames(body, wants_usage=True)
    kept = kept_of(CHAT, body)
    assert kept is not None
    assert assembled(KEEP_ALIVE, frames) == assembled(*(frames[i : i + 1] for i in range(len(frames)))) is not None
    streamed = assembled(frames)
    assert streamed is not None
    assert sorted(streamed.said, key=lambda one: one.index) == sorted(kept.said, key=lambda one: one.index)


@pytest.mark.parametrize("body", KEPT)
def test_what_was_kept_is_given_again(body: bytes) -> None:
    kept = unpack(pack(kept_of(CHAT, body)))
    assert kept is not None
    given = json.loads(CHAT.again(kept.said, Identity("chatcmpl-2", 7, "alias")))
    assert (given["id"], given["created"], given["model"], given["object"]) == ("chatcmpl-2", 7, "alias", "chat.completion")
    assert given["usage"] == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "cost_details": {"upstream_inference_cost": 0},
    }
    was = json.loads(body)["choices"]
    assert [row["message"]["content"] for row in given["choices"]] == [row["message"]["content"] for row in was]
    assert [(row["index"], row["finish_reason"]) for row in given["choices"]] == [(row["index"], "stop") for row in was]
    assert kept_of(CHAT, json.dumps(given).encode()) == kept


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls", None, "", ["stop"]])
def test_an_answer_that_did_not_come_to_its_end_is_not_kept(reason: Any) -> None:
    assert kept_of(CHAT, whole(choice(reason=reason))) is None
    assert assembled(chunk({"content": "a"}), chunk({}, reason), DONE) is None


@pytest.mark.parametrize(
    "message",
    [
        {"content": None},
        {"content": ""},
        {"content": "", "reasoning_content": "Hm."},
        {"refusal": "I can't."},
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"function_call": {"name": "f"}},
        {"audio": {"id": "1"}},
        {"annotations": [{"type": "url_citation"}]},
        {"content": [{"type": "text", "text": "a"}]},
        {"role": "user"},
    ],
    ids=str,
)
def test_an_answer_that_is_not_all_text_is_not_kept(message: dict[str, Any]) -> None:
    assert kept_of(CHAT, whole(choice(**message))) is None
    assert assembled(chunk({"content": "a", **message}), chunk({}, "stop"), DONE) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"\xff"',
        b"[" * 100_000,
        b"{}",
        b'{"choices": {}}',
        whole(),
        whole(None),
        whole(choice(), choice(reason="length")),
        whole(choice(index="0")),
        whole({**choice(), "message": None}),
        whole({**choice(), "message": {}}),
        whole({**choice(), "logprobs": {"content": []}}),
    ],
    ids=lambda body: repr(body[:60]),
)
def test_what_is_not_an_answer_is_not_kept(body: bytes) -> None:
    assert kept_of(CHAT, body) is None


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([], id="nothing"),
        pytest.param([DONE], id="only an end"),
        pytest.param([chunk({"content": "a"}, "stop")], id="no [DONE]"),
        pytest.param([chunk({"content": "a"}), DONE], id="no reason to end"),
        pytest.param([chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1), DONE], id="one of two choices ended"),
        pytest.param([chunk({"content": "a"}, "stop"), b'data: {"type": "error", "error": {"message": "x"}}\n\n', DONE], id="an error"),
        pytest.param([chunk({"content": "a"}, "stop"), DONE, chunk({"content": "b"})], id="more after the end"),
        pytest.param([chunk({"content": "a"}, "stop"), b"data: {\n\n", DONE], id="no JSON"),
        pytest.param([chunk({"content": "a"}, "stop"), b"data: 7\n\n", DONE], id="no chunk"),
        pytest.param([chunk({"content": "a"}, "stop"), b'data: {"choices": [7]}\n\n', DONE], id="no choice"),
        pytest.param([chunk({"content": "a"}, "stop"), b'data: {"choices": 7}\n\n', DONE], id="no choices"),
        pytest.param([chunk([1], "stop"), DONE], id="no delta"),
        pytest.param([chunk({"content": "a"}, "stop", "0"), DONE], id="no index"),
        pytest.param([chunk({"content": "a"}, "stop", logprobs={"content": []}), DONE], id="logprobs"),
    ],
)
def test_a_stream_that_is_not_a_whole_answer_is_not_kept(frames: list[bytes]) -> None:
    assert assembled(*frames) is None


def test_a_spoilt_stream_costs_nothing_more() -> None:
    assembly = Assembly(CHAT)
    assembly.feed(chunk({"content": "abc"}))
    assert assembly.size_bytes == 3
    assembly.spoil()
    assembly.feed(chunk({"content": "abc"}, "stop") + DONE)
    assert (assembly.size_bytes, assembly.kept()) == (0, None)


FORGED = [
    json.dumps({"said": [{"index": index, **said}]}).encode()
    for index, said in [
        (0, {"text": "x", "calls": "x"}),
        (0, {"text": "x", "role": "system"}),
        (0, {}),
        (0, {"text": ""}),
        (-1, {"text": "x"}),
        (10**9, {"text": "x"}),
    ]
] + [b'{"said": []}', b'{"said": [{"index": 0, "text": "x"}], "more": 1}', b'{"choices": [{"index": 0, "message": {"content": "x"}}]}']


@pytest.mark.parametrize(
    "packed", [None, b"", b"{", b'{"said": 7}', b"\xff", "{}", b"[" * 100_000, *FORGED], ids=lambda packed: repr(packed)[:20]
)
def test_what_is_damaged_is_nothing(packed: Any) -> None:
    assert unpack(packed) is None
