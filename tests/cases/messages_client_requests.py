"""Calls in Anthropic's words, and what a chat's upstream is to get of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compat.config.catalog import ResponsesFacts

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
PNG_PART = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


def text(words: str, **rest: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **rest}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def said(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": blocks[0] if isinstance(blocks[0], str) else list(blocks)}


def use(call_id: str = "toolu_1", name: str = "read", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str = "toolu_1", content: Any = "ok", **rest: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **rest}


def tool(name: str = "read", **rest: Any) -> dict[str, Any]:
    return {"name": name, "description": f"Does {name}.", "input_schema": SCHEMA, **rest}


def call(call_id: str = "toolu_1", name: str = "read", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answered(call_id: str = "toolu_1", content: str = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def function(name: str = "read") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": SCHEMA}}


@dataclass(frozen=True)
class Row:
    """The client's `sent`, besides model, limit and a short conversation; what the upstream `gets` of it, and the notes."""

    says: str
    sent: Mapping[str, Any]
    gets: Mapping[str, Any]
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    refused: Sequence[str] = ()
    ctx: Mapping[str, Any] = field(default_factory=dict)


def messages(*sent: Any, gets: Sequence[Any], says: str, notes: Sequence[str] = (), **rest: Any) -> Row:
    facts = rest.pop("facts", {})
    ctx = rest.pop("ctx", {})
    return Row(says, {"messages": list(sent), **rest}, {"messages": list(gets)}, notes, facts, ctx=ctx)


BILLING = text("x-anthropic-billing-header: cc_version=2.1.332.a89; cc_entrypoint=sdk-cli;")
HI, HI_SENT = user("Hi"), {"role": "user", "content": "Hi"}
LONG_NAME = "mcp__" + "x" * 70
FITTED = "mcp__" + "x" * 52 + "_990e45"
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
FOUND = {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "x"}

