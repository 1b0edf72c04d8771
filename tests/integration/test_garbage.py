"""A call leaves nothing that waits for Python's collector: all it held is free when it ends, so that memory is level under load.

What is looked for are objects of the gateway's own types that only a collection would free; the tests' clients and fakes leave others.
"""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from compat.config.settings import merge
from tests.cases.faults import Fault, Wire, healthy, opening, said, streamed
from tests.conftest import InMemory, RunningGateway
from tests.fakes.upstream import FakeUpstream, Stall
from tests.integration.test_cancellation import Client, wait_for
from tests.integration.test_faults import OTHER, SETTINGS, ask, cells, faulty_row, row_of, tls_of

ROUTE = {"claude-4-sonnet": {"route": ["a/claude-sonnet-4-6", "b/claude-haiku-4-5"]}}


@pytest.fixture(scope="module", autouse=True)
def nothing_older() -> None:
    """Collections look at what these tests make, and not at all that pytest holds: as after its collection (`tests/monkey.py`)."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def garbage_of(gateway: RunningGateway) -> Iterator[Counter[str]]:
    """What the calls within the block leave to the collector: types of ours, and how many of each. Filled in at the block's end."""
    gc.collect()
    gc.disable()
    left: Counter[str] = Counter()
    try:
        yield left
        wait_for(lambda: gateway.gateway.gauges.in_flight == 0)
        gevent.sleep(0.01)  # what the server has to do after the call
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        names = (f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
        left.update(name for name in names if name.startswith("compat."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def leave(gateway: RunningGateway, **more: Any) -> None:
    """Ask, and hang up while the upstream is silent."""
    begun = len(gateway.calls())
    client = Client(gateway, **more)
    wait_for(lambda: gateway.gateway.gauges.in_flight == 1)
    gevent.sleep(0.05)
    client.leave()
    wait_for(lambda: len(gateway.calls()) > begun)


WAYS: dict[str, Callable[[RunningGateway], object]] = {
    "whole": lambda gateway: gateway.chat(),
    "streamed": lambda gateway: gateway.chat(stream=True),
    "with an idempotency key": lambda gateway: gateway.chat(stream=True, headers={"idempotency-key": "x"}),
    "without keeping the connection": lambda gateway: gateway.chat(stream=True, headers={"connection": "close"}),
    "not JSON": lambda gateway: gateway.post(b"{"),
    "an unknown model": lambda gateway: gateway.chat(model="nobody"),
    "a bad message": lambda gateway: gateway.chat(messages="Hi"),
    "a completion": lambda gateway: gateway.chat(path="/completions", prompt="Hi", stream=True),
    "an unknown URL": lambda gateway: gateway.get("/nowhere"),
    "the models": lambda gateway: gateway.get("/v1/models"),
    "the health": lambda gateway: gateway.get("/healthz"),
    "the metrics": lambda gateway: gateway.get("/metrics"),
    "the page": lambda gateway: gateway.get("/"),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_calls(start_gateway: Any, wire: Wire, way: str) -> None:
    with FakeUpstream(default=healthy(wire)) as upstream:
        gateway = start_gateway(merge(SETTINGS, {"upstreams": {"a": row_of(upstream, wire), "b": row_of(upstream, wire)}, "models": ROUTE}))
        with garbage_of(gateway) as garbage:
            WAYS[way](gateway)
        assert not garbage


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_clients_that_leave(start_gateway: Any, stream: bool, begun: bool) -> None:
    answer = streamed([*opening("openai"), *said("openai", "Well, "), Stall()] if begun else [Stall()])
    with FakeUpstream(default=lambda _: answer) as upstream:
        row = row_of(upstream, "openai")
        gateway = start_gateway(merge(SETTINGS, {"upstreams": {"a": row, "b": row}, "models": ROUTE}))
        with garbage_of(gateway) as garbage:
            leave(gateway, stream=stream)
        assert not garbage


@pytest.mark.slow
@cells
def test_failures(in_memory: InMemory, fault: Fault, wire: Wire, is_stream: bool) -> None:
    other = OTHER[wire]
    faulty = in_memory.upstream(fault.make(wire, is_stream), tls_of(fault))
    rows = {"a": faulty_row(fault, faulty, wire), "b": row_of(in_memory.upstream(healthy(other)), other)}
    gateway = in_memory.start(merge(SETTINGS, {"upstreams": rows, "models": ROUTE}))
    with garbage_of(gateway) as garbage:
        ask(gateway, fault, is_stream)
    assert not garbage
