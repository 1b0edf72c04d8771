"""Streams of an OpenAI-compatible upstream, as bytes, and what the client is to read of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes.openai_answers import chunk, event, sse_bytes, text_chunks, tool_chunks, usage_chunk

BOM = b"\xef\xbb\xbf"
ROLE = chunk({"role": "assistant", "content": ""})
END = chunk({}, "stop")
NO_DELTA = {**ROLE, "choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}
CUT_CALL = chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"pa'}}]})
OTHER = {**ROLE, "choices": [{"index": 1, "delta": {}}]}


@dataclass(frozen=True)
class StreamCase:
    """`text` is the content that the client reads; `failure` is in the words of the error that ends the stream, if one does."""

    name: str
    upstream: bytes
    text: str = "Hello there."
    failure: str | None = None


def spaced(chunks: Sequence[dict[str, Any]]) -> bytes:
    """Written as Python's `json` does by default: with blanks, and ASCII only."""
    return b"".join(b"data:" + json.dumps(item).encode() + b"\n\n" for item in chunks) + b"data: [DONE]\n\n"


def _error(error: Any, **rest: Any) -> bytes:
    return sse_bytes([ROLE, chunk({"content": "Well"})]).removesuffix(event("[DONE]")) + event({"error": error, **rest})


def _raw(*blocks: str) -> bytes:
    return "".join(f"data: {block}\n\n" for block in blocks).encode()


PLAIN = text_chunks()
RENAMED = [{**item, "id": f"c{n}", "created": n, "model": f"m{n}"} for n, item in enumerate(PLAIN)]
NAMED = '"model":"their-model" {"model":"their-model"}'
UNICODE = "é漢😀\u2028\u2029\x85 end"

