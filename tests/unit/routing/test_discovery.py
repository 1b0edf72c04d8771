"""Discovery: what upstreams list is learnt, what fails leaves what was known, local servers come and go."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from compat.config.sections import DiscoverySettings
from compat.errors import UpstreamKeyRefused, UpstreamUnreachable
from compat.routing.discovery import Discovery, UpstreamState
from compat.routing.router import Router
from compat.upstream.client import Upstream
from compat.upstream.listing import Listing
from tests.unit.builders import make_catalog, make_upstream

WORK, HOME = make_upstream("work", base_url="http://work.example/v1"), make_upstream("home", "ollama")


class Lists:
    """The model lists of all upstreams; an error is raised, whatever is missing can't be reached. `asked` has what was asked for."""

    def __init__(self, **lists: Sequence[str] | Exception) -> None:
        self.lists = dict(lists)
        self.asked: list[tuple[str, float]] = []
        self.on_ask: Callable[[str], None] = lambda name: None

    def __call__(self, upstream: Upstream, timeout_s: float) -> Listing:
        self.asked.append((upstream.name, timeout_s))
        self.on_ask(upstream.name)
        found = self.lists.get(upstream.name, UpstreamUnreachable(f"{upstream.name} is away."))
        if isinstance(found, Exception):
            raise found
        return Listing(tuple(found))


class Parts:
    """A discovery over one configured upstream, `work`, and one local candidate, `home`."""

    def __init__(self, lists: Lists, **settings: Any) -> None:
        self.router = Router(make_catalog(), {"work": WORK}, {}, None)
        self.events: list[tuple[str, Any]] = []
        self.lists = lists
        self.discovery = Discovery(DiscoverySettings(**settings), self.router, [HOME], lists, lambda *event: self.events.append(event))


def test_nothing_is_known_before_it_was_asked() -> None:
    parts = Parts(Lists(work=["a"]))
    assert parts.discovery.states == {"work": UpstreamState("unknown", "")}
    assert (parts.router.offers, parts.lists.asked) == ({}, [])


def test_a_configured_upstreams_list_is_learnt() -> None:
    parts = Parts(Lists(work=["a", "b"]))
    parts.discovery.refresh_configured()
    assert parts.router.offers == {"work": ("a", "b")}
    assert parts.router.resolve("b").deployments[0].name == "work/b"
    assert parts.discovery.states == {"work": UpstreamState("ok", "2 models")}
    assert parts.events == []


def test_what_else_a_list_tells_is_learnt_as_well() -> None:
    listing = Listing(("a",), {"a": datetime.date(2027, 1, 14)}, {"a": {"context": 5}})
    router = Router(make_catalog(), {"work": WORK}, {}, None)
    Discovery(DiscoverySettings(), router, [], lambda *_: listing, lambda *_: None).refresh_configured()
    assert router.listings == {"work": listing}
    assert router.resolve("a").model.context == 5


def test_a_failure_is_told_and_leaves_what_was_known() -> None:
    parts = Parts(Lists(work=["a"]))
    parts.discovery.refresh_configured()
    parts.lists.lists["work"] = UpstreamKeyRefused("work: wrong key")
    parts.discovery.refresh_configured()
    assert parts.router.offers == {"work": ("a",)}
    assert list(parts.router.upstreams) == ["work"]
    assert parts.discovery.states == {"work": UpstreamState("failing", "work: wrong key")}
    assert parts.events == [("discovery.failed", {"upstream": "work", "detail": "work: wrong key"})]


def test_an_upstream_that_recovers_is_ok_again() -> None:
    parts = Parts(Lists())
    parts.discovery.refresh_configured()
    assert parts.discovery.states["work"].state == "failing"
    parts.lists.lists["work"] = []
    parts.discovery.refresh_configured()
    assert parts.discovery.states["work"] == UpstreamState("ok", "0 models")


def test_a_local_server_that_answers_is_an_upstream() -> None:
    parts = Parts(Lists(home=["qwen"]))
    parts.discovery.refresh_local()
    assert parts.router.upstreams == {"work": WORK, "home": HOME}
    assert parts.router.resolve("qwen").deployments[0].upstream is HOME
    assert parts.discovery.states["home"] == UpstreamState("ok", "1 models")
    assert parts.events == [("discovery.local", {"found": ["home"]})]


def test_a_local_server_that_leaves_is_forgotten() -> None:
    parts = Parts(Lists(home=["qwen"]))
    parts.discovery.refresh_local()
    del parts.lists.lists["home"]
    parts.discovery.refresh_local()
    assert (dict(parts.router.upstreams), parts.router.offers) == ({"work": WORK}, {})
    assert list(parts.discovery.states) == ["work"]
    assert parts.events == [("discovery.local", {"found": ["home"]}), ("discovery.local", {"found": []})]


def test_a_local_server_that_is_this_gateway_itself_is_no_upstream() -> None:
    """It may listen on the usual port of one."""
    parts = Parts(Lists(home=["qwen"]))
    parts.discovery.refresh_local()
    parts.discovery.leave_out(lambda upstream: upstream is HOME)
    assert dict(parts.router.upstreams) == {"work": WORK}
    asked = len(parts.lists.asked)
    parts.discovery.refresh_local()
    assert (dict(parts.router.upstreams), len(parts.lists.asked)) == ({"work": WORK}, asked)
    assert list(parts.discovery.states) == ["work"]


@pytest.mark.parametrize("lists", [{"home": ["qwen"]}, {}], ids=["there", "away"])
def test_what_did_not_change_is_told_once(lists: dict[str, Any]) -> None:
    parts = Parts(Lists(**lists))
    parts.discovery.refresh_local()
    told = len(parts.events)
    parts.discovery.refresh_local()
    assert len(parts.events) == told == len(lists)


def test_a_local_server_is_not_waited_for_as_long_as_a_remote_one() -> None:
    parts = Parts(Lists())
    parts.discovery.refresh_local()
    parts.discovery.refresh_configured()
    assert parts.lists.asked == [("home", 1.0), ("work", 10.0)]


def test_what_a_list_says_is_copied() -> None:
    ids = ["a"]
    parts = Parts(Lists(work=ids))
    parts.discovery.refresh_configured()
    ids.append("b")
    assert parts.router.offers == {"work": ("a",)}


def asked_in_the_background(parts: Parts, name: str, times: int) -> bool:
    """Start, and wait until `name` was asked so many times."""
    enough = threading.Event()

    def count(_: str) -> None:
        if sum(asked == name for asked, _ in parts.lists.asked) >= times:
            enough.set()
            parts.discovery.stop()

    parts.lists.on_ask = count
    parts.discovery.start()
    return enough.wait(10)


def test_the_background_asks_everybody_at_once_and_local_servers_again() -> None:
    parts = Parts(Lists(work=["a"], home=["b"]), local_interval_s=0.001, interval_s=1000)
    assert asked_in_the_background(parts, "home", 3)
    assert [name for name, _ in parts.lists.asked][:4] == ["home", "work", "home", "home"]


def test_the_background_asks_configured_upstreams_again_in_their_own_time() -> None:
    parts = Parts(Lists(), local_interval_s=0.001, interval_s=0.003)
    assert asked_in_the_background(parts, "work", 3)
    assert [name for name, _ in parts.lists.asked] == ["home", "work", "home", "home", "home", "work", "home", "home", "home", "work"]


def test_switched_off_it_asks_nobody() -> None:
    parts = Parts(Lists(), enabled=False)
    before = threading.active_count()
    parts.discovery.start()
    assert threading.active_count() == before
    assert parts.lists.asked == []
