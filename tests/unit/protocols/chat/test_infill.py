"""Plain completions over a chat model: what is asked, and what of the answer is shown, whole and in every split."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.config.catalog import Model, Price
from compat.errors import BadRequest
from compat.protocols.base import AnswerMemory, TranslationContext
from compat.protocols.chat.chunks import DONE
from compat.protocols.chat.infill import CompletionWriter, chat_body, read_completion, replayed, unfenced
from compat.protocols.events import BlockStart, Event, Start, Stop, TextDelta, Unknown, Used
from compat.protocols.notes import Notes
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage

ASKED: dict[str, Any] = {"model": " coder ", "prompt": "def f(", "suffix": "): pass"}


def envelope(**changes: Any) -> Envelope:
    return Envelope(json.dumps({**ASKED, **changes}).encode())


CTX = TranslationContext("coder", "m", Model(price=Price(1.0, 1.0)), "chatcmpl-ours", 7, is_stream=True, wants_usage=True)


def writer(echo: str = "") -> CompletionWriter:
    return CompletionWriter(replace(CTX, memory=AnswerMemory(echo=echo)), Notes())


def answer_in(pieces: list[str]) -> list[Event]:
    """An answer as events, a text delta for each piece."""
    return [Start("chatcmpl-1", 5), BlockStart(0, "text"), *(TextDelta(0, piece) for piece in pieces), Stop("end"), Used(Usage(3, 4))]


def documents(frames: bytes) -> list[Any]:
    return [json.loads(block[6:]) for block in frames.split(b"\n\n") if block.startswith(b"data: {")]


def shown(events: list[Event], echo: str = "") -> str:
    written = writer(echo)
    told = documents(b"".join(map(written.write, events)))
    return "".join(one["choices"][0]["text"] for one in told if one["choices"])


def whole(text: str, echo: str = "") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(writer(echo).body(answer_in([text])))
    return document


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
    document = whole("x", "def f(")
    assert (document["object"], document["model"], document["id"], document["created"]) == ("text_completion", "coder", "cmpl-1", 5)
    assert document["choices"] == [{"index": 0, "text": "def f(x", "logprobs": None, "finish_reason": "stop"}]
    assert (document["usage"]["prompt_tokens"], document["usage"]["cost_details"]) == (3, {"upstream_inference_cost": 7e-06})


def test_an_answer_without_an_identity_has_ours_and_what_it_lacks_is_noted() -> None:
    notes = Notes()
    written = CompletionWriter(CTX, notes)
    document = json.loads(written.body([BlockStart(0, "tool_call", "c", "f"), Unknown("x", "odd"), Stop("length")]))
    assert (document["id"], document["created"], document["choices"][0]["text"]) == ("cmpl-ours", 7, "")
    assert (written.reason, notes.told()) == ("length", ("left_out=odd",))


def test_usage_keeps_the_upstreams_words_and_an_estimate_says_that_it_is_one() -> None:
    told = documents(writer().write(Used(Usage(3, 4), {"prompt_tokens": 3, "x": 1})))[0]["usage"]
    assert (told["x"], told["cost_details"]) == (1, {"upstream_inference_cost": 3e-06})
    assert documents(writer().write(Used(Usage(3, 4, is_estimate=True))))[0]["usage"]["is_estimate"] is True
    assert CompletionWriter(replace(CTX, wants_usage=False), Notes()).write(Used(Usage(3, 4))) == b""


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
    assert whole(text)["choices"][0]["text"] == expected


CODE = st.text(st.sampled_from("ab=` \n\t"), max_size=12).filter(lambda text: "```" not in text)


FORMS = ["%s", "```\n%s\n```", "\n```py\n%s\n```\n", "```js\n%s", "```\n%s\n```\nThat is it.", "``%s", "`%s```"]


@given(CODE, st.sampled_from(FORMS), st.data())
def test_every_split_of_an_answer_shows_what_the_whole_one_is(code: str, form: str, data: st.DataObject) -> None:
    text = form % code
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert shown(answer_in(pieces)) == whole(text)["choices"][0]["text"]


def test_what_begins_without_a_fence_is_shown_as_it_comes() -> None:
    written = writer()
    told = [written.write(event) for event in answer_in(["  ", "`", "a", "```", "b"])]
    assert [b'"text"' in frames for frames in told] == [False, False, False, False, True, True, True, True, False]
    assert written.finish() == DONE


def test_echo_comes_first_and_once() -> None:
    assert shown(answer_in(["a", "b"]), "def f(") == "def f(ab"


def test_a_whole_completion_becomes_a_stream() -> None:
    body = json.dumps(whole("x")).encode()
    with_usage = replayed(body, True)
    assert with_usage.count(b"data: ") == 3
    assert json.loads(with_usage.split(b"\n\n")[1][6:])["usage"]["completion_tokens"] == 4
    assert replayed(body, False).count(b"data: ") == 2
