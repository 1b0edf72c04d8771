"""What gateways have in common through Redis besides the stores: circuits, metrics, usage, calls in flight (`[storage] redis_url`).

commons = RedisCommons(...)     # or NoCommons() without a Redis
commons.start()                 # a greenlet that exchanges news every second
commons.render(accept)          # the metrics of all; None where there is only this gateway
commons.stop()                  # the last news
"""

from __future__ import annotations

import gevent
import gevent.event

from compat.cluster.circuits import CircuitBoard
from compat.cluster.metrics import SharedMetrics
from compat.cluster.usage import SharedUsage
from compat.routing.circuit import Circuits
from compat.storage.redis_link import Link

ROUND_S = 1.0
_ROUNDS_PER_PUSH = 5


class NoCommons:
    """A gateway by itself."""

    fault = ""

    def start(self) -> None:
        """There is nothing to exchange."""

    def stop(self) -> None:
        """There is nothing to end."""

    def render(self, accept: str) -> tuple[str, bytes] | None:  # noqa: ARG002  # as `RedisCommons` has it
        """There are no others."""
        return None


class RedisCommons:
    """A gateway among others. Mutable: the greenlet."""

    def __init__(self, link: Link, board: CircuitBoard, circuits: Circuits, metrics: SharedMetrics, usage: SharedUsage) -> None:
        self._link = link
        self._board = board
        self._circuits = circuits
        self._metrics = metrics
        self._usage = usage
        self._greenlet: gevent.Greenlet | None = None
        self._stopping = gevent.event.Event()

    @property
    def fault(self) -> str:
        """What is wrong now, for people; empty when all is well."""
        return self._link.fault

    def start(self) -> None:
        """Begin to exchange news."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Send the last news, and end."""
        if self._greenlet is not None:
            self._stopping.set()
            self._greenlet.join()

    def render(self, accept: str) -> tuple[str, bytes] | None:
        """Content type and body of the metrics of all gateways; `None` while Redis can't be used."""
        return self._metrics.render(accept)

    def _run(self) -> None:
        number = 0
        while True:
            is_last = self._stopping.is_set()
            self._board.sync(self._circuits)
            if is_last or number % _ROUNDS_PER_PUSH == 0:
                self._metrics.push()
                self._usage.sync()
            if is_last:
                return
            number += 1
            self._stopping.wait(ROUND_S)


Commons = NoCommons | RedisCommons
"""The part of the gateway that knows of other gateways."""
