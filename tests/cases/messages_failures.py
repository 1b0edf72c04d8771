"""What ends badly or lies elsewhere: errors inside streams and before them (rules 19, 20), refusals that are learnt from (rule 11),
and reasoning for upstreams of OpenAI's kind (rule 28)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compat.errors import (
    ContextTooLong,
    GatewayError,
    UpstreamBroken,
    UpstreamFailure,
    UpstreamKeyRefused,
    UpstreamOutOfCredit,
    UpstreamOverloaded,
    UpstreamRateLimit,
    UpstreamRefusal,
)
from tests.cases.messages import StreamRow
from tests.fakes.anthropic_answers import error_event, event_bytes, one_event, stream_events, text, thinking, tool_use

EVENTS = stream_events([text("Hello there.")])
BEGUN = event_bytes([event for event in EVENTS if event["type"] not in {"content_block_stop", "message_delta", "message_stop"}])
SAID = "Hello there."
START, STOP = EVENTS[0], {"type": "message_stop"}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}


def cut(last: int) -> bytes:
    return event_bytes(EVENTS[:last])


def after_start(*events: dict[str, Any]) -> bytes:
    return event_bytes([START, *events])


def opened(block: Any, *deltas: Any) -> bytes:
    return after_start(
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
    )


STREAMS = [
    StreamRow(
        (19,),
        "an error after text ends the answer in the upstream's words",
        BEGUN + one_event(error_event()),
        "fake: Overloaded",
        SAID,
        UpstreamOverloaded,
    ),
    StreamRow((19,), "an error at once", one_event(error_event("rate_limit_error", "Slow down")), "fake: Slow down", "", UpstreamRateLimit),
    StreamRow(
        (19,),
        "an error of the server",
        BEGUN + one_event(error_event("api_error", "Internal server error")),
        "Internal server error",
        SAID,
        UpstreamFailure,
    ),
    StreamRow(
        (19,),
        "a key that expired",
        BEGUN + one_event(error_event("authentication_error", "invalid x-api-key")),
        "invalid x-api-key",
        SAID,
        UpstreamKeyRefused,
    ),
    StreamRow(
        (19, 20),
        "a context that is full",
        one_event(error_event("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")),
        "prompt is too long",
        "",
        ContextTooLong,
    ),
    StreamRow(
        (19,), "an error in OpenAI's shape", BEGUN + b'data: {"error":{"message":"No","code":429}}\n\n', "fake: No", SAID, UpstreamRateLimit
    ),
    StreamRow((19,), "an error without a message", BEGUN + one_event({"type": "error", "error": None}), "fake: ", SAID, UpstreamFailure),
    StreamRow((19,), "an end without message_stop", cut(-1), "without a message_stop", SAID),
    StreamRow((19,), "an end within a block", BEGUN, "without a message_stop", SAID),
    StreamRow((19,), "nothing at all", b"", "without a message_stop"),
    StreamRow((19,), "a web page", b"<html>\n<p>Bad gateway</p>\n\n</html>", "without a message_stop"),
    StreamRow((19,), "a message_stop alone", one_event(STOP), "before it was complete"),
    StreamRow((19,), "a message_stop without a reason", after_start(STOP), "before it was complete"),
    StreamRow((19,), "a message_stop while a block is open", BEGUN + event_bytes([DELTA, STOP]), "before it was complete", SAID),
    StreamRow((19,), "a start without a message", one_event({"type": "message_start"}), "without a message"),
    StreamRow((19,), "a block that is none", opened(None), "without a block"),
    StreamRow((19,), "a block without a type", opened({"text": "a"}), "not a content block"),
    StreamRow((19,), "a call without an id", opened({"type": "tool_use", "name": "read", "input": {}}), "not a content block"),
    StreamRow((19,), "a call whose name is no text", opened({"type": "tool_use", "id": "a", "name": None}), "not a content block"),
    StreamRow(
        (19,),
        "a delta without its block",
        after_start({"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "a"}}),
        "not open",
    ),
    StreamRow((19,), "a delta that is none", opened(text(""), None), "not open"),
    StreamRow((19,), "an end without its block", after_start({"type": "content_block_stop", "index": 3}), "not open"),
    StreamRow(
        (19, 29),
        "input of a server's tool that is no JSON",
        opened({"type": "server_tool_use", "id": "a"}, {"type": "input_json_delta", "partial_json": "{"})
        + one_event({"type": "content_block_stop", "index": 0}),
        "invalid JSON",
    ),
    StreamRow((19,), "what is no JSON", BEGUN + b"data: {\n\n", "invalid event", SAID),
    StreamRow((19,), "what is no object", BEGUN + b"data: [1]\n\n", "invalid event", SAID),
    StreamRow((19,), "text that is none", opened(text(""), {"type": "text_delta", "text": 5}), "invalid event"),
    StreamRow((19,), "broken UTF-8", BEGUN.replace(b"there", b"\xff\xfe") + b"", "invalid event", "Hello"),
    StreamRow(
        (19,),
        "nesting without end",
        BEGUN + b'data: {"type":"ping","usage":' + b"[" * 50_000 + b"]" * 50_000 + b"}\n\n",
        "invalid event",
        SAID,
    ),
]

BROKEN: list[tuple[bytes, str, type[GatewayError]]] = [
    (b"", "is not a message", UpstreamBroken),
    (b"<html>", "is not a message", UpstreamBroken),
    (b"[]", "is not a message", UpstreamBroken),
    (b'{"content":{}}', "is not a message", UpstreamBroken),
    (b'{"content":["\xff"],"stop_reason":"end_turn"}', "", UpstreamBroken),
    (b"{}", "has no content or no stop_reason", UpstreamBroken),
    (b'{"content":null,"stop_reason":"end_turn"}', "has no content or no stop_reason", UpstreamBroken),
    (b'{"content":[],"stop_reason":null}', "has no content or no stop_reason", UpstreamBroken),
    (b'{"content":[5],"stop_reason":"end_turn"}', "not a content block", UpstreamBroken),
    (b'{"content":[{"text":"a"}],"stop_reason":"end_turn"}', "not a content block", UpstreamBroken),
    (b'{"content":[{"type":"text","text":5}],"stop_reason":"end_turn"}', "not a content block", UpstreamBroken),
    (b'{"content":[{"type":"tool_use","name":"a","input":{}}],"stop_reason":"tool_use"}', "not a content block", UpstreamBroken),
    (b'{"type":"error","error":{"type":"overloaded_error","message":"Busy"}}', "fake: Busy", UpstreamOverloaded),
    (b'{"error":{"message":"No","code":429}}', "fake: No", UpstreamRateLimit),
]
"""Whole bodies that are no answer, words of the error, and its class."""


@dataclass(frozen=True)
class ErrorRow:
    """A refused call: the error that the client gets."""

    rules: tuple[int, ...]
    says: str
    status: int
    kind: str
    words: str
    error: type[GatewayError]
    client_status: int
    retry_after: str = ""
    wait_s: float | None = None


ERRORS = [
    ErrorRow(
        (20,),
        "a bad request keeps its words",
        400,
        "invalid_request_error",
        "messages: at least one message is required",
        UpstreamRefusal,
        400,
    ),
    ErrorRow((20,), "a wrong key", 401, "authentication_error", "invalid x-api-key", UpstreamKeyRefused, 401),
    ErrorRow((20,), "an unpaid bill", 402, "billing_error", "Your credit balance is too low", UpstreamOutOfCredit, 402),
    ErrorRow((20,), "a forbidden model", 403, "permission_error", "Not allowed", UpstreamKeyRefused, 403),
    ErrorRow((20,), "an unknown model", 404, "not_found_error", "model: claude-x", UpstreamRefusal, 404),
    ErrorRow((20,), "a request that is too large", 413, "request_too_large", "Request exceeds the maximum size", UpstreamRefusal, 413),
    ErrorRow(
        (20,),
        "a context that is full is told by its code",
        400,
        "invalid_request_error",
        "prompt is too long: 9 tokens > 8 maximum",
        ContextTooLong,
        400,
    ),
    ErrorRow((20,), "a limit with its wait", 429, "rate_limit_error", "Number of requests exceeded", UpstreamRateLimit, 429, "7", 7.0),
    ErrorRow((20,), "a limit without one", 429, "rate_limit_error", "Tier cap", UpstreamRateLimit, 429),
    ErrorRow((20,), "a failure", 500, "api_error", "Internal server error", UpstreamFailure, 500),
    ErrorRow((20,), "a time-out", 504, "timeout_error", "Timed out", UpstreamFailure, 504),
    ErrorRow((20,), "an overload", 529, "overloaded_error", "Overloaded", UpstreamOverloaded, 529),
]


@dataclass(frozen=True)
class LearntRow:
    """The words of a refused call, and the parameter that they name (`None`: the client's to hear of)."""

    words: str
    name: str | None
    status: int = 400
    param: str | None = None
    code: str | None = None
    rules: tuple[int, ...] = (11,)


LEARNT = [
    LearntRow("The encrypted content for item rs_1 could not be verified.", "input.reasoning", code="invalid_encrypted_content"),
    LearntRow(
        "Function tools with reasoning_effort are not supported for gpt-5.6-sol in /v1/chat/completions. To use function tools, use"
        " /v1/responses or set reasoning_effort to 'none'.",
        "endpoint openai.chat",
        param="reasoning_effort",
    ),
    LearntRow("This model is only supported in v1/responses and not in v1/chat/completions.", "endpoint openai.chat", 404, "model"),
    LearntRow("Please use the Responses API for this model.", "endpoint openai.chat"),
    LearntRow("The model 'gpt-9' does not exist.", None, 404, "model"),
    LearntRow("`temperature` is deprecated for this model.", "temperature"),
    LearntRow("`top_p` is deprecated for this model.", "top_p"),
    LearntRow("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "top_p"),
    LearntRow("`temperature` may only be set to 1 when thinking is enabled.", "temperature"),
    LearntRow("`top_k` must be unset when thinking is enabled.", "top_k"),
    LearntRow("temperature: Extra inputs are not permitted", "temperature", 422),
    LearntRow("adaptive thinking is not supported on this model", "thinking.adaptive"),
    LearntRow('adaptive thinking is not supported on this model. Use "thinking.type.enabled".', "thinking.adaptive"),
    LearntRow(
        "thinking: Input tag 'adaptive' found using 'type' does not match any of the expected tags: 'disabled', 'enabled'",
        "thinking.adaptive",
    ),
    LearntRow("thinking.type: Extra inputs are not permitted", "thinking"),
    LearntRow("This model does not support thinking.", "thinking"),
    LearntRow(
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and "output_config.effort".',
        "thinking.enabled",
    ),
    LearntRow('"thinking.type.disabled" is not supported for this model.', "thinking.disabled"),
    LearntRow("thinking.adaptive.display: Extra inputs are not permitted", "thinking.display"),
    LearntRow("thinking.adaptive.block_binding: Extra inputs are not permitted", "thinking.block_binding"),
    LearntRow("Unexpected value(s) `thinking-binding-controls-2026-08-01` for the `anthropic-beta` header.", "thinking.block_binding"),
    LearntRow("output_config.effort: Extra inputs are not permitted", "output_config.effort"),
    LearntRow("This model does not support the effort parameter.", "output_config.effort"),
    LearntRow("This model does not support effort level 'xhigh'. Supported levels: high, low, max, medium.", "output_config.effort.xhigh"),
    LearntRow("output_config.format: 'claude-x' does not support output format.", "output_config.format"),
    LearntRow("output_config.format.schema: For 'object' type, property 'x' is not supported", "output_config.format.schema"),
    LearntRow("output_config: Extra inputs are not permitted", "output_config"),
    LearntRow('tool_choice: type "tool" and "any" are not supported for this model.', "tool_choice.forced"),
    LearntRow("Thinking may not be enabled when tool_choice forces tool use.", "tool_choice.thinking"),
    LearntRow("tool_choice: Extra inputs are not permitted", "tool_choice"),
    LearntRow("tools.3.cache_control: Extra inputs are not permitted", "cache_control"),
    LearntRow("messages.0.content.0.text.cache_control.ttl: Extra inputs are not permitted", "cache_control"),
    LearntRow("service_tier: Extra inputs are not permitted", "service_tier"),
    LearntRow("metadata: Extra inputs are not permitted", "metadata"),
    LearntRow("This model does not support assistant message prefill. The conversation must end with a user message.", "messages.prefill"),
    LearntRow("messages.2: role 'system' is not supported on this model", "messages.role"),
    LearntRow('messages: Unexpected role "system". Allowed roles are "user" or "assistant".', "messages.role"),
    LearntRow("messages.2: a 'system' message must follow a 'user' message", "messages.role"),
    LearntRow("messages.1.content.0: Invalid `signature` in `thinking` block", "messages.thinking"),
    LearntRow("messages.1.content.0: Invalid `data` in `redacted_thinking` block", "messages.thinking"),
    LearntRow(
        "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to another conversation. Remove it, or set"
        ' `thinking.block_binding.prefix_mismatch_behavior` to "drop_block".',
        "messages.thinking",
    ),
    LearntRow(
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`. When `thinking` is enabled, a final message"
        " must start with a thinking block",
        "messages.thinking",
    ),
    LearntRow(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "max_tokens",
        param="max_tokens",
        code="unsupported_parameter",
    ),
    LearntRow("Unsupported value: 'reasoning_effort' does not support 'minimal' with this model.", "reasoning_effort"),
    LearntRow("Unknown", "stream_options", param="stream_options", code="unknown_parameter"),
    LearntRow("Unrecognized request argument supplied: Seed", "seed"),
    LearntRow("parallel_tool_calls is not supported", "parallel_tool_calls"),
    LearntRow("max_completion_tokens: Extra inputs are not permitted", "max_completion_tokens", 422),
    LearntRow("messages.1.assistant.reasoning_content: Extra inputs are not permitted", "reasoning_content", 422),
    LearntRow("Unknown parameter: 'messages[1].reasoning_content'.", "reasoning_content", code="unknown_parameter"),
    LearntRow("The `reasoning_content` in the thinking mode must be passed back to the API.", None),
    LearntRow("messages: at least one message is required", None),
    LearntRow("tools.3.custom.input_schema: JSON schema is invalid: temperature is not allowed", None),
    LearntRow("messages.4.content.0.tool_result.content.0.text: Unexpected metadata", None),
    LearntRow(
        "messages.1.content.2.image.source.base64.data: The image was specified using the image/jpeg media type, but cannot be read", None
    ),
    LearntRow("max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens", None),
    LearntRow("model: claude-x is not available", None),
    LearntRow("temperature: range: 0..1", None),
    LearntRow("`temperature` is deprecated for this model.", None, 404),
    LearntRow("`temperature` is not supported: prompt is too long", None),
]

PLAIN_REQUEST = {"messages": [{"role": "assistant", "content": "Hi.", "reasoning_content": "Hm."}]}
REASONING = [((28,), frozenset[str](), True), ((28,), frozenset({"reasoning_content"}), False)]
"""Fields that an upstream of OpenAI's kind refuses, and whether prior reasoning reaches it."""

PAUSED = [
    thinking("Hm.", proof="abc"),
    text("One, "),
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}},
]
RESUMED = [text("two."), tool_use("read", {"p": 1})]
