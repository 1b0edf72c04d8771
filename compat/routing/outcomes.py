"""How the last calls of a deployment ended, and whether that makes it one to be left alone.

    number = outcomes.begin(now_s)         # a call leaves
    outcomes.committed(number)             # its first content came
    outcomes.ended_well(number, now_s)     # or: ended_badly(number, now_s, is_unheard=...), or forget(number)
    outcomes.is_failing(now_s)             # asked after a fault: is it time to leave the deployment alone?

The rules are those of Envoy's outlier detection: a run of faults, a shorter run of calls that nobody answered, or a share of the calls of
the last `window_s`. A window holds at least `min_calls`, however long ago they ended: where little is called, little is forgotten.

Faults are quick and answers are slow: of 60 calls that leave together and of which 20 fail, those 20 end first. So the calls that are still
under way count as good ones, as long as they have shown content or are younger than `_YOUNG_S`. A run begins with the call that left
first of its faults: what left before it says nothing about the time since.
"""

from __future__ import annotations

from collections import deque

from compat.config.sections import CircuitSettings

_YOUNG_S = 10.0
_WELL = -1.0


class Outcomes:
    """The books on one deployment. Mutable: all fields; no step of it waits.

    `calls` are those of the window; `run` counts the faults in a row, `unheard` the calls in a row that nobody answered.
    """

    __slots__ = ("_begun", "_faults", "_number", "_run_begin", "_seconds", "_settings", "calls", "run", "unheard")

    def __init__(self, settings: CircuitSettings) -> None:
        self._settings = settings
        self._number = 0
        self._begun: dict[int, float] = {}  # number -> when it left, or `_WELL` once it has shown content
        self.forget_all()

    def forget_all(self) -> None:
        """Start again: the deployment was not called for a while, or is well again."""
        self._begun.clear()
        self._seconds: deque[list[int]] = deque()  # [second, calls, faults]
        self.calls = self._faults = 0
        self.run = self.unheard = self._run_begin = 0

    @property
    def words(self) -> str:
        """The counts, for people."""
        return f"{self._faults} of {self.calls} calls failed"

    def begin(self, now_s: float) -> int:
        """A call leaves; its number."""
        self._number += 1
        self._begun[self._number] = now_s
        return self._number

    def committed(self, number: int) -> None:
        """The call has shown content."""
        if number in self._begun:
            self._begun[number] = _WELL

    def forget(self, number: int) -> None:
        """The call ended without saying anything about the deployment."""
        self._begun.pop(number, None)

    def ended_well(self, number: int, now_s: float) -> bool:
        """The answer is complete. Whether that ends a run of faults: not where the call left before the run began."""
        self.forget(number)
        self._second(now_s)[1] += 1
        self.calls += 1
        is_news = not self.run or number > self._run_begin
        if is_news:
            self.run = self.unheard = 0
        return is_news

    def ended_badly(self, number: int, now_s: float, *, is_unheard: bool) -> None:
        """The call ended with a fault; `is_unheard`: nobody answered."""
        self.forget(number)
        second = self._second(now_s)
        second[1] += 1
        second[2] += 1
        self.calls += 1
        self._faults += 1
        self._run_begin = min(self._run_begin, number) if self.run else number
        self.run += 1
        self.unheard = self.unheard + 1 if is_unheard else 0

    def is_failing(self, now_s: float) -> bool:
        """Whether the deployment is to be left alone."""
        self._forget_old(now_s)
        settings = self._settings
        if self.run >= settings.failures or self.unheard >= settings.unreachable:
            most = max(self.run, self.unheard)
            if self._is_most(most, most + self._well(now_s, self._run_begin)):
                return True
        return self.calls >= settings.min_calls and self._is_most(self._faults, self.calls + self._well(now_s, 0))

    @property
    def is_dead(self) -> bool:
        """Whether nothing speaks for the deployment: none of its last `min_calls` calls ended well, or of as many as there were."""
        return self.run >= min(self._settings.min_calls, self.calls)

    def _is_most(self, faults: int, calls: int) -> bool:
        return faults * 100 >= calls * self._settings.failure_percent

    def _well(self, now_s: float, after: int) -> int:
        """Calls under way that left after the one of this number, and of which nothing bad is known."""
        young_s = now_s - _YOUNG_S
        return sum(number > after and (begun_s == _WELL or begun_s > young_s) for number, begun_s in self._begun.items())

    def _second(self, now_s: float) -> list[int]:
        """The present second's counts."""
        second = int(now_s)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        self._forget_old(now_s)
        return self._seconds[-1]

    def _forget_old(self, now_s: float) -> None:
        """Take away what left the window, and is not needed to make up `min_calls`."""
        seconds, least_s = self._seconds, int(now_s) - self._settings.window_s
        while seconds and seconds[0][0] <= least_s and self.calls - seconds[0][1] >= self._settings.min_calls:
            _, calls, faults = seconds.popleft()
            self.calls -= calls
            self._faults -= faults
