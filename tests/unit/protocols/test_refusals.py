"""Which optional parameter a refused call names, in the words of real upstreams (docs/translation.md, rule 11)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.config.catalog import MessagesFacts
from compat.errors import BadRequest, UpstreamFailure, UpstreamOverloaded
from compat.protocols.refusals import PASSING, as_learnt, endpoint_mark, is_endpoint, refused_parameter
from compat.protocols.upstream_errors import refusal_of
from tests.cases.messages_failures import LEARNT, LearntRow


@pytest.mark.parametrize("row", LEARNT, ids=lambda row: row.words[:60])
def test_the_parameter_is_read_from_the_words(row: LearntRow) -> None:
    fields = {"message": row.words, "param": row.param, "code": row.code}
    body = json.dumps({"type": "error", "error": {key: value for key, value in fields.items() if value is not None}}).encode()
    assert refused_parameter(refusal_of(row.status, {}, body, "fake")) == row.name


@pytest.mark.parametrize(
    "error", [UpstreamFailure("`temperature` is not supported"), UpstreamOverloaded("no"), BadRequest("`top_k` invalid")]
)
def test_only_a_refusal_of_the_upstream_is_read(error: UpstreamFailure | BadRequest) -> None:
    assert refused_parameter(error) is None


@pytest.mark.parametrize(
    ("known", "refused", "takes"),
    [
        ("both", {"thinking.adaptive"}, "enabled"),
        ("both", {"thinking.enabled"}, "adaptive"),
        ("adaptive", {"thinking.enabled"}, "adaptive"),
        ("adaptive", {"thinking.adaptive"}, "enabled"),
        ("enabled", {"thinking.enabled"}, "adaptive"),
        ("enabled", {"thinking.enabled", "thinking.adaptive"}, "none"),
        ("none", {"thinking.enabled", "thinking.adaptive"}, "none"),
    ],
)
def test_a_model_takes_the_other_type_of_thinking_where_one_was_refused(known: Any, refused: set[str], takes: str) -> None:
    assert as_learnt(MessagesFacts(thinking=known), frozenset(refused)).thinking == takes


def test_facts_that_nothing_was_learnt_of_stay() -> None:
    facts = MessagesFacts(thinking="both", thinking_default="on")
    assert as_learnt(facts, frozenset({"temperature", "thinking.display"})) == facts


def test_what_one_conversation_holds_is_not_remembered() -> None:
    assert {row.name for row in LEARNT} >= PASSING


def test_the_lack_of_an_endpoint_is_told_from_a_parameter() -> None:
    assert is_endpoint(endpoint_mark("completions"))
    assert not is_endpoint("temperature")
