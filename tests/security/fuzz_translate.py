"""Hostile calls and hostile answers for the translators, pure: no error but those of the tree, no frame that is none."""

# ruff: noqa: PT017  # either outcome is right, and each has its rules
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from compat.config.catalog import Model, Price
from compat.errors import ClientError, GatewayError, UpstreamError
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext, Translator, WireApi
from compat.protocols.chat.check import check_messages
from compat.protocols.chat.chunks import DONE, completion_frames
from compat.protocols.chat.errors import error_body, error_frame
from compat.protocols.upstream_errors import refusal_of
from compat.wire.envelope import Envelope
from tests.cases import messages_strategies as odd
from tests.cases.messages_checks import feed
from tests.security import fuzz_cases as cases
from tests.security.fuzz_wire import Cut, cut, places

OPENAI, ANTHROPIC = TRANSLATORS["openai.chat", "openai.chat"], TRANSLATORS["openai.chat", "anthropic.messages"]
LLAMA, RESPONSES = TRANSLATORS["openai.chat", "llama.chat"], TRANSLATORS["openai.chat", "openai.responses"]
CTX = TranslationContext("alias", "their-model", Model(price=Price(1.0, 10.0)), "chatcmpl-ours", 17, is_stream=True, wants_usage=True)
GROWTH = 40
"""How many times longer than what was sent a stream may become: a piece of text of one letter becomes a whole chunk."""


def call_is_translated_or_refused_as_the_clients_fault(translator: Translator) -> Callable[[bytes], None]:
    """A translated call is JSON; a refused one is a 4xx, and names what is wrong. The input is unchanged."""

    def check(body: bytes) -> None:
        try:
            envelope = Envelope(body)
            before = bytes(envelope.body)
            if "messages" in envelope and envelope.starts_with("messages", b"["):
                request = translator.request(envelope, CTX)
                assert json.loads(request.body)
                assert all(name.isascii() and value.isprintable() for name, value in request.headers.items())
                assert all(note.isprintable() for note in request.notes), request.notes
                assert envelope.body == before
                check_messages(envelope)
        except ClientError as error:
            assert 400 <= error.status < 500
            assert error.message
            error_body(error)

    return check


def frames_are_frames(frames: bytes) -> None:
    """Every one is a chunk of JSON, an error or the end mark, on one line."""
    blocks = frames.split(b"\n\n")
    assert blocks.pop() == b""
    for block in blocks:
        assert block.startswith(b"data: ")
        assert b"\n" not in block
        assert b"\r" not in block
        assert block == DONE.strip() or isinstance(json.loads(block[6:]), dict)


def stream_is_frames_or_the_upstreams_fault(translator: Translator) -> Callable[[Cut], None]:
    def check(sent: Cut) -> None:
        stream = translator.stream(CTX)
        frames, error = feed(stream, cut(*sent))
        frames_are_frames(frames)
        assert len(frames) <= (len(sent[0]) + 300) * GROWTH
        if error is not None:
            assert isinstance(error, UpstreamError | ClientError), error
            frames_are_frames(error_frame(error))

    return check


def answer_is_a_completion_or_the_upstreams_fault(translator: Translator) -> Callable[[bytes], None]:
    def check(body: bytes) -> None:
        try:
            answer = translator.response(body, CTX)
            if answer.continuation is None:
                completion = json.loads(answer.body)
                assert completion["model"] == "alias"
                assert isinstance(completion["choices"], list)
                frames_are_frames(completion_frames(answer.body, wants_usage=True))
        except GatewayError as error:
            assert isinstance(error, UpstreamError | ClientError), error
            error_body(error)

    return check


def refusal_is_told(sent: tuple[int, Mapping[str, str], bytes]) -> None:
    """In words that any log line and any header can hold, of a bounded length, with a wait that is none or a number."""
    error = refusal_of(*sent, "fake")
    assert 400 <= error.status < 600
    assert len(error.message) < 5000
    assert all(letter.isprintable() or letter == "\n" for letter in error.message), error.message
    assert error.retry_after_s is None or error.retry_after_s >= 0
    json.loads(error_body(error))
    frames_are_frames(error_frame(error))


WAITS = ("0", "-5", "1e400", "nan", "inf", "9" * 400, "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Oct 9999 99:28:00", "\x00", "½", "0x5", "")
refusals = st.tuples(
    st.integers(300, 599),
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.sampled_from(WAITS) | cases.texts),
    cases.openai_answers
    | cases.noise
    | st.builds(
        lambda error: cases.encoded({"error": error}),
        cases.values | st.dictionaries(st.sampled_from(["message", "type", "code", "param"]), cases.values),
    )
    | odd.junk.map(cases.encoded),
)

PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "openai-call": (cases.bodies, call_is_translated_or_refused_as_the_clients_fault(OPENAI)),
    "anthropic-call": (cases.bodies, call_is_translated_or_refused_as_the_clients_fault(ANTHROPIC)),
    "llama-call": (cases.bodies, call_is_translated_or_refused_as_the_clients_fault(LLAMA)),
    "openai-stream": (st.tuples(cases.openai_streams | cases.noise, places), stream_is_frames_or_the_upstreams_fault(OPENAI)),
    "anthropic-stream": (st.tuples(cases.anthropic_streams | cases.noise, places), stream_is_frames_or_the_upstreams_fault(ANTHROPIC)),
    "openai-answer": (cases.openai_answers | cases.noise, answer_is_a_completion_or_the_upstreams_fault(OPENAI)),
    "anthropic-answer": (cases.anthropic_answers | cases.noise, answer_is_a_completion_or_the_upstreams_fault(ANTHROPIC)),
    "responses-call": (cases.bodies, call_is_translated_or_refused_as_the_clients_fault(RESPONSES)),
    "responses-stream": (st.tuples(cases.responses_streams | cases.noise, places), stream_is_frames_or_the_upstreams_fault(RESPONSES)),
    "responses-answer": (cases.responses_answers | cases.noise, answer_is_a_completion_or_the_upstreams_fault(RESPONSES)),
    "refusal": (refusals, refusal_is_told),
}
TRANSLATED: frozenset[tuple[WireApi, WireApi]] = frozenset(
    {("openai.chat", "openai.chat"), ("openai.chat", "anthropic.messages"), ("openai.chat", "llama.chat")}
    | {("openai.chat", "openai.responses")}
)
"""The pairs that are tried here; a test sees to it that none is forgotten."""
