"""Which result belongs to which call, and an id for each call that no other call of the history has.

Clients number the calls of each turn from 0, leave ids out, send results in another order, twice, or not at all. Every call of an
upstream's request has one result all the same, and every result a call (docs/translation.md, rules 4 and 5).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping

MISSING = "The result of this call is not known: the call was interrupted."
STRAY = "The result of an earlier tool call:"
"""Before a result that has no call."""


class Pairing:
    """The calls of a history as they come. Mutable: all of it. However many there are, each is found in one step.

    `waiting` are calls that have no result yet: our id -> the client's, in their order.
    """

    def __init__(self, fit: Callable[[str], str]) -> None:
        """`fit` makes an id one that the upstream takes; equal ids stay equal."""
        self._fit = fit
        self._waiting: OrderedDict[str, str] = OrderedDict()
        self._awaited: dict[str, deque[str]] = {}
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}

    @property
    def waiting(self) -> Mapping[str, str]:
        """See above."""
        return self._waiting

    def opened(self, call_id: str) -> str:
        """Our id of a new call, which has the client's id `call_id`, or none."""
        call_id = call_id or f"call_{len(self._used)}"
        ours = base = self._fit(call_id)
        number = self._numbers.get(base, 1)
        while ours in self._used:  # some servers number the calls of each turn from 0
            number += 1
            ours = f"{base}-{number}"
        self._numbers[base] = number
        self._used.add(ours)
        self._waiting[ours] = call_id
        self._awaited.setdefault(call_id, deque()).append(ours)
        return ours

    def taken(self, call_id: str) -> str | None:
        """Our id of the call that a result belongs to, which waits no longer; `None` where there is no such call.

        Some clients leave the id out: then results come in the order of their calls.
        """
        if not call_id:
            if not self._waiting:
                return None
            ours, client_id = self._waiting.popitem(last=False)
            self._awaited[client_id].popleft()
            return ours
        queue = self._awaited.get(call_id)
        if not queue:
            return None
        ours = queue.popleft()
        del self._waiting[ours]
        return ours

    def given_up(self) -> list[str]:
        """Our ids of the calls that will get no result: the conversation has gone on. They wait no longer."""
        left = list(self._waiting)
        self._waiting.clear()
        self._awaited.clear()
        return left
