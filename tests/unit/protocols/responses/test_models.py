"""The list of models as Codex reads it."""

from __future__ import annotations

from typing import Any

import pytest

from compat import jsonio
from compat.protocols.responses.models import INSTRUCTIONS, LISTING


def row(name: str, efforts: tuple[str, ...] = (), *, images: bool = False) -> dict[str, Any]:
    return {
        "id": name,
        "display_name": name.title(),
        "context_length": 5000,
        "capabilities": {"images": images, "efforts": efforts},
        "route": ["up/one", "down/two"],
    }


ROWS = [row("one", ("low", "medium", "new"), images=True), row("two"), row("three", ("high", "max"))]


def models() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = jsonio.decode(LISTING.page(ROWS, {}))["models"]
    return found


def test_openais_list_stands_beside_that_of_codex() -> None:
    found = jsonio.decode(LISTING.page(ROWS, {}))
    assert (found["object"], [one["id"] for one in found["data"]]) == ("list", ["one", "two", "three"])
    assert [(one["slug"], one["display_name"], one["priority"]) for one in found["models"]] == [
        ("one", "One", 1),
        ("two", "Two", 2),
        ("three", "Three", 3),
    ]


def test_a_model_has_every_field_that_codex_requires_and_asks_for_plain_tools() -> None:
    required = (
        "slug display_name supported_reasoning_levels shell_type visibility supported_in_api priority base_instructions support_verbosity"
    )
    for one in models():
        assert {*required.split(), "truncation_policy", "experimental_supported_tools"} <= set(one)
        assert (one["use_responses_lite"], one["apply_patch_tool_type"], one["base_instructions"]) == (False, "freeform", INSTRUCTIONS)
        assert (one["context_window"], one["max_context_window"]) == (5000, 5000)
        assert one["description"] == "up/one → down/two"


def test_efforts_and_kinds_of_input_are_the_models_own() -> None:
    assert [[level["effort"] for level in one["supported_reasoning_levels"]] for one in models()] == [
        ["low", "medium"],
        [],
        ["high", "max"],
    ]
    assert [one["default_reasoning_level"] for one in models()] == ["medium", None, "high"]
    assert [one["input_modalities"] for one in models()] == [["text", "image"], ["text"], ["text"]]


@pytest.mark.parametrize(
    ("environ", "is_asked"),
    [
        ({"QUERY_STRING": "client_version=0.171.0"}, True),
        ({"HTTP_USER_AGENT": "Codex_cli_rs/0.171.0"}, True),
        ({"HTTP_USER_AGENT": "curl/8", "QUERY_STRING": ""}, False),
        ({}, False),
    ],
)
def test_codex_is_known_by_its_query_or_its_name(environ: dict[str, Any], is_asked: bool) -> None:
    assert LISTING.is_asked(environ) is is_asked


def test_one_model_is_told_as_openai_does() -> None:
    assert jsonio.decode(LISTING.one({"id": "one"})) == {"id": "one"}
