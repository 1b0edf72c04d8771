"""How far estimates of prompts are from what deployments count, learnt from the usage that they report, while the process lives.

A count that is too low does harm, one that is too high hardly any: so the factor follows a higher count at once, and a lower one slowly.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_DEPLOYMENTS = 1000
LEAST, MOST = 0.5, 4.0
FIRST = 8
"""So many answers teach in any case; of later ones every `EVERY`th does, for an estimate reads the whole request."""
EVERY = 16
_FALL = 0.1
_MIN_TOKENS = 200
"""Of a prompt that teaches: in a short one, what a server adds is most of it."""


@dataclass(slots=True)
class _Seen:
    """Mutable: all of it."""

    factor: float = 1.0
    answers: int = 0
    has_learnt: bool = False


class TokenScales:
    """Deployment -> factor. Mutable; bounded, the longest unused goes first."""

    def __init__(self, max_deployments: int = MAX_DEPLOYMENTS) -> None:
        self._max = max_deployments
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def of(self, deployment: str) -> float:
        """By what an estimate for `deployment` is to be multiplied."""
        seen = self._seen.get(deployment)
        return seen.factor if seen is not None else 1.0

    def is_due(self, deployment: str) -> bool:
        """Whether the answer that just came is to teach: one call for each answer."""
        seen = self._seen.setdefault(deployment, _Seen())
        self._seen.move_to_end(deployment)
        while len(self._seen) > self._max:
            self._seen.popitem(last=False)
        seen.answers += 1
        return seen.answers <= FIRST or seen.answers % EVERY == 0

    def learn(self, deployment: str, estimate: int, truth: int) -> None:
        """Take note of what `deployment` counted where `estimate` was ours."""
        seen = self._seen.get(deployment)
        if seen is None or min(estimate, truth) < _MIN_TOKENS:
            return
        found = min(max(truth / estimate, LEAST), MOST)
        if not seen.has_learnt or found > seen.factor:
            seen.factor = found
        else:
            seen.factor += (found - seen.factor) * _FALL
        seen.has_learnt = True
