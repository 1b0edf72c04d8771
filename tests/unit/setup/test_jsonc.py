"""JSON with comments: what is read, and that a change leaves every other byte alone."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.setup.jsonc import JsoncError, members_of, parse, plain_json, value_at, with_value, without_value
from tests.growth import check_growth

HAND_WRITTEN = """\
// my settings
{
  /* other providers */
  "provider": {
    "mine": { "npm": "x", }, // "provider": {"trap": 1}
  },

\t"theme": "dark", // the best
  // nothing follows
}
"""


def value_of(text: str) -> Any:
    node = parse(text)
    assert node is not None
    return node.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5e3, true, null, "x\\u00e9"]}', {"a": [1, -2500.0, True, None, "x\u00e9"]}),
        ("\ufeff{ } ", {}),
        ('// a\n{"a": "// no comment", /* "b": 1 */ "c": {},}//', {"a": "// no comment", "c": {}}),
        ("[1,]", [1]),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_comments_and_trailing_commas_are_read(text: str, value: Any) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize("text", ["", " \n", "// nothing\n/* here */"])
def test_a_text_without_a_value_is_none(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1 "b": 2}', "line 1, column 9: Expecting ',' delimiter"),
        ('{\n  "a" 1}', "line 2, column 7: Expecting ':' delimiter"),
        ('{"a": tru}', "column 7: Expecting value"),
        ('{"a": 01}', "column 8: Expecting ',' delimiter"),
        ('{"a": -Infinity}', "column 8: Expecting value"),
        ('{"a": NaN}', "column 7: Expecting value"),
        ("{'a': 1}", "column 2: Expecting property name"),
        ('{"a": "x\n"}', "column 9: Invalid control character"),
        ('{"a": "x', "column 7: Unterminated string"),
        ('{"a": "\\x"}', "column 8: Invalid \\escape"),
        ("{} {}", "after the end"),
        ("{ /* ", "column 3: a comment that does not end"),
        ("[" * 200_000, "nested too deeply"),
        ("9" * 5000, "Exceeds the limit"),
        ("[1 2]", "column 4: Expecting ',' delimiter"),
        ('{"a": 1,,"b": 2}', "column 9: Expecting property name"),
        ('{"a": 1,,}', "line 1, column"),
        ("{,}", "column 2: Expecting property name"),
        ("[,]", "column 2: Expecting value"),
        ("{", "column 2: Expecting property name"),
    ],
)
def test_a_broken_text_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(JsoncError, match=r"line [0-9]+, column") as told:
        parse(text)
    assert words in str(told.value)


@pytest.mark.parametrize("piece", ['"\\', '"', "/*", "//\n", " ", "1 ", "1,", "{", '{"a":', "\ufeff"], ids=lambda piece: f"many {piece!a}")
@pytest.mark.parametrize("before", ["", "[1,"])
def test_reading_takes_time_in_line_with_the_text(before: str, piece: str) -> None:
    def read(text: str) -> None:
        with contextlib.suppress(JsoncError):
            parse(text)

    check_growth(read, lambda size: before + piece * size, 2000)


def test_a_new_member_comes_after_the_last_comment() -> None:
    changed = with_value(HAND_WRITTEN, ("model",), "a/b")
    assert changed == HAND_WRITTEN.replace("follows\n}", 'follows\n  "model": "a/b",\n}')


def test_a_comma_goes_where_the_value_ends_not_behind_its_comment() -> None:
    assert with_value('{\n    "a": 1 // one\n}', ("b",), {"c": 2}) == '{\n    "a": 1, // one\n    "b": {\n        "c": 2\n    }\n}'


def test_a_value_is_replaced_where_it_stands() -> None:
    changed = with_value(HAND_WRITTEN, ("provider", "mine"), {"npm": "y"})
    assert changed == HAND_WRITTEN.replace('{ "npm": "x", }', '{\n      "npm": "y"\n    }')


def test_line_ends_of_windows_are_kept() -> None:
    assert with_value('{\r\n\t"a": 1\r\n}\r\n', ("b", "c"), 2) == '{\r\n\t"a": 1,\r\n\t"b": {\r\n\t\t"c": 2\r\n\t}\r\n}\r\n'


@pytest.mark.parametrize(
    ("text", "changed"), [("", '{\n  "a": 1\n}\n'), ("// hello", '// hello\n{\n  "a": 1\n}\n'), ("{}", '{\n  "a": 1\n}')]
)
def test_an_empty_document_gets_its_first_member(text: str, changed: str) -> None:
    assert with_value(text, ("a",), 1) == changed


@pytest.mark.parametrize(("text", "words"), [("[]", "the document is not an object"), ('{"provider": null}', "provider is not an object")])
def test_what_is_not_an_object_is_not_overwritten(text: str, words: str) -> None:
    with pytest.raises(JsoncError, match=words):
        with_value(text, ("provider", "mine"), {})


# Any document.

spaces = st.text(" \t", max_size=3)
words = st.text(st.characters(codec="utf-8", exclude_characters="\r\n*/"), max_size=8)
comments = st.one_of(
    st.just(""),
    words.map(lambda text: f"//{text}\n"),
    words.map(lambda text: f"/*{text}*/"),
    st.just('// "model": "trap", }\n'),
    st.just("\n"),
    st.just("\r\n"),
)
gaps = st.lists(st.one_of(spaces, comments), max_size=3).map("".join)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=10))
keys = st.one_of(st.sampled_from(["model", "small_model", "provider", "ours", "theirs", "a"]), st.text(max_size=6))


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """`value` as a person could have written it."""
    if isinstance(value, dict):
        members = [
            f"{draw(gaps)}{json.dumps(key)}{draw(gaps)}:{draw(gaps)}{draw(written(item))}{draw(gaps)}" for key, item in value.items()
        ]
        return "{" + ",".join(members) + ("," + draw(gaps) if members and draw(st.booleans()) else draw(gaps)) + "}"
    if isinstance(value, list):
        items = [f"{draw(gaps)}{draw(written(item))}{draw(gaps)}" for item in value]
        return "[" + ",".join(items) + ("," if items and draw(st.booleans()) else "") + draw(gaps) + "]"
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)), max_leaves=8)
documents = st.dictionaries(keys.filter(lambda key: key != "provider"), values, max_size=4)
providers = st.one_of(st.none(), st.dictionaries(keys, values, max_size=3))
OURS = {"npm": "@ai-sdk/openai-compatible", "models": {"claude-4-sonnet": {"limit": {"context": 200000}}}}


def remaining(original: str, changed: str) -> str:
    """What is left of `original` when all that it shares with `changed`, in order, at its beginning and end, is taken away."""
    start = 0
    while start < min(len(original), len(changed)) and original[start] == changed[start]:
        start += 1
    end = 0
    while end < min(len(original), len(changed)) - start and original[-1 - end] == changed[-1 - end]:
        end += 1
    return original[start : len(original) - end]


@pytest.mark.slow
@given(documents, providers, st.data())
def test_a_change_keeps_every_byte_outside_its_own_place(
    document: dict[str, Any], provider: dict[str, Any] | None, data: st.DataObject
) -> None:
    whole = {**document, **({"provider": provider} if provider is not None else {})}
    text = data.draw(gaps) + data.draw(written(whole)) + data.draw(gaps)
    assert value_of(text) == whole
    for path, value in ((("provider", "ours"), OURS), (("model",), "ours/x")):
        before = value_of(text)
        changed = with_value(text, path, value)
        expected = (
            {**before, "model": value} if path == ("model",) else {**before, "provider": {**before.get("provider", {}), "ours": value}}
        )
        assert value_of(changed) == expected
        assert with_value(changed, path, value) == changed
        holder = before if path == ("model",) else before.get("provider", {})
        if path[-1] in holder:
            start, end = place_of(text, path)
            assert changed.startswith(text[:start])
            assert changed.endswith(text[end:])
            assert json.loads(changed[start : len(changed) - len(text) + end]) == value
        else:  # of the old text nothing is gone, a comma and the member came
            assert is_text_with_a_comma_and_a_member(text, changed)
        text = changed


def place_of(text: str, path: tuple[str, ...]) -> tuple[int, int]:
    node = parse(text)
    assert node is not None
    for key in path:
        node = next(member.node for member in reversed(members_of(plain_json(text), node)) if member.key == key)
    return node.start, node.end


def is_text_with_a_comma_and_a_member(text: str, changed: str) -> bool:
    """Whether `changed` is `text` with something put in at two places at most, the first of them one comma."""
    if len(text) < len(changed) and remaining(text, changed) == "":
        return True
    start = next(number for number, (one, other) in enumerate(zip(text, changed, strict=False)) if one != other)
    return changed[start] == "," and remaining(text[start:], changed[start + 1 :]) == ""


@pytest.mark.parametrize(
    ("text", "path", "wanted"),
    [
        ('{"a": 1, "b": 2, "c": 3}', ["b"], '{"a": 1,  "c": 3}'),
        ('{"a": 1, "b": 2}', ["b"], '{"a": 1 }'),
        ('{"a": 1}', ["a"], "{}"),
        ('{"a": 1}', ["b"], '{"a": 1}'),
        ('{"a": 1}', ["a", "b"], '{"a": 1}'),
        ('{\n  "a": {"b": {"c": 1}},\n  "d": 2\n}', ["a", "b", "c"], '{\n  "d": 2\n}'),
        ('{\n  "a": {"b": {"c": 1}, "d": 2}\n}', ["a", "b", "c"], '{\n  "a": { "d": 2}\n}'),
        ('{\n  "a": 1, // one\n  "b": 2, // two\n}', ["b"], '{\n  "a": 1, // one\n   // two\n}'),
        ('{\n  // ours\n  "b": 2\n}\n', ["b"], "{\n  // ours\n}\n"),
        ('{"a": 1, "a": 2, "b": 3}', ["a"], '{"a": 1,  "b": 3}'),  # the one that counts
    ],
)
def test_a_member_is_taken_out_with_its_comma_and_what_held_nothing_else(text: str, path: list[str], wanted: str) -> None:
    assert without_value(text, path) == wanted


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), max_size=4))
def test_taking_out_every_member_one_by_one_leaves_what_is_left(document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    for key in list(document):
        text = without_value(text, [key])
        del document[key]
        assert value_of(text) == document


def test_what_is_at_a_path_is_found() -> None:
    assert value_at({"a": {"b": 1}}, "a", "b") == 1
    assert [value_at(value, "a", "b", default=7) for value in ({}, {"a": 1}, {"a": {}}, [])] == [7, 7, 7, 7]
