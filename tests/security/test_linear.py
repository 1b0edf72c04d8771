"""Work that grows in line with a body, whatever its shape: each pure function that takes bytes of a client or an upstream.

A shape makes a body of about so many bytes: chains, fans, repeated keys, runs of a character that is special to a reader, deep nesting,
many small items. Four times the body may be about four times the work (`tests/growth.py`), and what is refused counts as an answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from compat import jsonio
from compat.errors import GatewayError
from compat.translate import TRANSLATORS
from compat.wire.envelope import Envelope
from tests.cases.messages import SONNET
from tests.cases.messages_checks import context
from tests.growth import check_growth

ANTHROPIC = TRANSLATORS["openai.chat", "anthropic.messages"]
OPENAI = TRANSLATORS["openai.chat", "openai.chat"]
SMALL_BYTES = 50_000
SPECIAL = ';,%"\\ \n{[:=é\x00/#<*-'
Shape = Callable[[int], bytes]


def items(item: Callable[[int], Any], size: int) -> list[Any]:
    """As many different items as make so many bytes."""
    return [item(number) for number in range(size // len(jsonio.encode([item(10_000)])))]


def chat(**fields: Any) -> bytes:
    return jsonio.encode({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields})


def asked(content: Any, **fields: Any) -> bytes:
    return chat(messages=[{"role": "user", "content": content, **fields}])


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value, {}]
    return value


REQUESTS: dict[str, Shape] = {
    "parts of text": lambda n: asked(items(lambda _: {"type": "text", "text": "a"}, n)),
    "parts that are words": lambda n: asked(items(str, n)),
    "empty lists": lambda n: asked([[]] * (n // 3), cache_control={"type": "ephemeral"}),
    "empty objects": lambda n: asked([{}] * (n // 3), cache_control={"type": "ephemeral"}),
    "deep lists": lambda n: asked([nested(200)] * (n // 1000), cache_control={}),
    "messages": lambda n: chat(messages=items(lambda k: {"role": ("user", "assistant", "system", "tool")[k % 4], "content": str(k)}, n)),
    "calls without results": lambda n: chat(
        messages=items(lambda k: {"role": "assistant", "tool_calls": [{"id": f"c{k}", "function": {"name": f"n{k % 9}"}}]}, n)
    ),
    "calls of one message": lambda n: chat(
        messages=[{"role": "assistant", "tool_calls": items(lambda k: {"id": f"c{k % 7}", "function": {"name": f"n {k}"}}, n)}]
    ),
    "tools": lambda n: chat(tools=items(lambda k: tool(f"no name {k}"), n)),
    "tools of one name": lambda n: chat(tools=items(lambda _: tool("same"), n)),
    "a long name": lambda n: chat(tools=[tool("é" * n)]),
    "a long id": lambda n: chat(messages=[{"role": "assistant", "tool_calls": [{"id": "." * n, "function": {"name": "a"}}]}]),
    "unknown keys": lambda n: chat(**{f"k{number}": [0] * (n // 2000) for number in range(900)}),
    "keys of metadata": lambda n: chat(metadata={f"k{number}": 1 for number in range(n // 12)}),
    "stop sequences": lambda n: chat(stop=items(str, n)),
    "an escaped picture": lambda n: asked([picture("data:image/png;base64,iVBORw0KGgo" + "%41" * (n // 3))]),
    "a picture in lines": lambda n: asked([picture("data:image/png;base64,iVBORw0KGgo" + "A \n" * (n // 3))]),
    "a label": lambda n: asked([picture(f"data:{'a' * n};base64,AAAA")]),
    "parameters of a label": lambda n: asked([picture(f"data:{';' * n}")]),
    "other parameters of a label": lambda n: asked([picture(f"data:{';base64' * (n // 7)}")]),
    "parts in a text": lambda n: chat(
        messages=[
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "a"}}]},
            {"role": "tool", "tool_call_id": "c", "content": '["type":"image"' + ',"type"   ' * (n // 10)},
        ]
    ),
    "arguments": lambda n: chat(
        messages=[{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "a", "arguments": "{" + '"a":[{}],' * (n // 9)}}]}]
    ),
    "a schema of references": lambda n: chat(
        response_format={
            "type": "json_schema",
            "json_schema": {
                "schema": {
                    "$ref": "#/$defs/d0",
                    "$defs": {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(n // 32)},
                }
            },
        }
    ),
    "a tool of alternatives": lambda n: chat(
        tools=[tool("a", {"anyOf": items(lambda k: {"properties": {"a": {"const": k}}, "required": ["a", f"b{k}"]}, n)})]
    ),
    **{f"a run of {mark!a}": lambda n, mark=mark: asked(mark * (n // len(jsonio.encode(mark)[1:-1]))) for mark in SPECIAL},  # type: ignore[misc]
    **{f"an image of {mark!a}": lambda n, mark=mark: asked([picture("data:image/png" + mark * n)]) for mark in SPECIAL},  # type: ignore[misc]
}


def settled(work: Callable[[Any], object]) -> Callable[[Any], None]:
    """`work`, whose refusals are answers."""

    def run(value: Any) -> None:
        with contextlib.suppress(GatewayError):
            work(value)

    return run


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_translated_for_anthropic_in_line_with_its_size(name: str) -> None:
    check_growth(settled(lambda body: ANTHROPIC.request(Envelope(body), context(SONNET))), REQUESTS[name], SMALL_BYTES)
