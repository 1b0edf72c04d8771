"""What a refused call means: status, headers and body of any upstream -> the error tree.

Upstreams of both wire APIs come here, and servers that answer in a shape of their own; the upstream's words are kept.
"""

from __future__ import annotations

import contextlib
import email.utils
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from compat.errors import (
    ContextTooLong,
    GatewayError,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamFailure,
    UpstreamKeyRefused,
    UpstreamOutOfCredit,
    UpstreamOverloaded,
    UpstreamRateLimit,
    UpstreamRefusal,
)

MAX_MESSAGE_CHARS = 4000

_CLASSES: Mapping[int, type[UpstreamError]] = {
    401: UpstreamKeyRefused,
    402: UpstreamOutOfCredit,
    403: UpstreamKeyRefused,
    408: UpstreamBusy,
    409: UpstreamBusy,
    425: UpstreamBusy,
    429: UpstreamRateLimit,
    503: UpstreamOverloaded,
    529: UpstreamOverloaded,
}

_OVERFLOW = re.compile(
    r"maximum context length|prompt is too long|context_length_exceeded|exceeds? the (?:available )?context (?:size|window|length)"
    r"|input length and .?max_tokens.? exceed context|context window (?:is )?exceeded|too many (?:input )?tokens|reduce the length of"
    r"|input is too long|input token count .* exceeds|prompt tokens? exceed",
    re.IGNORECASE,
)
_OF_THE_ACCOUNT: tuple[tuple[re.Pattern[str], type[UpstreamError]], ...] = (
    (re.compile(r"credit balance is too low|insufficient (?:balance|credits?|funds)", re.IGNORECASE), UpstreamOutOfCredit),
    (re.compile(r"\bapi key not valid|(?:incorrect|invalid) api key|organization has been disabled", re.IGNORECASE), UpstreamKeyRefused),
)
"""What some services say with a 400 is no fault of the request: another key or upstream can serve it."""
_TAG = re.compile(r"<(?:script|style)(?:[^<]|<(?!/?(?:script|style)))*+</(?:script|style)>|<[^<>]*>", re.IGNORECASE)
"""Linear in the text: no attempt goes on past where the next one begins."""
_WORDS = ("message", "detail", "errors")
"""Where the words stand in a body without `error`."""

_TYPE_STATUS: Mapping[str, int] = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "server_error": 500,
    "api_error": 500,
    "timeout_error": 504,
    "invalid_request_error": 400,
}


def refusal_of(status: int, headers: Mapping[str, str], body: bytes, upstream: str) -> GatewayError:
    """The error for an answer that is not a 200. `headers` have lower-case names, `upstream` is the name for messages."""
    if status < 300:
        return UpstreamBroken(f"{upstream} answered with status {status}, which is neither an answer nor an error.")
    if 300 <= status < 400:
        return UpstreamBroken(f"{upstream} answered with a redirect (status {status}), which is not followed: check its base_url.")
    fields = error_fields(body)
    words = _text(fields.get("message")) or f"status {status} without a message"
    return _build(status, words, fields, upstream, retry_after_s(headers))


def event_error(error: Any, upstream: str) -> GatewayError:
    """The error for an error object that came inside a 200: in a stream's event, or as the whole body."""
    fields = error if isinstance(error, Mapping) else {"message": str(error)}
    code = fields.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else _TYPE_STATUS.get(str(fields.get("type")), 0)
    status = status or _TYPE_STATUS.get(str(code), 500)
    return _build(status, _text(fields.get("message")) or "an error without a message", fields, upstream, None)


def _build(status: int, words: str, fields: Mapping[str, Any], upstream: str, wait_s: float | None) -> GatewayError:
    code = fields.get("code") if isinstance(fields.get("code"), str) else None
    if (status in {400, 413, 422, 500} and _OVERFLOW.search(words)) or code == "context_length_exceeded":
        return ContextTooLong(f"{upstream}: {words}")
    param = fields.get("param")
    type_ = fields.get("type")
    kind = _CLASSES.get(status) or (UpstreamFailure if status >= 500 else UpstreamRefusal)
    if status == 400:
        kind = next((found for pattern, found in _OF_THE_ACCOUNT if pattern.search(words)), kind)
    elif status == 429 and "insufficient_quota" in (code, type_):  # OpenAI's; a rate limit has another code
        kind = UpstreamOutOfCredit
    if status == 400 and code == "invalid_api_key":
        kind = UpstreamKeyRefused
    if kind is UpstreamKeyRefused:
        code = None  # the upstream's `invalid_api_key` would read as a word on the client's own key
    return kind(
        f"{upstream}: {words}",
        status=status,
        type=type_ if isinstance(type_, str) and type_ and type_ != "error" else None,
        code=code,
        param=param if isinstance(param, str) else None,
        retry_after_s=wait_s,
    )


def error_fields(body: bytes) -> dict[str, Any]:
    """The error object of a body in whatever shape: OpenAI's, Anthropic's, FastAPI's, a bare string, a list around it, HTML."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[: 64 * 1024].decode("utf-8", "replace")
        plain = " ".join(_TAG.sub(" ", text).split()) if "<" in text else text.strip()
        return {"message": plain}
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return {"message": str(document)}
    error = document.get("error")
    if isinstance(error, dict):
        return error
    words = error if error is not None else next((document[key] for key in _WORDS if document.get(key)), None)
    if error is None and isinstance(words, list):  # of several errors the first
        words = words[0]
    if error is None and isinstance(words, dict):  # a detail with words of its own
        words = words.get("message") or _located(words) or words
    return document if words is None else {**document, "message": str(words)}


def _located(detail: Mapping[str, Any]) -> str:
    """The words of a FastAPI server on one field, with the field's place before them: without it they say nothing."""
    words, place = detail.get("msg"), detail.get("loc")
    steps = [str(step) for step in place if step != "body"] if isinstance(place, list) else []
    return f"{'.'.join(steps)}: {words}" if words and steps else str(words or "")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait an upstream asks for, in seconds: `retry-after-ms`, `retry-after` in seconds or as a date (RFC 9110, section 10.2.3).

    A date counts from the answer's own `date`, so that neither clock matters. A malformed wait is ignored.
    """
    with contextlib.suppress(ValueError, KeyError):
        wait_ms = float(headers["retry-after-ms"])
        if math.isfinite(wait_ms):
            return max(wait_ms / 1000, 0.0)
    value = headers.get("retry-after", "")
    if not value:
        return None
    try:
        if value.replace(".", "", 1).strip().isdigit():
            return float(value)
        until = email.utils.parsedate_to_datetime(value)
        return max((until - email.utils.parsedate_to_datetime(headers["date"])).total_seconds(), 0.0)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _text(value: Any) -> str:
    """An upstream's words, bounded and without control characters."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text[:MAX_MESSAGE_CHARS]).strip()
