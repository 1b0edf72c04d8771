"""What of a command's wish the watcher believes; the watcher's own file is tested with the folder (`test_service_state.py`)."""

from __future__ import annotations

from typing import Any

import pytest

from compat.service.files import is_keeper, wish_of

KEEPER = {"keeper": None, "state": "ready", "detail": "", "model": "m", "pid": 7, "context_tokens": 1, "restarts": 0}


@pytest.mark.parametrize(
    ("value", "wish"),
    [
        ({"id": "a", "environment": {"A": "b", "PATH": ""}}, ("a", {"A": "b", "PATH": ""})),
        ({"id": "a", "environment": {"A": "b", "": "x", "a=b": "c", "n\0": "x", "m": "\0"}}, ("a", {"A": "b"})),
        (None, ("", {})),
        ({}, ("", {})),
        ({"id": "a", "environment": "x"}, ("", {})),
        ({"id": "a", "environment": {"A": 1}}, ("", {})),
        ({"id": 7, "environment": {"A": "1"}}, ("", {})),
    ],
)
def test_a_wish_is_taken_whole_or_not_at_all_but_for_what_can_be_no_variable(value: Any, wish: Any) -> None:
    assert wish_of(value) == wish


def test_what_a_keeper_tells_has_every_field_of_its_kind() -> None:
    assert is_keeper(KEEPER)
    for name in KEEPER:
        assert not is_keeper({key: value for key, value in KEEPER.items() if key != name})
        assert not is_keeper({**KEEPER, name: [1]})
