"""What a call to the embedded model does before it is sent: it waits for the engine, and is refused where its prompt takes too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compat.calls.call import Call
from compat.calls.gateway import Gateway
from compat.engine.base import Endpoint
from compat.errors import NoUpstream
from compat.streaming.heartbeat import Steps
from compat.upstream.client import Secret, Upstream


def awaited_engine(
    gateway: Gateway, deadline_s: float, wait_s: Callable[[float], float], heartbeat: Callable[[], Iterator[bytes]]
) -> Steps[Endpoint]:
    """Where the engine answers, as soon as it does. Errors: `NoUpstream`."""
    engine = gateway.engine
    if engine is None:
        raise NoUpstream("The embedded model is switched off.")
    while (endpoint := engine.endpoint(wait_s(deadline_s))) is None:
        if gateway.clock.monotonic() >= deadline_s:
            raise NoUpstream(f"The embedded model is not ready yet: {engine.status().detail}.", retry_after_s=10)
        yield from heartbeat()
    return endpoint


def admitted_at(gateway: Gateway, upstream: Upstream, endpoint: Endpoint, call: Call, count_prompt: Callable[[], int] | None) -> Upstream:
    """The engine as an upstream, for a call that it can read in reasonable time. Errors: `ContextTooLong`."""
    if gateway.engine is not None and count_prompt is not None:
        gateway.engine.patience.admit(endpoint, call.envelope.get("messages", b""), count_prompt())
    return Upstream(upstream.name, upstream.kind, f"{endpoint.base_url}/v1", (Secret(endpoint.api_key),), timeouts=upstream.timeouts)
