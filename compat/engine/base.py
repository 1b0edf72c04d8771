"""What the rest of the gateway knows of an engine: how it stands, where it answers, and which calls it is too slow for."""

from __future__ import annotations

import abc
import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass

from compat.engine.presets import Preset
from compat.engine.supervisor import State
from compat.errors import ContextTooLong

INSTEAD = "Set a key for an upstream (for example ANTHROPIC_API_KEY) or install Ollama"
_REMEMBERED = 4
"""As many prompts as the engine keeps, by `[embedded] parallel`; that a longer one begins with one of them makes it short."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine does just now; `detail` is for people, without a full stop. `restarts` counts since the gateway started.

    `model` is the one that answers, or will. `better` is the one that is to take its place, and `better_detail` says how far it is, or,
    where there is none, why.
    """

    state: State
    detail: str
    model: str
    pid: int | None
    context_tokens: int
    restarts: int
    better: str = ""
    better_detail: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the engine answers (`http://127.0.0.1:PORT`, without `/v1`), the key it wants, and the name it gives its model.

    `prompt_tokens_s` is how fast it reads on this machine, 0 where that is not known.
    """

    base_url: str
    api_key: str
    model: str
    prompt_tokens_s: float = 0.0

    def __repr__(self) -> str:
        """Without the key."""
        return f"Endpoint({self.base_url!r}, model={self.model!r})"


class Patience:
    """Which prompts are too long to wait for. Mutable: the last prompts that were let in; the engine need not read them again.

    A turn of a conversation repeats those before it, and adds little: only what it adds counts.
    """

    def __init__(self, max_prompt_s: float) -> None:
        self._max_prompt_s = max_prompt_s
        self._read: collections.deque[tuple[str, bytes, int]] = collections.deque(maxlen=_REMEMBERED)

    def admit(self, endpoint: Endpoint, messages: bytes, tokens: int) -> None:
        """Errors: `ContextTooLong`, which agents answer by making the conversation shorter, where reading them takes too long."""
        messages = messages.rstrip()
        known = [row for row in self._read if row[0] == endpoint.base_url and messages.startswith(row[1])]
        new_tokens = max(tokens - max((read for _, _, read in known), default=0), 0)
        takes_s = new_tokens / endpoint.prompt_tokens_s if endpoint.prompt_tokens_s else 0.0
        if takes_s > self._max_prompt_s:
            raise ContextTooLong(
                f"This prompt has about {tokens} tokens, too many for the embedded model {endpoint.model}, a demonstration that answers "
                f"where no upstream is configured: here it would be silent for about {math.ceil(takes_s)} s before its first word "
                f"([embedded] max_prompt_s = {self._max_prompt_s:g}). {INSTEAD}, or set max_prompt_s higher."
            )
        for row in known:
            self._read.remove(row)
        if endpoint.prompt_tokens_s and messages:
            self._read.append((endpoint.base_url, messages.removesuffix(b"]"), tokens))


class Engine(abc.ABC):
    """A model on this machine, or the best of several."""

    patience: Patience

    @property
    @abc.abstractmethod
    def presets(self) -> Sequence[Preset]:
        """Models that may be fetched for it."""

    @abc.abstractmethod
    def start(self) -> None:
        """Begin to fetch and to run the model in the background; does nothing when that has begun, or after `stop`."""

    @abc.abstractmethod
    def fault(self) -> str:
        """Why it can't answer as things are, without a full stop; empty where it can, though its file may have to be fetched first."""

    @abc.abstractmethod
    def status(self) -> EngineStatus:
        """What it does just now; never waits."""

    @abc.abstractmethod
    def endpoint(self, timeout_s: float) -> Endpoint | None:
        """Where it answers, waiting for at most `timeout_s`; `None` when it is not ready yet. Starts it when nobody did.

        Errors: `NoUpstream` when it is disabled, not supported here, stopped, or failed. A failure that may pass is tried again in the
        background, but calls are not kept waiting for that.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """End the engine, or its fetch; it is gone when this returns, which takes 2 s at most."""
