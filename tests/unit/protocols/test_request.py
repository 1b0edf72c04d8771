"""Neutral requests: what they answer beside their fields."""

from __future__ import annotations

import pytest

from compat.protocols.request import Reasoning, Request


def test_a_field_has_the_name_that_the_client_gave_it() -> None:
    request = Request("openai.chat", (), limit=5, names={"limit": "max_completion_tokens"})
    assert (request.name("limit"), request.name("stop")) == ("max_completion_tokens", "stop")


@pytest.mark.parametrize(
    ("asked", "is_silent"),
    [
        (Reasoning(), True),
        (Reasoning(extras=("reasoning.summary",)), True),
        (Reasoning(effort="none"), False),
        (Reasoning(budget=2048), False),
        (Reasoning(is_adaptive=True), False),
    ],
)
def test_a_client_that_says_nothing_of_thinking_leaves_it_to_the_model(asked: Reasoning, is_silent: bool) -> None:
    assert asked.is_silent == is_silent
