"""Signatures of thinking blocks: an HMAC over the model and the text, so that a block which comes back can be verified.

As at the real API a signature from another model or over another text is refused, and models with `bound_thinking` refuse a block behind
which the conversation (system prompt, tools, earlier messages) has changed, unless the request asks to drop such blocks.
Cache markers don't count as a change, nor do fields that only the API itself writes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from compat.config.catalog import MessagesFacts
from tests.fakes.anthropic_conversation import Block, blocks_of

KEY = b"the imitation's own"
PARTS = {"system": "The `system` prompt differs", "tools": "The `tools` differ", "messages": "The messages before it differ"}
INVISIBLE = {"cache_control", "caller", "citations"}
BOUND = (
    "The block is bound to a different conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to"
    ' "drop_block". That setting requires the `thinking-binding-controls-2026-08-01` value in the `anthropic-beta` header.'
    " {} from the one this block was created with."
)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name not in INVISIBLE}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_plain(value)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Prefix:
    """What precedes a block. Turns of one role in a row are one turn, so only blocks are counted."""

    system: str
    tools: str
    messages: str

    @classmethod
    def of(cls, body: dict[str, Any], blocks: Iterable[tuple[str, Block]]) -> Prefix:
        system = body.get("system") or []
        texts = [{"type": "text", "text": system}] if isinstance(system, str) else system
        return cls(_digest(texts), _digest(body.get("tools", [])), _digest([[role, block] for role, block in blocks]))


def role_blocks(body: dict[str, Any]) -> list[tuple[str, Block]]:
    """Every block of the conversation with its role."""
    return [(message["role"], block) for message in body["messages"] for block in blocks_of(message)]


def signature(model_id: str, text: str, prefix: Prefix | None = None) -> str:
    """The signature of a thinking block, and the data of a redacted one."""
    told = json.dumps([model_id, vars(prefix) if prefix else None])
    mac = hmac.new(KEY, f"{told}\n{text}".encode(), hashlib.sha256).hexdigest()[:32]
    return base64.b64encode(f"{mac}{told}".encode()).decode()


def signed(body: dict[str, Any], blocks: Iterable[Block]) -> list[Block]:
    """The blocks of an answer to `body`, thinking signed."""
    before, done = role_blocks(body), list[Block]()
    for block in blocks:
        prefix = Prefix.of(body, before + [("assistant", item) for item in done])
        if block["type"] == "thinking":
            block = {**block, "signature": signature(body["model"], block["thinking"], prefix)}
        elif block["type"] == "redacted_thinking":
            block = {**block, "data": signature(body["model"], "", prefix)}
        done.append(block)
    return done


@dataclass(frozen=True)
class Verdict:
    """What is wrong with the thinking in a request, and the paths of blocks that are dropped instead of refused."""

    violations: list[str]
    dropped: list[str]


def verify_thinking(body: dict[str, Any], facts: MessagesFacts) -> Verdict:
    """Verify every thinking block of `body`."""
    binding = body.get("thinking", {}).get("block_binding") or {}
    may_drop = binding.get("prefix_mismatch_behavior") == "drop_block"
    verdict = Verdict([], [])
    for path, block, before in _thinking_blocks(body):
        kind, problem = block["type"], ""
        text, proof = (block["thinking"], block["signature"]) if kind == "thinking" else ("", block["data"])
        told = _told(proof)
        if told is None or told[0] != body["model"] or not hmac.compare_digest(proof, signature(told[0], text, told[1])):
            verdict.violations.append(f"{path}: Invalid `{'signature' if kind == 'thinking' else 'data'}` in `{kind}` block")
        elif facts.bound_thinking and told[1] is not None:
            now = vars(Prefix.of(body, before))
            problem = next((words for name, words in PARTS.items() if now[name] != vars(told[1])[name]), "")
        if problem and may_drop:
            verdict.dropped.append(path)
        elif problem:
            verdict.violations.append(f"{path}: Invalid `signature` in `{kind}` block. {BOUND.format(problem)}")
    return verdict


def _thinking_blocks(body: dict[str, Any]) -> Iterator[tuple[str, Block, list[tuple[str, Block]]]]:
    before: list[tuple[str, Block]] = []
    for number, message in enumerate(body["messages"]):
        for place, block in enumerate(blocks_of(message)):
            if block["type"] in {"thinking", "redacted_thinking"}:
                yield f"messages.{number}.content.{place}", block, list(before)
            before.append((message["role"], block))


def _told(proof: str) -> tuple[str, Prefix | None] | None:
    """The model and prefix that a signature names, None for one that isn't ours."""
    try:
        model_id, prefix = json.loads(base64.b64decode(proof, validate=True).decode()[32:])
        return model_id, Prefix(**prefix) if prefix else None
    except (ValueError, TypeError):
        return None
