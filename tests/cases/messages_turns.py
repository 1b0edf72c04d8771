"""Requests whose turns are put in order: prefill, system messages, empty content (rules 12 to 14)."""

from __future__ import annotations

from tests.cases.messages import (
    ABSENT,
    HELLO,
    HELLO_SENT,
    OLD,
    OPUS,
    PNG,
    TOOLS,
    RefusedRow,
    RequestRow,
    call,
    chat,
    image,
    missing,
    result,
    said,
    system,
    text,
    turn,
    use,
    used,
    user,
)

CONTINUE = turn("user", text("Continue exactly where your last message ends."))
OPENING = turn("user", text("(The conversation begins here.)"))
TAGGED = text("<system>\nBe brief.\n</system>")
PNG_URL = f"data:image/png;base64,{PNG}"


PREFILL = [
    RequestRow(
        (12,),
        "an answer that is begun is continued by words",
        chat(HELLO, said("Once")),
        {"messages": [HELLO_SENT, turn("assistant", text("Once")), CONTINUE]},
        ("prefill=continue",),
    ),
    RequestRow(
        (12,),
        "an answer that is begun is continued as it stands where the model does that",
        chat(HELLO, said("Once \n")),
        {"messages": [HELLO_SENT, turn("assistant", text("Once"))]},
        model=OLD,
    ),
    RequestRow(
        (12, 9),
        "not while it thinks",
        chat(HELLO, said("Once"), reasoning_effort="low"),
        {"messages.2": CONTINUE},
        ("prefill=continue",),
        OLD,
    ),
    RequestRow(
        (12, 11),
        "not where the deployment refused it",
        chat(HELLO, said("Once")),
        {"messages.2": CONTINUE},
        ("prefill=continue",),
        OLD,
        refused=frozenset({"messages.prefill"}),
    ),
    RequestRow(
        (12,),
        "a conversation that the assistant opens gets an opening",
        chat(said("Hi."), HELLO),
        {"messages": [OPENING, turn("assistant", text("Hi.")), HELLO_SENT]},
        ("added=user@0",),
    ),
    RequestRow(
        (12, 14),
        "a conversation without words gets an opening",
        chat(user(text(" ")), said("")),
        {"messages": [OPENING]},
        ("dropped=empty@0", "dropped=empty@1", "added=user@0"),
    ),
    RequestRow(
        (12, 23),
        "nor where it is to fit a format",
        chat(
            HELLO,
            said("Once"),
            response_format={"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"a": {}}}}},
        ),
        {"messages.2": CONTINUE},
        ("prefill=continue",),
        OLD,
    ),
]

SYSTEM = [
    RequestRow(
        (13,),
        "leading messages of system and developer are blocks apart",
        chat(system("A"), {"role": "developer", "content": [text("B"), text("C")]}, HELLO),
        {"system": [text("A"), text("B"), text("C")], "messages": [HELLO_SENT]},
    ),
    RequestRow(
        (13, 14),
        "blank ones are left out",
        chat(system(""), system(None), system([text(" ")]), HELLO),
        {"system": ABSENT},
        ("dropped=empty@0", "dropped=empty@1", "dropped=empty@2"),
    ),
    RequestRow(
        (13,),
        "later ones stay where they are, natively",
        chat(system("A"), HELLO, said("Hi."), HELLO, system(), said("Yes."), HELLO),
        {"system": [text("A")], "messages.3": turn("system", text("Be brief.")), "messages.4": turn("assistant", text("Yes."))},
        model=OPUS,
    ),
    RequestRow((13,), "at the end too", chat(HELLO, system()), {"messages": [HELLO_SENT, turn("system", text("Be brief."))]}, model=OPUS),
    RequestRow(
        (13,),
        "several in a row are one",
        chat(HELLO, system("A"), {"role": "developer", "content": "B"}),
        {"messages": [HELLO_SENT, turn("system", text("A"), text("B"))]},
        model=OPUS,
    ),
    RequestRow(
        (13,),
        "as the user's words in a tag where the model knows no other way",
        chat(HELLO, said("Hi."), system(), HELLO),
        {"messages.2": turn("user", TAGGED, text("Hello"))},
        ("moved=system@2",),
    ),
    RequestRow(
        (13,),
        "and where the user goes on behind it",
        chat(HELLO, said("Hi."), HELLO, system(), HELLO),
        {"messages.2": turn("user", text("Hello"), TAGGED, text("Hello")), "messages.3": ABSENT},
        ("moved=system@3",),
        OPUS,
    ),
    RequestRow(
        (13,),
        "and where no user is before it",
        chat(HELLO, said("Hi."), system(), said("Yes."), HELLO),
        {"messages.2": turn("user", TAGGED)},
        ("moved=system@2",),
        OPUS,
    ),
    RequestRow(
        (13, 11),
        "and where the deployment refused the role",
        chat(HELLO, system()),
        {"messages": [turn("user", text("Hello"), TAGGED)]},
        ("moved=system@1",),
        OPUS,
        refused=frozenset({"messages.role"}),
    ),
    RequestRow(
        (13, 3),
        "never between a call and its result",
        chat(HELLO, said(None, call()), system(), result(), tools=TOOLS),
        {"messages.2": turn("user", used()), "messages.3": turn("system", text("Be brief.")), "messages.4": ABSENT},
        model=OPUS,
    ),
    RequestRow(
        (13, 3),
        "nor in a tag",
        chat(HELLO, said(None, call()), system(), result(), tools=TOOLS),
        {"messages.2": turn("user", used(), TAGGED)},
        ("moved=system@2",),
    ),
    RequestRow(
        (13, 4),
        "after a call that has no result",
        chat(HELLO, said(None, call()), system(), tools=TOOLS),
        {"messages.2": turn("user", missing()), "messages.3": turn("system", text("Be brief."))},
        ("added=tool_result",),
        OPUS,
    ),
    RequestRow((13, 14), "a blank one is left out", chat(HELLO, system(" ")), {"messages": [HELLO_SENT]}, ("dropped=empty@1",), OPUS),
    RequestRow(
        (13, 14),
        "an empty answer does not part it from the user",
        chat(HELLO, system(), said(""), HELLO),
        {"messages": [turn("user", text("Hello"), TAGGED, text("Hello"))]},
        ("dropped=empty@2", "moved=system@1"),
        OPUS,
    ),
]

EMPTY = [
    RequestRow((14,), "blank texts are left out", chat(user(text(""), text("Hello"), text(" \n"))), {"messages": [HELLO_SENT]}),
    RequestRow(
        (14,),
        "an empty text beside calls is none",
        chat(HELLO, said("", call()), result(), tools=TOOLS),
        {"messages.1": turn("assistant", use())},
    ),
    RequestRow(
        (14,),
        "empty messages are left out",
        chat(HELLO, said(""), {"role": "assistant"}, user(), HELLO, said(None), HELLO),
        {"messages": [turn("user", text("Hello"), text("Hello"), text("Hello"))]},
        ("dropped=empty@1", "dropped=empty@2", "dropped=empty@3", "dropped=empty@5"),
    ),
    RequestRow(
        (14,),
        "turns of one role in a row are one",
        chat(HELLO, said("A"), said("B", call()), result(), tools=TOOLS),
        {"messages.1": turn("assistant", text("A"), text("B"), use())},
    ),
    RequestRow(
        (14, 18),
        "a refusal in the history is the assistant's text",
        chat(HELLO, said(None, refusal="No."), HELLO, said([{"type": "refusal", "refusal": "No!"}]), HELLO),
        {"messages.1": turn("assistant", text("No.")), "messages.3": turn("assistant", text("No!"))},
    ),
    RequestRow((26,), "names of users have no counterpart", chat({**HELLO, "name": "Ann"}), {"messages": [HELLO_SENT]}, ("dropped=name",)),
    RequestRow(
        (14, 22),
        "bare strings and other spellings of text are parts",
        chat(user("A", {"type": "input_text", "text": "B"}), said([{"type": "output_text", "text": "C"}]), HELLO),
        {"messages.0": turn("user", text("A"), text("B")), "messages.1": turn("assistant", text("C"))},
    ),
    RequestRow(
        (14,), "content of null is empty", chat({"role": "user", "content": None}, HELLO), {"messages": [HELLO_SENT]}, ("dropped=empty@0",)
    ),
    RequestRow(
        (14, 26),
        "half a character is replaced and told of",
        chat(user(text("a\ud83d"))),
        {"messages": [turn("user", text("a\ufffd"))]},
        ("repaired=surrogates",),
    ),
    RequestRow(
        (14, 26),
        "in arguments too",
        chat(HELLO, said(None, call(arguments='{"a": "\\ud83d"}')), result(), tools=TOOLS),
        {"messages.1.content.0.input": {"a": "\ufffd"}},
        ("repaired=surrogates",),
    ),
]

REQUESTS = [*PREFILL, *SYSTEM, *EMPTY]

REFUSED = [
    RefusedRow((13,), "messages are a list", {"messages": {}}, "must be a list", "messages"),
    RefusedRow((13,), "a message is an object", chat("Hi"), "must be an object", "messages[0]"),
    RefusedRow(
        (13,), "a role is one of five", chat(HELLO, {"role": "function", "content": "a"}), "must be system, developer", "messages[1].role"
    ),
    RefusedRow((13,), "a role is a string", chat({"role": ["user"], "content": "a"}), "must be system, developer", "messages[0].role"),
    RefusedRow((13,), "system messages hold text", chat(system([image(PNG_URL)])), "is not allowed here", "messages[0].content[0]"),
    RefusedRow(
        (14,), "so do the assistant's", chat(HELLO, said([{"type": "input_audio"}])), "is not allowed here", "messages[1].content[0]"
    ),
    RefusedRow(
        (14,), "content is text or parts", chat({"role": "user", "content": 5}), "must be a string or a list", "messages[0].content"
    ),
    RefusedRow((14,), "a part has a type", chat(user({"text": "a"})), "must be an object with a type", "messages[0].content[0]"),
    RefusedRow((14,), "a text is a string", chat(user({"type": "text", "text": None})), "text must be a string", "messages[0].content[0]"),
    RefusedRow(
        (14,),
        "the assistant's text too",
        chat(HELLO, said([{"type": "text", "text": 5}])),
        "text must be a string",
        "messages[1].content[0]",
    ),
]
