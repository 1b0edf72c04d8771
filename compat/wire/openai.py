"""OpenAI's chat protocol."""

from __future__ import annotations


def completion_frames(body: bytes, *, wants_usage: bool) -> bytes:
    """Placeholder."""
    raise NotImplementedError
