"""Raw text out of the arguments of a function, however these are cut and whatever a model made of them."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.protocols.responses.freeform import Unwrapped, unwrapped


def read(arguments: str, size: int) -> str:
    found = Unwrapped()
    return "".join(found.feed(arguments[at : at + size]) for at in range(0, len(arguments), size)) + found.end()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": "a"}', "a"),
        (' { "patch" :"a"} ', "a"),
        ('{"input": "a", "more": "b"}', "a"),
        ('{"why": "b", "input": "a"}', "a"),
        ('{"command": ["apply_patch", "a"]}', "a"),
        ('{"code": "a"}', "a"),
        ('"a"', "a"),
        ("a", "a"),
        ("", ""),
        ('{"code": 1}', '{"code": 1}'),
        ('{"a": "b", "c": "d"}', '{"a": "b", "c": "d"}'),
        ("[1]", "[1]"),
        ('{"input": "\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9"}', '"\\/\b\f\n\r\té'),
        ('{"input": "\\ud83d\\ude00"}', "😀"),
        ('{"input": "\\ud83d"}', "\ufffd"),
        ('{"input": "\\ude00\\ud83d\\ud83d\\ude00"}', "\ufffd\ufffd😀"),
        ('{"input": "\\ud83d\\u12"}', "\ufffd\\u12"),
        ('{"input": "\\\\ud83d\\\\ude00"}', "\\ud83d\\ude00"),
        ('{"input": "\\d \\u12 \\uzz"}', "\\d \\u12 \\uzz"),
        ('{"input": "a\nb"}', "a\nb"),
        ('{"input": "cut', "cut"),
        ('{"input": "cut\\', "cut\\"),
        ('{"input": "cut\\u00', "cut\\u00"),
        ('{"input": "cut\\ud83d', "cut\ufffd"),
        ("{" + " " * 100 + '"input": "a"}', "a"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_text_is_the_same_in_every_cut(arguments: str, text: str, size: int) -> None:
    assert read(arguments, size) == text


@given(st.text(st.characters(codec="utf-8")), st.booleans(), st.integers(1, 9))
def test_every_text_comes_through(text: str, escapes: bool, size: int) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=escapes)
    assert read(arguments, size) == unwrapped(arguments) == text


@given(st.lists(st.sampled_from(["\\", "u", "d", "8", "e", '"', "\\ud83d", "\\ude00", "\\u00e9", "x"])))
def test_every_cut_of_anything_is_the_same(pieces: list[str]) -> None:
    arguments = '{"input":"' + "".join(pieces)
    assert len({read(arguments, size) for size in (1, 2, 5, 1000)}) == 1


@pytest.mark.parametrize("unit", ["a", "\\\\", "\\ud83d", "\\u12", "\\"])
@pytest.mark.parametrize("opening", ['{"input":"', '{"other":"', "{" + " " * 99])
def test_the_time_grows_with_the_length_alone(opening: str, unit: str) -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        read(opening + unit * count, 1)
        return time.process_time() - start

    assert seconds(32_000) < 60 * max(min(seconds(2_000) for _ in range(3)), 0.001)
