"""What all translators share: a context's defaults, and a stream that can be taken up again."""

from __future__ import annotations

from compat.config.catalog import Model
from compat.errors import UpstreamBroken
from compat.protocols.base import Continuation, StreamTranslator, TranslationContext, note_values
from compat.wire.usage import Usage

CTX = TranslationContext("alias", "target", Model(), "chatcmpl-ours", 17, is_stream=True)


class Echo(StreamTranslator):
    """Repeats each event; `end` ends the stream, `bad` is an error."""

    def translate_event(self, block: bytes) -> bytes:
        if block == b"data: bad":
            raise UpstreamBroken("bad")
        self.is_finished = block == b"data: end"
        return block + b"|"

    def translate_end(self) -> bytes:
        return b"done"

    def usage_so_far(self) -> Usage:
        return Usage()


def test_a_context_knows_no_thinking_unless_it_is_told() -> None:
    assert CTX.find_thinking(["call_1"]) == {}


def test_events_are_translated_as_they_are_complete() -> None:
    stream = Echo(CTX)
    assert [stream.feed(piece) for piece in (b"data: 1\n", b"\ndata: 2\n\ndata:", b" 3")] == [b"", b"data: 1|data: 2|", b""]
    assert stream.finish() == b"data: 3|done"


def test_an_error_is_left_with_the_frames_that_came_before_it() -> None:
    stream = Echo(CTX)
    assert stream.feed(b"data: 1\n\ndata: bad\n\ndata: 2\n\n") == b"data: 1|"
    assert isinstance(stream.failure, UpstreamBroken)


def test_a_paused_stream_is_taken_up_with_nothing_left_over() -> None:
    stream = Echo(CTX)
    stream.continuation = Continuation(({"type": "text"},), {"output_tokens": 1})
    stream.feed(b"data: end\n\ndata: half an ev")
    assert stream.is_finished
    stream.resume()
    assert (stream.is_finished, stream.continuation) == (False, None)
    assert stream.feed(b"data: 1\n\n") == b"data: 1|"


def test_notes_are_one_header() -> None:
    assert [note_values(notes) for notes in ([], ["a"], ("a", "b=c"))] == ["", "a", "a; b=c"]


def test_what_is_not_known_by_its_bytes_is_translated_event_by_event() -> None:
    stream = Echo(CTX)
    stream.knows = True
    assert stream.feed(b"data: 1\n\ndata: 2\n\n") == b"data: 1|data: 2|"
