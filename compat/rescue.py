"""Carrying an answer on after its upstream died in the middle of it.

What the client was shown is read back from its own frames, so that it does not matter who wrote them. The next attempt gets the same
conversation with the text so far as the model's turn: as a prefill where the model takes one, else with a request to go on from the exact
last characters. `Splice` then makes one stream of both: one identity, no second role, no overlap, usage added up.

Only text and reasoning are carried on. After a tool call began to show there is no honest way; then the error event stays (translation
rule 19). An answer that must be JSON is not carried on either: half of it was decided by rules that a second attempt would start anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compat import jsonio
from compat.call import Call
from compat.routing.router import Deployment
from compat.wire.sse import DONE, EventSplitter, data_frame, parse_event
from compat.wire.usage import Usage, cost_of

MAX_SHOWN_BYTES = 1024 * 1024
MIN_OVERLAP = 12
_TAIL_CHARS = 400
_QUOTED_CHARS = 120
_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Shown:
    """What the client has of an answer: its text, whether it saw reasoning or a tool call, and the stream's identity."""

    text: str = ""
    has_reasoning: bool = False
    has_calls: bool = False
    identity: Mapping[str, Any] | None = None

    @property
    def estimate(self) -> Usage:
        """What the part was worth, where the upstream did not live to tell."""
        return Usage(completion_tokens=len(self.text) // _CHARS_PER_TOKEN, is_estimate=True)


def read_shown(frames: Sequence[bytes]) -> Shown:
    """What these frames showed. They are our own: every event is a chunk, a comment or the end mark."""
    text: list[str] = []
    has_reasoning = has_calls = False
    identity: dict[str, Any] | None = None
    splitter = EventSplitter(max_event_bytes=2 * MAX_SHOWN_BYTES)
    for block in splitter.feed(b"".join(frames)):
        data = parse_event(block).data
        if not data or data == b"[DONE]":
            continue
        chunk = jsonio.decode(data)
        identity = identity or {key: chunk.get(key) for key in ("id", "created")}
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            content = delta.get("content")
            text.append(content if isinstance(content, str) else "")
            has_reasoning = has_reasoning or bool(delta.get("reasoning_content") or delta.get("reasoning"))
            has_calls = has_calls or bool(delta.get("tool_calls"))
    return Shown("".join(text), has_reasoning, has_calls, identity)


def can_rescue(call: Call, shown: Shown) -> bool:
    """Whether the rest of the answer can be asked for honestly."""
    wanted = call.envelope.value("response_format")
    is_free = not isinstance(wanted, dict) or wanted.get("type") in {None, "text"}
    return is_free and not shown.has_calls and shown.identity is not None and call.envelope.value("n") in {None, 1}


def takes_prefill(call: Call, deployment: Deployment) -> bool:
    """Whether the deployment goes on with a trailing assistant message by itself."""
    if deployment.upstream.kind.wire_api != "anthropic.messages" or not deployment.model.messages.prefill:
        return False
    return call.envelope.value("reasoning_effort") in {None, "none"} and not call.envelope.value("reasoning")


def rest_of(call: Call, shown: Shown, deployment: Deployment) -> Call:
    """The call that asks for the rest. Without any text so far it is the call itself."""
    if not shown.text.strip():
        return call
    turns: list[dict[str, Any]] = [{"role": "assistant", "content": shown.text}]
    if not takes_prefill(call, deployment):
        end = shown.text[-_QUOTED_CHARS:]
        words = (
            "The connection failed in the middle of your last message. It ends with these characters:\n"
            f"{end}\n\nGo on with the very next character. Repeat nothing, and say nothing about the interruption."
        )
        turns.append({"role": "user", "content": words})
    messages = call.envelope["messages"].rstrip()
    longer = messages[:-1] + b"," + jsonio.encode(turns)[1:]
    return replace(call, envelope=type(call.envelope)(call.envelope.replaced({"messages": longer})), wants_usage=True)


class Splice:
    """Frames of a later attempt as the continuation of what was shown. Mutable: what is held back, and whether text has begun."""

    def __init__(self, call: Call, shown: Shown, before: Usage, deployments: Sequence[Deployment], *, removes_overlap: bool) -> None:
        self._call = call
        self._shown = shown
        self._before = before
        self._deployments = deployments
        self._is_joined = not shown.text
        self._removes_overlap = removes_overlap
        self._held = ""
        self._splitter = EventSplitter(max_event_bytes=64 * MAX_SHOWN_BYTES)

    def feed(self, frames: bytes) -> bytes:
        """The client's frames for those of the attempt."""
        return b"".join(out for block in self._splitter.feed(frames) for out in self._event(block))

    def _event(self, block: bytes) -> Iterator[bytes]:
        data = parse_event(block).data
        if not data:
            yield block + b"\n\n"  # a heartbeat
        elif data == b"[DONE]":
            names = " -> ".join(deployment.name for deployment in self._deployments)
            yield f": carried on after a fault: {names}\n\n".encode("ascii", "replace") + DONE
        else:
            yield from self._chunk(jsonio.decode(data))

    def _chunk(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        if "choices" not in chunk:  # an error event
            yield data_frame(jsonio.encode(chunk))
            return
        chunk |= self._shown.identity or {}
        if not chunk["choices"]:
            if self._call.wants_usage:
                yield data_frame(jsonio.encode({**chunk, "usage": self._usage(chunk.get("usage") or {})}))
            return
        choice = chunk["choices"][0]
        delta = choice.setdefault("delta", {})
        delta.pop("role", None)
        if isinstance(delta.get("content"), str):
            delta["content"] = self._joined(delta["content"], is_last=False)
        elif delta.get("tool_calls") and not self._is_joined:
            yield from self._flushed(chunk)
        if choice.get("finish_reason") is not None and not self._is_joined:
            yield from self._flushed(chunk)
        if choice.get("finish_reason") is not None or any(delta.values()):
            yield data_frame(jsonio.encode(chunk))

    def _flushed(self, chunk: dict[str, Any]) -> Iterator[bytes]:
        text = self._joined("", is_last=True)
        if text:
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            yield data_frame(jsonio.encode({**chunk, "choices": [choice]}))

    def _joined(self, text: str, *, is_last: bool) -> str:
        """The text without what it repeats; held back until that can be told."""
        if self._is_joined:
            return text
        self._held += text
        tail = self._shown.text[-_TAIL_CHARS:]
        if not is_last and len(self._held) < len(tail) and self._may_overlap(tail):
            return ""
        self._is_joined = True
        return without_overlap(tail, self._held, at_least=MIN_OVERLAP if self._removes_overlap else len(tail) + 1)

    def _may_overlap(self, tail: str) -> bool:
        """Whether what is held may still turn out to be a repetition."""
        return self._removes_overlap and (len(self._held) < MIN_OVERLAP or self._held in tail or self._held.lstrip() in tail)

    def _usage(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Both attempts' counts; the cost of the first by the price of its own model."""
        before, price = self._before, self._deployments[0].model.price
        added = {"prompt_tokens": before.prompt_tokens, "completion_tokens": before.completion_tokens}
        usage = raw | {name: int(raw.get(name) or 0) + count for name, count in added.items()}
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        details = raw.get("cost_details") if isinstance(raw.get("cost_details"), dict) else {}
        cost = (details or {}).get("upstream_inference_cost")
        if isinstance(cost, int | float):
            usage["cost_details"] = {**(details or {}), "upstream_inference_cost": cost + cost_of(before, price)}
        return usage


def without_overlap(tail: str, text: str, *, at_least: int) -> str:
    """`text` less the longest beginning that `tail` already ends with, if it is `at_least` so long; and no doubled white space between."""
    for start in (text, text.lstrip()):
        for size in range(min(len(tail), len(start)), at_least - 1, -1):
            if tail.endswith(start[:size]):
                return start[size:]
    if tail[-1:].isspace() and text[:1].isspace():
        return text.lstrip(" \n" if tail.endswith("\n") else " ")
    return text


def added_usage(first: Usage | None, second: Usage | None) -> Usage | None:
    """Both counts in one."""
    if first is None or second is None:
        return first or second
    sums = {name: getattr(first, name) + getattr(second, name) for name in _COUNTS}
    return Usage(**sums, is_estimate=first.is_estimate or second.is_estimate)


_COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)
