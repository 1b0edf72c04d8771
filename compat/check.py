"""`python app.py --check`: the resolved configuration with secrets masked, and a test of each upstream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compat.endpoints.health import route_text
from compat.errors import GatewayError
from compat.gateway import Gateway
from compat.upstream.client import Secret, Upstream


def check(gateway: Gateway, list_models: Callable[[Upstream, float], Sequence[str]], say: Callable[[str], None]) -> bool:
    """Say what is configured and whether it works; false when something is at fault. Spends no tokens."""
    settings = gateway.settings
    say(
        f"server     {settings.server.host}:{settings.server.port}, client keys: {', '.join(settings.keys) or 'none (any key is accepted)'}"
    )
    say(
        f"timeouts   connect {settings.timeouts.connect_s:g} s, first byte {settings.timeouts.first_byte_s:g} s,"
        f" silence {settings.timeouts.silence_s:g} s; attempts {settings.retry.attempts}"
    )
    is_good = True
    for upstream in list(gateway.router.upstreams.values()):
        keys = ", ".join(masked(key) for key in upstream.keys) or "none"
        say(f"upstream   {upstream.name} ({upstream.kind.name}) at {upstream.base_url}, keys: {keys}")
        try:
            ids = list_models(upstream, 10.0)
        except GatewayError as error:
            is_good = False
            say(f"           FAULT {error.message}")
        else:
            say(f"           ok, lists {len(ids)} models")
    if not gateway.router.upstreams:
        say("upstream   none configured: set a key (see .env.example)")
    if gateway.engine is not None:
        say(f"embedded   {settings.embedded.model} ({gateway.engine.status().state}; fetched on first use)")
    for name in dict.fromkeys([*settings.models, *gateway.catalog.aliases]):
        say(f"model      {name} -> {route_text(gateway, name)}")
    is_good = is_good and _routes_resolve(gateway, say)
    say("All is well." if is_good else "Something is at fault.")
    return is_good


def _routes_resolve(gateway: Gateway, say: Callable[[str], None]) -> bool:
    is_good = True
    for name in dict.fromkeys([*gateway.settings.models, *gateway.catalog.aliases]):
        try:
            gateway.router.resolve(name)
        except GatewayError as error:
            is_good = False
            say(f"           FAULT {error.message}")
    return is_good


def masked(secret: Secret) -> str:
    """A key as it may be shown: enough to tell two apart, too little to use."""
    value = secret.reveal()
    return f"{value[:3]}...{value[-2:]}" if len(value) >= 16 else "***"