CASES = [
    StreamCase("plain", sse_bytes(PLAIN)),
    StreamCase("CRLF", sse_bytes(PLAIN, b"\r\n")),
    StreamCase("CR", sse_bytes(PLAIN, b"\r")),
    StreamCase("blanks in the JSON", spaced(PLAIN)),
    StreamCase("a byte order mark", BOM + sse_bytes(PLAIN)),
    StreamCase("characters of several bytes, and line separators in text", sse_bytes(text_chunks(UNICODE)), UNICODE),
    StreamCase("escaped text", spaced(text_chunks(UNICODE)), UNICODE),
    StreamCase("comments between events", b": open\n\n" + sse_bytes(PLAIN).replace(b"data: [DONE]", b": bye\n\ndata: [DONE]")),
    StreamCase("comments within events", b": OPENROUTER PROCESSING\n" + sse_bytes(PLAIN).replace(b"\n\ndata", b"\n\n: x\nid: 4\ndata")),
    StreamCase("a name on each event", sse_bytes(PLAIN).replace(b"data: {", b"event: chunk\ndata: {")),
    StreamCase("more blank lines", b"\n\n\n" + sse_bytes(PLAIN).replace(b"\n\n", b"\n\n\n\n")),
    StreamCase("events without data", sse_bytes(PLAIN).replace(b"data: {", b"data:\n\nevent: ping\n\ndata: {")),
    StreamCase("the last blank line is missing", sse_bytes(PLAIN).removesuffix(b"\n\n")),
    StreamCase("no end mark", sse_bytes(PLAIN).removesuffix(event("[DONE]"))),
    StreamCase("no end mark and no last blank line", sse_bytes(PLAIN[:-1]).removesuffix(b"\n\ndata: [DONE]\n\n")),
    StreamCase("text after the end mark", sse_bytes(PLAIN) + event(chunk({"content": "more"}))),
    StreamCase("two end marks", sse_bytes(PLAIN) + event("[DONE]")),
    StreamCase("no usage", sse_bytes(PLAIN[:-1])),
    StreamCase("usage in every chunk", sse_bytes([{**item, "usage": {"prompt_tokens": 11}} for item in PLAIN])),
    StreamCase("usage null in every chunk", sse_bytes([{**item, "usage": item.get("usage")} for item in PLAIN])),
    StreamCase("no role", sse_bytes([chunk({"content": "Hello "}), chunk({"content": "there."}), END])),
    StreamCase("a first chunk without a choice", sse_bytes([{"choices": [], "prompt_filter_results": []}, *PLAIN])),
    StreamCase("a first chunk without a delta", _raw('{"choices":[{"index":0}]}') + sse_bytes(PLAIN)),
    StreamCase("the delta is null at the end", sse_bytes([*PLAIN[:-2], NO_DELTA])),
    StreamCase("no identity at all", sse_bytes([{"choices": item["choices"]} for item in PLAIN])),
    StreamCase("null identity", sse_bytes([{**item, "id": None, "created": None, "model": None} for item in PLAIN])),
    StreamCase("another identity in every chunk", sse_bytes(RENAMED)),
    StreamCase("a date with a fraction", sse_bytes([{**item, "created": 17.5} for item in PLAIN])),
    StreamCase("an empty model first", sse_bytes([{**PLAIN[0], "model": ""}, *PLAIN[1:]])),
    StreamCase("a model's name that needs escapes", spaced([{**item, "model": "größe/x"} for item in PLAIN])),
    StreamCase("text that looks like the model's key", sse_bytes(text_chunks(NAMED)), NAMED),
    StreamCase("tool calls", sse_bytes(tool_chunks()), ""),
    StreamCase("error null", sse_bytes([{**item, "error": None} for item in PLAIN])),
    StreamCase("an error object after text", _error({"message": "Too much", "type": "overloaded_error"}), "Well", "fake: Too much"),
    StreamCase("an error with a status after text", _error({"message": "Slow down", "code": 429}), "Well", "fake: Slow down"),
    StreamCase("a plain error after text", _error("oh no"), "Well", "fake: oh no"),
    StreamCase("an error event by type", _raw('{"type":"error","message":"oh no"}'), "", "fake: oh no"),
    StreamCase("an error at once", event({"error": {"message": "No"}}), "", "fake: No"),
    StreamCase("an error beside a choice", sse_bytes([ROLE, chunk({}, "error", error={"message": "No"})]), "", "fake: No"),
    StreamCase("no finish_reason", sse_bytes(PLAIN[:-2])),
    StreamCase("no finish_reason, but usage", sse_bytes([*PLAIN[:-2], usage_chunk()])),
    StreamCase("no finish_reason after a tool call", sse_bytes(tool_chunks()[:-2]), ""),
    StreamCase("no finish_reason within a tool call", sse_bytes([*tool_chunks()[:-3], CUT_CALL]), "", "without a finish_reason"),
    StreamCase("no finish_reason and no end mark", sse_bytes(PLAIN[:-2]).removesuffix(event("[DONE]")), failure="without a finish_reason"),
    StreamCase("one of two choices ends", sse_bytes([ROLE, OTHER, END]), "", "without a finish_reason"),
    StreamCase("usage alone", sse_bytes([usage_chunk()]), "", "without a finish_reason"),
    StreamCase("the end mark alone", event("[DONE]"), "", "without a finish_reason"),
    StreamCase("nothing", b"", "", "without a finish_reason"),
    StreamCase("not JSON", sse_bytes([ROLE]).removesuffix(event("[DONE]")) + b"data: {\n\n", "", "not a chunk"),
    StreamCase("not JSON after text", sse_bytes(PLAIN[:2]).removesuffix(event("[DONE]")) + b"data: {\n\n", "Hello ", "not a chunk"),
    StreamCase("not an object", _raw("[1]"), "", "not a chunk"),
    StreamCase("choices of a wrong type", _raw('{"choices":{}}'), "", "not a chunk"),
    StreamCase("text of a wrong type", _raw('{"choices":[{"index":0,"delta":{"content":5}}]}'), "", "not a chunk"),
    StreamCase("nested too deeply", _raw('{"x":' + "[" * 50_000 + "]" * 50_000 + "}"), "", "not a chunk"),
    StreamCase("broken UTF-8", b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n', "", "not a chunk"),
    StreamCase("half a surrogate pair", _raw('{"choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}'), "\ufffd"),
    StreamCase("HTML", b"<html>\n<p>Bad gateway</p>\n\n</html>", "", "without a finish_reason"),
]
