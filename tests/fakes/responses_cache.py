"""An imitation of OpenAI's prompt cache: which part of a request was seen before, counted in tokens of four characters.

Tools and items are one sequence. Each request stores its whole prompt (one implicit breakpoint, where it isn't switched off) and the
latest of its explicit breakpoints, and reads the longest stored prefix that it begins with. Requests of another `prompt_cache_key` may be
served by another machine: they find nothing. Models before GPT-5.6 write for free and store every prefix.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.fakes.responses_models import facts_of
from tests.fakes.responses_rules import items_of, marked_parts

CHARS_PER_TOKEN = 4
MINIMUM = 1024
MAX_EXPLICIT = 3


class _Step(NamedTuple):
    """The prefix that ends here: its name, its size, and whether a breakpoint is there."""

    digest: str
    tokens: int
    is_marked: bool


@dataclass
class ResponsesCache:
    """Stored prefixes of all models. Mutable; may be used from several threads."""

    history: list[dict[str, int]] = field(default_factory=list)
    _stored: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def hits(self) -> int:
        """How many requests read something."""
        return sum(counts["cached_tokens"] > 0 for counts in self.history)

    def usage(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The input side of the usage of `body`, which is stored as its breakpoints say."""
        steps = list(_steps(body))
        has_breakpoints = facts_of(body["model"]).has_breakpoints
        is_explicit = body.get("prompt_cache_options", {}).get("mode") == "explicit"
        marked = [step for step in steps if step.is_marked][-(MAX_EXPLICIT + is_explicit) :]
        stored = [*marked, *(() if is_explicit else steps[-1:])] if has_breakpoints else steps
        with self._lock:
            read = max((step.tokens for step in steps if step.digest in self._stored and step.tokens >= MINIMUM), default=0)
            self._stored |= {step.digest for step in stored}
            reach = max((step.tokens for step in stored if step.tokens >= MINIMUM), default=0)
            counts = {"cached_tokens": read, "cache_write_tokens": max(0, reach - read) if has_breakpoints else 0}
            self.history.append(counts)
        return {"input_tokens": steps[-1].tokens if steps else 0, "input_tokens_details": counts}

    def forget(self) -> None:
        """As if all had expired."""
        with self._lock:
            self._stored.clear()


def _steps(body: Mapping[str, Any]) -> Iterator[_Step]:
    opening = [body["model"], body.get("prompt_cache_key"), (body.get("text") or {}).get("format")]
    running, chars = hashlib.sha256(json.dumps(opening).encode()), 0
    parts: list[tuple[Any, bool]] = [(tool, False) for tool in body.get("tools") or ()]
    parts += [(_unmarked(item), bool(marked_parts(item))) for item in items_of(body)]
    for part, is_marked in parts:
        text = json.dumps(part, ensure_ascii=False)
        running.update(text.encode())
        chars += len(text)
        yield _Step(running.hexdigest(), chars // CHARS_PER_TOKEN, is_marked)


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _unmarked(item) for name, item in value.items() if name != "prompt_cache_breakpoint"}
