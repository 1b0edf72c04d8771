"""The phases of a call and of an attempt: what the tables allow, and that nothing else happens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from compat.calls.call import call_from
from compat.calls.phases import ATTEMPT, CALL
from compat.calls.run import CallRun
from compat.errors import ModelNotFound
from compat.protocols.chat.client import CHAT
from compat.wire.envelope import Envelope
from tests.unit.builders import make_gateway

TABLES = pytest.mark.parametrize(("table", "first", "last"), [(CALL, "new", "over"), (ATTEMPT, "asking", "complete")])


def reached(table: Mapping[Any, Any], first: str) -> set[str]:
    """All phases that can follow the first one, and itself."""
    found, left = {first}, [first]
    while left:
        more = table[left.pop()] - found
        found |= more
        left += more
    return found


@TABLES
def test_every_phase_can_be_reached_and_leads_to_the_last_one(table: Mapping[Any, Any], first: str, last: str) -> None:
    assert reached(table, first) == set(table)
    assert all(last in reached(table, phase) for phase in table)
    assert table[last] == frozenset()


def test_a_call_can_end_in_any_phase_but_once() -> None:
    assert [phase for phase in CALL if "over" not in CALL[phase]] == ["over"]


def run_of(base_dir: Path) -> CallRun:
    body = b'{"model": "unheard-of", "messages": [{"role": "user", "content": "x"}]}'
    gateway = make_gateway(base_dir)
    return CallRun(gateway, call_from(CHAT, Envelope(body), request_id="r", client="c", received_s=0.0))


def test_a_call_that_finds_no_model_is_over_and_can_not_be_made_again(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    with pytest.raises(ModelNotFound):
        run.whole()
    assert (run.phase, run.attempts, run.gateway.gauges.in_flight) == ("over", 0, 0)
    with pytest.raises(AssertionError, match="does not go from over"):
        run.whole()


def test_a_stream_that_is_never_read_begins_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.frames().close()
    assert (run.phase, run.gateway.gauges.calls) == ("new", 0)