MESSAGES = [
    messages(HI, says="a string", gets=[HI_SENT]),
    messages(user(""), HI, says="an empty string", gets=[HI_SENT]),
    messages(
        HI,
        system=[BILLING, text("Be brief.", cache_control={"type": "ephemeral"}), text("Be kind.")],
        says="instructions without what they are billed by",
        gets=[{"role": "system", "content": "Be brief.\n\nBe kind."}, HI_SENT],
        notes=["dropped=billing_header"],
    ),
    messages(HI, system=[BILLING], says="nothing but a billing block", gets=[HI_SENT], notes=["dropped=billing_header"]),
    messages(
        HI,
        {"role": "system", "content": [text("The place is /work.")], "output_config": {"effort": "low"}},
        says="instructions after the user's words",
        gets=[{"role": "user", "content": "Hi\n\n<system-reminder>\nThe place is /work.\n</system-reminder>"}],
        notes=["moved=system@1", "dropped=output_config.effort"],
    ),
    messages(
        HI,
        {"role": "system", "content": "  "},
        says="blank instructions in between",
        gets=[HI_SENT],
    ),
    messages(
        {"role": "system", "content": "First."},
        HI,
        says="instructions as the first message",
        gets=[{"role": "system", "content": "First."}, HI_SENT],
    ),
    messages(
        user(text("One."), text(""), text(" "), text("Two.")), says="several texts", gets=[{"role": "user", "content": "One.\n\nTwo."}]
    ),
    messages(
        user(text("What is it?"), PNG),
        says="an image",
        gets=[{"role": "user", "content": [text("What is it?"), PNG_PART]}],
        facts={"images": True},
    ),
    messages(
        user(text("What is it?"), PNG),
        says="an image for a model that reads text only",
        gets=[{"role": "user", "content": "What is it?\n\n[An image was left out: this model reads text only.]"}],
        notes=["left_out=image"],
        facts={"reasoning": True},
    ),
    messages(
        user(
            {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
            {"type": "image", "source": {"type": "file", "file_id": "f"}},
        ),
        says="an image at an address, and one that only Anthropic has",
        gets=[
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}, text("[An image was left out.]")],
            }
        ],
        notes=["left_out=image"],
    ),
    messages(
        user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Words."}, "title": "a.txt"}),
        says="a document of text",
        gets=[{"role": "user", "content": "a.txt:\n\nWords."}],
    ),
    messages(
        user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}}),
        says="a PDF for a model that reads files",
        gets=[
            {
                "role": "user",
                "content": [{"type": "file", "file": {"filename": "document", "file_data": "data:application/pdf;base64,JVBERi0x"}}],
            }
        ],
        facts={"files": True},
    ),
    messages(
        user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}}),
        says="a PDF for one that reads none",
        gets=[{"role": "user", "content": "[The file document was left out: this model can't read it.]"}],
        notes=["left_out=document"],
    ),
    messages(
        user(
            {"type": "document", "source": {"type": "content", "content": [text("In blocks.")]}},
            {"type": "search_result", "title": "T", "source": "https://a.example", "content": [text("Found.")]},
        ),
        says="a document of blocks, and a search result",
        gets=[{"role": "user", "content": "In blocks.\n\nT https://a.example\nFound."}],
    ),
    messages(
        user({"type": "container_upload", "file_id": "f"}, text("Hi")),
        says="a block of a server's",
        gets=[HI_SENT],
        notes=["left_out=container_upload"],
    ),
    # Calls and results.
    messages(
        HI,
        said(text("Let me look."), use("toolu_1", path="a"), use("toolu_2", path="b")),
        user(result("toolu_1"), result("toolu_2", [text("one"), text("two")]), text("Go on.")),
        says="calls of one turn, their results before anything else",
        gets=[
            HI_SENT,
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [call("toolu_1", arguments='{"path":"a"}'), call("toolu_2", arguments='{"path":"b"}')],
            },
            answered("toolu_1"),
            answered("toolu_2", "one\n\ntwo"),
            {"role": "user", "content": "Go on."},
        ],
    ),
    messages(
        HI,
        said(use("toolu_1"), use("toolu_2")),
        user(text("Here."), result("toolu_1", [PNG]), result("toolu_2")),
        says="an image in a result follows the whole batch",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": None, "tool_calls": [call("toolu_1"), call("toolu_2")]},
            answered("toolu_1", "(see below)"),
            answered("toolu_2"),
            {"role": "user", "content": [text("What the call toolu_1 gave besides:"), PNG_PART, text("Here.")]},
        ],
    ),
    messages(
        HI,
        said(use("toolu_1"), use("toolu_2"), use("toolu_3")),
        user(result("toolu_1", "No such file.", is_error=True), result("toolu_2", "Error: x", is_error=True), result("toolu_3", None)),
        says="failures, and a result without content",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": None, "tool_calls": [call("toolu_1"), call("toolu_2"), call("toolu_3")]},
            answered("toolu_1", "[error] No such file."),
            answered("toolu_2", "Error: x"),
            answered("toolu_3", "(no output)"),
        ],
    ),
    messages(
        HI,
        said(use("toolu_1")),
        user("Never mind."),
        user(result("toolu_1")),
        says="a call without a result, and a result without a call",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": None, "tool_calls": [call("toolu_1")]},
            answered("toolu_1"),
            {"role": "user", "content": "Never mind."},
        ],
    ),
    messages(
        HI,
        said(use("toolu_1")),
        user("Never mind."),
        said("Good."),
        user(result("toolu_1"), text("And?")),
        says="a call that was given up, and its result too late",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": None, "tool_calls": [call("toolu_1")]},
            answered("toolu_1", "The result of this call is not known: the call was interrupted."),
            {"role": "user", "content": "Never mind."},
            {"role": "assistant", "content": "Good."},
            {"role": "user", "content": "The result of an earlier tool call:\n\nok\n\nAnd?"},
        ],
        notes=["added=tool_result", "moved=stray_result@messages[4].content[0]"],
    ),
    messages(
        HI,
        said({"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"__unparsedToolInput": {"raw": '{"path": ', "len": 9}}}),
        user(result()),
        says="arguments that were not JSON",
        gets=[HI_SENT, {"role": "assistant", "content": None, "tool_calls": [call(arguments='{"path": ')]}, answered()],
    ),
    messages(
        HI,
        said(use("toolu_compat_ZnVuY3Rpb25zLnJlYWQ6MA")),
        user(result("toolu_compat_ZnVuY3Rpb25zLnJlYWQ6MA")),
        says="an id that the upstream gave gets back to it",
        gets=[HI_SENT, {"role": "assistant", "content": None, "tool_calls": [call("functions.read:0")]}, answered("functions.read:0")],
    ),
    messages(
        HI,
        said(use("t" * 60)),
        user(result("t" * 60)),
        says="an id that is too long",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": None, "tool_calls": [call("t" * 28 + "-ce03b8a6")]},
            answered("t" * 28 + "-ce03b8a6"),
        ],
    ),
    messages(
        HI,
        said(use(name=LONG_NAME)),
        user(result()),
        says="a name that is too long",
        gets=[HI_SENT, {"role": "assistant", "content": None, "tool_calls": [call(name=FITTED)]}, answered()],
    ),
    messages(
        HI,
        said(use(name="ToolSearch")),
        user(result(content=[{"type": "tool_reference", "tool_name": "WebFetch"}])),
        says="a tool that was found",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": None, "tool_calls": [call(name="ToolSearch")]},
            answered(content="Tool loaded: WebFetch"),
        ],
    ),
    messages(
        HI,
        said(
            {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [FOUND]},
            text("It is A."),
        ),
        user("Thanks."),
        says="what a server ran in the midst of a turn",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": None, "tool_calls": [call("srv_1", "web_search", '{"query":"q"}')]},
            answered("srv_1", "A: https://a.example"),
            {"role": "assistant", "content": "It is A."},
            {"role": "user", "content": "Thanks."},
        ],
    ),
    messages(
        HI,
        said(
            {"type": "server_tool_use", "id": "srv_1", "name": "code_execution", "input": {}},
            {"type": "code_execution_tool_result", "tool_use_id": "srv_1", "content": {"stdout": "4"}},
        ),
        user("Thanks."),
        says="code that a server ran",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": None, "tool_calls": [call("srv_1", "code_execution")]},
            answered("srv_1", "4"),
            {"role": "user", "content": "Thanks."},
        ],
    ),
    # The beginning, the end, and nothing.
    messages(
        HI,
        said("Hel"),
        says="an answer that was begun",
        gets=[
            HI_SENT,
            {"role": "assistant", "content": "Hel"},
            {"role": "user", "content": "Continue exactly where your last message ends."},
        ],
        notes=["prefill=continue"],
    ),
    messages(
        HI,
        said(text(" ")),
        user("Well?"),
        says="an empty answer",
        gets=[{"role": "user", "content": "Hi\n\nWell?"}],
        notes=["dropped=empty@1"],
    ),
    messages(user(" "), says="nothing at all", gets=[{"role": "user", "content": "Continue exactly where your last message ends."}]),
    messages(
        user("Hi"),
        system="Be brief.",
        says="instructions only at the beginning",
        gets=[{"role": "system", "content": "Be brief."}, HI_SENT],
    ),
]

