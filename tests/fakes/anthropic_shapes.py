"""The fields of a Messages API request, as tables: which a table knows, which are required, what each may hold.

A check takes a value and its path and yields what's wrong with it, in the words of the real API ("tools.0.custom.name: Field required").
Sources: the parameter types of Anthropic's SDK 2.12, and the texts of recorded refusals.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[Any, str], Iterator[str]]

EXTRA = "Extra inputs are not permitted"
MAGIC = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


def anything(value: Any, path: str) -> Iterator[str]:
    yield from ()


def string(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{path}: Input should be a valid string"


def filled(value: Any, path: str) -> Iterator[str]:
    yield from string(value, path)
    if value == "":
        yield f"{path}: String should have at least 1 character"


def boolean(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{path}: Input should be a valid boolean"


def table(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: Input should be a valid dictionary"


def integer(low: int | None = None) -> Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{path}: Input should be a valid integer"
        elif low is not None and value < low:
            yield f"{path}: Input should be greater than or equal to {low}"

    return check


def fraction(value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        yield f"{path}: Input should be a valid number"
    elif not 0 <= value <= 1:
        yield f"{path}: range: 0..1"


def one_of(*values: str) -> Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if value not in values:
            yield f"{path}: Input should be {_either([repr(item) for item in values])}"

    return check


def matching(pattern: str) -> Check:
    def check(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield from string(value, path)
        elif not re.fullmatch(pattern.strip("^$"), value):
            yield f"{path}: String should match pattern '{pattern}'"

    return check


def nullable(check: Check) -> Check:
    return lambda value, path: iter(()) if value is None else check(value, path)


def array(check: Check) -> Check:
    def check_all(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{path}: Input should be a valid list"
            return
        for number, item in enumerate(value):
            yield from check(item, f"{path}.{number}")

    return check_all


def string_or(check: Check) -> Check:
    return lambda value, path: iter(()) if isinstance(value, str) else check(value, path)


@dataclass(frozen=True)
class Shape:
    """An object with known fields."""

    required: Mapping[str, Check] = field(default_factory=dict)
    optional: Mapping[str, Check] = field(default_factory=dict)
    is_open: bool = False

    def __call__(self, value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield from table(value, path)
            return
        prefix = f"{path}." if path else ""
        for name, check in self.required.items():
            yield from check(value[name], prefix + name) if name in value else (f"{prefix}{name}: Field required",)
        for name in value:
            if name in self.required:
                continue
            if name in self.optional:
                yield from self.optional[name](value[name], prefix + name)
            elif not self.is_open:
                yield f"{prefix}{name}: {EXTRA}"


@dataclass(frozen=True)
class Tagged:
    """An object whose `type` tells its shape; `default` is the type of one that doesn't say."""

    shapes: Mapping[str, Check]
    default: str | None = None

    def __call__(self, value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield from table(value, path)
            return
        tag = value.get("type", self.default) or self.default
        if tag is None:
            yield f"{path}.type: Field required"
        elif not isinstance(tag, str) or tag not in self.shapes:
            tags = ", ".join(repr(name) for name in self.shapes)
            yield f"{path}: Input tag '{tag}' found using 'type' does not match any of the expected tags: {tags}"
        else:
            yield from self.shapes[tag]({name: item for name, item in value.items() if name != "type"}, f"{path}.{tag}")


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def base64_bytes(data: str) -> bytes | None:
    """The bytes, or None when this isn't standard base64."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def media_type_of(data: bytes) -> str | None:
    """What the first bytes say an image is."""
    for media_type, marks in MAGIC.items():
        if data.startswith(marks) and (media_type != "image/webp" or data[8:12] == b"WEBP"):
            return media_type
    return None


def base64_image(value: dict[str, Any], path: str) -> Iterator[str]:
    """The label must be one of four types and must be true."""
    problems = [*Shape({"data": string, "media_type": one_of(*MAGIC)})(value, path)]
    yield from problems
    if problems:
        return
    data = base64_bytes(value["data"])
    found = media_type_of(data or b"")
    if data is None:
        yield f"{path}.data: Invalid base64 data"
    elif found is None:
        yield f"{path}.data: Could not process image"
    elif found != value["media_type"]:
        told = value["media_type"]
        yield f"{path}.data: The image was specified using the {told} media type, but the image appears to be a {found} image"


def base64_pdf(value: dict[str, Any], path: str) -> Iterator[str]:
    problems = [*Shape({"data": string, "media_type": one_of("application/pdf")})(value, path)]
    yield from problems
    if not problems and not (base64_bytes(value["data"]) or b"").startswith(b"%PDF"):
        yield f"{path}.data: The PDF specified was not valid"


def web_url(value: Any, path: str) -> Iterator[str]:
    yield from string(value, path)
    if isinstance(value, str) and not re.match(r"https?://[^/\s]+", value):
        yield f"{path}: Only HTTP(S) URLs are supported"


def user_id(value: Any, path: str) -> Iterator[str]:
    yield from string(value, path)
    if isinstance(value, str) and len(value) > 256:
        yield f"{path}: String should have at most 256 characters"
    elif isinstance(value, str) and re.search(r"[^\s@]+@[^\s@]+\.[a-z]{2,}", value):
        yield f"{path}: user_id appears to contain an email address"


def stop_sequence(value: Any, path: str) -> Iterator[str]:
    yield from string(value, path)
    if isinstance(value, str) and not value.strip():
        yield "stop_sequences: each stop sequence must contain non-whitespace"


def object_schema(value: Any, path: str) -> Iterator[str]:
    """A tool's input is always an object."""
    yield from table(value, path)
    if isinstance(value, dict):
        yield from () if value.get("type") == "object" else _wrong_root(value, path)
        yield from nullable(table)(value.get("properties"), f"{path}.properties")
        yield from nullable(array(string))(value.get("required"), f"{path}.required")


def _wrong_root(value: dict[str, Any], path: str) -> Iterator[str]:
    yield f"{path}.type: " + ("Input should be 'object'" if "type" in value else "Field required")


CALL_ID = matching("^[a-zA-Z0-9_-]+$")
TOOL_NAME = matching("^[a-zA-Z0-9_-]{1,128}$")
EFFORT = one_of("low", "medium", "high", "xhigh", "max")
CACHE_CONTROL = nullable(Tagged({"ephemeral": Shape(optional={"ttl": one_of("5m", "1h")})}))
MARK = {"cache_control": CACHE_CONTROL}
CALLER = {
    "caller": Tagged({"direct": Shape(), "code_execution_20250825": Shape(is_open=True), "code_execution_20260120": Shape(is_open=True)})
}
CITES = {"cited_text": string}

CITATION = Tagged(
    {
        "char_location": Shape(
            CITES
            | {"document_index": integer(0), "document_title": nullable(string), "start_char_index": integer(), "end_char_index": integer()}
        ),
        "page_location": Shape(
            CITES
            | {
                "document_index": integer(0),
                "document_title": nullable(string),
                "start_page_number": integer(),
                "end_page_number": integer(),
            }
        ),
        "content_block_location": Shape(
            CITES
            | {
                "document_index": integer(0),
                "document_title": nullable(string),
                "start_block_index": integer(),
                "end_block_index": integer(),
            }
        ),
        "web_search_result_location": Shape(CITES | {"encrypted_index": string, "title": nullable(string), "url": string}),
        "search_result_location": Shape(
            CITES
            | {"search_result_index": integer(0), "source": string, "title": nullable(string)}
            | {"start_block_index": integer(), "end_block_index": integer()}
        ),
    }
)
FILE_SOURCE = Shape({"file_id": string})
URL_SOURCE = Shape({"url": web_url})
TEXT = Shape({"text": string}, MARK | {"citations": nullable(array(CITATION))})
IMAGE = Shape(
    {"source": Tagged({"base64": base64_image, "url": URL_SOURCE, "file": FILE_SOURCE})},
    MARK | {"transformations": Shape(optional={"oversized_image": one_of("downsize", "error")})},
)
DOCUMENT_SOURCE = Tagged(
    {
        "base64": base64_pdf,
        "text": Shape({"data": filled, "media_type": one_of("text/plain")}),
        "content": Shape({"content": string_or(array(Tagged({"text": TEXT, "image": IMAGE})))}),
        "url": URL_SOURCE,
        "file": FILE_SOURCE,
    }
)
ENABLED_FLAG = Shape(optional={"enabled": boolean})
DOCUMENT = Shape(
    {"source": DOCUMENT_SOURCE}, MARK | {"citations": nullable(ENABLED_FLAG), "context": nullable(string), "title": nullable(string)}
)
SEARCH_RESULT = Shape(
    {"content": array(Tagged({"text": TEXT})), "source": string, "title": string}, MARK | {"citations": nullable(ENABLED_FLAG)}
)
RESULT_PARTS = {"text": TEXT, "image": IMAGE, "document": DOCUMENT, "search_result": SEARCH_RESULT}
SERVER_RESULT = Shape({"content": anything, "tool_use_id": CALL_ID}, MARK | CALLER)

SERVER_RESULTS = tuple(
    f"{name}_tool_result" for name in ("web_search", "web_fetch", "code_execution", "bash_code_execution", "text_editor_code_execution")
)
BLOCK = Tagged(
    {
        **RESULT_PARTS,
        "thinking": Shape({"thinking": string, "signature": filled}),
        "redacted_thinking": Shape({"data": filled}),
        "tool_use": Shape({"id": CALL_ID, "name": TOOL_NAME, "input": table}, MARK | CALLER),
        "tool_result": Shape(
            {"tool_use_id": CALL_ID}, MARK | {"content": string_or(array(Tagged(RESULT_PARTS))), "is_error": nullable(boolean)}
        ),
        "server_tool_use": Shape({"id": CALL_ID, "name": string, "input": table}, MARK | CALLER),
        **dict.fromkeys(SERVER_RESULTS, SERVER_RESULT),
    }
)

CUSTOM_TOOL = Shape(
    {"name": TOOL_NAME, "input_schema": object_schema},
    MARK
    | {"description": string, "strict": nullable(boolean), "input_examples": array(table), "allowed_callers": array(string)}
    | {"defer_loading": nullable(boolean), "eager_input_streaming": nullable(boolean)},
)
SERVER_TOOLS = tuple(
    f"{name}_{day}"
    for name, days in {
        "web_search": (20250305, 20260209, 20260318),
        "web_fetch": (20250910, 20260209, 20260309, 20260318),
        "code_execution": (20250522, 20250825, 20260120, 20260521),
        "text_editor": (20250124, 20250429, 20250728),
        "bash": (20250124,),
        "memory": (20250818,),
    }.items()
    for day in days
)
TOOL = Tagged({"custom": CUSTOM_TOOL, **dict.fromkeys(SERVER_TOOLS, Shape({"name": string}, MARK, is_open=True))}, default="custom")

SERIAL = {"disable_parallel_tool_use": boolean}
TOOL_CHOICE = Tagged(
    {"auto": Shape(optional=SERIAL), "any": Shape(optional=SERIAL), "tool": Shape({"name": string}, SERIAL), "none": Shape()}
)
BINDING = {"block_binding": nullable(Shape(optional={"prefix_mismatch_behavior": nullable(one_of("error", "drop_block"))}))}


BINDING_BETA = "thinking-binding-controls-2026-08-01"
DISPLAY_BETA = "thinking-display-updates-2026-08-18"
EFFORT_BETA = "per-turn-control-2026-07-01"
SYSTEM_BETAS = frozenset({EFFORT_BETA, "mid-conversation-tool-changes-2026-07-01"})
CONTEXT_BETA = "context-management-2025-06-27"
EDITS = Tagged(dict.fromkeys(("clear_thinking_20251015", "clear_tool_uses_20250919"), Shape(is_open=True)))


def message_of(betas: Collection[str]) -> Shape:
    """With a beta, a message may say how much effort there is from it on."""
    efforts = {"output_config": Shape(optional={"effort": nullable(EFFORT)})} if EFFORT_BETA in betas else {}
    return Shape({"role": string, "content": string_or(array(BLOCK))}, efforts)


def thinking_config(betas: Collection[str]) -> Check:
    """`block_binding`, and one of the displays, exist only for requests with the beta header of that feature."""
    displays = ("summarized", "omitted", *(("updates",) if DISPLAY_BETA in betas else ()))
    extras = {"display": nullable(one_of(*displays))} | (BINDING if BINDING_BETA in betas else {})
    return Tagged({"enabled": Shape({"budget_tokens": integer(1024)}, extras), "disabled": Shape(), "adaptive": Shape(optional=extras)})


def request(betas: Collection[str]) -> Shape:
    """The whole body of a request with these betas."""
    output_format = Tagged({"json_schema": Shape({"schema": table})})
    return Shape(
        {"model": filled, "max_tokens": integer(1), "messages": array(message_of(betas))},
        {
            "cache_control": CACHE_CONTROL,
            "container": anything,
            **({"context_management": Shape(optional={"edits": array(EDITS)})} if CONTEXT_BETA in betas else {}),
            "diagnostics": anything,
            "inference_geo": nullable(string),
            "metadata": Shape(optional={"user_id": nullable(user_id)}),
            "output_config": Shape(optional={"effort": nullable(EFFORT), "format": nullable(output_format)}),
            "service_tier": one_of("auto", "standard_only"),
            "speed": nullable(one_of("standard", "fast")),
            "stop_sequences": array(stop_sequence),
            "stream": boolean,
            "system": string_or(array(Tagged({"text": TEXT}))),
            "temperature": fraction,
            "thinking": thinking_config(betas),
            "tool_choice": TOOL_CHOICE,
            "tools": array(TOOL),
            "top_k": integer(0),
            "top_p": fraction,
            "user_profile_id": string,
        },
    )
