"""Calls in the words of the Responses API, and what a chat's upstream is to get of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.cases.messages_client_requests import PIXEL, PNG_PART, SCHEMA, Row, answered, call

URL = f"data:image/png;base64,{PIXEL}"


def said(words: str, role: str = "user", **rest: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": words}], **rest}


def called(call_id: str = "c1", name: str = "read", arguments: str = "{}", **rest: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **rest}


def output(call_id: str = "c1", value: Any = "ok", **rest: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value, **rest}


def patched(call_id: str = "c1", text: str = "*** Begin", **rest: Any) -> dict[str, Any]:
    return {"type": "custom_tool_call", "call_id": call_id, "name": "patch", "input": text, **rest}


def tool(name: str = "read", **rest: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "description": f"Does {name}.", "parameters": SCHEMA, **rest}


def space(name: str, *tools: Any) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "", "tools": list(tools)}


def function(name: str = "read", described: str | None = None, schema: Any = SCHEMA) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": f"Does {described or name}.", "parameters": schema}}


def asks(*calls: Any, content: Any = None, **rest: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **rest}


def items(*sent: Any, gets: Sequence[Any], says: str, notes: Sequence[str] = (), **rest: Any) -> Row:
    facts = rest.pop("facts", {})
    return Row(says, {"input": list(sent), **rest}, {"messages": list(gets)}, notes, facts)


HI, HI_SENT = said("Hi"), {"role": "user", "content": "Hi"}
BRIEF, BRIEF_SENT = said("Be brief.", "developer"), {"role": "system", "content": "Be brief."}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
RAW = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
PATCH = {"type": "custom", "name": "patch", "description": "Patches.", "format": GRAMMAR}
PATCH_SENT = {
    "type": "function",
    "function": {
        "name": "patch",
        "description": "Patches.\nPass the raw text in `input`. It must follow this grammar (lark):\nstart: x",
        "parameters": RAW,
    },
}
SEARCH = {"type": "tool_search", "execution": "client", "description": "Finds tools.", "parameters": SCHEMA}
FIND = {"type": "tool_search_call", "call_id": "s1", "execution": "client", "arguments": {"query": "q"}}
FOUND = {"type": "tool_search_output", "call_id": "s1", "execution": "client", "tools": [space("ns", tool(defer_loading=True))]}

MESSAGES = [
    Row("a string", {"input": "Hi"}, {"messages": [HI_SENT]}),
    Row("instructions", {"input": "Hi", "instructions": "Be brief."}, {"messages": [BRIEF_SENT, HI_SENT]}),
    items(HI, says="a message", gets=[HI_SENT]),
    items(HI, {"role": "user", "content": ""}, {"role": "user"}, says="messages without words", gets=[HI_SENT]),
    items({"role": "user", "content": "Hi"}, says="a message in its short form", gets=[HI_SENT]),
    items(
        BRIEF,
        said("Be kind.", "system", id="msg_1", internal_chat_message_metadata_passthrough={"a": 1}),
        HI,
        says="instructions that stand first, with keys that nobody knows",
        gets=[{"role": "system", "content": "Be brief.\n\nBe kind."}, HI_SENT],
    ),
    items(
        HI,
        said("Be brief.", "developer"),
        says="instructions after the user's words",
        gets=[{"role": "user", "content": "Hi\n\n<system-reminder>\nBe brief.\n</system-reminder>"}],
        notes=["moved=system@1"],
    ),
    items(
        HI,
        said("Ja.", "assistant", phase="commentary"),
        said("Und?"),
        says="the model's words",
        gets=[HI_SENT, {"role": "assistant", "content": "Ja."}, {"role": "user", "content": "Und?"}],
    ),
    items(
        HI,
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        said("Why?"),
        says="a refusal",
        gets=[HI_SENT, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Why?"}],
    ),
    items(
        {"role": "user", "content": [{"type": "input_text", "text": ""}, {"type": "input_image", "image_url": URL, "detail": "original"}]},
        says="an image in all its detail",
        gets=[{"role": "user", "content": [{**PNG_PART, "image_url": {**PNG_PART["image_url"], "detail": "high"}}]}],
        facts={"images": True},
    ),
    items(
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://a.example/x.png", "detail": "auto"}]},
        says="an image at an address",
        gets=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}]}],
        facts={"images": True},
    ),
    items(
        {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}, {"type": "input_file", "file_id": "file_2"}]},
        says="files of a service",
        gets=[
            {"role": "user", "content": "[An image was left out.]\n\n[The file document was left out: this model can't read it.]"},
        ],
        notes=["left_out=image", "left_out=document"],
    ),
    items(
        {
            "role": "user",
            "content": [
                {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,SGk="},
                {"type": "input_file", "file_url": "https://a.example/x.pdf"},
                {"type": "input_audio", "text": "?"},
            ],
        },
        says="files, and what nobody knows",
        gets=[{"role": "user", "content": "a.txt:\n\nHi\n\n[The file document was left out: this model can't read it.]"}],
        notes=["left_out=document", "left_out=input_audio"],
    ),
    items(
        HI,
        called(id="fc_1", status="completed"),
        output(id="fco_1"),
        says="a call and its result",
        gets=[HI_SENT, asks(call("c1")), answered("c1")],
    ),
    items(
        HI,
        said("Let me see.", "assistant"),
        called(),
        called("c2", arguments='{"a": 1}'),
        output(),
        output("c2", "2"),
        says="calls of one turn in one message",
        gets=[HI_SENT, asks(call("c1"), call("c2", arguments='{"a": 1}'), content="Let me see."), answered("c1"), answered("c2", "2")],
    ),
    items(
        HI,
        called(),
        said("A hook.", "developer"),
        called("c2"),
        output(),
        said("Another."),
        output("c2"),
        says="nothing between calls and their results",
        gets=[
            HI_SENT,
            asks(call("c1"), call("c2")),
            answered("c1"),
            answered("c2"),
            {"role": "user", "content": "<system-reminder>\nA hook.\n</system-reminder>\n\nAnother."},
        ],
        notes=["moved=system@2"],
    ),
    items(
        HI,
        called("c0"),
        output("c0", "1"),
        called("c0"),
        output("c0", "2"),
        said("Done?"),
        called("c0"),
        said("Stop."),
        says="ids that each turn begins with anew, and a call that was broken off",
        gets=[
            HI_SENT,
            asks(call("c0")),
            answered("c0", "1"),
            asks(call("c0-2")),
            answered("c0-2", "2"),
            {"role": "user", "content": "Done?"},
            asks(call("c0-3")),
            answered("c0-3", "The result of this call is not known: the call was interrupted."),
            {"role": "user", "content": "Stop."},
        ],
        notes=["added=tool_result"],
    ),
    items(
        HI,
        output("lost"),
        says="a result of no call",
        gets=[{"role": "user", "content": "Hi\n\nThe result of an earlier tool call:\n\nok"}],
        notes=["moved=stray_result@input[1]"],
    ),
    items(
        HI,
        called(),
        output("c1", [{"type": "input_text", "text": "See:"}, {"type": "input_image", "image_url": URL}]),
        says="a result with a picture",
        gets=[
            HI_SENT,
            asks(call("c1")),
            answered("c1", "See:"),
            {"role": "user", "content": [{"type": "text", "text": "What the call c1 gave besides:"}, PNG_PART]},
        ],
        facts={"images": True},
    ),
    items(
        HI,
        called(),
        output("c1", {"content": "x"}),
        says="a result that is an object",
        gets=[HI_SENT, asks(call("c1")), answered("c1", '{"content":"x"}')],
    ),
    items(
        HI,
        called(),
        output("c1", None),
        says="no result",
        gets=[HI_SENT, asks(call("c1")), answered("c1", "(no output)")],
    ),
    items(
        HI,
        patched(),
        {"type": "custom_tool_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "ok"}]},
        patched("c2", 5),
        patched("c3", None),
        says="freeform calls",
        gets=[
            HI_SENT,
            asks(call("c1", "patch", '{"input":"*** Begin"}')),
            answered("c1"),
            asks(call("c2", "patch", '{"input":"5"}'), call("c3", "patch", '{"input":""}')),
            *(answered(one, "The result of this call is not known: the call was interrupted.") for one in ("c2", "c3")),
        ],
        notes=["added=tool_result(2)"],
    ),
    items(
        HI,
        {"type": "local_shell_call", "call_id": "c1", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "call_id": "c1", "output": "a"},
        {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "c2", "output": [{"stdout": "a"}]},
        {"type": "apply_patch_call", "call_id": "c3", "operation": {"type": "delete_file", "path": "a"}},
        {"type": "apply_patch_call_output", "call_id": "c3", "status": "completed"},
        says="calls of tools that OpenAI's own models know",
        gets=[
            HI_SENT,
            asks(call("c1", "local_shell", '{"type":"exec","command":["ls"]}')),
            answered("c1", "a"),
            asks(call("c2", "shell", '{"commands":["ls"]}')),
            answered("c2", '[{"stdout":"a"}]'),
            asks(call("c3", "apply_patch", '{"type":"delete_file","path":"a"}')),
            answered("c3", "(no output)"),
        ],
    ),
    items(
        HI,
        {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x"}},
        says="items that nobody here knows",
        gets=[HI_SENT],
        notes=["dropped=item(web_search_call)"],
    ),
]

TOOLS = [
    Row("a tool", {"tools": [tool(strict=False)]}, {"tools": [function()]}),
    Row(
        "a tool without a type",
        {"tools": [{"name": "a"}]},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "object", "properties": {}}}}]},
    ),
    Row(
        "a tool that must be followed",
        {"tools": [tool(strict=True)]},
        {"tools": [{"type": "function", "function": {**function()["function"], "strict": True}}]},
    ),
    Row("a freeform tool", {"tools": [PATCH]}, {"tools": [PATCH_SENT]}),
    Row("a tool twice", {"tools": [tool(), tool()]}, {"tools": [function()]}, ["dropped=duplicate_tool(read)"]),
    Row("deferred tools are not shown", {"tools": [tool(), tool("later", defer_loading=True)]}, {"tools": [function()]}),
    Row(
        "tools of namespaces, whose names meet",
        {"tools": [space("a", tool(), tool("b")), space("b", tool()), space("", tool()), tool(), tool("b__read")]},
        {
            "tools": [
                function(),
                function("b__read"),
                function("a__read", "read"),
                function("b"),
                function("b__read_2638e336", "read"),
            ]
        },
        ["dropped=duplicate_tool(read)"],
    ),
    Row("namespaces without tools", {"tools": [tool(), {"type": "namespace"}, space("a", "x"), space("b")]}, {"tools": [function()]}),
    Row(
        "hosted tools",
        {"tools": [tool(), {"type": "web_search", "external_web_access": True}, {"type": "tool_search"}, {"type": "mcp", "name": "x"}]},
        {"tools": [function()]},
        ["dropped=tool(web_search)", "dropped=tool(tool_search)", "dropped=tool(x)"],
    ),
    Row(
        "tools among the items",
        {"input": [{"type": "additional_tools", "role": "developer", "tools": [space("functions", PATCH)]}, BRIEF, HI]},
        {"tools": [PATCH_SENT], "messages": [BRIEF_SENT, HI_SENT]},
    ),
    Row(
        "a search for tools, and what it found",
        {"tools": [SEARCH, tool()], "input": [HI, FIND, FOUND, called("c1", namespace="ns"), output()]},
        {
            "tools": [
                function("tool_search") | {"function": {**function("tool_search")["function"], "description": "Finds tools."}},
                function(),
                function("ns__read", "read"),
            ],
            "messages": [
                HI_SENT,
                asks(call("s1", "tool_search", '{"query":"q"}')),
                answered("s1", "Tools loaded: ns__read."),
                asks(call("c1", "ns__read")),
                answered("c1"),
            ],
        },
    ),
    Row(
        "a search that the service made",
        {
            "tools": [tool("later", defer_loading=True)],
            "input": [
                HI,
                {"type": "tool_search_call", "execution": "server", "call_id": None, "arguments": {}},
                {
                    "type": "tool_search_output",
                    "execution": "server",
                    "call_id": None,
                    "tools": [tool("later", defer_loading=True), {"type": "web_search"}],
                },
                {"type": "tool_search_output", "execution": "server", "tools": None},
            ],
        },
        {"tools": [function("later")]},
        ["dropped=tool(web_search)"],
    ),
    Row("any tool", {"tools": [tool()], "tool_choice": "required"}, {"tools": [function()], "tool_choice": "required"}),
    Row("no tool", {"tools": [tool()], "tool_choice": "none"}, {"tools": [function()], "tool_choice": "none"}),
    Row("as the model likes", {"tools": [tool()], "tool_choice": "auto", "parallel_tool_calls": True}, {"tools": [function()]}),
    Row(
        "one tool at a time",
        {"tools": [tool()], "parallel_tool_calls": False},
        {"tools": [function()], "parallel_tool_calls": False},
    ),
    Row(
        "one tool of a namespace",
        {"tools": [tool(), space("ns", tool())], "tool_choice": {"type": "function", "name": "read", "namespace": "ns"}},
        {
            "tools": [function(), function("ns__read", "read")],
            "tool_choice": {"type": "function", "function": {"name": "ns__read"}},
        },
    ),
    Row(
        "a freeform tool that is demanded",
        {"tools": [PATCH], "tool_choice": {"type": "custom", "name": "patch"}},
        {"tools": [PATCH_SENT], "tool_choice": {"type": "function", "function": {"name": "patch"}}},
    ),
    Row(
        "the search that is demanded",
        {"tools": [{**SEARCH, "parameters": None}], "tool_choice": {"type": "tool_search"}},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "tool_search",
                        "description": "Finds tools.",
                        "parameters": {"type": "object", "properties": {}, "additionalProperties": True},
                    },
                }
            ],
            "tool_choice": {"type": "function", "function": {"name": "tool_search"}},
        },
    ),
    Row(
        "a hosted tool that is demanded",
        {"tools": [tool()], "tool_choice": {"type": "web_search"}},
        {"tools": [function()]},
        ["dropped=tool_choice"],
    ),
    Row(
        "some of the tools",
        {
            "tools": [tool(), tool("write"), PATCH],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "read"}, {"type": "web_search"}, 5],
            },
        },
        {"tools": [function()], "tool_choice": "required"},
    ),
    Row(
        "some of the tools, as the model likes",
        {
            "tools": [tool(), PATCH],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "patch"}]},
        },
        {"tools": [PATCH_SENT]},
    ),
]

REASONS: Mapping[str, Any] = {"reasoning": True}
FORMAT = {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True, "description": "An answer."}

PARAMETERS = [
    Row("a limit", {"max_output_tokens": 100}, {"max_tokens": 100}),
    Row("a limit beyond the model's", {"max_output_tokens": 128_000}, {"max_tokens": 16_384}, ["clamped=max_output_tokens"]),
    Row("sampling", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
    Row(
        "nulls", dict.fromkeys(("temperature", "tools", "tool_choice", "text", "user", "metadata", "max_output_tokens", "top_logprobs")), {}
    ),
    Row(
        "effort and a summary",
        {"reasoning": {"effort": "medium", "summary": "auto", "context": None}},
        {"reasoning_effort": "medium"},
        facts=REASONS,
    ),
    Row(
        "what else is said of reasoning",
        {"reasoning": {"summary": "auto", "context": "all_turns"}},
        {},
        ["dropped=reasoning.context"],
        facts=REASONS,
    ),
    Row("an effort for a model that has none", {"reasoning": {"effort": "low"}}, {}, ["dropped=reasoning.effort"]),
    Row("plain text", {"text": {"format": {"type": "text"}, "verbosity": "medium"}}, {}),
    Row("any object", {"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    Row(
        "an object of a schema",
        {"text": {"format": FORMAT}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True, "description": "An answer."},
            }
        },
    ),
    Row(
        "an object of a schema without a name",
        {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
    ),
    Row("how much to say", {"text": {"verbosity": "low"}}, {}, ["dropped=text.verbosity"]),
    Row(
        "hints to a service",
        {
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "k",
            "safety_identifier": "s",
            "client_metadata": {"a": "b"},
            "truncation": "disabled",
            "background": False,
            "top_logprobs": 0,
            "service_tier": "auto",
            "stream_options": {"include_obfuscation": False},
        },
        {},
    ),
    Row(
        "what a chat has not",
        {
            "truncation": "auto",
            "max_tool_calls": 3,
            "top_logprobs": 2,
            "include": ["message.output_text.logprobs"],
            "service_tier": "flex",
            "user": "u",
            "metadata": {"a": "b"},
            "new_field": {"x": 1},
        },
        {},
        [
            *("dropped=include.message.output_text.logprobs", "dropped=user", "dropped=service_tier", "dropped=metadata.a"),
            *("dropped=truncation", "dropped=max_tool_calls", "dropped=top_logprobs", "dropped=new_field"),
        ],
    ),
]

REFUSED: Sequence[tuple[Mapping[str, Any], str]] = (
    ({"input": 5}, "'input' must be a string or a list"),
    ({"input": [{"type": ["x"]}]}, "input[0].type must be a string"),
    ({"input": ["x"]}, "input[0] must be an object"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": ["user"], "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user", "content": ["x"]}]}, "input[0].content[0] must be an object"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
    ({"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": 5}]}]}, "input[0].content[0].refusal"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "'image_url' or a 'file_id'"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "data URL"),
    ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "'file_data', a 'file_url' or a 'file_id'"),
    ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "Item with id 'msg_1' not found"),
    ({"input": [{}] * 100_001}, "more than 100000 items"),
    ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}] * 100_001}]}, "more than 100000 items"),
    ({"instructions": 5}, "'instructions' must be a string"),
    ({"tools": 5}, "'tools' must be a list"),
    ({"tools": ["x"]}, "tools[0] must be an object"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [tool(parameters=5)]}, "tools[0].parameters"),
    ({"tools": [tool()] * 10_001}, "more than 10000 tools"),
    ({"tools": [tool()], "tool_choice": 5}, "'tool_choice' must be"),
    ({"tools": [tool()], "tool_choice": "some"}, "'tool_choice' must be"),
    ({"tools": [tool()], "tool_choice": {"type": "function", "name": "write"}}, "not among the tools"),
    ({"max_output_tokens": 0}, "'max_output_tokens'"),
    ({"max_output_tokens": True}, "'max_output_tokens'"),
    ({"temperature": 3}, "'temperature'"),
    ({"top_p": "x"}, "'top_p'"),
    ({"metadata": 5}, "'metadata' must be an object"),
    ({"user": 5}, "'user' must be a string"),
    ({"reasoning": {"effort": "much"}}, "Supported values are: 'none'"),
    ({"text": {"format": "x"}}, "'text.format'"),
    ({"text": {"format": {"type": "json_schema"}}}, "'text.format'"),
    ({"previous_response_id": "resp_1"}, "Previous response with id 'resp_1' not found."),
    ({"conversation": "conv_1"}, "Conversations are not stored"),
    ({"prompt": {"id": "x"}}, "Prompts are not stored"),
    ({"background": True}, "'background'"),
)