EFFORT = {"output_config": {"effort": "max"}}
REASONS = {"reasoning": True}
MOST = {**REASONS, "responses": ResponsesFacts(efforts=("low", "high", "xhigh", "max"))}
PARAMETERS = [
    Row("a limit", {"max_tokens": 100}, {"max_tokens": 100}),
    Row("a limit beyond the model's", {"max_tokens": 128_000}, {"max_tokens": 16_384}, ["clamped=max_tokens"]),
    Row("a limit for a model that calls it otherwise", {"max_tokens": 100}, {"max_completion_tokens": 100}, refused=["max_tokens"]),
    Row("sampling", {"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {"temperature": 0.5, "top_p": 0.9}, ["dropped=top_k"]),
    Row("sampling that was refused", {"temperature": 0.5}, {}, ["dropped=temperature"], refused=["temperature"]),
    Row("stop sequences", {"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
    Row("too many stop sequences", {"stop_sequences": list("abcdef")}, {"stop": list("abcd")}, ["dropped=stop_sequences(2)"]),
    Row("effort", {"output_config": {"effort": "medium"}}, {"reasoning_effort": "medium"}, facts=REASONS),
    Row("an effort that not every model has", EFFORT, {"reasoning_effort": "high"}, ["clamped=output_config.effort"], facts=REASONS),
    Row("a session, where the upstream knows such a key", {}, {"prompt_cache_key": "s"}, ctx={"session": "s"}),
    Row("a session that was refused", {}, {}, ctx={"session": "s"}, refused=["prompt_cache_key"]),
    Row("an effort that the model has", EFFORT, {"reasoning_effort": "max"}, facts=MOST),
    Row(
        "an effort above the model's",
        EFFORT,
        {"reasoning_effort": "xhigh"},
        ["clamped=output_config.effort"],
        facts={**REASONS, "responses": ResponsesFacts(efforts=("low", "high", "xhigh"))},
    ),
    Row("an effort that was refused", EFFORT, {}, ["dropped=output_config.effort"], facts=REASONS, refused=["reasoning_effort"]),
    Row("an effort for a model that has none", EFFORT, {}, ["dropped=output_config.effort"]),
    Row(
        "the effort of a turn goes before the call's",
        {"messages": [HI, {"role": "system", "content": "x", "output_config": {"effort": "low"}}], "output_config": {"effort": "high"}},
        {"reasoning_effort": "low", "messages": [{"role": "user", "content": "Hi\n\n<system-reminder>\nx\n</system-reminder>"}]},
        ["moved=system@1"],
        facts=REASONS,
    ),
    Row("a budget", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"reasoning_effort": "low"}, facts=REASONS),
    Row("a large budget", {"thinking": {"type": "enabled", "budget_tokens": 31_999}}, {"reasoning_effort": "high"}, facts=REASONS),
    Row("a budget of no effect", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, {}, ["dropped=thinking.budget_tokens"]),
    Row("adaptive thinking", {"thinking": {"type": "adaptive", "display": "updates"}}, {}, facts=REASONS),
    Row("no thinking", {"thinking": {"type": "disabled"}, **EFFORT}, {"reasoning_effort": "none"}, facts=REASONS),
    Row("thinking of no type", {"thinking": {"type": []}}, {}),
    Row("no thinking where there is none", {"thinking": {"type": "disabled"}}, {}),
    Row(
        "a structure",
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
    ),
    Row(
        "an older way to ask for it",
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
    ),
    Row(
        "what is the client's own affair",
        {"metadata": {"user_id": '{"session_id": "s"}', "x": 1}, "service_tier": "auto"},
        {},
        ["dropped=metadata.user_id", "dropped=service_tier", "dropped=metadata.x"],
    ),
    Row(
        "what only Anthropic has",
        {"safeguards": [{"type": "dangerous_tool_use"}], "container": None, "mcp_servers": [], "speed": "fast"},
        {},
        ["dropped=safeguards", "dropped=mcp_servers", "dropped=speed"],
    ),
    Row("edits that change nothing", {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}, {}),
]

TOOLS = [
    Row("a tool", {"tools": [tool(cache_control={"type": "ephemeral"}, eager_input_streaming=True)]}, {"tools": [function()]}),
    Row(
        "a schema's dialect is left out, and strictness kept",
        {"tools": [{"type": "custom", "name": "f", "input_schema": {"$schema": "x", **SCHEMA}, "strict": True}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}]},
    ),
    Row(
        "a name that is too long",
        {"tools": [tool(LONG_NAME)]},
        {"tools": [{**function(LONG_NAME), "function": {**function(LONG_NAME)["function"], "name": FITTED}}]},
    ),
    Row("deferred tools are not shown", {"tools": [tool(), tool("later", defer_loading=True)]}, {"tools": [function()]}),
    Row(
        "those that were found are",
        {
            "tools": [tool(), tool("later", defer_loading=True)],
            "messages": [HI, said(use(name="ToolSearch")), user(result(content=[{"type": "tool_reference", "tool_name": "later"}]))],
        },
        {
            "tools": [function(), function("later")],
            "messages": [
                HI_SENT,
                {"role": "assistant", "content": None, "tool_calls": [call(name="ToolSearch")]},
                answered(content="Tool loaded: later"),
            ],
        },
    ),
    Row("a tool that Anthropic's servers run", {"tools": [tool(), SEARCH]}, {"tools": [function()]}, ["dropped=tool(web_search)"]),
    Row(
        "nothing but such a tool",
        {"tools": [SEARCH], "tool_choice": {"type": "any"}},
        {},
        ["dropped=tool(web_search)", "dropped=tool_choice"],
    ),
    Row("the same tool twice", {"tools": [tool(), tool()]}, {"tools": [function()]}, ["dropped=duplicate_tool(read)"]),
    Row("a choice", {"tools": [tool()], "tool_choice": {"type": "auto"}}, {"tools": [function()]}),
    Row("no tool", {"tools": [tool()], "tool_choice": {"type": "none"}}, {"tools": [function()], "tool_choice": "none"}),
    Row("any tool", {"tools": [tool()], "tool_choice": {"type": "any"}}, {"tools": [function()], "tool_choice": "required"}),
    Row(
        "any tool, which was refused",
        {"tools": [tool()], "tool_choice": {"type": "any"}},
        {"tools": [function()]},
        ["tool_choice=auto"],
        refused=["tool_choice.forced"],
    ),
    Row(
        "no tool, which was refused", {"tools": [tool()], "tool_choice": {"type": "none"}}, {"tools": [function()]}, refused=["tool_choice"]
    ),
    Row(
        "one tool, and one call at once",
        {"tools": [tool()], "tool_choice": {"type": "tool", "name": "read", "disable_parallel_tool_use": True}},
        {"tools": [function()], "tool_choice": {"type": "function", "function": {"name": "read"}}, "parallel_tool_calls": False},
    ),
    Row(
        "one call at once, which was refused",
        {"tools": [tool()], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"tools": [function()]},
        ["dropped=tool_choice.disable_parallel_tool_use"],
        refused=["parallel_tool_calls"],
    ),
]

REFUSED: Sequence[tuple[Mapping[str, Any], str]] = (
    ({"messages": "x"}, "messages: Input should be a valid list"),
    ({"messages": ["x"]}, "messages.0: Input should be an object"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": 5, "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    ({"messages": [user("x"), {"role": "user"}]}, "messages.1.content"),
    ({"messages": [user(text("x"), {"text": "x"})]}, "messages.0.content.1"),
    ({"messages": [user(text("x"), "x")]}, "messages.0.content.1"),
    ({"messages": [user({"type": "text"})]}, "messages.0.content.0.text.text"),
    ({"messages": [user({"type": "image"})]}, "messages.0.content.0.image.source: Field required"),
    ({"messages": [user({"type": "tool_result"})]}, "messages.0.content.0.tool_result.tool_use_id"),
    ({"messages": [said({"type": "tool_use", "id": "x", "input": {}})]}, "messages.0.content.0.tool_use.name"),
    ({"messages": [said({"type": "thinking"})]}, "messages.0.content.0.thinking.thinking"),
    ({"messages": [said({"type": "redacted_thinking"})]}, "messages.0.content.0.redacted_thinking.data"),
    ({"messages": [user("x")] * 100_001}, "more than 100000"),
    ({"messages": [user(*[text("x")] * 60_000), user(result(content=[text("x")] * 60_000))]}, "more than 100000"),
    ({"system": 5}, "system: Input should"),
    ({"tools": "x"}, "tools: Input should be a valid list"),
    ({"tools": ["x"]}, "tools.0: Input should be an object"),
    ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
    ({"tools": [{"name": "x", "type": 5}]}, "tools.0.name"),
    ({"tools": [{"name": "x"}]}, "tools.0.custom.input_schema"),
    ({"tools": [{"name": "x", "description": 5, "input_schema": {}}]}, "tools.0.custom.description"),
    ({"tools": [tool()] * 10_001}, "more than 10000"),
    ({"tool_choice": "auto"}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.tool.name"),
    ({"tools": [tool()], "tool_choice": {"type": "tool", "name": "other"}}, "not among the tools"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"temperature": "x"}, "temperature: Input should be a valid number"),
    ({"temperature": 1.5}, "temperature: range: 0..1"),
    ({"stop_sequences": "x"}, "stop_sequences"),
    ({"stop_sequences": [5]}, "stop_sequences"),
    ({"thinking": 5}, "thinking: Input should be an object"),
    ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens"),
    ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format"),
)
