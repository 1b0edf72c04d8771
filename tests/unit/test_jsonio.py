"""JSON: what goes in comes out, and what is not JSON is one kind of error."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat import jsonio
from compat.errors import BadRequest

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_a_document_comes_back_as_it_went(value: object) -> None:
    assert jsonio.decode(jsonio.encode(value)) == value
    assert json.loads(jsonio.encode(value)) == value


def test_it_is_compact_utf8() -> None:
    assert jsonio.encode({"b": [1, 2.5, None, True], "a": "é漢\u2028"}) == '{"b":[1,2.5,null,true],"a":"é漢\u2028"}'.encode()


@pytest.mark.parametrize("text", ["é\n", "\U0001f600", 'a"\\\x01'])
def test_a_long_text_is_encoded_in_steps_to_the_same_bytes(text: str) -> None:
    document = {"content": [{"text": text * 1_000_001, "more": [[[[[text * 600_000]]]]]}, text, 5, None]}
    assert jsonio.encode_in_steps(document) == jsonio.encode(document)


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**64), 10**40, 0.1, 1e300])
def test_no_number_is_lost(number: float) -> None:
    assert jsonio.decode(jsonio.encode(number)) == number


@pytest.mark.parametrize("data", ['{"a": 1}', b'{"a": 1}', msgspec.Raw(b'{"a": 1}')], ids=["text", "bytes", "raw"])
def test_text_bytes_and_raw_values_are_read(data: str | bytes | msgspec.Raw) -> None:
    assert jsonio.decode(data) == {"a": 1}


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"NaN", b"Infinity", b"1e999", b"'a'", b'"\xff"', b'"\\ud83d"', b"1 2", b"[" * 100_000, b"1" * 5000],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_not_json_is_a_bad_request_that_names_it(data: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^'tools' is not valid JSON: ."):
        jsonio.decode(data, "'tools'")


def test_a_value_that_json_has_no_word_for_is_a_programming_error() -> None:
    with pytest.raises(TypeError):
        jsonio.encode(object())
