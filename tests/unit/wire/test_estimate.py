"""Token counts of our own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat.wire.envelope import Envelope
from compat.wire.estimate import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, estimated_usage, prompt_tokens, text_tokens
from compat.wire.usage import Usage
from tests.integration.kilo_session import KiloSession


def tokens_of(*contents: object, ascii_only: bool = False) -> int:
    body = {"model": "x", "messages": [{"role": "user", "content": content} for content in contents]}
    return prompt_tokens(Envelope(json.dumps(body, ensure_ascii=ascii_only).encode()), ("messages",))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("The quick brown fox jumps over the lazy dog, and nobody minds it much. " * 20, 280, 480),
        ("def add(first, second):\n    return first + second\n" * 20, 240, 440),
        ("把这个函数改成递归的写法，然后运行测试。" * 20, 300, 480),
    ],
)
def test_text_counts_about_as_much_as_tokenizers_say(text: str, low: int, high: int) -> None:
    assert low <= text_tokens(text.encode()) <= high


def test_a_first_request_of_an_agent_counts_in_the_ten_thousands() -> None:
    body = json.dumps(KiloSession().body()).encode()
    assert len(body) / 5 < prompt_tokens(Envelope(body), ("messages", "tools")) < len(body) / 2.5


def test_escaped_and_plain_characters_count_the_same() -> None:
    assert tokens_of("汉字" * 100) == tokens_of("汉字" * 100, ascii_only=True)


def test_a_picture_counts_by_itself_not_by_its_bytes() -> None:
    small, large = ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * size}} for size in (100, 1_000_000))
    assert tokens_of([small]) == tokens_of([large])
    assert tokens_of([small, small]) - tokens_of([small]) >= TOKENS_PER_IMAGE


def source(kind: str, data: str) -> dict[str, Any]:
    return {"type": kind, "source": {"type": "base64", "media_type": "x/y", "data": data}}


@pytest.mark.parametrize(
    ("blocks", "pictures"),
    [
        ([source("image", "A" * 300_000)], 1),
        ([source("image", "A" * 300_000), source("image", "B" * 90)], 2),
        ([source("document", "JVBERi0x" + "A" * 500_000)], 4),
        ([source("document", "JVBERi0x" + "A" * 500)], 1),
    ],
)
def test_a_base64_source_counts_by_itself_and_a_document_by_its_pages(blocks: list[Any], pictures: int) -> None:
    assert 0 <= tokens_of(blocks) - TOKENS_PER_IMAGE * pictures < 120


def test_data_that_is_no_source_counts_as_text() -> None:
    long = "A" * 35_000
    assert tokens_of([{"type": "tool_use", "input": {"data": long}}]) > 10_000
    assert tokens_of(json.dumps(source("image", long))) > 10_000
    cut = b'[{"role":"user","source":{"type":"base64","data":"' + long.encode()
    assert prompt_tokens({"messages": cut}, ("messages",)) > 10_000


def test_what_only_looks_like_a_picture_counts_as_text_and_so_do_pictures_beyond_the_bound() -> None:
    assert tokens_of(["x;base64," + "A" * 10_000]) > 2500
    url = "data:image/png;base64,A"
    assert tokens_of([url] * 10_010) >= TOKENS_PER_IMAGE * 10_000
    assert tokens_of([url] * 10_010) < TOKENS_PER_IMAGE * 10_200


@given(st.text(max_size=60), st.text(max_size=60))
def test_more_text_never_counts_less(one: str, more: str) -> None:
    assert text_tokens((one + more).encode()) >= text_tokens(one.encode()) - 1


def test_an_estimate_says_that_it_is_one() -> None:
    assert estimated_usage(100, 10) == Usage(prompt_tokens=100, completion_tokens=3, is_estimate=True)


@pytest.mark.parametrize("key", ["messages", "input", "contents"])
def test_a_conversation_counts_wherever_its_protocol_has_it_and_so_does_what_stands_beside_it(key: str) -> None:
    turns, beside = [{"role": "user", "content": "What is it?"}] * 3, "You are an agent. " * 20
    body = Envelope(json.dumps({key: turns, "system": beside, "other": beside * 50}).encode())
    alone = prompt_tokens(body, (key,))
    assert alone > 3 * TOKENS_PER_MESSAGE
    assert prompt_tokens(body, (key, "system")) - alone == pytest.approx(text_tokens(beside.encode()), abs=2)
    assert prompt_tokens(body, (key, "system", "missing")) == prompt_tokens(body, (key, "system"))
