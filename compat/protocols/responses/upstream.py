"""The upstream's half of OpenAI's Responses API."""

from __future__ import annotations

from compat.protocols.base import TranslationContext
from compat.protocols.joined import EventReader
from compat.protocols.notes import Notes
from compat.protocols.responses.parts import API
from compat.protocols.responses.reader import ResponsesReader
from compat.protocols.responses.refusals import refused_part
from compat.protocols.responses.request import write_request
from compat.protocols.stop_sequences import StoppingReader
from compat.protocols.upstream_protocol import UpstreamProtocol


def _reader(ctx: TranslationContext, notes: Notes) -> EventReader:
    reader = ResponsesReader(ctx, notes)
    return StoppingReader(reader, ctx.memory.stop) if ctx.memory.stop else reader


RESPONSES_UPSTREAM = UpstreamProtocol(api=API, reader=_reader, request=write_request, refused=refused_part, searches=True)
