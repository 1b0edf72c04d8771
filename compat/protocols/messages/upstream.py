"""The upstream's half of Anthropic's Messages API."""

from __future__ import annotations

from compat.protocols.messages.reader import MessagesReader
from compat.protocols.messages.request import write_request
from compat.protocols.messages.shapes import API
from compat.protocols.upstream_protocol import UpstreamProtocol

MESSAGES_UPSTREAM = UpstreamProtocol(api=API, reader=MessagesReader, request=write_request)
