"""Text that is handed on as it was written: the same answer as through the decoder, for any text, any padding, any split."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.config.catalog import Model
from compat.errors import UpstreamBroken
from compat.protocols.base import TranslationContext
from compat.protocols.chat.writer import ChatWriter
from compat.protocols.events import RefusalDelta, TextDelta
from compat.protocols.joined import EventReader, JoinedStream, RawDeltas
from compat.protocols.messages.reader import MessagesReader
from compat.protocols.notes import Notes
from compat.protocols.raw_text import EventShape, is_utf8, shape_of, text_of
from tests.unit.protocols.writers import PlainWriter

KEY = re.compile(rb'"text"\s*:\s*"')
EVENT = b'data: {"index":0,"delta":{"type":"text_delta","text":"%s"}}'
CONTEXT = TranslationContext("alias", "target", Model(), "chatcmpl-1", 1, is_stream=True, wants_usage=True)


def shape() -> EventShape:
    found = shape_of(EVENT % b"Hel", KEY, "Hel")
    assert found is not None
    return found


@pytest.mark.parametrize("value", [b"", b"lo", b'\\"you\\" \\u00e9', "é ✓".encode(), b"} }", b"a\\\\"])
def test_the_string_of_an_event_with_the_shape_is_known(value: bytes) -> None:
    assert shape().values(EVENT % value) == [value]


def test_the_strings_of_several_events_are_known_at_once() -> None:
    assert shape().values(b"\n\n".join([EVENT % b"a", EVENT % b"", EVENT % b"b c"])) == [b"a", b"", b"b c"]


@pytest.mark.parametrize("padding", [b" ", b" " * 40])
def test_blanks_at_the_end_of_an_event_are_no_other_shape(padding: bytes) -> None:
    assert shape().values((EVENT % b"text }")[:-1] + padding + b"}") == [b"text }"]


@pytest.mark.parametrize(
    "text",
    [
        b": comment",
        EVENT % b"a" + b",",
        EVENT % b"a" + b"}",
        EVENT % b'a","more":"b',
        EVENT % b"a\nb",
        EVENT % b"\\ud83d",
        EVENT % b"\xff",
        EVENT % b"a" + b"\n\n: comment\n\n" + EVENT % b"b",
        (EVENT % b"a")[:-3],
    ],
)
def test_anything_else_is_left_to_the_decoder(text: bytes) -> None:
    assert shape().values(text) is None


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b'{"text":"a","text":"a"}', "a"),
        (b'{"words":"a"}', "a"),
        (b'{"text":"a"}', "b"),
        (b'{"text":"\\ud83d\\ude00"}', "\U0001f600"),
    ],
)
def test_an_event_that_is_not_plain_has_no_shape(event: bytes, text: str) -> None:
    assert shape_of(event, KEY, text) is None


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_the_text_is_that_of_all_parts(texts: list[str]) -> None:
    assert text_of([json.dumps(text, ensure_ascii=False).encode()[1:-1] for text in texts]) == "".join(texts)


def test_what_is_not_utf8_is_seen() -> None:
    assert is_utf8("é".encode())
    assert not is_utf8(b"\xe9")


def test_a_writer_that_knows_no_raw_text_writes_the_events() -> None:
    deltas = RawDeltas(TextDelta, 3, [b"a\\n", b"b"])
    assert PlainWriter().write_raw(deltas) == b"TextDelta(index=3, text='a\\n')TextDelta(index=3, text='b')"
    assert PlainWriter().write(RefusalDelta(0, "no")) == b"RefusalDelta(index=0, text='no')"


# Whole streams, through the reader and the writer.

PIECES = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8)


def events(blocks: list[tuple[str, list[str]]], padding: int) -> bytes:
    """An answer of these blocks, as Anthropic streams it."""
    rows: list[dict[str, Any]] = [{"type": "message_start", "message": {"usage": {"input_tokens": 5}}}]
    for index, (kind, pieces) in enumerate(blocks):
        opening, delta, key = OPENINGS[kind]
        if kind == "tool_use":
            arguments = json.dumps({"a": pieces})
            pieces = [arguments[at : at + 3] for at in range(0, len(arguments), 3)]  # arguments are JSON
        rows.append({"type": "content_block_start", "index": index, "content_block": opening})
        rows += [{"type": "content_block_delta", "index": index, "delta": {"type": delta, key: piece}} for piece in pieces]
        rows.append({"type": "content_block_stop", "index": index})
    rows.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}})
    rows.append({"type": "message_stop"})
    texts = (json.dumps(row, ensure_ascii=number % 2 == 0, separators=(",", ":")) for number, row in enumerate(rows))
    pads = (" " * (number * padding % 7) for number in range(len(rows)))
    return "".join(f"event: {row['type']}\ndata: {text[:-1]}{pad}}}\n\n" for row, text, pad in zip(rows, texts, pads, strict=True)).encode()


OPENINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "text": ({"type": "text", "text": ""}, "text_delta", "text"),
    "thinking": ({"type": "thinking", "thinking": "", "signature": "s"}, "thinking_delta", "thinking"),
    "tool_use": ({"type": "tool_use", "id": "t1", "name": "f", "input": {}}, "input_json_delta", "partial_json"),
}
BLOCKS = st.lists(st.tuples(st.sampled_from(list(OPENINGS)), PIECES), max_size=4)


class DecodingReader(MessagesReader):
    """Knows no delta by its bytes."""

    def known(self, text: bytes) -> RawDeltas | None:
        """See `EventReader`."""
        return None


def streamed(parts: list[bytes], reader: type[MessagesReader] = MessagesReader) -> tuple[list[Any], JoinedStream]:
    """The client's chunks, and the stream that they came through."""
    stream = JoinedStream(CONTEXT, reader, ChatWriter)
    frames = b"".join(map(stream.feed, parts))
    assert stream.failure is None
    frames += stream.finish(is_whole=True)
    chunks = [json.loads(line[6:]) for line in frames.split(b"\n\n") if line not in {b"", b"data: [DONE]"}]
    return chunks, stream


