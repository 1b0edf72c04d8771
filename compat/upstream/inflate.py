"""Compressed answers, inflated as they come: bytes in, bytes out, no I/O.

Nobody asks an upstream to compress, unless the user's own headers do; some do it all the same. A step hands out `STEP_BYTES` at most and
an answer `MAX_INFLATED_BYTES`, so that a decompression bomb costs neither memory nor much time.
"""

from __future__ import annotations

import zlib

from compat.errors import UpstreamBroken

STEP_BYTES = 256 * 1024
MAX_INFLATED_BYTES = 64 * 1024 * 1024
_GZIP_OR_ZLIB = 47
_ENCODINGS = {"gzip": True, "x-gzip": True, "deflate": False}
"""Content encodings that are understood, and whether several members may follow one another (RFC 1952, section 2.2)."""


def inflater_of(encoding: str) -> Inflater | None:
    """What undoes the `content-encoding` of an answer; `None` for one that is not encoded. Errors: `UpstreamBroken` for an unknown one."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name not in _ENCODINGS:
        raise UpstreamBroken(f"The upstream compressed its answer with {_shown(name)}, which was not asked for.")
    return Inflater(has_members=_ENCODINGS[name])


class Inflater:
    """One compressed body. Mutable: what was fed and not yet taken."""

    __slots__ = ("_has_begun", "_has_members", "_inflated_bytes", "_is_full", "_pending", "_stream")

    def __init__(self, *, has_members: bool) -> None:
        self._has_members = has_members
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._pending = b""
        self._inflated_bytes = 0
        self._has_begun = False
        self._is_full = False  # the last step gave all that it may: zlib itself may hold more

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._pending += data

    def take(self) -> bytes:
        """The next bytes of the content; `b""` when more of the body is needed. Errors: `UpstreamBroken`."""
        while self._pending or self._is_full:
            if self._stream.eof:
                self._is_full = False
                self._begin_member()
                continue
            data, self._pending = self._pending, b""
            self._has_begun = True
            try:
                plain = self._stream.decompress(data, STEP_BYTES)
            except zlib.error as error:
                raise UpstreamBroken(f"The upstream's compressed answer is damaged: {error}.") from error
            self._pending = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            self._is_full = len(plain) == STEP_BYTES
            self._inflated_bytes += len(plain)
            if self._inflated_bytes > MAX_INFLATED_BYTES:
                raise UpstreamBroken("The upstream's compressed answer is too large.")
            if plain:
                return plain
        return b""

    def finish(self) -> None:
        """The body has ended. Errors: `UpstreamBroken` when that is in the middle of the content."""
        if self._has_begun and not self._stream.eof:
            raise UpstreamBroken("The upstream's compressed answer was cut short.")

    def _begin_member(self) -> None:
        """What follows a member: the next one, or filling, which some senders add and everybody ignores."""
        self._pending = self._pending.lstrip(b"\0") if self._has_members else b""
        if self._pending:
            self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)


def _shown(name: str) -> str:
    """A text of the upstream's as a message may show it."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:40])
