"""Requests whose history was thought about: what was kept goes back (rule 7)."""

from __future__ import annotations

from typing import Any

from compat.protocols.base import ThinkingRecord
from tests.cases.messages import (
    ABSENT,
    HELLO,
    HELLO_SENT,
    MARK,
    NEWEST,
    OLD,
    OPUS,
    ROUND,
    TOOLS,
    RequestRow,
    call,
    chat,
    result,
    said,
    text,
    turn,
    use,
    used,
    user,
)
from tests.cases.messages_thinking import ADAPTIVE, BETA

THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
MORE = {"type": "thinking", "thinking": "And.", "signature": "def"}
HIDDEN = {"type": "redacted_thinking", "data": "xyz"}


def record(*blocks: Any, ids: tuple[str, ...] = ("call_1",)) -> dict[str, ThinkingRecord]:
    return {ids[0]: ThinkingRecord(ids, blocks)}


def chars(count: int) -> dict[str, Any]:
    return {"type": "text", "chars": count}


def called(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id}


KEPT = record(THOUGHT, called())
LOW = {"reasoning_effort": "low", "max_tokens": 8192, "tools": TOOLS}


REQUESTS = [
    RequestRow(
        (7,),
        "kept thinking goes back before its call",
        chat(*ROUND, **LOW),
        {"thinking.type": "adaptive", "messages.1": turn("assistant", THOUGHT, use())},
        ("thinking=restored",),
        records=KEPT,
    ),
    RequestRow(
        (7,),
        "redacted blocks too, verbatim and in order",
        chat(*ROUND, **LOW),
        {"messages.1": turn("assistant", HIDDEN, THOUGHT, use())},
        ("thinking=restored",),
        records=record(HIDDEN, THOUGHT, called()),
    ),
    RequestRow(
        (7,),
        "between the very texts and calls that it stood between",
        chat(HELLO, said("OneTwo", call(), call("b")), result(), result("b"), **LOW),
        {"messages.1": turn("assistant", THOUGHT, text("One"), MORE, text("Two"), use(), HIDDEN, use("b"))},
        ("thinking=restored",),
        OPUS,
        record(THOUGHT, chars(3), MORE, chars(3), called(), HIDDEN, called("b"), ids=("call_1", "b")),
    ),
    RequestRow(
        (7,),
        "first, where the turn is no longer what it was",
        chat(HELLO, said("Other", call()), result(), **LOW),
        {"messages.1": turn("assistant", THOUGHT, MORE, text("Other"), use())},
        ("thinking=restored",),
        records=record(THOUGHT, chars(3), MORE, called()),
    ),
    RequestRow(
        (7,),
        "also where a client trimmed the text",
        chat(HELLO, said("One", call(), call("b")), result(), result("b"), **LOW),
        {"messages.1": turn("assistant", THOUGHT, text("One"), use(), MORE, use("b"))},
        ("thinking=restored",),
        OPUS,
        record(THOUGHT, chars(6), called(), MORE, called("b"), ids=("call_1", "b")),
    ),
    RequestRow(
        (7,),
        "or left it out",
        chat(HELLO, said(None, call(), call("b")), result(), result("b"), **LOW),
        {"messages.1": turn("assistant", THOUGHT, MORE, use(), HIDDEN, use("b"))},
        ("thinking=restored",),
        OPUS,
        record(THOUGHT, chars(6), MORE, chars(2), called(), HIDDEN, called("b"), ids=("call_1", "b")),
    ),
    RequestRow(
        (7,),
        "or wrote one where the model had none",
        chat(HELLO, said("(calls a tool)", call(), call("b")), result(), result("b"), **LOW),
        {"messages.1": turn("assistant", THOUGHT, MORE, text("(calls a tool)"), use(), use("b"))},
        ("thinking=restored",),
        OPUS,
        record(THOUGHT, called(), MORE, called("b"), ids=("call_1", "b")),
    ),
    RequestRow(
        (7,),
        "once, where a client made several turns of one",
        chat(HELLO, said("One", call()), result(), said(None, call("b")), result("b"), **LOW),
        {"messages.1": turn("assistant", THOUGHT, text("One"), use()), "messages.3": turn("assistant", use("b"))},
        ("thinking=restored",),
        OPUS,
        dict.fromkeys(("call_1", "b"), ThinkingRecord(("call_1", "b"), (THOUGHT, chars(3), called(), called("b")))),
    ),
    RequestRow(
        (7,),
        "first, where a call is gone",
        chat(HELLO, said("One", call()), result(), **LOW),
        {"messages.1": turn("assistant", THOUGHT, MORE, text("One"), use())},
        ("thinking=restored",),
        records=record(THOUGHT, chars(3), called(), MORE, called("b"), ids=("call_1", "b")),
    ),
    RequestRow(
        (7, 14),
        "blank text around it is left out",
        chat(HELLO, said("\n\nOne", call()), result(), **LOW),
        {"messages.1": turn("assistant", THOUGHT, MORE, text("One"), use())},
        ("thinking=restored",),
        records=record(THOUGHT, chars(2), MORE, chars(3), called()),
    ),
    RequestRow(
        (7, 15),
        "a marker on the text stays",
        chat(HELLO, said([text("One", **MARK)], call()), result(), **LOW),
        {"messages.1": turn("assistant", THOUGHT, text("One", **MARK), use())},
        ("thinking=restored",),
        records=record(THOUGHT, chars(3), called()),
    ),
    RequestRow(
        (7,),
        "nothing that thought last ends a turn",
        chat(*ROUND, **LOW),
        {"messages.1": turn("assistant", THOUGHT, use())},
        ("thinking=restored",),
        records=record(THOUGHT, called(), MORE),
    ),
    RequestRow(
        (7,),
        "every turn gets its own",
        chat(*ROUND, said(None, call("b")), result("b"), HELLO, **LOW),
        {"messages.1": turn("assistant", THOUGHT, use()), "messages.3": turn("assistant", MORE, use("b"))},
        ("thinking=restored(2)",),
        records=KEPT | record(MORE, called("b"), ids=("b",)),
    ),
    RequestRow(
        (7,),
        "with a budget it goes back too",
        chat(*ROUND, **LOW),
        {"thinking": {"type": "enabled", "budget_tokens": 4096}, "messages.1": turn("assistant", THOUGHT, use())},
        ("thinking=restored",),
        OLD,
        KEPT,
    ),
    RequestRow(
        (7,),
        "one thought is enough for a long turn",
        chat(*ROUND, said(None, call("b")), result("b"), **LOW),
        {"thinking.type": "enabled", "messages.1": turn("assistant", THOUGHT, use())},
        ("thinking=restored",),
        OLD,
        KEPT,
    ),
    RequestRow(
        (7,),
        "a thought that is lost where a turn began switches it off for that turn",
        chat(*ROUND, said(None, call("b")), result("b"), **LOW),
        {"thinking": ABSENT, "max_tokens": 8192, "messages.3": turn("assistant", use("b"))},
        ("thinking=off(lost)",),
        OLD,
        record(MORE, called("b"), ids=("b",)),
    ),
    RequestRow(
        (7,),
        "so does a turn that began with words",
        chat(HELLO, said("Well,"), said("One", call()), result(), **LOW),
        {"thinking": ABSENT},
        ("thinking=off(lost)",),
        OLD,
        record(THOUGHT, chars(3), called()),
    ),
    RequestRow(
        (7,),
        "with it what a budget forbids is possible again",
        chat(*ROUND, tool_choice="required", temperature=0.5, **LOW),
        {"thinking": ABSENT, "temperature": 0.5, "tool_choice": {"type": "any"}},
        ("thinking=off(lost)",),
        OLD,
    ),
    RequestRow(
        (7,),
        "past turns may lack theirs",
        chat(*ROUND, said("Done."), HELLO, **LOW),
        {"thinking.type": "enabled", "messages.1": turn("assistant", use())},
        model=OLD,
    ),
    RequestRow(
        (7,),
        "without a budget a lost thought is left out",
        chat(*ROUND, **LOW),
        {"thinking": ADAPTIVE, "messages.1": turn("assistant", use())},
    ),
    RequestRow(
        (7,),
        "nothing goes back where nothing is thought",
        chat(*ROUND, tools=TOOLS),
        {"messages.1": turn("assistant", use())},
        records=KEPT,
    ),
    RequestRow(
        (7, 11),
        "nothing goes back where it was refused",
        chat(*ROUND, **LOW),
        {"messages.1": turn("assistant", use())},
        records=KEPT,
        refused=frozenset({"messages.thinking"}),
    ),
    RequestRow(
        (7, 11),
        "with a budget that switches it off",
        chat(*ROUND, **LOW),
        {"thinking": ABSENT},
        ("thinking=off(lost)",),
        OLD,
        KEPT,
        frozenset({"messages.thinking"}),
    ),
    RequestRow(
        (7, 8),
        "unsigned reasoning of the client is left out",
        chat(
            HELLO,
            said("Hi.", reasoning_content="Hm."),
            HELLO,
            said("Hi.", reasoning="Hm."),
            HELLO,
            said([{"type": "thinking", "thinking": "Hm."}, text("Hi.")]),
            HELLO,
            said("Hi.", reasoning_details=[{"type": "reasoning.text"}]),
            HELLO,
        ),
        {"messages.1": turn("assistant", text("Hi.")), "messages.5": turn("assistant", text("Hi."))},
        ("thinking=omitted(4)",),
    ),
    RequestRow(
        (7, 8),
        "reasoning that is restored is not left out",
        chat(HELLO, said(None, call(), reasoning_content="Hm."), result(), **LOW),
        {"messages.1": turn("assistant", THOUGHT, use())},
        ("thinking=restored",),
        records=KEPT,
    ),
    RequestRow(
        (7, 3),
        "results and words go on behind it",
        chat(*ROUND, user(text("And?")), **LOW),
        {"messages": [HELLO_SENT, turn("assistant", THOUGHT, use()), turn("user", used(), text("And?"))]},
        ("thinking=restored",),
        NEWEST,
        KEPT,
        headers=BETA,
    ),
]
