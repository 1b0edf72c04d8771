"""Searches of the web that an answer waits for."""

from __future__ import annotations

from collections.abc import Sequence

import gevent

from compat.calls.gateway import Gateway
from compat.errors import GatewayError
from compat.protocols.base import Query, SearchTool
from compat.protocols.events import Found
from compat.protocols.search import fitting
from compat.streaming.heartbeat import Pulse, Steps


def run_searches(gateway: Gateway, queries: Sequence[Query], tool: SearchTool, pulse: Pulse, request_id: str) -> Steps[tuple[Found, ...]]:
    """What each of them gave, in their order; they run side by side. One that failed is reported, and says so."""
    clock = gateway.clock.monotonic
    jobs = [gevent.spawn(_found, gateway, query, tool, request_id) for query in queries]
    try:
        while not all(job.ready() for job in jobs):
            gevent.joinall(jobs, timeout=pulse.left_s(clock()))
            yield from pulse.beat(clock())
    finally:
        gevent.killall(jobs, block=False)
    return tuple(job.get() for job in jobs)


def _found(gateway: Gateway, query: Query, tool: SearchTool, request_id: str) -> Found:
    search = gateway.search
    if search is None or query.error is not None:
        return Found(error=query.error or "unavailable")
    try:
        return Found(fitting(search(query.words), tool))
    except GatewayError as error:
        gateway.log.write("search.failed", {"request_id": request_id, "error": error.message}, "warning")
        return Found(error="unavailable")