@given(BLOCKS, st.integers(0, 3), st.data())
def test_known_deltas_say_what_decoded_ones_say(blocks: list[tuple[str, list[str]]], padding: int, data: st.DataObject) -> None:
    body = events(blocks, padding)
    at = data.draw(st.integers(0, len(body)))
    chunks, stream = streamed([body[:at], body[at:]])
    decoded, reference = streamed([body], DecodingReader)
    assert chunks == decoded
    assert (stream.usage, stream.thinking) == (reference.usage, reference.thinking)


def test_most_deltas_of_a_long_text_are_not_decoded() -> None:
    body = events([("text", [f"word {number} " for number in range(50)])], 0)
    reader = MessagesReader(CONTEXT, Notes())
    decoded = [block for block in body.split(b"\n\n") if block and reader.known(block) is None and reader.read(block) is not None]
    assert [block for block in decoded if b"_delta" in block and b"text_delta" in block] == decoded[2:3]


def test_what_was_written_so_far_counts_text_that_is_not_decoded_yet() -> None:
    stream = JoinedStream(CONTEXT, MessagesReader, ChatWriter)
    whole = events([("text", ["x" * 400] * 5)], 0)
    stream.feed(whole[: whole.index(b"event: content_block_stop")])
    assert stream.usage_so_far().completion_tokens >= 500


@pytest.mark.slow
def test_deltas_that_are_known_count_for_the_bound_of_an_answer() -> None:
    reader = MessagesReader(CONTEXT, Notes())
    body = events([("text", ["x"])], 0).split(b"\n\n")
    for block in body[:3]:
        reader.read(block)
    many = b"\n\n".join([body[2].replace(b'"x"', b'"' + b"x" * 1_000_000 + b'"')] * 33)
    assert reader.known(many) is not None
    with pytest.raises(UpstreamBroken, match="more than 67108864 bytes"):
        [reader.known(many) for _ in range(2)]


def test_a_reader_knows_no_deltas_by_their_bytes_unless_it_says_so() -> None:
    assert EventReader.known(MessagesReader(CONTEXT, Notes()), EVENT % b"a") is None
