"""OpenAI chat completions to llama.cpp's own server, which the embedded engine is: OpenAI's wire API, but for tool calls that are demanded.

What a model may do with tools is for its chat template, and one that knows none leaves them out of the prompt without a word. So
`tool_choice` `required`, or a named function, becomes something that the server holds any model to: a JSON schema for the answer
(`response_format`), which it turns into a grammar. The answer's text is the call: the arguments where there is one function to call,
else `{"name": ..., "arguments": {...}}`. It is asked for whole, also for a stream: half a call is of no use to anybody.

All else is `passthrough.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compat import jsonio
from compat.errors import BadRequest, UpstreamBroken
from compat.protocols.base import AnswerMemory, TranslatedAnswer, TranslatedRequest, TranslationContext, Translator
from compat.protocols.chat.passthrough import OPENAI_OPENAI
from compat.protocols.chat.upstream import ChatReader
from compat.protocols.chat.upstream_request import write_request
from compat.protocols.events import Event
from compat.protocols.request import Request
from compat.protocols.upstream_protocol import UpstreamProtocol
from compat.wire.envelope import Envelope

ANY_TOOL = "*"
"""In `AnswerMemory.called_tool`: the text names the function."""
_MAX_DESCRIPTION_CHARS = 200
_REPLACED = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "stream_options")
_ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of `tools`, and its place there."""

    place: int
    name: str
    description: str
    parameters: Mapping[str, Any]


def translate_request(envelope: Envelope, ctx: TranslationContext) -> TranslatedRequest:
    """See `Translator.request`. Errors: `BadRequest` where the call that is demanded can't be made."""
    functions = _demanded(envelope)
    if not functions:
        return OPENAI_OPENAI.request(envelope, ctx)
    notes = ["tool_choice=response_format"]
    if len(functions) == 1:
        schema, called = _schema_of(functions[0]), functions[0].name
    else:
        rows = [_call_schema(function, notes) for function in functions]
        schema, called = {"anyOf": rows}, ANY_TOOL
    changes = {
        "messages": jsonio.encode(_instructed(envelope.value("messages"), functions)),
        "response_format": jsonio.encode({"type": "json_schema", "json_schema": {"name": "call", "strict": True, "schema": schema}}),
        "stream": b"false",
    }
    kept = envelope.without([name for name in _REPLACED if name in envelope])
    request = OPENAI_OPENAI.request(type(envelope)(kept.replaced(changes)), replace(ctx, is_stream=False))
    return replace(request, notes=(*request.notes, *notes), memory=AnswerMemory(called_tool=called))


def translate_answer(body: bytes, ctx: TranslationContext) -> TranslatedAnswer:
    """See `Translator.response`."""
    called = ctx.memory.called_tool
    if not called:
        return OPENAI_OPENAI.response(body, ctx)
    try:
        answer = Envelope(body)
        choices = answer.value("choices")
    except BadRequest as error:
        raise UpstreamBroken(f"{ctx.upstream_name} sent an answer that is not a completion: {error.message}") from error
    if isinstance(choices, list) and all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices):
        rows = [_choice(choice, called, f"call_{ctx.completion_id[-24:]}_{number}") for number, choice in enumerate(choices)]
        body = answer.replaced({"choices": jsonio.encode(rows)})
    return OPENAI_OPENAI.response(body, ctx)


def _demanded(envelope: Envelope) -> list[_Function]:
    """The functions of which one must be called; none where the model is free. Errors: `BadRequest`."""
    choice = envelope.value("tool_choice")
    names: set[str] | None = None
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        rows = allowed.get("tools") if isinstance(allowed, dict) and allowed.get("mode") == "required" else None
        if not isinstance(rows, list):
            return []
        names = {_name(row) for row in rows}
    elif isinstance(choice, dict):
        names = {_name(choice)}
    elif choice != "required":
        return []
    tools = envelope.value("tools")
    rows = [tool.get("function") if isinstance(tool, dict) else None for tool in tools] if isinstance(tools, list) else []
    wanted = [(place, row) for place, row in enumerate(rows) if isinstance(row, dict) and (names is None or row.get("name") in names)]
    found = [_function(place, row) for place, row in wanted]
    if not found:
        raise BadRequest("'tool_choice' demands a call, and no function of 'tools' may be called.", param="tool_choice")
    return found


