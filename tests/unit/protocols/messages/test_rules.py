"""The rules of docs/translation.md: each has rows in the tables; and rows on the rules that lie at the edges."""

from __future__ import annotations

import dataclasses
import json

import pytest

from compat.config.catalog import Model
from compat.errors import MAX_RETRY_AFTER_S
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext
from compat.protocols.chat.errors import error_body
from compat.wire.envelope import Envelope
from tests.cases.messages import SONNET, call, chat, result, said, tool
from tests.cases.messages_answers import ANSWERS
from tests.cases.messages_checks import TRANSLATOR, accepted, context, translated
from tests.cases.messages_failures import ERRORS, LEARNT, PLAIN_REQUEST, REASONING, STREAMS, ErrorRow
from tests.unit.protocols.messages.test_request import REFUSED, REQUESTS
from tests.unit.protocols.messages.test_request_prefix import SESSIONS

ALL_RULES = range(1, 30)
OPENAI = TRANSLATORS["openai.chat", "openai.chat"]


def test_every_rule_has_a_row() -> None:
    rows = (*REQUESTS, *REFUSED, *ANSWERS, *STREAMS, *ERRORS, *LEARNT, *SESSIONS)
    covered = {rule for row in rows for rule in row.rules} | {rule for rules, _, _ in REASONING for rule in rules}
    assert covered == set(ALL_RULES)


def test_rules_of_both_directions_have_rows_in_both() -> None:
    there = {rule for row in REQUESTS for rule in row.rules}
    back = {rule for row in ANSWERS for rule in row.rules}
    assert {2, 5, 7, 8, 14, 23, 29} <= there & back


def test_rows_are_told_apart_by_what_they_say() -> None:
    for rows in (REQUESTS, REFUSED, ANSWERS, STREAMS, ERRORS):
        names = [(row.rules, row.says) for row in rows]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row.says)
def test_a_refused_call_keeps_status_and_words(row: ErrorRow) -> None:
    body = json.dumps({"type": "error", "error": {"type": row.kind, "message": row.words}, "request_id": "req_theirs"}).encode()
    headers = {"retry-after": row.retry_after} if row.retry_after else {}
    error = TRANSLATOR.error(row.status, headers, body, context(SONNET))
    assert type(error) is row.error
    assert (error.status, error.message, error.retry_after_s) == (row.client_status, f"fake: {row.words}", row.wait_s)
    fields = json.loads(error_body(error))["error"]
    assert (fields["message"], fields["code"]) == (f"fake: {row.words}", error.code)
    assert set(fields) == {"message", "type", "param", "code"}
    assert (row.wait_s or 0) <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(("rules", "unwanted", "is_sent"), REASONING)
def test_prior_reasoning_reaches_upstreams_of_openais_kind_unless_they_refuse_it(
    rules: tuple[int, ...], unwanted: frozenset[str], is_sent: bool
) -> None:
    ctx = TranslationContext("alias", "their-model", Model(), "chatcmpl-ours", 17, is_stream=False, unwanted_fields=unwanted)
    body = json.loads(OPENAI.request(Envelope(json.dumps({"model": "alias", **PLAIN_REQUEST}).encode()), ctx).body)
    assert ("reasoning_content" in body["messages"][0]) is is_sent


def test_the_request_remembers_the_clients_names_for_the_answer() -> None:
    sent = chat({"role": "user", "content": "A"}, said(None, call(name="a.b")), result(), tools=[tool("a.b"), tool("c")])
    ctx = context(SONNET)
    request = translated(sent, ctx)
    (name,) = request.memory.client_names
    assert accepted(request, ctx)["tools"][0]["name"] == name
    assert request.memory.client_names == {name: "a.b"}
    answer = TRANSLATOR.response(
        json.dumps({"content": [{"type": "tool_use", "id": "t", "name": name, "input": {}}], "stop_reason": "tool_use"}).encode(),
        dataclasses.replace(ctx, memory=request.memory),
    )
    assert json.loads(answer.body)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "a.b"
