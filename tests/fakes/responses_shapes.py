"""The fields of a Responses API request, as tables: which a table knows, which are required, what each may hold.

Sources: the parameter types of OpenAI's SDK 3.54, and the texts of recorded refusals.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from tests.fakes.responses_checks import (
    Problem,
    Shape,
    Tagged,
    anything,
    array,
    boolean,
    decimal,
    id_of,
    integer,
    nullable,
    one_of,
    string,
    string_or,
    table,
    text_of,
    wrong_type,
)

# Content.


def image_url(value: Any, path: str) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield wrong_type("a string", value, path)
        return
    if value.startswith(("https://", "http://")):
        return
    found = re.fullmatch(r"data:image/(png|jpeg|webp|gif);base64,(.*)", value, re.DOTALL)
    if found is None:
        yield Problem(
            f"Invalid '{path}'. Expected a valid URL or a base64-encoded data URL with an image MIME type"
            " (e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got a value that is neither.",
            path,
            "invalid_value",
        )
    elif not _is_base64(found[2]):
        yield Problem(
            f"Invalid '{path}'. Expected a base64-encoded data URL, but got invalid base64-encoded bytes.", path, "invalid_base64"
        )


def file_data(value: Any, path: str) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield wrong_type("a string", value, path)
    elif not re.match(r"data:[\w.+-]+/[\w.+-]+;base64,", value):
        yield Problem(
            f"Invalid '{path}'. Expected a base64-encoded data URL with a MIME type, but got a value without one.", path, "invalid_value"
        )
    elif not _is_base64(value.partition(",")[2]):
        yield Problem(
            f"Invalid '{path}'. Expected a base64-encoded data URL, but got invalid base64-encoded bytes.", path, "invalid_base64"
        )


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False


BREAKPOINT = {
    "prompt_cache_breakpoint": nullable(Shape({"mode": one_of("explicit")}, {"ttl": one_of("30m", "12h")})),
}
INPUT_PARTS = {
    "input_text": Shape({"text": string}, BREAKPOINT),
    "input_image": Shape(
        optional=BREAKPOINT
        | {
            "detail": nullable(one_of("low", "high", "auto", "original")),
            "file_id": nullable(string),
            "image_url": nullable(image_url),
        }
    ),
    "input_file": Shape(
        optional=BREAKPOINT
        | {
            "detail": one_of("auto", "low", "high"),
            "file_data": file_data,
            "file_id": nullable(string),
            "file_url": string,
            "filename": string,
        }
    ),
}
OUTPUT_PARTS = {
    "output_text": Shape({"text": string}, {"annotations": array(table), "logprobs": array(table)}),
    "refusal": Shape({"refusal": string}),
}
STATUS = {"status": nullable(one_of("in_progress", "completed", "incomplete")), "internal_chat_message_metadata_passthrough": anything}
"""What items may have; the second is Codex' own."""


def message(value: Any, path: str) -> Iterator[Problem]:
    """A message: what its parts may be depends on its role."""
    role = value.get("role")
    is_ours = role == "assistant"
    parts = Tagged(OUTPUT_PARTS if is_ours else INPUT_PARTS)
    yield from Shape(
        {
            "role": one_of("assistant", "system", "developer", "user"),
            "content": string_or(array(parts), "an array of objects"),
        },
        STATUS | {"id": id_of("msg"), "phase": nullable(one_of("commentary", "final_answer"))},
    )(value, path)


# Items and tools.

CALL_ID = text_of(64)
CALLER = {"caller": nullable(table)}
NAME = r"^[a-zA-Z0-9_-]+$"
SUMMARY = Tagged({"summary_text": Shape({"text": string})})
REASONING_TEXT = Tagged({"reasoning_text": Shape({"text": string})})
OUTPUT = string_or(array(Tagged(INPUT_PARTS)), "an array of objects")

