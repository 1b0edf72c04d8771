"""Refusals of real upstreams: what they say, and what it means."""

from __future__ import annotations

from typing import Any

# the words of an upstream whose context is full
OVERFLOWS = [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "the request exceeds the available context size, try increasing it",
    "Request exceeds the context window",
    "Your messages exceed the context length",
    "The prompt exceeds the context size",
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    "input length and max_tokens exceed context limit",
    "Context window exceeded",
    "The context window is exceeded",
    "Too many tokens in the request",
    "too many input tokens",
    "Please reduce the length of the messages or completion.",
    "Input is too long for requested model.",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "prompt tokens exceed the limit",
    "context_length_exceeded",
]
NOT_OVERFLOWS = [
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
    "The prompt is malformed",
    "You exceeded your current quota",
    "Unknown parameter: 'context'",
]

# the body -> the fields of the error object that are found in it
BODIES: list[tuple[bytes, dict[str, Any]]] = [
    (b'{"error":{"message":"m","type":"t","param":"p","code":"c"}}', {"message": "m", "type": "t", "param": "p", "code": "c"}),
    (b'{"type":"error","error":{"type":"overloaded_error","message":"O"}}', {"type": "overloaded_error", "message": "O"}),
    (b'{"object":"error","message":"m","code":404}', {"object": "error", "message": "m", "code": 404}),
    (b'{"error":"m","code":"c"}', {"error": "m", "code": "c", "message": "m"}),
    (b'{"error":["a"]}', {"error": ["a"], "message": "['a']"}),
    (b'[{"error":{"message":"in a list"}}]', {"message": "in a list"}),
    (b'["m"]', {"message": "m"}),
    (b"[]", {"message": "[]"}),
    (b'"m"', {"message": "m"}),
    (b"5", {"message": "5"}),
    (b"", {"message": ""}),
    (b"  plain words\n", {"message": "plain words"}),
    (b"<html><head><style>p { a }</style></head>\n<p>Bad <b>gateway</b></p><script>x()</script></html>", {"message": "Bad gateway"}),
    (b"<HTML><SCRIPT>\nx < y\n</SCRIPT>502</HTML>", {"message": "502"}),
    (b'{"error":{"message":"\xff"}}', {"message": '{"error":{"message":"\ufffd"}}'}),
    (b"[" * 3000, {"message": "[" * 3000}),
    (b"x" * (64 * 1024 + 5), {"message": "x" * (64 * 1024)}),
]

DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
# headers -> the wait in seconds
WAITS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": " 7 "}, 7.0),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after": "1.5"}, 1.5),
    ({"retry-after": "1.5.5"}, None),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "\xb2"}, None),
    ({"retry-after": "9" * 400}, float("inf")),
    ({"retry-after-ms": "1500"}, 1.5),
    ({"retry-after-ms": "1500.5", "retry-after": "9"}, 1.5005),
    ({"retry-after-ms": "-5"}, 0.0),
    ({"retry-after-ms": "soon"}, None),
    ({"retry-after-ms": "inf", "retry-after": "5"}, 5.0),
    ({"retry-after-ms": "1e400", "retry-after": "5"}, 5.0),
    ({"retry-after-ms": "", "retry-after": "5"}, 5.0),
    ({"retry-after-ms": "soon", "retry-after": "Mon, 01 Jan 2024 00:01:30 GMT", "date": DATE}, 90.0),
    ({"retry-after": "Mon, 01 Jan 2024 00:01:30 GMT", "date": DATE}, 90.0),
    ({"retry-after": "Monday, 01-Jan-24 00:00:10 GMT", "date": DATE}, 10.0),
    ({"retry-after": "Mon, 01 Jan 2024 02:00:10 +0200", "date": DATE}, 10.0),
    ({"retry-after": "Sun, 31 Dec 2023 23:59:59 GMT", "date": DATE}, 0.0),
    ({"retry-after": "Mon, 01 Jan 2024 00:01:30 GMT"}, None),
    ({"retry-after": "Mon, 01 Jan 2024 00:01:30 GMT", "date": "today"}, None),
    ({"retry-after": "Mon, 01 Jan 2024 00:01:30 -0000", "date": DATE}, None),
]
