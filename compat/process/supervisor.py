"""When to start a child again: a pure decision over the history of its ends."""

from __future__ import annotations

from dataclasses import dataclass

STABLE_S = 60.0
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
MAX_FAILED_STARTS = 3


@dataclass(frozen=True, slots=True)
class Restarts:
    """What is remembered: ends since it last ran well, and starts in a row that never became ready."""

    ends: int = 0
    failed_starts: int = 0

    def after_end(self, *, was_ready: bool, ran_s: float) -> Restarts:
        """The history with one more end; a child that ran for `STABLE_S` begins a new one."""
        if was_ready and ran_s >= STABLE_S:
            return Restarts(ends=1)
        return Restarts(self.ends + 1, 0 if was_ready else self.failed_starts + 1)

    @property
    def delay_s(self) -> float:
        """How long to wait before the next start: doubling, at most `MAX_DELAY_S`."""
        return min(FIRST_DELAY_S * 2 ** max(self.ends - 1, 0), MAX_DELAY_S) if self.ends else 0.0

    @property
    def is_hopeless(self) -> bool:
        """Whether it never came up so often that only a person can help."""
        return self.failed_starts >= MAX_FAILED_STARTS
