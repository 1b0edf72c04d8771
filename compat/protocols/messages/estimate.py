"""How many tokens a request of the Messages API has, about: all that a model reads of it, rather too many than too few.

A client that reads too low a count fills the context up to where nothing fits any more, its own summary included. What is not known exactly
(the words that a server adds for tools, for thinking and for structured output) is counted by what Anthropic's answers were seen to have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compat import jsonio
from compat.wire.envelope import Envelope
from compat.wire.estimate import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, text_tokens

_EVERY_REQUEST = 4
_TOOLS = 480
"""What a server says about how to call tools, once there are any."""
_TOOL = 12
_SERVER_TOOL = 700
_CALL = 20
_RESULT = 12
_THINKING = 32
_FORMAT = 260
_PAGE_BYTES = 40_000
_PAGE = 2_000
_SIGNATURE_CHARS = 4


def tokens_of(envelope: Envelope) -> int:
    """The tokens of a request that was checked as far as `ClientProtocol.read` does."""
    count = _EVERY_REQUEST
    referenced: set[str] = set()
    messages = envelope.value("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else message
        count += TOKENS_PER_MESSAGE + _content(content, referenced)
    count += _content(envelope.value("system"), referenced)
    tools = envelope.value("tools")
    known = [_tool(tool) for tool in tools if not _is_hidden(tool, referenced)] if isinstance(tools, list) else []
    count += sum(known) + (_TOOLS if known else 0)
    thinking, config = envelope.value("thinking"), envelope.value("output_config")
    if isinstance(thinking, dict) and thinking.get("type") != "disabled":
        count += _THINKING
    if isinstance(config, dict) and config.get("format"):
        count += _FORMAT + _written(config["format"])
    return count


def _content(content: Any, referenced: set[str]) -> int:
    """A string, or blocks; the names of tools that results speak of are added to `referenced`."""
    count = 0
    for block in _blocks(content):
        kind = block.get("type") if isinstance(block, dict) else None
        match kind:
            case "text":
                count += _text(block.get("text"))
            case "thinking":
                count += max(_text(block.get("thinking")), _sealed(block.get("signature")))
            case "redacted_thinking":
                count += _sealed(block.get("data"))
            case "tool_use":
                count += _CALL + _text(block.get("name")) + _written(block.get("input"))
            case "tool_result":
                count += _RESULT
            case "tool_reference":
                referenced.add(str(block.get("tool_name")))
                count += _text(block.get("tool_name"))
            case "image":
                count += TOKENS_PER_IMAGE
            case "document":
                count += _document(block)
            case _:
                count += _text(block) if isinstance(block, str) else _written(block)
    return count


def _blocks(content: Any) -> Iterator[Any]:
    """All blocks, those within results as well, each result before what it holds."""
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += reversed(item)
        elif item is not None:
            yield item
            if isinstance(item, dict) and item.get("type") == "tool_result":
                waiting.append(item.get("content"))


def _document(block: dict[str, Any]) -> int:
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    data, titles = source.get("data"), _text(block.get("title")) + _text(block.get("context"))
    if source.get("type") == "base64":
        return titles + _PAGE * (1 + (len(data) if isinstance(data, str) else 0) // _PAGE_BYTES)
    if source.get("type") == "content":
        return titles + _content(source.get("content"), set())
    return titles + (_text(data) if isinstance(data, str) else _PAGE)


def _is_hidden(tool: Any, referenced: set[str]) -> bool:
    """Whether the model does not see the tool yet."""
    return isinstance(tool, dict) and bool(tool.get("defer_loading")) and str(tool.get("name")) not in referenced


def _tool(tool: Any) -> int:
    if isinstance(tool, dict) and tool.get("type") not in (None, "custom"):
        return _SERVER_TOOL
    return _TOOL + _written(tool)


def _text(value: Any) -> int:
    return text_tokens(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 0


def _sealed(value: Any) -> int:
    return len(value) // _SIGNATURE_CHARS if isinstance(value, str) else 0


def _written(value: Any) -> int:
    return 0 if value is None else text_tokens(jsonio.encode(value))
