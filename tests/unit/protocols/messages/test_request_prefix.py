"""Rule 27: the translation of a turn is, markers aside, the beginning of the next one's, byte for byte; and what it is cached by."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from compat.protocols.base import ThinkingRecord
from tests.cases.messages import (
    FABLE,
    HELLO,
    MARK,
    NEWEST,
    OLD,
    OPUS,
    PDF,
    PNG,
    SONNET,
    call,
    chat,
    image,
    result,
    said,
    system,
    text,
    tool,
    user,
)
from tests.cases.messages_checks import accepted, context, translated, unmarked
from tests.fakes.anthropic_cache import PromptCache

ROUNDS = 12
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
PICTURE = json.dumps([text("Look"), image(f"data:image/png;base64,{PNG}")])


@dataclass(frozen=True)
class Session:
    """A conversation that grows: `rounds` are the messages of each round, each of which ends where the client calls."""

    rules: tuple[int, ...]
    says: str
    rounds: list[list[dict[str, Any]]]
    records: dict[str, ThinkingRecord]
    fields: dict[str, Any]


def agent_rounds() -> Iterator[list[dict[str, Any]]]:
    """What an agent does: parallel calls, odd ids and names, empty and pictured results, system messages and questions in between."""
    yield [
        system("You are an agent. " * 400, **MARK),
        {"role": "developer", "content": "Be brief."},
        user(image(f"data:image/jpeg;base64,{PNG}"), text("Go.")),
    ]
    for number in range(ROUNDS):
        ids = [f"call_{number}", f"functions.list:{number}", "0"]
        calls = [call(ids[0], arguments=f'{{"path": "a{number}.py", "n": 1.0}}'), call(ids[1], "mcp.list files", "", **MARK), call(ids[2])]
        messages = [said("" if number % 2 else f"Step {number}.", *calls, reasoning_content="Hm.")]
        messages += [result(ids[1], PICTURE), result(ids[0], "", **MARK), result(ids[2], [text("1"), text("2")])]
        if number % 3 == 1:
            messages.append(system(f"Note {number}"))
        if number % 4 == 2:
            messages += [user(text("And?"), text(" "), {"type": "file", "file": {"file_data": PDF}})]
        yield messages
        if number % 5 == 3:
            yield [said(f"Done with {number}."), system("Hurry."), user(text(f"Next, {number}."))]


def thoughts() -> dict[str, ThinkingRecord]:
    """What was kept: one turn in three is lost."""
    records = {}
    for number in range(ROUNDS):
        ids = (f"call_{number}", f"functions.list:{number}", "0")
        chars = {"type": "text", "chars": 0 if number % 2 else len(f"Step {number}.")}
        marks = [{"type": "tool_use", "id": call_id} for call_id in ids]
        if number % 3 != 2:
            records[ids[0]] = ThinkingRecord(ids, (THOUGHT, chars, marks[0], {**THOUGHT, "signature": f"s{number}"}, *marks[1:]))
    return records


TOOLS = [tool(), tool("mcp.list files", {"type": "object", "properties": {"z": {}, "a": {"type": "string"}}}, **MARK)]
SESSIONS = [
    Session((27,), "an agent's session", list(agent_rounds()), {}, {"tools": TOOLS, "tool_choice": "auto"}),
    Session((27, 7), "an agent's session with thinking", list(agent_rounds()), thoughts(), {"tools": TOOLS, "reasoning_effort": "high"}),
    Session(
        (27, 13),
        "a conversation",
        [[HELLO], *([said(f"Answer {number}."), system("Be brief."), user(text(f"Question {number}."))] for number in range(6))],
        {},
        {},
    ),
]
MODELS = (SONNET, OPUS, OLD, FABLE, NEWEST)


def bodies(session: Session, model: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each turn's body as the upstream gets it, and its segments."""
    sent: list[dict[str, Any]] = []
    for messages in session.rounds:
        sent += messages
        ctx = context(model, records=session.records)
        request = translated(chat(*sent, **session.fields), ctx)
        yield accepted(request, ctx), request.segments


def encoded(values: Any) -> list[bytes]:
    return [json.dumps(unmarked(value), ensure_ascii=False).encode() for value in values]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.says)
def test_each_turn_begins_with_the_bytes_of_the_one_before(session: Session, model: str) -> None:
    turns = list(bodies(session, model))
    for (before, cached), (after, cached_after) in itertools.pairwise(turns):
        for part in ("tools", "system"):
            assert encoded(after.get(part, [])) == encoded(before.get(part, []))
        messages = encoded(before["messages"])
        assert encoded(after["messages"])[: len(messages)] == messages
        assert len(after["messages"]) > len(messages)
        assert cached_after[: len(cached)] == cached
    assert [name for name, _ in turns[-1][1]][-1] == f"messages[{len(turns[-1][0]['messages']) - 1}]"


@pytest.mark.parametrize("model", MODELS)
def test_an_agents_session_is_read_from_the_cache_from_its_second_turn_on(model: str) -> None:
    cache = PromptCache()
    for body, _ in bodies(SESSIONS[0], model):
        cache.usage(body)
    first, *rest = cache.history
    assert (first["cache_read_input_tokens"], first["cache_creation_input_tokens"] > 0) == (0, True)
    written = first["cache_creation_input_tokens"]
    for usage in rest:
        assert usage["cache_read_input_tokens"] >= written, "all that was written is read"
        written = usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]


def digests(**changes: Any) -> dict[str, bytes]:
    sent = {"messages": [system("A"), HELLO, said(None, call()), result()], "tools": [tool()], **changes}
    return dict(translated(sent, context(SONNET)).segments)


def test_segments_name_the_first_part_that_differs() -> None:
    before = digests()
    assert list(before) == ["tools", "system", "messages[0]", "messages[1]", "messages[2]"]
    changed = {
        "tools": digests(tools=[tool(parameters={"type": "object"})]),
        "system": digests(messages=[system("B"), HELLO, said(None, call()), result()]),
        "messages[1]": digests(messages=[system("A"), HELLO, said(None, call(arguments='{"a": 1}')), result()]),
    }
    for name, after in changed.items():
        assert [part for part in before if before[part] != after[part]] == [name]


def test_segments_know_no_markers() -> None:
    marked = [system("A", **MARK), {**HELLO, **MARK}, said(None, call(**MARK)), result(**MARK)]
    assert digests(messages=marked, tools=[tool(**MARK)]) == digests()


def test_text_that_looks_like_a_marker_is_no_marker() -> None:
    words = '"cache_control":{"type":"ephemeral"}'
    schema = {"type": "object", "properties": {"cache_control": {"type": "string"}}}
    assert digests(messages=[user(text(words))]) != digests(messages=[user(text("other"))])
    assert digests(tools=[tool(parameters=schema)])["tools"] != digests()["tools"]
