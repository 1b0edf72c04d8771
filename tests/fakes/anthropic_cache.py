"""An imitation of the prompt cache: which part of a request was seen before, counted in tokens of four characters.

    cache = PromptCache()
    cache.usage(first_body)   # {"input_tokens": 12, "cache_creation_input_tokens": 2048, "cache_read_input_tokens": 0, ...}
    cache.usage(second_body)  # reads what the first one wrote, when it begins with the very same bytes
    cache.history             # all of them

Tools, system and messages are one sequence of blocks. A mark writes all that lies before and under it, when that reaches the model's
minimum; a request reads the longest stored prefix among the twenty that end with, or just before, one of its marks. Keys in another
order are another prefix. `tool_choice` and `thinking` belong to the messages, the output format to everything.
https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from compat.config.catalog import MessagesFacts
from tests.fakes.anthropic_conversation import blocks_of
from tests.fakes.anthropic_rules import model_of

LOOK_BACK = 20
CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class _Step:
    """The prefix that ends with one block: its name, its size, and how long a mark there makes it live."""

    digest: str
    tokens: int
    ttl: str | None


@dataclass
class PromptCache:
    """Stored prefixes of all models. Mutable; may be used from several threads."""

    history: list[dict[str, Any]] = field(default_factory=list)
    _stored: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def hits(self) -> int:
        """How many requests read something."""
        return sum(usage["cache_read_input_tokens"] > 0 for usage in self.history)

    def usage(self, body: dict[str, Any], facts: MessagesFacts | None = None) -> dict[str, Any]:
        """The input side of the usage of `body`, which is stored as its marks say."""
        minimum = (facts or model_of(body["model"]).messages).cache_minimum
        steps = list(_steps(body))
        marks = [number for number, step in enumerate(steps) if step.ttl is not None and step.tokens >= minimum]
        with self._lock:
            read = self._longest_read(steps, marks)
            self._stored |= {steps[number].digest for number in marks}
            written = {"5m": 0, "1h": 0}
            done = read
            for number in marks:
                written[steps[number].ttl or "5m"] += max(0, steps[number].tokens - done)
                done = max(done, steps[number].tokens)
            usage = {
                "input_tokens": steps[-1].tokens - done if steps else 0,
                "cache_creation_input_tokens": sum(written.values()),
                "cache_read_input_tokens": read,
                "cache_creation": {"ephemeral_5m_input_tokens": written["5m"], "ephemeral_1h_input_tokens": written["1h"]},
            }
            self.history.append(usage)
        return usage

    def forget(self) -> None:
        """As if all had expired."""
        with self._lock:
            self._stored.clear()

    def _longest_read(self, steps: list[_Step], marks: list[int]) -> int:
        reach = {place for number in marks for place in range(max(0, number - LOOK_BACK + 1), number + 1)}
        return max((steps[place].tokens for place in reach if steps[place].digest in self._stored), default=0)


def _steps(body: dict[str, Any]) -> Iterator[_Step]:
    parts = list(_parts(body))
    automatic = body.get("cache_control")
    last = max((number for number, (_, is_block) in enumerate(parts) if is_block), default=None)
    running, chars = hashlib.sha256(body["model"].encode()), 0
    for number, (part, is_block) in enumerate(parts):
        ttls: list[str] = []
        text = json.dumps(_unmarked(part, ttls), ensure_ascii=False)
        running.update(text.encode())
        if not is_block:
            continue
        if automatic is not None and number == last:
            ttls.append(automatic.get("ttl", "5m"))
        chars += len(text)
        yield _Step(running.hexdigest(), chars // CHARS_PER_TOKEN, ttls[-1] if ttls else None)


def _parts(body: dict[str, Any]) -> Iterator[tuple[Any, bool]]:
    """The sequence, each part with whether it's a block; the others are settings that a prefix depends on."""
    yield (body.get("output_config", {}).get("format"), False)
    yield from ((tool, True) for tool in body.get("tools", ()))
    system = body.get("system") or []
    yield from ((block, True) for block in ([{"type": "text", "text": system}] if isinstance(system, str) else system))
    yield ([body.get("tool_choice"), body.get("thinking")], False)
    for message in body["messages"]:
        yield from (([message["role"], block], True) for block in blocks_of(message))


def _unmarked(value: Any, ttls: list[str]) -> Any:
    """`value` without its marks, whose lifetimes are gathered in `ttls`."""
    if isinstance(value, list):
        return [_unmarked(item, ttls) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _unmarked(item, ttls) for name, item in value.items() if name != "cache_control"}
    if isinstance(value.get("cache_control"), dict):
        ttls.append(value["cache_control"].get("ttl", "5m"))
    return plain
