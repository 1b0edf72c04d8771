"""How much there is in a JSON text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.errors import BadRequest
from compat.wire.envelope import client_envelope
from compat.wire.extent import MAX_ESCAPES, MAX_VALUES, WINDOW_BYTES, check_escapes, check_values

IN_STRINGS = {
    "marks": "[{,",
    "quotes": '[",{"',
    "backslashes": "\\[{,",
    "backslashes before the end": '\\",\\',
    "of everything": 'a\\\\",[\\"{é',
}


MOST = 1000


@pytest.mark.parametrize("text", IN_STRINGS.values(), ids=IN_STRINGS)
def test_what_stands_in_strings_is_no_value(text: str) -> None:
    check_values(json.dumps({"a": text * WINDOW_BYTES, "b": text}).encode(), most=MOST)


@pytest.mark.parametrize("text", IN_STRINGS.values(), ids=IN_STRINGS)
def test_values_are_counted_between_strings(text: str) -> None:
    few, many = ([text * 100] * (count // 2) + [[]] * (count // 4) for count in (MOST - 8, MOST + 8))
    check_values(json.dumps(few).encode(), most=MOST)
    with pytest.raises(BadRequest, match=f"'a' has more than {MOST} keys and values"):
        check_values(json.dumps(many).encode(), "'a'", MOST)


@given(st.integers(0, 12), st.text('\\"[,', max_size=6))
def test_a_window_may_end_anywhere(shift: int, text: str) -> None:
    start = b'["' + b"x" * (WINDOW_BYTES - 8 - shift) + json.dumps(text).encode()[1:]
    check_values(start + b",1" * (MOST - 1) + b"]", most=MOST)
    with pytest.raises(BadRequest):
        check_values(start + b",1" * MOST + b"]", most=MOST)


def test_a_request_may_have_as_many_values_as_it_needs() -> None:
    check_values(b"[" + b"1," * (MAX_VALUES - 1) + b"1]")
    with pytest.raises(BadRequest):
        check_values(b"[" + b"1," * MAX_VALUES + b"1]")


def test_escaped_characters_are_bounded_and_plain_ones_are_not() -> None:
    few, many = (b'{"a": "%s"}' % (b"\\u00e9" * count) for count in (MAX_ESCAPES - 10, MAX_ESCAPES + 10_000))
    check_escapes(few)
    check_escapes("é".encode() * (4 * MAX_ESCAPES))
    with pytest.raises(BadRequest, match="2500000 escaped characters: send them as UTF-8"):
        client_envelope(many)
