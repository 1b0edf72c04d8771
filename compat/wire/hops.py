"""The mark that a call carries from gateway to gateway: how many it has come through.

A gateway that is its own upstream, by whatever way round, would call itself until nothing is left. The one that writes the mark and the
one that reads it need not be the same process, machine or configuration. It is a count and nothing else: it reveals nothing about anybody.
"""

from __future__ import annotations

from compat.errors import BadRequest, GatewayLoop

HOPS_HEADER = "x-compat-hops"
HOPS_VARIABLE = "HTTP_X_COMPAT_HOPS"
"""The header in a WSGI environ."""

MAX_HOPS = 3
"""As many gateways may stand before this one: a chain that is meant is short."""

_MAX_CHARS = 100


def hops_of(value: str) -> int:
    """How many gateways a call has come through, by its header; 0 where it has none. Of several values the highest counts.

    Errors: `BadRequest` for what is not a count, `GatewayLoop` for more than `MAX_HOPS`.
    """
    if not value:
        return 0
    counts = [part.strip() for part in value[:_MAX_CHARS].split(",")]
    if not all(part.isascii() and part.isdigit() for part in counts):
        raise BadRequest(f"The header {HOPS_HEADER} must be a number: gateways set it, clients leave it out.")
    hops = max(map(int, counts))
    if hops > MAX_HOPS:
        words = f"The call came through {min(hops, 1000)} gateways, so it is in a loop"
        raise GatewayLoop(f"{words}: one of their upstreams (OPENAI_BASE_URL, a base_url in config.toml) is a gateway itself.")
    return hops


def hop_headers(hops: int) -> dict[str, str]:
    """The mark that goes on with a call which came through `hops` gateways, where it differs from that of every other request."""
    return {HOPS_HEADER: str(hops + 1)} if hops else {}
