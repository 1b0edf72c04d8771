"""Affinity: what a session is, where new ones go, and what keeps one in its place."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

import pytest

from compat.config.catalog import Model
from compat.config.sections import AffinitySettings
from compat.errors import (
    GatewayError,
    NoUpstream,
    UpstreamFailure,
    UpstreamKeyRefused,
    UpstreamRateLimit,
    UpstreamRefusal,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from compat.protocols.opening import opening_of
from compat.routing.affinity import (
    Affinity,
    Candidate,
    after_failure,
    may_help,
    rendezvous,
    session_of,
)
from compat.routing.router import Deployment, Group, Route
from compat.upstream.client import Secret, Upstream
from compat.upstream.kinds import UPSTREAM_KINDS
from compat.wire.envelope import Envelope
from tests.unit.builders import StillClock

SYSTEM = {"role": "system", "content": "You are an agent."}
TASK = {"role": "user", "content": "Fix the bug."}
MODEL = Model(id="m", owned_by="x")


def session(*messages: Any, client: str = "ada", session_id: str = "") -> str:
    body = json.dumps({"model": "m", "messages": list(messages)}).encode()
    return session_of(client, session_id, lambda: opening_of(Envelope(body), "messages"))


def deployment(upstream: str, keys: int = 1) -> Deployment:
    kind = UPSTREAM_KINDS["openai"]
    return Deployment(Upstream(upstream, kind, kind.base_url, tuple(Secret(f"sk-{index}") for index in range(keys))), "m", MODEL)


def route_of(*groups: list[Deployment], weights: tuple[int, ...] = ()) -> Route:
    return Route("alias", tuple(Group(tuple(group), weights or (1,) * len(group)) for group in groups))


A, B, C = deployment("a"), deployment("b"), deployment("c")
RING = route_of([A, B, C])


class Setting:
    def __init__(self, **settings: Any) -> None:
        self.clock = StillClock()
        self.affinity = Affinity(AffinitySettings(**settings), self.clock.monotonic)

    def names(self, session: str, route: Route = RING) -> list[str]:
        return [candidate.deployment.upstream.name for candidate in self.affinity.plan(session, route)]

    def keys(self, session: str, route: Route) -> list[int]:
        return [candidate.key_index for candidate in self.affinity.plan(session, route)]


# What a session is.


def test_no_two_clients_share_a_session() -> None:
    assert session(SYSTEM, TASK, client="ada") != session(SYSTEM, TASK, client="eve")
    assert session(TASK, client="ada", session_id="1") != session(TASK, client="eve", session_id="1")


def test_the_clients_own_word_for_its_session_comes_first() -> None:
    assert session(TASK, session_id="s1") == session(SYSTEM, session_id="s1")
    assert session(TASK, session_id="s1") != session(TASK, session_id="s2")
    assert session(TASK, session_id="\udcff")


# Where new sessions go.


def test_every_worker_comes_to_the_same_choice() -> None:
    sessions = [f"session {number}" for number in range(50)]
    assert [Setting().names(name) for name in sessions] == [Setting().names(name) for name in sessions]


@pytest.mark.parametrize(("weights", "shares"), [((1, 1, 1), (1 / 3, 1 / 3, 1 / 3)), ((6, 3, 1), (0.6, 0.3, 0.1))])
def test_new_sessions_are_spread_by_weight(weights: tuple[int, ...], shares: tuple[float, ...]) -> None:
    setting, route = Setting(), route_of([A, B, C], weights=weights)
    counts = Counter(setting.names(f"session {number}", route)[0] for number in range(3000))
    assert [counts[name] / 3000 for name in "abc"] == pytest.approx(shares, abs=0.03)


def test_only_the_sessions_of_a_deployment_that_went_move() -> None:
    names = ["a", "b", "c", "d"]
    for number in range(300):
        before = [names[position] for position in rendezvous(f"s{number}", names, [1] * 4)]
        after = [names[position] for position in rendezvous(f"s{number}", names[:3], [1] * 3)]
        assert after == [name for name in before if name != "d"]


def test_priorities_stand_above_the_spread() -> None:
    setting, route = Setting(), route_of([C], [A, B])
    orders = {tuple(setting.names(f"s{number}", route)) for number in range(50)}
    assert orders == {("c", "a", "b"), ("c", "b", "a")}


def test_keys_are_shared_out_among_sessions_and_each_is_tried_once() -> None:
    setting, route = Setting(), route_of([deployment("a", keys=3)])
    orders = [setting.keys(f"s{number}", route) for number in range(200)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert set(Counter(order[0] for order in orders)) == {0, 1, 2}


def test_a_candidate_knows_its_key() -> None:
    assert Candidate(deployment("a", keys=2), 1).key == Secret("sk-1")
    assert Candidate(deployment("a", keys=0)).key is None


# What keeps a session in its place.


def test_a_session_stays_where_it_was_answered() -> None:
    setting = Setting()
    last = setting.affinity.plan("s", RING)[-1]
    setting.affinity.keep("s", RING, last)
    assert setting.affinity.plan("s", RING)[0] == last
    assert sorted(setting.names("s")) == ["a", "b", "c"]


def test_a_session_keeps_its_key() -> None:
    setting, route = Setting(), route_of([deployment("a", keys=4)])
    last = setting.affinity.plan("s", route)[-1]
    setting.affinity.keep("s", route, last)
    assert setting.keys("s", route)[0] == last.key_index


def test_a_key_that_is_gone_is_forgotten() -> None:
    setting = Setting()
    setting.affinity.keep("s", RING, Candidate(deployment("a", keys=9), 8))
    assert sorted(setting.keys("s", route_of([deployment("a", keys=2)]))) == [0, 1]


def test_a_deployment_that_is_gone_is_no_candidate() -> None:
    setting = Setting()
    setting.affinity.keep("s", RING, Candidate(deployment("gone")))
    assert setting.names("s") == Setting().names("s")


def test_a_session_comes_back_from_a_spare_deployment() -> None:
    setting, route = Setting(), route_of([A], [B])
    setting.affinity.keep("s", route, Candidate(B))
    assert setting.names("s", route) == ["a", "b"]


def test_a_session_has_a_place_per_route() -> None:
    setting, other = Setting(), Route("other", RING.groups)
    last = setting.affinity.plan("s", RING)[-1]
    setting.affinity.keep("s", RING, last)
    assert setting.names("s", other) == Setting().names("s", other)


def test_a_place_is_forgotten_when_the_session_is_quiet_for_long() -> None:
    setting = Setting(ttl_s=100.0)
    last = setting.affinity.plan("s", RING)[-1]
    for _ in range(3):
        setting.affinity.keep("s", RING, last)
        setting.clock.monotonic_s += 99
        assert setting.affinity.plan("s", RING)[0] == last
    setting.clock.monotonic_s += 1
    assert setting.names("s") == Setting().names("s")
    assert len(setting.affinity) == 0


def test_the_session_that_was_quiet_longest_is_forgotten_beyond_the_bound() -> None:
    setting = Setting(max_sessions=2)
    last = {name: setting.affinity.plan(name, RING)[-1] for name in ("one", "two", "three")}
    for name in ("one", "two", "one", "three"):
        setting.affinity.keep(name, RING, last[name])
    assert len(setting.affinity) == 2
    assert setting.names("two") == Setting().names("two")
    assert setting.affinity.plan("one", RING)[0] == last["one"]


def test_nothing_is_kept_where_affinity_is_switched_off() -> None:
    setting = Setting(enabled=False)
    setting.affinity.keep("s", RING, setting.affinity.plan("s", RING)[-1])
    assert len(setting.affinity) == 0


# After a failure.

TWO_KEYS = deployment("a", keys=2)
PLAN = [Candidate(TWO_KEYS, 0), Candidate(TWO_KEYS, 1), Candidate(B), Candidate(C)]


def test_when_the_key_was_at_fault_the_upstreams_other_key_comes_next() -> None:
    assert after_failure(PLAN, PLAN[0], is_key_at_fault=True) == [PLAN[1], PLAN[2], PLAN[3]]


def test_when_the_upstream_was_at_fault_its_other_key_comes_last() -> None:
    assert after_failure(PLAN, PLAN[0], is_key_at_fault=False) == [PLAN[2], PLAN[3], PLAN[1]]


OTHER_MODEL = dataclasses.replace(TWO_KEYS, target="other")


def test_when_the_upstream_was_at_fault_its_other_models_come_before_its_other_keys() -> None:
    plan = [*PLAN[:2], Candidate(OTHER_MODEL, 0), Candidate(B)]
    assert after_failure(plan, plan[0], is_key_at_fault=False) == [plan[3], plan[2], plan[1]]
    assert after_failure(plan, plan[0], is_key_at_fault=True) == [plan[1], plan[2], plan[3]]


@pytest.mark.parametrize(
    ("error", "other_key", "other_model"),
    [
        (UpstreamFailure("x"), False, True),
        (UpstreamTimeout("x"), False, True),
        (UpstreamUnreachable("x"), False, False),
        (NoUpstream("x"), False, False),
        (UpstreamRateLimit("x"), True, True),
        (UpstreamKeyRefused("x"), True, True),
        (UpstreamRefusal("x", status=404), False, True),
    ],
)
def test_who_may_help(error: GatewayError, other_key: bool, other_model: bool) -> None:
    assert may_help(error, PLAN[0], PLAN[1]) is other_key
    assert may_help(error, PLAN[0], Candidate(OTHER_MODEL, 0)) is other_model
    assert may_help(error, PLAN[0], Candidate(B)) is True
