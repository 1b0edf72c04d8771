"""Chunks known by their bytes: what a template says must be what the decoder would have said, and all else is left to the decoder."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.config.catalog import Model
from compat.protocols.base import TranslationContext
from compat.protocols.chat.chunk_template import template_of
from compat.protocols.chat.passthrough import MOST_TEMPLATES, PassthroughStream

DATA = b'{"id":"c1","model":"theirs","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}'
THEIRS = b"data: " + DATA
OURS = b"data: " + DATA.replace(b"theirs", b"ours") + b"\n\n"
CONTEXT = TranslationContext(
    "ours", "theirs", Model(id="theirs"), "chatcmpl-1", 1, is_stream=True, wants_usage=True, count_prompt=lambda: 7
)


def chunk(delta: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    document = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "theirs", "choices": [choice], **more}
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


END = chunk({}).replace(b"null", b'"stop"')
USAGE = b'data: {"id":"c1","created":5,"model":"theirs","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}\n\n'


def test_a_chunk_that_differs_in_its_text_is_written_anew() -> None:
    template = template_of(DATA % b"Hel", OURS % b"Hel")
    assert template is not None
    assert template.rewritten(THEIRS % b'lo \\"you\\" \\u00e9') == (OURS % b'lo \\"you\\" \\u00e9', 17)
    assert template.rewritten(THEIRS % "é ✓".encode()) == (OURS % "é ✓".encode(), 6)
    assert template.rewritten(THEIRS % b"") == (OURS % b"", 0)


def test_several_chunks_in_one_read_are_written_anew_together() -> None:
    template = template_of(DATA % b"a", OURS % b"a")
    assert template is not None
    assert template.rewritten(b"\n\n".join([THEIRS % b"b", THEIRS % b"", THEIRS % b"cd"])) == (OURS % b"b" + OURS % b"" + OURS % b"cd", 3)


@pytest.mark.parametrize(
    "data",
    [
        THEIRS[:-3] % b"a",
        THEIRS % b"a" + b"\n\ndata: ",
        b": comment\n\n" + THEIRS % b"a",
        THEIRS % b"a" + b"\n\n: comment\n\n" + THEIRS % b"b",
        THEIRS % b"a" + b"\n\n\n" + THEIRS % b"b",
        THEIRS.replace(b"null}", b'"stop"}') % b"a",
        THEIRS.replace(b'"c1"', b'"c2"') % b"a",
        THEIRS % b'a","refusal":"no',
        THEIRS % b"a\nb",
        THEIRS % b"\\x",
        THEIRS % b"\\ud83d",
        THEIRS % b"\\ud83d\\ude00",
        THEIRS % b"\xff",
        THEIRS % b"a\\",
    ],
    ids=[
        *(
            "cut",
            "a beginning",
            "a comment before",
            "a comment between",
            "more blank lines",
            "an end",
            "another id",
            "another key",
            "a line end",
        ),
        *("an unknown escape", "half a pair", "a pair of surrogates", "no UTF-8", "an escaped quote"),
    ],
)
def test_all_else_is_left_to_the_decoder(data: bytes) -> None:
    template = template_of(DATA % b"x", OURS % b"x")
    assert template is not None
    assert template.rewritten(data) is None


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (b'{"choices":[]}', b'data: {"choices":[]}\n\n'),
        (DATA % b"\\u00e9", OURS % "é".encode()),
        (DATA % b"a", b'data: {"choices":[]}\n\n'),
        (DATA.replace(b"null", b'"%s"' % (b"x" * 20_000)) % b"a", OURS % b"a"),
        (DATA % b"\\ud83d", OURS % b"\\ud83d"),
    ],
    ids=["no text", "a text that was written otherwise", "no text of ours", "a long chunk", "half a pair"],
)
def test_there_is_no_template_of_a_chunk_without_a_text_that_stays_as_it_is(theirs: bytes, ours: bytes) -> None:
    assert template_of(theirs, ours) is None


def run(stream: PassthroughStream, pieces: list[bytes]) -> tuple[bytes, Any, Any]:
    out = b"".join(stream.feed(piece) for piece in pieces)
    if stream.failure is not None:
        return out, type(stream.failure), None
    return out + stream.finish(), stream.usage, stream.stop_reason


class Undecided(PassthroughStream):
    """Decodes every chunk."""

    def translate_known(self, text: bytes) -> None:
        return None


@given(
    st.lists(
        st.one_of(
            st.text(max_size=8).map(lambda text: chunk({"content": text})),
            st.text(max_size=8).map(lambda text: chunk({"reasoning_content": text})),
            st.text(max_size=8).map(lambda text: chunk({"content": text}, usage={"prompt_tokens": 3, "completion_tokens": 4})),
            st.text(max_size=8).map(lambda text: chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})),
            st.sampled_from([b": comment\n\n", chunk({}), END]),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 2000), max_size=6),
)
def test_a_stream_read_by_templates_is_the_stream_that_is_decoded(events: list[bytes], cuts: list[int]) -> None:
    whole = chunk({"role": "assistant", "content": "x"}) + b"".join(events) + END + USAGE + b"data: [DONE]\n\n"
    places = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})
    pieces = [whole[begin:end] for begin, end in itertools.pairwise(places)]
    expected = run(Undecided(CONTEXT), pieces)
    assert run(PassthroughStream(CONTEXT), pieces) == expected
    assert run(PassthroughStream(CONTEXT), [event + b"\n\n" for event in whole.split(b"\n\n")[:-1]]) == expected


def test_an_estimate_of_usage_counts_the_text_of_templates() -> None:
    words = [f"word {number} " for number in range(200)]
    pieces = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": word}) for word in words), END]
    _, usage, _ = run(PassthroughStream(CONTEXT), pieces)
    assert usage.is_estimate
    assert usage.completion_tokens == pytest.approx(sum(map(len, words)) / 4, rel=0.25)


def test_an_upstream_whose_chunks_always_differ_is_decoded_without_more_templates() -> None:
    stream = PassthroughStream(CONTEXT)
    for number in range(MOST_TEMPLATES + 4):
        stream.feed(chunk({"role": "assistant", "content": "word"}, obfuscation="x" * number))
    assert stream._templates_left == 0
    assert stream.feed(chunk({"content": "word"}, obfuscation="")).endswith(b'"obfuscation": ""}\n\n')
