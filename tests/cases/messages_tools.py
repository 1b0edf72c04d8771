"""Requests with tools: results, orphans, ids and names, the choice of a tool (rules 2 to 6)."""

from __future__ import annotations

from tests.cases.messages import (
    ABSENT,
    HELLO,
    HELLO_SENT,
    MARK,
    NEWEST,
    OLD,
    ROUND,
    TOOL_SENT,
    TOOLS,
    RefusedRow,
    RequestRow,
    call,
    chat,
    missing,
    result,
    said,
    text,
    tool,
    turn,
    use,
    used,
    user,
)

TWO_CALLS = said(None, call("a"), call("b"))
ODD_NAME = "mcp.server/read file"
ODD_SENT = "mcp_server_read_file_a7c7ff"
LONG_NAME = "x" * 70
A = {"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "string"}}, "required": ["kind", "x"]}
B = {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "string"}}, "required": ["kind"]}
FOLDED = {
    "type": "object",
    "properties": {"kind": {"anyOf": [{"const": "a"}, {"const": "b"}]}, "x": {"type": "string"}, "y": {"type": "string"}},
    "required": ["kind"],
}


def forced(choice: object, sent: object, rules: tuple[int, ...] = (6,)) -> RequestRow:
    return RequestRow(rules, f"the choice {choice} becomes {sent}", chat(tools=TOOLS, tool_choice=choice), {"tool_choice": sent})


