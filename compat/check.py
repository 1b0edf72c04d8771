"""`python app.py --check`: the resolved configuration with secrets masked, and a test of each upstream."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from compat.accounting.key_store import HASH_MARK, exposed_files, keys_path
from compat.calls.gateway import Gateway
from compat.endpoints.health import named_routes
from compat.errors import GatewayError
from compat.routing.discovery import ListModels
from compat.routing.own_address import OwnAddress
from compat.serve.open_files import SPARE, WANTED, connection_bound, file_limits
from compat.service.configuration import find_sources
from compat.storage.redis_link import redis_client, redis_errors
from compat.upstream.client import MIN_SECRET_CHARS, Secret
from compat.writable import write_faults

_REDIS_PORT = 6379


def check(
    gateway: Gateway,
    list_models: ListModels,
    say: Callable[[str], None],
    places: Mapping[str, Path] = MappingProxyType({}),
) -> bool:
    """Say what is configured and whether it works; false when something is wrong. Spends no tokens.

    `places` are what the gateway writes and where (`written_places`).
    """
    settings = gateway.settings
    none = "none left (every call is refused)" if gateway.keys.are_required else "none (any key is accepted)"
    say(f"server     {settings.server.host}:{settings.server.port}, client keys: {', '.join(gateway.keys.names) or none}")
    say(
        f"timeouts   connect {settings.timeouts.connect_s:g} s, first byte {settings.timeouts.first_byte_s:g} s,"
        f" silence {settings.timeouts.silence_s:g} s; attempts {settings.retry.attempts}"
    )
    say(f"files      {files_text(settings.server.max_connections, *file_limits())}")
    is_good = _places_can_be_written(places, say)
    is_good = _redis_answers(settings.storage.redis_url, say) and is_good
    is_good = _upstreams_answer(gateway, list_models, say) and is_good
    if not gateway.router.upstreams:
        say("upstream   none configured: set a key (see .env.example)")
    if gateway.engine is not None:
        say(f"embedded   {settings.embedded.model} (started, and fetched, on first use)")
        fault = gateway.engine.fault()
        if fault and gateway.router.upstreams:
            say(f"           not usable, and not needed: {fault}")
        elif fault:
            is_good = False
            say(f"           FAULT {fault}")
    is_good = _routes_resolve(gateway, say) and is_good
    say("All is well." if is_good else "Something is wrong: see the lines marked FAULT.")
    return is_good


def _upstreams_answer(gateway: Gateway, list_models: ListModels, say: Callable[[str], None]) -> bool:
    """Ask each upstream for its list. The router learns them as it does while the gateway serves, for routes depend on them."""
    settings = gateway.settings
    own = OwnAddress([(settings.server.host, settings.server.port)])
    if settings.discovery.enabled:
        gateway.discovery.leave_out(own.has)
        gateway.discovery.refresh_local()
    is_good = True
    listings = dict(gateway.router.listings)
    for upstream in list(gateway.router.upstreams.values()):
        keys = ", ".join(masked(key) for key in upstream.keys) or "none"
        say(f"upstream   {upstream.name} ({upstream.kind.name}) at {upstream.base_url}, keys: {keys}")
        if faults := own.faults([upstream], settings):
            is_good = False
            say(f"           FAULT {faults[0]}")
            continue
        try:
            listing = list_models(upstream, 10.0)
        except GatewayError as error:
            is_good = False
            say(f"           FAULT {error.message}")
        else:
            listings[upstream.name] = listing
            say(f"           ok, lists {len(listing.ids)} models")
    if settings.discovery.enabled:
        gateway.router.learn(gateway.router.upstreams, {name: listing.ids for name, listing in listings.items()}, listings)
        gateway.doctor.examine()
    return is_good


def files_text(max_connections: int, soft: int, hard: int) -> str:
    """How many files a gateway or worker may open, and how many connections there is room for."""
    if not soft:
        return "no limit on open files"
    most = min(hard or WANTED, WANTED) if soft < WANTED else soft
    room = connection_bound(max_connections, lambda: most)
    words = f"{most} open files{f' (raised from {soft} at the start)' if most > soft else ''}: room for {room} connections at once"
    more = (
        f"; for server.max_connections = {max_connections} raise the hard limit to {2 * max_connections + SPARE} (ulimit -Hn, LimitNOFILE)"
    )
    return words + (more if room < max_connections else "")


def _places_can_be_written(places: Mapping[str, Path], say: Callable[[str], None]) -> bool:
    faults = write_faults(places)
    for name, path in places.items():
        label = "FAULT " if name in faults else ""
        say(f"writes     {label}{name} {path}" + (f" can't be written: {faults[name]}" if name in faults else ""))
    return not faults


def _redis_answers(url: str, say: Callable[[str], None]) -> bool:
    if not url:
        return True
    fault = redis_fault(url)
    say(f"storage    FAULT {fault}" if fault else "storage    the Redis of storage.redis_url answers")
    return not fault


def redis_fault(url: str) -> str:
    """Why the Redis at `url` can't be used, without its password; empty where it answers."""
    client = redis_client(url)
    try:
        client.ping()
    except redis_errors() as error:
        return f"the Redis of storage.redis_url can't be used: {type(error).__name__} at {_address(url)}"
    finally:
        client.close()
    return ""


def _address(url: str) -> str:
    """Where a Redis is, without its password."""
    parts = urllib.parse.urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or _REDIS_PORT}"


def _routes_resolve(gateway: Gateway, say: Callable[[str], None]) -> bool:
    is_good = True
    for name, words in named_routes(gateway).items():
        say(f"model      {name} -> {words}")
        try:
            route = gateway.router.resolve(name)
        except GatewayError as error:
            is_good = False
            say(f"           FAULT {error.message}")
        else:
            for one in route.deployments:
                if one.wanted_api:
                    spoken = ", ".join(one.apis)
                    say(f"           NOTE {one.name} may refuse tools: it supports them on {one.wanted_api}, and {spoken} is used")
    return is_good


def exposed_keys(gateway: Gateway, base_dir: Path, environment: Mapping[str, str], config: str | None = None) -> list[str]:
    """A warning for each file with keys, of upstreams or of clients, that others on this machine can read."""
    sources = find_sources(base_dir, config)
    upstreams = gateway.router.upstreams.values()
    secrets = [key.reveal() for upstream in upstreams for key in upstream.keys]
    secrets += [value for upstream in upstreams for value in upstream.headers.values() if len(value) >= MIN_SECRET_CHARS]
    files = {sources.config, sources.env_file, base_dir / "config.toml", base_dir / ".env"}  # services run with copies of the two
    return exposed_files(sorted(path for path in files if path is not None), secrets) + exposed_files(
        [keys_path(base_dir, environment)], [HASH_MARK]
    )


def masked(secret: Secret) -> str:
    """A key as it may be shown: enough to tell two apart, too little to use."""
    value = secret.reveal()
    return f"{value[:3]}...{value[-2:]}" if len(value) >= 16 else "***"