def _name(row: Any) -> str:
    function = row.get("function") if isinstance(row, dict) else None
    return str(function.get("name", "")) if isinstance(function, dict) else ""


def _function(place: int, row: Mapping[str, Any]) -> _Function:
    name, parameters = row.get("name"), row.get("parameters") or {}
    if not isinstance(name, str) or not name or not isinstance(parameters, dict):
        raise BadRequest("A function of 'tools' needs a 'name', and its 'parameters' must be an object.", param="tools")
    return _Function(place, name, str(row.get("description") or "")[:_MAX_DESCRIPTION_CHARS], parameters)


def _schema_of(function: _Function) -> Mapping[str, Any]:
    """The schema of its arguments, which are an object even where nothing says so."""
    return {**_ANY_OBJECT, **function.parameters}


def _call_schema(function: _Function, notes: list[str]) -> Mapping[str, Any]:
    """The schema of a call by name. References begin at their schema's root, which is another one here: arguments with such are free."""
    schema = _schema_of(function)
    if b'"$ref"' in jsonio.encode(schema):
        notes.append(f"unchecked=tools[{function.place}].parameters")
        schema = _ANY_OBJECT
    fields = {"name": {"const": function.name}, "arguments": schema}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _instructed(messages: Any, functions: Sequence[_Function]) -> list[Any]:
    """The messages, and before them what is to be called: the template may leave tools out."""
    lines = [f"- {function.name}" + (f": {function.description}" if function.description else "") for function in functions]
    if len(functions) == 1:
        words = "Answer with the JSON arguments of a call of this function:\n"
    else:
        words = "Answer with a call of the one of these functions that fits, as JSON with its name and arguments:\n"
    words += "\n".join(lines)
    rest = messages if isinstance(messages, list) else []
    first = rest[0] if rest else None
    if isinstance(first, dict) and first.get("role") in {"system", "developer"} and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{words}"}, *rest[1:]]
    return [{"role": "system", "content": words}, *rest]


def _choice(choice: Mapping[str, Any], called: str, call_id: str) -> Mapping[str, Any]:
    """The choice with its text as a call. A text that was cut off at its limit stays one, where it names no function yet."""
    message = choice["message"]
    text = message.get("content")
    name, arguments = called, text if isinstance(text, str) else ""
    if called == ANY_TOOL:
        try:
            call = jsonio.decode(arguments)
            name, arguments = call["name"], jsonio.encode(call["arguments"]).decode()
        except (BadRequest, KeyError, TypeError):
            return choice
    is_cut = choice.get("finish_reason") == "length"
    calls = [{"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}]
    rest = {"message": {**message, "content": None, "tool_calls": calls}, "finish_reason": "length" if is_cut else "tool_calls"}
    return {**choice, **rest}


OPENAI_LLAMA = Translator(
    request=translate_request,
    response=translate_answer,
    stream=OPENAI_OPENAI.stream,
    error=OPENAI_OPENAI.error,
    endpoint="llama.chat",
)


# For clients of other protocols.


class LlamaReader(ChatReader):
    """See `EventReader`: an answer whose text is a call is read as one."""

    def whole(self, body: bytes) -> Iterable[Event]:
        """See `EventReader`. Errors: any `UpstreamError`."""
        return super().whole(translate_answer(body, self.ctx).body if self.ctx.memory.called_tool else body)


def write_llama_request(request: Request, ctx: TranslationContext) -> TranslatedRequest:
    """See `UpstreamProtocol.request`: as a chat's, and a call that is demanded becomes a structure here as well."""
    chat = write_request(request, ctx)
    demanded = translate_request(Envelope(chat.body), ctx)
    memory = replace(chat.memory, called_tool=demanded.memory.called_tool)
    return replace(demanded, notes=(*chat.notes, *demanded.notes), memory=memory)


LLAMA_UPSTREAM = UpstreamProtocol(api="llama.chat", reader=LlamaReader, request=write_llama_request)
"""OpenAI's chat as llama.cpp's own server has it."""