REQUESTS = [
    RequestRow(
        (3,),
        "the results of one turn's calls are one user message, text after them",
        chat(HELLO, TWO_CALLS, result("a", "1"), result("b", "2"), user(text("And?")), tools=TOOLS),
        {
            "messages": [
                HELLO_SENT,
                turn("assistant", use("a"), use("b")),
                turn("user", used("a", "1"), used("b", "2"), text("And?")),
            ]
        },
    ),
    RequestRow(
        (3,),
        "results go before the text that a client puts between them",
        chat(HELLO, TWO_CALLS, result("b", "2"), user(text("Wait.")), result("a", "1"), tools=TOOLS),
        {"messages.2": turn("user", used("b", "2"), used("a", "1"), text("Wait.")), "messages.3": ABSENT},
    ),
    RequestRow(
        (3, 14),
        "an empty assistant message between results does not part them",
        chat(HELLO, TWO_CALLS, result("a", "1"), said(""), result("b", "2"), tools=TOOLS),
        {"messages.2": turn("user", used("a", "1"), used("b", "2")), "messages.3": ABSENT},
        ("dropped=empty@3",),
    ),
    RequestRow(
        (3,),
        "results without an id belong to the calls in their order",
        chat(HELLO, TWO_CALLS, {"role": "tool", "content": "1"}, {"role": "tool", "tool_call_id": "", "content": "2"}, tools=TOOLS),
        {"messages.2": turn("user", used("a", "1"), used("b", "2"))},
    ),
    RequestRow(
        (3,),
        "a result may be empty or a list of texts",
        chat(HELLO, TWO_CALLS, result("a", ""), result("b", [text("1"), text("2")]), tools=TOOLS),
        {"messages.2": turn("user", used("a", None), used("b", [text("1"), text("2")]))},
    ),
    RequestRow(
        (4,),
        "a call without a result gets one that tells of the failure",
        chat(HELLO, TWO_CALLS, result("b", "2"), user(text("Go on.")), tools=TOOLS),
        {"messages.2": turn("user", used("b", "2"), missing("a"), text("Go on."))},
        ("added=tool_result",),
    ),
    RequestRow(
        (4,),
        "calls at the end get their results too",
        chat(HELLO, TWO_CALLS, tools=TOOLS),
        {"messages.2": turn("user", missing("a"), missing("b"))},
        ("added=tool_result(2)",),
    ),
    RequestRow(
        (4,),
        "a result without a call is told as the user's words",
        chat(HELLO, result("nobody", "42"), tools=TOOLS),
        {"messages": [turn("user", text("Hello"), text("The result of an earlier tool call:"), text("42"))]},
        ("moved=stray_result@1",),
    ),
    RequestRow(
        (4, 15),
        "a marker on a result without a call stays at its end",
        chat(HELLO, result("nobody", "42", **MARK), tools=TOOLS),
        {"messages.0.content.2": text("42", **MARK)},
        ("moved=stray_result@1",),
    ),
    RequestRow(
        (4,),
        "a second result of the same call is the user's words",
        chat(*ROUND, result(content="again"), tools=TOOLS),
        {"messages.2": turn("user", used(), text("The result of an earlier tool call:"), text("again"))},
        ("moved=stray_result@3",),
    ),
    RequestRow(
        (4,),
        "a result that comes after the next answer is the user's words",
        chat(HELLO, said(None, call()), said("I waited."), result(), tools=TOOLS),
        {
            "messages.2": turn("user", missing()),
            "messages.3": turn("assistant", text("I waited.")),
            "messages.4": turn("user", text("The result of an earlier tool call:"), text("ok")),
        },
        ("added=tool_result", "moved=stray_result@3"),
    ),
    RequestRow(
        (4, 5),
        "calls with the same id in one turn get their results in order",
        chat(HELLO, said(None, call("0"), call("0")), result("0", "1"), result("0", "2"), tools=TOOLS),
        {"messages.1": turn("assistant", use("0"), use("0-2")), "messages.2": turn("user", used("0", "1"), used("0-2", "2"))},
    ),
    RequestRow(
        (5,),
        "an id that is used again in a later turn is told apart",
        chat(*ROUND, said(None, call()), result(content="2"), tools=TOOLS),
        {"messages.3": turn("assistant", use("call_1-2")), "messages.4": turn("user", used("call_1-2", "2"))},
    ),
    RequestRow(
        (5,),
        "ids are made of letters, digits, dashes and underscores",
        chat(HELLO, said(None, call("functions.read:0"), call("functions.read:1")), result("functions.read:1", "1"), tools=TOOLS),
        {
            "messages.1.content.0.id": "functions_read_0-3dd49322",
            "messages.1.content.1.id": "functions_read_1-0b635c85",
            "messages.2.content.0.tool_use_id": "functions_read_1-0b635c85",
            "messages.2.content.1.tool_use_id": "functions_read_0-3dd49322",
        },
        ("added=tool_result",),
    ),
    RequestRow(
        (5,),
        "a call without an id gets one, and its result finds it",
        chat(HELLO, said(None, {"type": "function", "function": {"name": "read"}}), {"role": "tool", "content": "1"}, tools=TOOLS),
        {"messages.1": turn("assistant", use("call_0")), "messages.2": turn("user", used("call_0", "1"))},
    ),
    RequestRow(
        (5,),
        "a name that does not fit is the same in tools, history and choice",
        chat(
            HELLO,
            said(None, call(name=ODD_NAME)),
            result(),
            tools=[tool(ODD_NAME), tool(LONG_NAME)],
            tool_choice={"type": "function", "function": {"name": ODD_NAME}},
        ),
        {
            "tools.0.name": ODD_SENT,
            "tools.1.name": "x" * 57 + "_d1f54b",
            "messages.1.content.0.name": ODD_SENT,
            "tool_choice": {"type": "tool", "name": ODD_SENT},
        },
    ),
    RequestRow(
        (2, 3),
        "a call without arguments has an empty input",
        chat(HELLO, said(None, call("a", arguments=""), call("b", arguments=None), call("c", arguments=" \n")), tools=TOOLS),
        {f"messages.1.content.{number}.input": {} for number in range(3)},
        ("added=tool_result(3)",),
    ),
    RequestRow(
        (3,),
        "arguments that are an object already are taken as they are",
        chat(HELLO, said(None, call(arguments={"a": [1]})), result(), tools=TOOLS),
        {"messages.1.content.0.input": {"a": [1]}},
    ),
    RequestRow(
        (3,),
        "arguments that are no JSON object are wrapped into one",
        chat(HELLO, said(None, call("a", arguments='{"cut": "of'), call("b", arguments="[1]"), call("c", arguments=5)), tools=TOOLS),
        {
            "messages.1.content.0.input": {"arguments": '{"cut": "of'},
            "messages.1.content.1.input": {"arguments": "[1]"},
            "messages.1.content.2.input": {"value": 5},
        },
        ("wrapped=arguments(3)", "added=tool_result(3)"),
    ),
    forced("auto", {"type": "auto"}),
    forced("none", {"type": "none"}),
    forced("required", {"type": "any"}),
    forced("any", {"type": "any"}),
    forced({"type": "function", "function": {"name": "read"}}, {"type": "tool", "name": "read"}),
    forced({"type": "tool", "name": "read"}, {"type": "tool", "name": "read"}),
    forced({"type": "required"}, {"type": "any"}),
    forced({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool()]}}, {"type": "any"}),
    RequestRow(
        (6,),
        "a choice among some tools leaves only those",
        chat(
            tools=[tool("a"), tool("b"), tool("c")],
            tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "name": "b"}]}},
        ),
        {"tools": [{**TOOL_SENT, "name": "b"}], "tool_choice": {"type": "auto"}},
        ("dropped=tool(a)", "dropped=tool(c)"),
    ),
    RequestRow(
        (6,),
        "one call at a time",
        chat(tools=TOOLS, parallel_tool_calls=False),
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    RequestRow(
        (6,),
        "one call at a time, and one there must be",
        chat(tools=TOOLS, parallel_tool_calls=False, tool_choice="required"),
        {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
    ),
    RequestRow(
        (6,),
        "no call at all is no call at a time",
        chat(tools=TOOLS, parallel_tool_calls=False, tool_choice="none"),
        {"tool_choice": {"type": "none"}},
    ),
    RequestRow((6,), "several calls are the default", chat(tools=TOOLS, parallel_tool_calls=True), {"tool_choice": ABSENT}),
    RequestRow(
        (6, 9),
        "a tool can't be forced on a model that thinks with a budget",
        chat(tools=TOOLS, tool_choice="required", reasoning_effort="low"),
        {"tool_choice": {"type": "auto"}, "thinking.type": "enabled"},
        ("tool_choice=auto",),
        OLD,
    ),
    RequestRow(
        (6, 9),
        "a tool can be forced on a model that thinks as it likes",
        chat(tools=TOOLS, tool_choice="required", reasoning_effort="low"),
        {"tool_choice": {"type": "any"}, "thinking.type": "adaptive"},
    ),
    RequestRow(
        (6,),
        "a model that takes no forced tools gets a free choice",
        chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "read"}}, parallel_tool_calls=False),
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ("tool_choice=auto",),
        NEWEST,
        headers={"anthropic-beta": "thinking-binding-controls-2026-08-01"},
    ),
    RequestRow(
        (6, 26),
        "a choice without tools is told of",
        chat(tool_choice="required", parallel_tool_calls=False, tools=[]),
        {"tool_choice": ABSENT, "tools": ABSENT},
        ("dropped=tool_choice",),
    ),
    RequestRow((6,), "no choice is needed without tools", chat(tool_choice="auto"), {"tool_choice": ABSENT, "tools": ABSENT}),
    RequestRow(
        (6, 11),
        "a choice that the deployment refused is told of",
        chat(tools=TOOLS, tool_choice="required"),
        {"tool_choice": ABSENT},
        ("dropped=tool_choice",),
        refused=frozenset({"tool_choice"}),
    ),
    RequestRow(
        (6, 11),
        "where forcing was refused the choice is free",
        chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False),
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ("tool_choice=auto",),
        refused=frozenset({"tool_choice.forced"}),
    ),
    RequestRow(
        (6, 11),
        "and none is still none",
        chat(tools=TOOLS, tool_choice="none"),
        {"tool_choice": {"type": "none"}},
        refused=frozenset({"tool_choice.forced", "tool_choice.thinking"}),
    ),
    RequestRow(
        (4, 5),
        "tools that only the history knows are stood in for, and can't be called",
        chat(*ROUND),
        {"tools": [{"name": "read", "input_schema": {"type": "object"}}], "tool_choice": {"type": "none"}},
        ("added=tools(1)",),
    ),
    RequestRow((5,), "a tool is offered once", chat(tools=[tool(), tool()]), {"tools": [TOOL_SENT]}, ("dropped=duplicate_tool(read)",)),
    RequestRow(
        (5,),
        "a tool has its description, schema and marker",
        chat(tools=[{"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": A, **MARK}}]),
        {"tools": [{"name": "read", "description": "Reads.", "input_schema": A, **MARK}]},
    ),
    RequestRow(
        (5, 26),
        "a tool without parameters takes none",
        chat(tools=[{"function": {"name": "read", "description": "", "strict": True}}]),
        {"tools": [TOOL_SENT]},
        ("dropped=strict",),
    ),
    RequestRow(
        (5,),
        "a schema that is no object becomes one",
        chat(tools=[tool(parameters={"type": ["object", "null"], "properties": {}}), tool("b", {"properties": {"a": {}}})]),
        {"tools.0.input_schema.type": "object", "tools.1.input_schema": {"type": "object", "properties": {"a": {}}}},
    ),
    RequestRow(
        (5,),
        "alternatives at the top of a schema are folded into one object that allows each of them",
        chat(tools=[tool(parameters={"oneOf": [A, B]})]),
        {"tools.0.input_schema": FOLDED},
        ("simplified=tools[0].parameters",),
    ),
    RequestRow(
        (5,),
        "alternatives behind references are found",
        chat(tools=[tool(parameters={"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}], "$defs": {"A": A, "B": B}})]),
        {"tools.0.input_schema": {"$defs": {"A": A, "B": B}, **FOLDED}},
        ("simplified=tools[0].parameters",),
    ),
    RequestRow(
        (5,),
        "parts of one object are all required",
        chat(
            tools=[
                tool(
                    parameters={
                        "allOf": [
                            {"properties": {"a": {}}, "required": ["a"]},
                            {"properties": {"b": {}}, "required": ["b"]},
                            {"$ref": "elsewhere"},
                        ]
                    }
                )
            ]
        ),
        {"tools.0.input_schema": {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]}},
        ("simplified=tools[0].parameters",),
    ),
    RequestRow(
        (29,),
        "a tool of the upstream's own is handed on",
        chat(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3, **MARK}]),
        {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3, **MARK}]},
    ),
]