TOOL_NAME = text_of(128, NAME)
FUNCTION_TOOL = Shape(
    {"name": TOOL_NAME},
    {
        "description": nullable(string),
        "parameters": nullable(table),
        "strict": nullable(boolean),
        "defer_loading": boolean,
        "output_schema": nullable(table),
        "allowed_callers": nullable(array(string)),
    },
)
GRAMMAR = Tagged({"text": Shape(), "grammar": Shape({"syntax": one_of("lark", "regex"), "definition": string})})
CUSTOM_TOOL = Shape({"name": TOOL_NAME}, {"description": string, "format": GRAMMAR, "defer_loading": boolean})
NAMESPACE = Shape(
    {"name": TOOL_NAME, "description": string, "tools": array(Tagged({"function": FUNCTION_TOOL, "custom": CUSTOM_TOOL}))},
)
HOSTED = Shape(
    optional=dict.fromkeys(
        (
            "external_web_access",
            "filters",
            "search_context_size",
            "user_location",
            "container",
            "execution",
            "description",
            "parameters",
            "search_content_types",
        ),
        anything,
    )
)
TOOL = Tagged(
    {
        "function": FUNCTION_TOOL,
        "custom": CUSTOM_TOOL,
        "namespace": NAMESPACE,
        "web_search": HOSTED,
        "code_interpreter": HOSTED,
        "image_generation": HOSTED,
        "tool_search": HOSTED,
    }
)
ITEM = Tagged(
    {
        "message": message,
        "reasoning": Shape(
            {"summary": array(SUMMARY)},
            STATUS | {"id": id_of("rs"), "content": nullable(array(REASONING_TEXT)), "encrypted_content": nullable(string)},
        ),
        "function_call": Shape(
            {"call_id": CALL_ID, "name": TOOL_NAME, "arguments": string}, STATUS | CALLER | {"id": id_of("fc"), "namespace": string}
        ),
        "function_call_output": Shape(
            {"call_id": CALL_ID, "output": OUTPUT},
            STATUS | CALLER | {"id": nullable(id_of("fc")), "name": nullable(string), "namespace": nullable(string)},
        ),
        "custom_tool_call": Shape(
            {"call_id": CALL_ID, "name": TOOL_NAME, "input": string}, STATUS | CALLER | {"id": id_of("ctc"), "namespace": string}
        ),
        "custom_tool_call_output": Shape({"call_id": CALL_ID, "output": OUTPUT}, STATUS | CALLER | {"id": id_of("ctc")}),
        "item_reference": Shape({"id": string}),
        "additional_tools": Shape({"role": one_of("developer"), "tools": array(TOOL)}, {"id": nullable(string)}),
        "compaction": Shape({"encrypted_content": string}, {"id": nullable(id_of("cmp"))} | STATUS),
        "compaction_trigger": Shape(),
    },
    default="message",
)

INCLUDES = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
NAMED = Shape({"name": string})
CHOSEN = Tagged({"function": NAMED, "custom": NAMED, "allowed_tools": Shape({"mode": one_of("auto", "required"), "tools": array(table)})})
FORMAT = Tagged(
    {
        "text": Shape(),
        "json_object": Shape(),
        "json_schema": Shape({"name": text_of(64, NAME), "schema": table}, {"description": string, "strict": nullable(boolean)}),
    }
)
MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "functions": "tools",
    "function_call": "tool_choice",
}


def metadata(value: Any, path: str) -> Iterator[Problem]:
    yield from table(value, path)
    if isinstance(value, dict):
        if len(value) > 16:
            yield Problem(f"Invalid '{path}': too many properties.", path, "object_above_max_properties")
        for name, item in value.items():
            yield from string(item, f"{path}.{name}")


REQUEST = Shape(
    {"model": text_of(256), "input": string_or(array(ITEM), "an array of objects")},
    {
        "background": nullable(boolean),
        "client_metadata": nullable(table),
        "include": nullable(array(one_of(*INCLUDES))),
        "instructions": nullable(string),
        "max_output_tokens": nullable(integer(16)),
        "max_tool_calls": nullable(integer(1)),
        "metadata": nullable(metadata),
        "parallel_tool_calls": nullable(boolean),
        "previous_response_id": nullable(id_of("resp")),
        "prompt_cache_key": nullable(text_of(64)),
        "prompt_cache_options": Shape(optional={"mode": one_of("implicit", "explicit"), "ttl": one_of("30m", "12h")}),
        "prompt_cache_retention": nullable(one_of("in_memory", "24h")),
        "reasoning": nullable(
            Shape(
                optional={
                    "effort": nullable(one_of(*EFFORTS)),
                    "summary": nullable(one_of("auto", "concise", "detailed")),
                    "context": nullable(one_of("auto", "current_turn", "all_turns")),
                    "mode": string,
                }
            )
        ),
        "safety_identifier": nullable(text_of(128)),
        "service_tier": nullable(one_of("auto", "default", "flex", "fast", "priority", "ultrafast")),
        "store": nullable(boolean),
        "stream": nullable(boolean),
        "stream_options": nullable(Shape(optional={"include_obfuscation": boolean})),
        "temperature": nullable(decimal(0, 2)),
        "text": Shape(optional={"format": FORMAT, "verbosity": nullable(one_of("low", "medium", "high"))}),
        "tool_choice": string_or(CHOSEN, "an object"),
        "tools": nullable(array(TOOL)),
        "top_logprobs": nullable(integer(0, 20)),
        "top_p": nullable(decimal(0, 1)),
        "truncation": nullable(one_of("auto", "disabled")),
        "user": string,
    },
    MOVED,
)
"""The whole body."""
