"""What upstreams offer: their own model lists, asked for in the background, and local servers that come and go.

Nothing here spends a token or delays a call. A list that can't be had leaves what was known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compat.config.sections import DiscoverySettings
from compat.errors import GatewayError
from compat.routing.router import Router
from compat.upstream.client import Upstream
from compat.upstream.listing import Listing

ListModels = Callable[[Upstream, float], Listing]
"""An upstream and a time-out in seconds -> its list; raises a `GatewayError` when it can't be read."""

_LOCAL_TIMEOUT_S = 1.0
_REMOTE_TIMEOUT_S = 10.0


@dataclass(slots=True)
class UpstreamState:
    """The last known state of an upstream: `ok`, `unknown` or `failing`, with the reason."""

    state: str = "unknown"
    detail: str = ""


class Discovery:
    """Keeps a router's knowledge fresh; `configured` are the upstreams of the configuration. Mutable: `states`, and the router it teaches;
    both change in one step, without a switch."""

    def __init__(
        self,
        settings: DiscoverySettings,
        router: Router,
        local: Sequence[Upstream],
        list_models: ListModels,
        on_event: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        self._settings = settings
        self._router = router
        self.configured = dict(router.upstreams)
        self._local = local
        self._list_models = list_models
        self._on_event = on_event
        self._listings: dict[str, Listing] = {}
        self._found: dict[str, Upstream] = {}
        self._is_own: Callable[[Upstream], bool] = lambda _upstream: False
        self._stop = threading.Event()
        self._has_asked = threading.Event()
        self.states: dict[str, UpstreamState] = {name: UpstreamState() for name in self.configured}

    def start(self) -> None:
        """Begin to look, and to look again, in the background; does nothing where discovery is switched off."""
        if self._settings.enabled:
            threading.Thread(target=self._run, name="discovery", daemon=True).start()

    def stop(self) -> None:
        """End the background work after its present step."""
        self._stop.set()

    def leave_out(self, is_own: Callable[[Upstream], bool]) -> None:
        """Look for no local server that is this gateway itself: it may have the usual port of one."""
        self._is_own = is_own
        for upstream in [found for found in self._found.values() if is_own(found)]:
            self._forget(upstream)
        self._teach()

    def carry_on(self, before: Discovery) -> None:
        """Begin with what `before` knew of the upstreams that are still the same, and of local servers that are still looked for."""
        self._is_own = before._is_own
        local = {upstream.name: upstream for upstream in self._local}
        self._found = {name: upstream for name, upstream in before._found.items() if local.get(name) == upstream}
        kept = {name for name, upstream in self.configured.items() if before.configured.get(name) == upstream} | set(self._found)
        self._listings = {name: listing for name, listing in before._listings.items() if name in kept}
        self.states |= {name: state for name, state in before.states.items() if name in kept}
        self._teach()

    def refresh_configured(self) -> None:
        """Ask every configured upstream for its list."""
        for upstream in self.configured.values():
            self._ask(upstream, _REMOTE_TIMEOUT_S)
            self._teach()  # one that is slow does not keep the others' lists back
        self._has_asked.set()

    def wait(self, timeout_s: float) -> None:
        """Wait until every configured upstream was asked once, so that routes are no longer presumed; at most `timeout_s`."""
        if self.awaited():
            self._has_asked.wait(timeout_s)

    def awaited(self) -> list[str]:
        """The configured upstreams whose list is still to come: what is known of their routes is provisional."""
        return [name for name in self.configured if self.states[name].state == "unknown"] if self._settings.enabled else []

    def refresh_local(self) -> None:
        """Look for local servers: one that answers is an upstream, one that stopped answering is removed."""
        before = set(self._found)
        for upstream in self._local:
            if not self._is_own(upstream) and self._ask(upstream, _LOCAL_TIMEOUT_S):
                self._found[upstream.name] = upstream
            else:
                self._forget(upstream)
        if before != set(self._found):
            self._on_event("discovery.local", {"found": sorted(self._found)})
        self._teach()

    def _forget(self, upstream: Upstream) -> None:
        self._found.pop(upstream.name, None)
        self._listings.pop(upstream.name, None)
        self.states.pop(upstream.name, None)

    def _run(self) -> None:
        self.refresh_local()
        self.refresh_configured()
        waited_s = 0.0
        while not self._stop.wait(self._settings.local_interval_s):
            waited_s += self._settings.local_interval_s
            self.refresh_local()
            if waited_s >= self._settings.interval_s:
                waited_s = 0.0
                self.refresh_configured()

    def _ask(self, upstream: Upstream, timeout_s: float) -> bool:
        try:
            listing = self._list_models(upstream, timeout_s)
        except GatewayError as error:
            if upstream.name in self.configured:
                self.states[upstream.name] = UpstreamState("failing", error.message)
                self._on_event("discovery.failed", {"upstream": upstream.name, "detail": error.message})
            return False
        self._listings[upstream.name] = listing
        self.states[upstream.name] = UpstreamState("ok", f"{len(listing.ids)} models")
        return True

    def _teach(self) -> None:
        offers = {name: listing.ids for name, listing in self._listings.items()}
        self._router.learn({**self.configured, **self._found}, offers, self._listings)
