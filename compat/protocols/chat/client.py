"""The client's half of OpenAI's chat protocol, where an answer that was begun is read back and carried on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compat.config.catalog import Model
from compat.protocols.base import TranslationContext
from compat.protocols.chat.reader import ChunkReader
from compat.protocols.chat.usage import with_spent
from compat.protocols.chat.writer import ChatWriter
from compat.protocols.joined import FrameWriter
from compat.wire.usage import Usage


class ChatClient:
    """What the core asks of a client's protocol: see `compat.protocols.joined.ClientHalf`."""

    def reader(self) -> ChunkReader:
        """A reader of the frames that a client is shown."""
        return ChunkReader()

    def going_on(self, identity: tuple[str, int], alias: str, *, wants_usage: bool) -> FrameWriter:
        """A writer that carries on the stream with this identity."""
        answer_id, created_s = identity
        ctx = TranslationContext(alias, alias, Model(), answer_id, created_s, is_stream=True, wants_usage=wants_usage)
        return ChatWriter.going_on(ctx)

    def with_spent(self, told: Any, usage: Usage, cost_usd: float) -> Mapping[str, Any]:
        """The usage object of the last part, with what earlier parts of the answer took."""
        return with_spent(told if isinstance(told, Mapping) else {}, usage, cost_usd)
