"""The envelope: top-level keys with their text, and nothing lost when one of them changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.errors import BadRequest
from compat.wire.envelope import Envelope, client_envelope

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), json_values, max_size=6)


@pytest.mark.slow
@given(documents, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]), st.booleans())
def test_every_key_has_the_value_that_the_client_wrote(document: dict[str, object], separators: tuple[str, str], ascii_only: bool) -> None:
    body = f" {json.dumps(document, separators=separators, ensure_ascii=ascii_only)}\n".encode()
    envelope = Envelope(body)
    assert len(envelope) == len(document)
    assert {key: json.loads(text) for key, text in envelope.items()} == document


@pytest.mark.slow
@given(documents, documents)
def test_a_change_leaves_the_other_keys_as_they_were(document: dict[str, object], changes: dict[str, object]) -> None:
    body = json.dumps(document).encode()
    changed = Envelope(body).replaced({key: json.dumps(value).encode() for key, value in changes.items()})
    assert json.loads(changed) == {**document, **changes}


def test_untouched_bytes_stay() -> None:
    body = b'{ "model" :  "a" , "n": 1.0e+5, "text":"\\u00e9" }'
    assert Envelope(body).replaced({"model": b'"b"'}) == body.replace(b'"a"', b'"b"')
    assert Envelope(b"{}").replaced({"a": b"1"}) == b'{"a":1}'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": 01}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        (b'{"a": "\x01"}', "not valid JSON"),
        (b'{"a": 1} x', "not valid JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": 1, "a": 1}', "occurs twice"),
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (b'{"a": 21, "a": 2}', "occurs twice"),
        (b'{"a": 2, "a": 21}', "occurs twice"),
        (b'{"model": "x", "\\u006dodel": "y"}', "occurs twice"),
    ],
)
def test_what_is_not_one_json_object_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        Envelope(body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb"\ud83d", "\ufffd"),
        (rb"\udc00 a", "\ufffd a"),
        (rb"\ud83d\ude00", "\U0001f600"),
        (rb"\\ud83d", r"\ud83d"),
        (rb"\\\ud83d", "\\\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
    ],
)
def test_half_a_surrogate_pair_is_repaired(text: bytes, expected: str) -> None:
    envelope = Envelope(b'{"lone": "\\ud83d", "a": "' + text + b'"}')
    assert envelope.was_repaired
    assert envelope.value("a") == expected


def test_a_value_is_decoded_on_demand() -> None:
    envelope = Envelope(b'{"a": {"b": [1]}, "n": null}')
    assert envelope.value("a") == {"b": [1]}
    assert envelope.value("n", 5) is None
    assert envelope.value("x", 5) == 5
    assert envelope.starts_with("a", b"{")
    assert not envelope.starts_with("x", b"{")
    assert list(envelope) == ["a", "n"]


def test_more_keys_than_any_request_has_are_refused_before_they_are_walked() -> None:
    assert len(Envelope(json.dumps({f"k{number}": 0 for number in range(1000)}).encode())) == 1000
    with pytest.raises(BadRequest, match="more than 1000 keys"):
        Envelope(json.dumps({f"k{number}": 0 for number in range(1001)}).encode())


def test_a_key_is_no_text() -> None:
    assert list(Envelope(b'{"' + b"k" * 512 + b'":1}')) == ["k" * 512]
    with pytest.raises(BadRequest, match="a key of more than 512 characters"):
        Envelope(b'{"' + b"\\u00e9" * 513 + b'":1}')


def test_blanks_stand_wherever_they_may() -> None:
    blank = b" \t\r\n" * 50_000
    envelope = Envelope(b"%b{%b".replace(b"%b", blank) + b'"a"' + blank + b":" + blank + b"1" + blank + b"}" + blank)
    assert dict(envelope) == {"a": b"1"}
    assert dict(Envelope(b"{" + blank + b"}")) == {}


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_a_byte_that_is_not_utf8_is_named_wherever_it_is(size: int) -> None:
    assert Envelope(b'{"a":"' + b"x" * (size - 8) + "é".encode() * 40_000 + b'"}')
    with pytest.raises(BadRequest, match=f"at byte {size}"):
        Envelope(b'{"a":"' + "é".encode() + b"x" * (size - 8) + b'\xff"}')
    with pytest.raises(BadRequest, match=f"unexpected end of data at byte {size}"):
        Envelope(b"x" * size + b"\xc3")


def test_a_flood_of_halves_is_repaired_and_keeps_what_is_whole() -> None:
    text = rb"\ud83d" * 5000 + rb"\\" + rb"\ud83d\ude00" * 3000 + rb"\udc00"
    assert Envelope(b'{"a":"' + text + b'"}').value("a") == "\ufffd" * 5000 + "\\" + "\U0001f600" * 3000 + "\ufffd"


def test_a_client_sends_a_bounded_number_of_values() -> None:
    assert len(client_envelope(b'{"a":[' + b"1," * 300_000 + b"1]}").value("a")) == 300_001
    with pytest.raises(BadRequest, match="more than 400000 keys and values"):
        client_envelope(b'{"a":[' + b"[]," * 250_000 + b"1]}")


@pytest.mark.parametrize(("text", "expected"), [(b"[]", True), (b"[ \n ]", True), (b"[1]", False), (b"[[]]", False)])
def test_whether_a_list_is_empty_is_seen_without_decoding_it(text: bytes, expected: bool) -> None:
    assert Envelope(b'{"a":' + text + b"}").is_empty("a") is expected
    assert not Envelope(b"{}").is_empty("a")


def test_a_null_is_as_good_as_no_value() -> None:
    envelope = Envelope(b'{"a":null,"b":0}')
    assert [envelope.is_missing(key) for key in "abc"] == [True, False, True]


@pytest.mark.parametrize("key", ["n", "stream", "max_tokens", "stream_options", "metadata"])
def test_what_is_decoded_again_and_again_is_short(key: str) -> None:
    assert client_envelope(b'{"%s":[%s]}' % (key.encode(), b" " * 65_534)).value(key) == []
    with pytest.raises(BadRequest, match=f"'{key}' has more than 65536 bytes") as caught:
        client_envelope(b'{"%s":[%s]}' % (key.encode(), b" " * 65_535))
    assert caught.value.param == key
