"""Affinity: what a session is, where new ones go, and what keeps one in its place."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from compat.routing.affinity import (
    MAX_HEAD_BYTES,
    Affinity,
    Candidate,
    after_failure,
    first_elements,
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


def envelope_of(*messages: Any) -> Envelope:
    return Envelope(json.dumps({"model": "m", "messages": list(messages)}).encode())


def session(*messages: Any, client: str = "ada", session_id: str = "") -> str:
    return session_of(envelope_of(*messages), client, session_id)


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


def test_a_session_stays_the_same_while_its_conversation_grows() -> None:
    turns = [SYSTEM, TASK]
    first = session(*turns)
    for number in range(20):
        turns += [{"role": "assistant", "content": f"Step {number}"}, {"role": "user", "content": "Go on."}]
        assert session(*turns) == first


def test_a_session_without_a_system_message_stays_the_same_when_the_answer_joins_it() -> None:
    assert session(TASK) == session(TASK, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "More."})


@pytest.mark.parametrize(
    "same",
    [
        {"role": "user", "content": [{"type": "text", "text": "Fix the bug."}]},
        {"role": "user", "content": [{"type": "text", "text": "Fix the bug.", "cache_control": {"type": "ephemeral"}}]},
        {"content": "Fix the bug.", "role": "user", "cache_control": {"type": "ephemeral"}},
    ],
)
def test_markers_and_the_shape_of_the_content_do_not_count(same: dict[str, Any]) -> None:
    assert session(SYSTEM, same) == session(SYSTEM, TASK)


@pytest.mark.parametrize(
    "other",
    [
        [SYSTEM, {"role": "user", "content": "Another task."}],
        [{**SYSTEM, "content": "You are a poet."}, TASK],
        [{**SYSTEM, "role": "developer"}, TASK],
        [TASK],
        [SYSTEM, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [SYSTEM, {"role": "user", "content": None}],
        [SYSTEM, {"role": "user", "content": ["Fix", {"text": 5}]}],
        [SYSTEM],
        [{"role": "assistant", "content": "I begin."}],
        ["no message"],
        [{"role": ["user"], "content": "Fix the bug."}],
    ],
)
def test_other_beginnings_are_other_sessions(other: list[Any]) -> None:
    assert session(*other) != session(SYSTEM, TASK)
    assert session(*other) == session(*other)


def test_a_body_without_messages_has_a_session_as_well() -> None:
    assert len(session_of(Envelope(b'{"model": "m"}'), "ada")) == 32


def test_no_two_clients_share_a_session() -> None:
    assert session(SYSTEM, TASK, client="ada") != session(SYSTEM, TASK, client="eve")
    assert session(TASK, client="ada", session_id="1") != session(TASK, client="eve", session_id="1")


def test_the_clients_own_word_for_its_session_comes_first() -> None:
    assert session(TASK, session_id="s1") == session(SYSTEM, session_id="s1")
    assert session(TASK, session_id="s1") != session(TASK, session_id="s2")
    assert session(TASK, session_id="\udcff")


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES - 200, MAX_HEAD_BYTES, 5 * MAX_HEAD_BYTES])
def test_a_very_long_beginning_counts_by_its_beginning(size: int) -> None:
    long = {"role": "user", "content": "x" * size}
    assert session(SYSTEM, long) == session(SYSTEM, long, {"role": "assistant", "content": "y"})
    assert session(SYSTEM, long) != session(TASK, long)


def test_a_deeply_nested_beginning_is_not_walked_to_its_end() -> None:
    nested = {"role": "user", "content": [[] for _ in range(10_000)]}
    assert session(SYSTEM, nested) == session(SYSTEM, nested, TASK)
    assert session(SYSTEM, nested) != session(TASK, nested)


def test_a_conversation_that_an_answer_begins_is_known_by_it() -> None:
    answer = {"role": "assistant", "content": "I begin."}
    assert session(answer) == session(answer, {"role": "tool", "content": "4"}, TASK)


# The first elements of an array.


@pytest.mark.parametrize(
    ("array", "elements"),
    [
        (b'[{"a":1},{"b":[2,3]},{"c":4}]', [b'{"a":1}', b'{"b":[2,3]}']),
        (b'[{"a":1}]', [b'{"a":1}']),
        (b'[{"a":1},{"b":2}]', [b'{"a":1}', b'{"b":2}']),
        (b'["a,]}\\"","\\\\"]', [b'"a,]}\\""', b'"\\\\"']),
        (b"[1,2,3", [b"1", b"2"]),
        (b'[{"a":1},{"b":', []),
        (b'[{"a":1},{"b":"cut, ] here', []),
        (b'[{"a":1},{"b":"cut\\', []),
        (b"[]", []),
        (b"[ ]", []),
        (b"", []),
        (b"[" + b"1," * 10_000 + b"1]", [b"1", b"1"]),
        (b"[" + b"[" * 10_000 + b"]" * 10_000 + b"]", []),
    ],
)
def test_the_first_elements_are_cut_out_as_they_are(array: bytes, elements: list[bytes]) -> None:
    assert first_elements(array, 2)[0] == elements


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.lists(_JSON, max_size=4), st.booleans(), st.integers(0, 300))
def test_elements_are_found_in_any_array_and_never_half(values: list[Any], is_ascii: bool, cut: int) -> None:
    array = json.dumps(values, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    assert [json.loads(element) for element in first_elements(array, 2)[0]] == values[:2]
    found, _ = first_elements(array[:cut], 2)
    assert not found or [json.loads(element) for element in found] == values[:2]


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
