"""The upstream's half of OpenAI's Responses API."""

from __future__ import annotations

from compat.protocols.responses.reader import ResponsesReader
from compat.protocols.responses.refusals import refused_part
from compat.protocols.responses.request import write_request
from compat.protocols.upstream_protocol import UpstreamProtocol

RESPONSES_UPSTREAM = UpstreamProtocol(api="openai.responses", reader=ResponsesReader, request=write_request, refused=refused_part)
