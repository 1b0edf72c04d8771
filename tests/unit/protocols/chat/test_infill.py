"""Plain completions over a chat model: what is asked, and what of the answer is shown, whole and in every split."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.errors import BadRequest, UpstreamBroken
from compat.protocols.chat.infill import CompletionStream, chat_body, completion_document, read_completion, replayed, unfenced
from compat.wire.envelope import Envelope
from compat.wire.sse import DONE, KEEP_ALIVE, data_frame
from tests.fakes.openai_answers import USAGE, chunk, completion, usage_chunk

ASKED: dict[str, Any] = {"model": " coder ", "prompt": "def f(", "suffix": "): pass"}


def envelope(**changes: Any) -> Envelope:
    return Envelope(json.dumps({**ASKED, **changes}).encode())


def frames_of(*chunks: dict[str, Any]) -> list[bytes]:
    return [data_frame(json.dumps(item).encode()) for item in chunks]


def answer_in(pieces: list[str], reason: str = "stop") -> list[bytes]:
    """A chat answer as frames, a text delta for each piece."""
    return frames_of(chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces), chunk({}, reason))


def shown(frames: list[bytes], echo: str = "") -> str:
    stream = CompletionStream("coder", echo)
    told = b"".join(map(stream.feed, frames))
    events = [json.loads(block[6:]) for block in told.split(b"\n\n") if block.startswith(b"data: {")]
    return "".join(event["choices"][0]["text"] for event in events)


def whole(text: str) -> str:
    return str(completion_document(completion(text), "coder")["choices"][0]["text"])


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": " "}, "model"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [5]}, "prompt"),
        ({"suffix": 5}, "suffix"),
        ({"n": 2}, "n"),
        ({"best_of": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
    ],
)
def test_a_field_that_is_wrong_is_named(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_completion(envelope(**changes))
    assert caught.value.param == param


def test_a_request_is_read_with_its_defaults() -> None:
    ask = read_completion(envelope(prompt=["def f("], suffix=None))
    assert (ask.model, ask.prompt, ask.suffix, ask.is_stream, ask.wants_usage, ask.max_tokens, ask.echoes) == (
        "coder",
        "def f(",
        "",
        False,
        False,
        256,
        False,
    )


def test_the_chat_shows_the_hole_and_carries_what_it_can() -> None:
    asked = envelope(stream=True, stream_options={"include_usage": True}, max_tokens=9, stop=["\n"], logprobs=5)
    body = json.loads(chat_body(asked, read_completion(asked), reasons=True))
    assert body["messages"][1]["content"] == "def f(<hole/>): pass"
    assert (body["max_tokens"], body["stop"], body["stream"], body["stream_options"]) == (9, ["\n"], True, {"include_usage": True})
    assert body["reasoning_effort"] == "none"
    assert "logprobs" not in body


def test_without_a_suffix_there_is_no_hole_and_an_empty_prompt_is_a_space() -> None:
    asked = envelope(prompt="", suffix="")
    body = json.loads(chat_body(asked, read_completion(asked), reasons=False))
    assert body["messages"][1]["content"] == " "
    assert not {"stream_options", "reasoning_effort"} & body.keys()


def test_a_whole_answer_is_a_completion() -> None:
    document = completion_document(completion("x"), "coder", "def f(")
    assert (document["object"], document["model"], document["usage"]) == ("text_completion", "coder", USAGE)
    assert document["choices"] == [{"index": 0, "text": "def f(x", "logprobs": None, "finish_reason": "stop"}]


@pytest.mark.parametrize("chat", [{}, {"choices": []}, {"choices": [5]}, {"choices": [{"message": {"content": [1]}}]}])
def test_an_answer_without_a_text_is_none(chat: dict[str, Any]) -> None:
    with pytest.raises(UpstreamBroken, match="no text"):
        completion_document(chat, "coder")


def test_an_answer_of_nothing_is_an_empty_text_and_usage_that_lacks_is_not_made_up() -> None:
    document = completion_document({"choices": [{"message": {}, "finish_reason": "stop"}]}, "coder")
    assert document["choices"][0]["text"] == ""
    assert (document["id"], document["created"], "usage" in document) == ("", 0, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a"),
        ("```\na\n```", "a"),
        ("\n```python\na\n```\n", "a"),
        ("```a```", "```a```"),
        ("``` a", "``` a"),
        ("```\na\n```\nand\n```\nb\n```", "```\na\n```\nand\n```\nb\n```"),
        ("```py\ndef f(): ", "def f(): "),
        ("```\na\n```\nThat is it.", "```\na\n```\nThat is it."),
    ],
)
def test_a_fence_around_the_whole_is_taken_off_also_where_its_end_was_cut(text: str, expected: str) -> None:
    assert unfenced(text) == expected
    assert whole(text) == expected


CODE = st.text(st.sampled_from("ab=` \n\t"), max_size=12).filter(lambda text: "```" not in text)


FORMS = ["%s", "```\n%s\n```", "\n```py\n%s\n```\n", "```js\n%s", "```\n%s\n```\nThat is it.", "``%s", "`%s```"]


@given(CODE, st.sampled_from(FORMS), st.data())
def test_every_split_of_an_answer_shows_what_the_whole_one_is(code: str, form: str, data: st.DataObject) -> None:
    text = form % code
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert shown(answer_in(pieces)) == whole(text)


def test_what_begins_without_a_fence_is_shown_as_it_comes() -> None:
    stream = CompletionStream("coder")
    told = [stream.feed(frame) for frame in answer_in(["  ", "`", "a", "```", "b"])]
    assert [b'"text"' in frames for frames in told] == [False, False, False, True, True, True, True]


def test_echo_comes_first_and_once() -> None:
    assert shown(answer_in(["a", "b"]), "def f(") == "def f(ab"


def test_comments_errors_usage_and_the_end_pass() -> None:
    stream = CompletionStream("coder")
    assert stream.feed(KEEP_ALIVE) == KEEP_ALIVE
    (usage,) = frames_of(usage_chunk())
    assert stream.feed(KEEP_ALIVE + usage).startswith(KEEP_ALIVE)
    error = b'data: {"error":{"message":"m"}}\n\n'
    assert stream.feed(error) == error
    assert stream.feed(DONE) == DONE


def test_a_whole_completion_becomes_a_stream() -> None:
    body = json.dumps(completion_document(completion("x"), "coder")).encode()
    with_usage = replayed(body, True)
    assert with_usage.count(b"data: ") == 3
    assert json.loads(with_usage.split(b"\n\n")[1][6:])["usage"] == USAGE
    assert replayed(body, False).count(b"data: ") == 2
