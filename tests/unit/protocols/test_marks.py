"""Marks of the prompt cache."""

from __future__ import annotations

from typing import Any

import pytest

from compat.protocols.marks import mark_of, marker
from compat.protocols.request import CacheMark


@pytest.mark.parametrize(
    ("found", "mark", "written"),
    [
        ({"type": "ephemeral"}, "default", {"type": "ephemeral"}),
        ({"type": "ephemeral", "ttl": "5m"}, "5m", {"type": "ephemeral", "ttl": "5m"}),
        ({"type": "ephemeral", "ttl": "1h", "scope": "x"}, "1h", {"type": "ephemeral", "ttl": "1h"}),
        ({"type": "ephemeral", "ttl": "2h"}, "default", {"type": "ephemeral"}),
    ],
)
def test_a_mark_is_read_and_written(found: Any, mark: CacheMark, written: dict[str, Any]) -> None:
    assert mark_of({"cache_control": found}) == mark
    assert marker(mark) == written


@pytest.mark.parametrize("carrier", [{}, {"cache_control": None}, {"cache_control": "ephemeral"}, {"cache_control": {"type": "lasting"}}])
def test_whatever_else_is_no_mark(carrier: dict[str, Any]) -> None:
    assert mark_of(carrier) is None
