"""How far estimates of prompts are from what deployments count, learnt from the usage that they report.

The factors are kept in a file, where there is a path: a gateway that was restarted knows them. Workers write the same file; the last one
wins, for they learn of the same deployments. A count that is too low does harm, one that is too high hardly any: so the factor follows a
higher count at once, and a lower one slowly.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compat.storage.whole_file import replace_file

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
    """Deployment -> factor. Mutable; bounded, the longest unused goes first. `path` is the file; a broken one is none."""

    def __init__(self, max_deployments: int = MAX_DEPLOYMENTS, path: Path | None = None) -> None:
        self._max = max_deployments
        self._path = path
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._is_saved = True
        self._load()

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
        self._is_saved = False

    def save(self) -> None:
        """Write down what was learnt since the last time. A file that can't be written is tried again with the next factor."""
        if self._path is None or self._is_saved:
            return
        self._is_saved = True
        factors = {name: round(seen.factor, 4) for name, seen in self._seen.items() if seen.has_learnt}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, msgspec.json.encode(factors))

    def _load(self) -> None:
        factors: dict[str, float] = {}
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            factors = msgspec.json.decode(self._path.read_bytes(), type=dict[str, float]) if self._path is not None else {}
        for name, factor in list(factors.items())[-self._max :]:
            self._seen[name] = _Seen(min(max(factor, LEAST), MOST), has_learnt=True)
