"""What a streamed answer shows its client, and when.

Frames are held back until the first content is among them: until then another attempt may be made. So are those of a tool call, up to a
size, until the answer is complete: an agent can't use half a call, and an upstream that dies in the middle of one can be asked again.
"""

from __future__ import annotations

from collections.abc import Callable

from compat.errors import UpstreamError
from compat.protocols.base import StreamTranslator
from compat.protocols.client_protocol import ClientProtocol


class Outflow:
    """The frames of one attempt on their way to the client. Mutable: what is held back, and why.

    `hold_bytes` is how much of a tool call may be held back; `on_show` is called before the first frames are given out.
    """

    def __init__(self, protocol: ClientProtocol, stream: StreamTranslator, hold_bytes: int, on_show: Callable[[], None]) -> None:
        self.stream = stream
        self._call_key, self._is_begun_by = protocol.call_key, protocol.begins_call
        self._hold_bytes = hold_bytes
        self._on_show = on_show
        self._held = bytearray()  # which grows in place: a long call comes in thousands of pieces
        self._is_shown = False
        self._begins_call = False
        self._shows_calls = hold_bytes <= 0

    @property
    def is_flowing(self) -> bool:
        """Whether content came and nothing but more of it is expected."""
        return self.stream.is_flowing

    def take(self, data: bytes) -> bytes:
        """Take bytes of the upstream; the frames that are to be shown now, which may be none."""
        frames = self.stream.feed(data)
        if not self._shows_calls and (self._held or self._call_key in frames):
            return self._held_with(frames)
        if not self.stream.is_committed:
            self._held += frames
            return b""
        if self._held:
            frames, self._held = bytes(self._held + frames), bytearray()
        if frames and not self._is_shown:
            self._is_shown = True
            self._on_show()
        return frames

    def _held_with(self, frames: bytes) -> bytes:
        """Take frames while a tool call may be held back."""
        self._begins_call = self._begins_call or self._is_begun_by(frames)
        self._held += frames
        if not self.stream.is_committed:
            return b""
        if self._begins_call:
            if len(self._held) <= self._hold_bytes:
                return b""
            self._shows_calls = True
        frames, self._held = bytes(self._held), bytearray()
        self._on_show()
        self._is_shown = True
        return frames

    def rest(self, *, is_whole: bool = False) -> bytes:
        """What is left when the upstream's last byte was taken: frames that were held back, and the answer's end.

        `is_whole`: see `StreamTranslator.finish`.

        Errors: any `UpstreamError`, unless all of the answer came and only what followed it was cut.
        """
        stream = self.stream
        try:
            end = stream.finish(is_whole=is_whole)
        except UpstreamError:
            if stream.stop_reason is None:
                raise
            end = stream.finish(is_whole=is_whole)  # without the part of an event that was left
        return bytes(self._held + end)
