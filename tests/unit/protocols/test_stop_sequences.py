"""Stop sequences that an upstream does not know: the text ends before the first, however it is cut, and the answer with it."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from compat.errors import UpstreamBroken
from compat.protocols import TRANSLATORS
from compat.protocols.base import AnswerMemory, StreamTranslator
from compat.protocols.events import BlockStop, Event, Stop, Used
from compat.protocols.joined import EventReader
from compat.protocols.notes import Notes
from compat.protocols.responses.upstream import RESPONSES_UPSTREAM
from compat.protocols.stop_sequences import MAX_CHARS, StoppingReader, StopText
from compat.wire.sse import blocks_of
from tests.cases.messages_checks import Told, chunks_of, context, feed, told_by_chunks, told_by_completion
from tests.fakes import responses_items as items
from tests.fakes.responses_answers import event_bytes, events_of, incomplete, one_event, response
from tests.growth import check_growth

Item = dict[str, Any]
SOL = "gpt-6.1-sol"


def expected(text: str, sequences: Sequence[str]) -> tuple[str, str]:
    """What is shown of a text, and what was found, by looking at each of its beginnings."""
    for end in range(1, len(text) + 1):
        for sequence in sorted(sequences, key=len, reverse=True):
            if text[:end].endswith(sequence):
                return text[: end - len(sequence)], sequence
    return text, ""


def shown(pieces: Iterable[str], sequences: Sequence[str]) -> tuple[str, str]:
    text, said = StopText(sequences), ""
    for piece in pieces:
        said += text.take(piece)
        if text.found:
            return said, text.found
    return said + text.rest(), ""


def splits(text: str) -> Iterator[list[str]]:
    """Every way to cut a text."""
    for cuts in itertools.product((False, True), repeat=len(text) - 1):
        pieces, start = [], 0
        for place, is_cut in enumerate(cuts, 1):
            if is_cut:
                pieces.append(text[start:place])
                start = place
        yield [*pieces, text[start:]]


@pytest.mark.parametrize(
    "sequences",
    [["a"], ["ab"], ["aab"], ["abab"], ["aaa", "b"], ["ba", "aba"], ["abba", "bb", "aab"], ["bbbbbbb"]],
    ids=" ".join,
)
def test_a_text_ends_before_the_first_sequence_in_every_split(sequences: list[str]) -> None:
    for text in map("".join, itertools.product("ab", repeat=6)):
        outcome = expected(text, sequences)
        assert all(shown(pieces, sequences) == outcome for pieces in splits(text)), text


def test_long_pieces_and_long_sequences_are_the_same_as_short_ones() -> None:
    draw = random.Random(17)
    for _ in range(300):
        text = "".join(draw.choices("ab", (9, 1), k=200))
        start = draw.randrange(150)
        sequences = [text[start : start + draw.randrange(1, 50)], "b" * draw.randrange(1, 5)]
        cuts = [0, *sorted(draw.sample(range(1, 200), 5)), 200]
        pieces = [text[begin:end] for begin, end in itertools.pairwise(cuts)]
        assert shown(pieces, sequences) == expected(text, sequences)


def test_only_what_may_be_the_beginning_of_a_sequence_is_held_back() -> None:
    text = StopText(["\nUser:", "END"])
    assert [text.take(piece) for piece in ("Hi", "\nUs", "ually EN", "OUGH", "\n")] == ["Hi", "", "\nUsually ", "ENOUGH", ""]
    assert text.rest() == "\n"
    assert text.take("User:") == "User:", "a sequence does not begin in a text that is over"
    assert not text.found


@pytest.mark.slow
@pytest.mark.parametrize("piece_chars", [1, 100, 1_000_000])
def test_time_is_linear_in_the_text(piece_chars: int) -> None:
    sequences = ["a" * (MAX_CHARS - 1) + "b", "ab" * (MAX_CHARS // 2)]

    def pieces(size: int) -> list[str]:
        text = "a" * size
        return [text[start : start + piece_chars] for start in range(0, size, piece_chars)]

    check_growth(lambda pieces: shown(pieces, sequences), pieces, 20_000)


# In front of a client.


def memory(*sequences: str) -> AnswerMemory:
    return AnswerMemory(stop=sequences)


def stream_of(*sequences: str, api: Any = "openai.chat") -> StreamTranslator:
    return TRANSLATORS[api, "openai.responses"].stream(context(SOL, is_stream=True, memory=memory(*sequences), count_prompt=lambda: 11))


def streamed(pieces: Iterable[bytes], *sequences: str) -> Told:
    frames, error = feed(stream_of(*sequences), pieces)
    assert error is None
    return told_by_chunks(chunks_of(frames))


def whole(document: Item, *sequences: str) -> Told:
    translate = TRANSLATORS["openai.chat", "openai.responses"].response
    return told_by_completion(json.loads(translate(json.dumps(document).encode(), context(SOL, memory=memory(*sequences))).body))


CALL = items.function_call("read", '{"path":"a END b"}')
ROWS: dict[str, tuple[Item, tuple[str, ...], str, str]] = {
    "within a text": (response([items.message(items.text_part("One END two"))]), ("END",), "One ", "stop"),
    "at the beginning": (response([items.message(items.text_part("ENDless"))]), ("END",), "", "stop"),
    "at the end": (response([items.message(items.text_part("One\n"))]), ("\n", "END"), "One", "stop"),
    "not there": (response([items.message(items.text_part("One EN"))]), ("END",), "One EN", "stop"),
    "cut short": (incomplete([items.message(items.text_part("One EN"))]), ("END",), "One EN", "length"),
    "found before the limit": (incomplete([items.message(items.text_part("One END tw"))]), ("END",), "One ", "stop"),
    "not in two texts": (response([items.message(items.text_part("One E"), items.text_part("ND"))]), ("END",), "One END", "stop"),
    "not in thoughts": (response([items.reasoning("END"), items.message(items.text_part("A END"))]), ("END",), "A ", "stop"),
    "not in calls": (response([items.message(items.text_part("A")), CALL]), ("END",), "A", "tool_calls"),
    "after a call": (response([CALL, items.message(items.text_part("A END"))]), ("END",), "A ", "tool_calls"),
    "before a call": (response([items.message(items.text_part("A END b")), CALL]), ("END",), "A ", "stop"),
    "before all else": (
        response(
            [items.message(items.text_part("A END", [items.url_citation()]), {"type": "output_hologram"}), items.reasoning("Hm."), CALL]
        ),
        ("END",),
        "A ",
        "stop",
    ),
    "with its sources": (
        response([items.message(items.text_part("A EN", [items.url_citation()]))]),
        ("END",),
        "A EN",
        "stop",
    ),
}
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


@every_row
def test_whole_and_streamed_answers_end_alike(row: tuple[Item, tuple[str, ...], str, str]) -> None:
    document, sequences, text, reason = row
    told = whole(document, *sequences)
    data = event_bytes(events_of(document))
    assert (told.content, told.finish_reason) == (text, reason)
    got = streamed([data], *sequences)
    got.usage = told.usage = None
    assert got == told


@every_row
def test_every_split_gives_the_client_the_same_stream(row: tuple[Item, tuple[str, ...], str, str]) -> None:
    document, sequences = row[:2]
    data = event_bytes(events_of(document))
    expected_frames = feed(stream_of(*sequences), [data])
    assert feed(stream_of(*sequences), [bytes([byte]) for byte in data]) == expected_frames
    step = max(len(data) // 40, 1)
    for place in range(1, len(data), step):
        assert feed(stream_of(*sequences), [data[:place], data[place:]]) == expected_frames


def reader(*sequences: str) -> EventReader:
    ctx = context(SOL, is_stream=True, memory=memory(*sequences), count_prompt=lambda: 11)
    return RESPONSES_UPSTREAM.reader(ctx, Notes())


def read(reader: EventReader, events: Iterable[Item]) -> list[Event]:
    return [event for block in blocks_of(event_bytes(list(events))) for event in reader.read(block)]


def delta(text: str, **rest: Any) -> Item:
    return {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text, **rest}


def test_only_calls_with_sequences_are_read_by_it() -> None:
    assert not isinstance(reader(), StoppingReader)
    assert isinstance(reader("END"), StoppingReader)


def test_the_answer_is_at_its_end_when_a_sequence_was_found_and_what_it_took_is_an_estimate() -> None:
    stopping = reader("END")
    read(stopping, [delta("One two three END")])
    assert stopping.is_finished
    assert stopping.has_content
    assert stopping.usage is not None
    assert stopping.usage.is_estimate
    assert stopping.usage.prompt_tokens == 11
    assert stopping.usage.completion_tokens > 0
    assert stopping.usage_so_far() == stopping.usage
    assert stopping.thinking is None
    assert stopping.read(b"data: not JSON") == (), "what follows is not looked at"
    assert stopping.end(is_whole=False) == (BlockStop(0), Stop("end", sequence="END"), Used(stopping.usage))


def test_an_answer_that_was_not_ended_here_has_its_upstreams_counts() -> None:
    stopping = reader("END")
    read(stopping, events_of(response([items.message(items.text_part("One"))])))
    assert stopping.usage is not None
    assert not stopping.usage.is_estimate


def test_an_answer_that_breaks_before_a_sequence_is_broken() -> None:
    stopping = reader("END")
    read(stopping, [delta("One EN")])
    assert stopping.usage_so_far().is_estimate
    with pytest.raises(UpstreamBroken):
        stopping.end(is_whole=True)


def test_a_call_that_is_open_is_read_to_its_end() -> None:
    call = events_of(response([CALL]))
    opened = next(number for number, event in enumerate(call) if event["type"].endswith("arguments.delta"))
    text = {"output_index": 1, "item_id": "msg_1"}
    events = [*call[: opened + 1], delta("A END", **text), delta(" b", **text), *call[opened + 1 :]]
    stopping = reader("END")
    read(stopping, events[: opened + 3])
    assert not stopping.is_finished, "the call is open"
    told = streamed([one_event(event) for event in events], "END")
    assert (told.content, told.finish_reason) == ("A ", "tool_calls")
    assert [call["function"]["arguments"] for call in told.calls] == [CALL["arguments"]]


def test_a_call_that_is_open_ends_with_the_answer() -> None:
    document = response([CALL, items.message(items.text_part("A END"))])
    call, end = events_of(response([CALL])), events_of(document)[-1]
    opened = next(number for number, event in enumerate(call) if event["type"].endswith("arguments.delta"))
    told = streamed([one_event(event) for event in [*call[: opened + 1], delta("A END", output_index=1), end]], "END")
    assert (told.content, told.finish_reason) == ("A ", "tool_calls")
    assert [call["function"]["arguments"] for call in told.calls] == [CALL["arguments"]]
    assert told.usage is not None
    assert told.usage["prompt_tokens"] == document["usage"]["input_tokens"]


def test_texts_in_turns_are_looked_at_one_by_one() -> None:
    def two(first: str, second: str) -> list[Item]:
        return [delta(first), delta(second, content_index=1)]

    told = streamed([one_event(event) for event in [*two("E", "E"), *two("x", "ND"), *two("END", "y")]], "END")
    assert (told.content, told.finish_reason) == ("EExND", "stop")


def test_a_client_of_messages_is_told_the_sequence() -> None:
    data = event_bytes(events_of(response([items.message(items.text_part("One END two"))])))
    frames, error = feed(stream_of("END", api="anthropic.messages"), [data])
    assert error is None
    assert b'"stop_reason":"stop_sequence","stop_sequence":"END"' in frames
    assert frames.count(b"content_block_stop") == 2, "an event's name and its type"


def test_an_answer_does_not_pause() -> None:
    with pytest.raises(NotImplementedError):
        reader("END").resume()
