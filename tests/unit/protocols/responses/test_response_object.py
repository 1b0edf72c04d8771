"""The response object, whatever the request said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from compat.protocols.responses.response_object import ResponseHead, given_back, told_cost
from tests.cases.responses_client import checked


@pytest.mark.parametrize("echoed", [{}, {"text": 5, "reasoning": "x", "tools": {}, "id": "theirs", "status": "x", "temperature": None}])
def test_every_field_is_there_and_the_answers_own_are_never_the_requests(echoed: dict[str, Any]) -> None:
    head = ResponseHead.of("resp_1", 17, "m", echoed)
    document = checked(msgspec.json.decode(head.encoded("in_progress")))
    assert (document["id"], document["status"], document["temperature"]) == ("resp_1", "in_progress", 1.0)
    assert not head.shows_summary


def test_fields_are_given_back_as_the_object_has_them() -> None:
    tools = ({"type": "function", "name": "f", "strict": True}, {"type": "custom", "name": "c"}, 5)
    found = given_back({"tools": tools, "text": {"format": None}, "reasoning": msgspec.Raw(b'{"effort":"low"}'), "x": 1})
    assert found["tools"] == [{"type": "function", "name": "f", "strict": True, "description": None, "parameters": None}, *tools[1:]]
    assert found["text"] == {"format": {"type": "text"}}
    assert found["reasoning"] == {"effort": "low", "summary": None}
    assert found["x"] == 1


@pytest.mark.parametrize(
    ("told", "cost"),
    [
        (None, None),
        ({}, None),
        ({"cost_details": 5}, None),
        ({"cost_details": {"upstream_inference_cost": True}}, None),
        ({"cost_details": {"upstream_inference_cost": 2}}, 2),
    ],
)
def test_the_cost_is_read_where_there_is_one(told: Any, cost: float | None) -> None:
    assert told_cost(told) == cost
