"""Which deployment and key a conversation goes to: the same ones as before, so that its prompt cache holds.

    session = session_of(call.client, x_session_id, opening)
    candidates = affinity.plan(session, route)      # tried in this order
    affinity.keep(session, route, candidates[0])    # the one that answered

A session is what the client says it is (`x-session-id`), else what the conversation began with: the text of its first system and user
messages, which stay the same while it grows. Only they are decoded, never the whole list, and markers that clients move about
(`cache_control`) don't count (`compat/protocols/opening.py`).

New sessions are spread by weighted rendezvous hashing: every worker comes to the same choice by itself, shares follow the weights, and when
a deployment comes or goes only its own sessions move. A session that a failover has moved is remembered. Priorities stay above all that: a
session is bound within its group of equal priority, so it comes back from a spare deployment as soon as the first choice is well again.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compat.config.sections import AffinitySettings
from compat.errors import GatewayError, NoUpstream, UpstreamUnreachable
from compat.routing.retry import is_key_at_fault
from compat.routing.router import Deployment, Route
from compat.upstream.client import Secret


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment and which of its upstream's keys to call it with; `key_index` is 0 where there is none."""

    deployment: Deployment
    key_index: int = 0

    @property
    def key(self) -> Secret | None:
        """The key itself."""
        keys = self.deployment.upstream.keys
        return keys[self.key_index] if keys else None


@dataclass(frozen=True, slots=True)
class _Placement:
    deployment_name: str
    key_index: int
    until_s: float


class Affinity:
    """Sessions and where they are. Mutable: the placements, least recently used first; no step of it waits."""

    def __init__(self, settings: AffinitySettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._placements: OrderedDict[tuple[str, str], _Placement] = OrderedDict()

    def __len__(self) -> int:
        return len(self._placements)

    def plan(self, session: str, route: Route) -> list[Candidate]:
        """Every deployment with every key, in the order in which a call of `session` tries them.

        With affinity switched off, any string that differs from call to call serves as `session`, and shares follow the weights.
        """
        if not route.has_choice:
            return [Candidate(route.deployments[0])]
        placement = self._find(session, route)
        candidates: list[Candidate] = []
        for group in route.groups:
            names = [deployment.name for deployment in group.deployments]
            order = rendezvous(session, names, group.weights)
            if placement is not None and placement.deployment_name in names:
                order = _first(names.index(placement.deployment_name), order)
            for position in order:
                candidates += _with_keys(session, group.deployments[position], placement)
        return candidates

    def keep(self, session: str, route: Route, candidate: Candidate) -> None:
        """Remember that `candidate` answered."""
        if not (self._settings.enabled and route.has_choice):
            return
        until_s = self._clock() + self._settings.ttl_s
        key = (session, route.name)
        self._placements[key] = _Placement(candidate.deployment.name, candidate.key_index, until_s)
        self._placements.move_to_end(key)
        if len(self._placements) > self._settings.max_sessions:
            self._placements.popitem(last=False)

    def _find(self, session: str, route: Route) -> _Placement | None:
        placement = self._placements.get((session, route.name))
        if placement is None or placement.until_s > self._clock():
            return placement
        del self._placements[session, route.name]
        return None


def after_failure(candidates: Sequence[Candidate], failed: Candidate, *, is_key_at_fault: bool) -> list[Candidate]:
    """What is left to try, in this order.

    Where the key was at fault: other keys of the same upstream first. Where the upstream was: other upstreams, then the same upstream's
    other models, and last the same model under another key.
    """

    def rank(one: Candidate) -> int:
        is_here = one.deployment.upstream.name == failed.deployment.upstream.name
        if is_key_at_fault:
            return 0 if is_here and one.key_index != failed.key_index else 1
        return 0 if not is_here else 1 if one.deployment != failed.deployment else 2

    return sorted((candidate for candidate in candidates if candidate != failed), key=rank)


def may_help(error: GatewayError, failed: Candidate, other: Candidate) -> bool:
    """Whether `other` may give what `failed` did not, for this reason: not the same again under another key, nor a server that is down."""
    if is_key_at_fault(error) or other.deployment.upstream.name != failed.deployment.upstream.name:
        return True
    return other.deployment != failed.deployment and not isinstance(error, UpstreamUnreachable | NoUpstream)


def session_of(client: str, session_id: str, opening: Callable[[], Sequence[bytes]]) -> str:
    """The session of a call: 32 hexadecimal digits that no two clients share. `session_id` is the client's own word (`x-session-id`),
    without which `opening` is asked what the conversation began with."""
    digest = hashlib.sha256(client.encode("utf-8", "surrogatepass"))
    parts = [b"id", session_id.encode("utf-8", "surrogatepass")] if session_id else opening()
    for part in parts:
        digest.update(b"\0%d\0" % len(part))
        digest.update(part)
    return digest.hexdigest()[:32]


def rendezvous(session: str, names: Sequence[str], weights: Sequence[int]) -> list[int]:
    """The positions of `names`, best first for `session`: weighted rendezvous hashing."""
    scores = [weight / -math.log(_lot(session, name)) for name, weight in zip(names, weights, strict=True)]
    return sorted(range(len(names)), key=lambda position: -scores[position])


def _lot(session: str, name: str) -> float:
    """A number between 0 and 1, both excluded, the same for the same words everywhere."""
    digest = hashlib.blake2b(f"{session}\0{name}".encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**48


def _with_keys(session: str, deployment: Deployment, placement: _Placement | None) -> list[Candidate]:
    count = len(deployment.upstream.keys)
    if count < 2:
        return [Candidate(deployment)]
    upstream = deployment.upstream.name
    order = rendezvous(session, [f"{upstream}#{index}" for index in range(count)], [1] * count)
    if placement is not None and placement.deployment_name == deployment.name and placement.key_index < count:
        order = _first(placement.key_index, order)
    return [Candidate(deployment, index) for index in order]


def _first(position: int, order: list[int]) -> list[int]:
    return [position, *(other for other in order if other != position)]