REFUSED = [
    RefusedRow(
        (6,),
        "a forced function must be a tool",
        chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "x"}}),
        "names a function that is not among the tools",
        "tool_choice",
    ),
    RefusedRow((6,), "there are no more tools than anybody has", chat(tools=TOOLS * 10_001), "more than 10000 tools", "tools"),
    RefusedRow(
        (6,),
        "arguments have no more values than a request",
        chat({"role": "assistant", "tool_calls": [call(arguments='{"a":[' + "[]," * 250_000 + "1]}")]}),
        "messages[0].tool_calls[0].function.arguments has more than 400000 keys and values",
        "messages[0].tool_calls[0]",
    ),
    RefusedRow((6,), "a choice must be one", chat(tools=TOOLS, tool_choice="sometimes"), "'tool_choice' must be", "tool_choice"),
    RefusedRow(
        (6,), "a choice of an odd kind is none", chat(tools=TOOLS, tool_choice={"type": ["x"]}), "'tool_choice' must be", "tool_choice"
    ),
    RefusedRow((6,), "a choice that is a number is none", chat(tools=TOOLS, tool_choice=5), "'tool_choice' must be", "tool_choice"),
    RefusedRow(
        (6,),
        "a choice among no tools leaves none",
        chat(tools=TOOLS, tool_choice={"type": "allowed_tools"}),
        "allows none of the tools",
        "tool_choice",
    ),
    RefusedRow((5,), "tools are a list", chat(tools={}), "'tools' must be a list", "tools"),
    RefusedRow((5,), "a tool is an object", chat(tools=["read"]), "must be an object", "tools[0]"),
    RefusedRow((5,), "a tool has a function", chat(tools=[tool(), {"type": "function"}]), "function must be an object", "tools[1]"),
    RefusedRow((5,), "a function has a name", chat(tools=[{"function": {"name": ""}}]), "name must be a string", "tools[0]"),
    RefusedRow((5,), "a description is text", chat(tools=[{"function": {"name": "a", "description": 5}}]), "description", "tools[0]"),
    RefusedRow((5,), "parameters are a schema", chat(tools=[{"function": {"name": "a", "parameters": [1]}}]), "parameters", "tools[0]"),
    RefusedRow(
        (26,), "custom tools have no counterpart", chat(tools=[{"type": "custom", "custom": {"name": "a"}}]), "of type 'custom'", "tools[0]"
    ),
    RefusedRow(
        (26,),
        "calls of custom tools neither",
        chat(HELLO, said(None, {"type": "custom", "id": "a"})),
        "must be a call of a function",
        "messages[1].tool_calls[0]",
    ),
    RefusedRow((5,), "a call has a name", chat(HELLO, said(None, call(name=""))), "name must be a string", "messages[1].tool_calls[0]"),
    RefusedRow(
        (3,), "calls are a list", chat(HELLO, {"role": "assistant", "tool_calls": {"a": 1}}), "must be a list", "messages[1].tool_calls"
    ),
    RefusedRow((26,), "the functions of old", chat(functions=[{}]), "'functions' was replaced", "functions"),
    RefusedRow((26,), "their choice", chat(function_call="auto"), "'function_call' was replaced", "function_call"),
    RefusedRow(
        (26,),
        "their calls",
        chat(HELLO, {"role": "assistant", "function_call": {"name": "a"}}),
        "was replaced by tool_calls",
        "messages[1]",
    ),
]
