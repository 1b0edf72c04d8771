"""Tools that a server ran, in the words of Anthropic's blocks: how other upstreams read them, and searches that are our own.

Only Anthropic takes the blocks of its own tools back. Elsewhere they are a call and its result (`as_call`), and what only documents,
sources and tools can say is words (`words_of`). A search that the gateway ran has the same blocks, under ids of their own; what a
page says stands where Anthropic has its encrypted content, so that a history says the same as the call that the search was run for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from compat.protocols.events import Found, Result
from compat.protocols.request import Block, Text, ToolCall, ToolResult, Unknown
from compat.protocols.sealed import PREFIX, is_ours

SEARCH_ID = "srvtoolu_compat_"
_FOUND = "web_search_tool_result"


def search_id(call_id: str) -> str:
    """The id of a search as Anthropic's clients take it (`^srvtoolu_[a-zA-Z0-9_]+$`); `call_id` is its call's."""
    return SEARCH_ID + call_id.encode("utf-8", "surrogatepass").hex()


def _call_id(searched_id: str) -> str:
    try:
        return bytes.fromhex(searched_id.removeprefix(SEARCH_ID)).decode("utf-8", "surrogatepass")
    except ValueError:
        return searched_id


def found_block(call_id: str, found: Found) -> dict[str, Any]:
    """What a search gave, as the block that follows it."""
    error = {"type": "web_search_tool_result_error", "error_code": found.error}
    pages = [
        {"type": "web_search_result", "title": one.title, "url": one.url, "encrypted_content": _kept(one.text), "page_age": None}
        for one in found.results
    ]
    return {"type": _FOUND, "tool_use_id": search_id(call_id), "content": error if found.error else pages}


def _kept(text: str) -> str:
    return PREFIX + base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _text_kept(content: Any) -> str:
    if not isinstance(content, str) or not is_ours(content):
        return ""
    try:
        return base64.urlsafe_b64decode(content.removeprefix(PREFIX)).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return ""


def words_found(found: Found) -> str:
    """What a search gave, for a model."""
    return f"error: {found.error}" if found.error else "\n".join(_page(one) for one in found.results) or "Nothing was found."


def _page(result: Result) -> str:
    return f"{result.title}: {result.url}" + (f"\n{result.text}" if result.text else "")


def as_call(block: Block) -> Block:
    """A tool that a server ran, and what came of it, as a call and its result."""
    value: Any = block.value if isinstance(block, Unknown) else None
    match value:
        case {"type": "server_tool_use" | "mcp_tool_use", "id": str(call_id), "name": str(name)}:
            return ToolCall(block.where, _call_id(call_id), name, value.get("input"))
        case {"type": str(kind), "tool_use_id": str(call_id)} if kind.endswith("_tool_result"):
            return ToolResult(block.where, _call_id(call_id), _texts(block.where, value))
    return block


def _texts(where: str, value: Mapping[str, Any]) -> tuple[Text, ...]:
    words = words_of(value) or ("Nothing was found." if value["type"] == _FOUND else "")
    return (Text(where, words),) if words else ()


def words_of(value: Any) -> str:
    """The words of a block that has no other counterpart: what it says of sources, tools and documents."""
    match value:
        case {"type": "tool_reference", "tool_name": str(name)}:
            return f"Tool loaded: {name}"
        case {"type": "web_search_result", "title": str(title), "url": str(url)}:
            return _page(Result(url, title, _text_kept(value.get("encrypted_content"))))
        case {"type": str(), "error_code": str(code)}:
            return f"error: {code}"
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "search_result"}:
            head = " ".join(value[key] for key in ("title", "source") if isinstance(value.get(key), str))
            return f"{head}\n{words_of(value.get('content'))}".strip()
        case {"type": "document", "source": {"content": content}}:
            return words_of(content)
        case {"content": content}:
            return words_of(content)
        case {"tool_references": rows} | {"stdout": rows}:
            return words_of(rows)
        case list():
            return _joined(map(words_of, value))
        case str():
            return value
    return ""


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(filter(None, texts))
