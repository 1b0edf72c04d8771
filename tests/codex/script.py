"""An agent that works with Codex' tools, behind strict imitations of each kind of upstream.

    model = ScriptedClaude(), ScriptedChat() or ScriptedResponses()
    model.meet({1: "overloaded"})
    with FakeUpstream(default=model) as upstream: ...

Codex has three sets of tools, by the name of the model: functions alone; functions with a freeform `apply_patch`; one freeform `exec` in a
namespace. What the agent says depends on the conversation alone: how many steps are done since the last task. A fault comes once, in place
of a step. A request that asks for a summary, or compacts the conversation, gets one that says how far the work is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from compat.config.catalog import MessagesFacts
from compat.protocols.responses.compaction import PROMPT
from tests.fakes import anthropic_answers as anthropic
from tests.fakes import openai_answers as openai
from tests.fakes import responses_answers as responses
from tests.fakes.anthropic_blocks import name_of, text, thinking, tool_use
from tests.fakes.anthropic_signing import signed
from tests.fakes.responses_items import function_call, message, text_part, thought
from tests.fakes.responses_rules import Item
from tests.fakes.upstream import Answer, Cut, Request

Fault = Literal["overloaded", "cut in text", "cut in a call"]

FIRST = "Task one: change alpha to beta in note.txt, then copy the file to copy.txt."
SECOND = "Task two: add a line that says gamma to copy.txt."
DONE = {FIRST: "The note says beta now, and a copy of it is in copy.txt.", SECOND: "The copy has another line."}
SAID = "I do the next step, which is the one that is needed now."
PATCH = "*** Begin Patch\n*** Update File: note.txt\n@@\n-alpha\n+beta\n*** End Patch\n"
_SUMMARY = re.compile(r"Steps that are done: (\d+)")
_ASKED = ("CHECKPOINT COMPACTION", PROMPT.partition(":")[0])
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


class Step(NamedTuple):
    """A call: the tool by its own name, with arguments, or with the text of a freeform one."""

    tool: str
    given: dict[str, Any] | str


def steps_of(task: str, tools: Sequence[str]) -> list[Step]:
    """What a task takes with these tools."""

    def run(command: str) -> Step:
        if "exec_command" in tools:
            return Step("exec_command", {"cmd": command})
        return Step("exec", f"const r = await tools.exec_command({json.dumps({'cmd': command})}); text(r);")

    edit = Step("apply_patch", PATCH) if "apply_patch" in tools else run("sed -i s/alpha/beta/ note.txt")
    return [run("cat note.txt"), edit, run("cp note.txt copy.txt")] if task == FIRST else [run("echo gamma >> copy.txt")]


def place_of(words: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """The last task, and how many steps are done since: from each turn's text and its number of results."""
    task, done = FIRST, 0
    for said, results in words:
        for one in (FIRST, SECOND):
            if one in said:
                task, done = one, 0
        if found := _SUMMARY.findall(said):
            done = int(found[-1])
        done += results
    return task, done


@dataclass
class Script:
    """What all kinds of upstreams have. Mutable: `asked`, the step that each request was for; `summaries`, how many were asked for; `met`
    and the faults to come. `spent` are the tokens that a step says it took, by the number of its request."""

    asked: list[int] = field(default_factory=list)
    summaries: int = 0
    met: list[Fault] = field(default_factory=list)
    spent: Mapping[int, int] = field(default_factory=dict)
    _faults: dict[int, Fault] = field(default_factory=dict)

    def meet(self, faults: Mapping[int, Fault]) -> None:
        """Let these faults come, each in place of the request of its number."""
        self._faults = dict(faults)

    def next_fault(self) -> Fault | None:
        fault = self._faults.pop(len(self.asked) - 1, None)
        if fault is not None:
            self.met.append(fault)
        return fault

    def summary(self, done: int) -> str:
        self.summaries += 1
        return f"Steps that are done: {done}"


@dataclass
class ScriptedClaude(anthropic.AnthropicApi, Script):
    """Behind Anthropic's Messages API, with thoughts that are signed."""

    def _answer(self, body: dict[str, Any], facts: MessagesFacts) -> Answer:
        turns = [(json.dumps(item), json.dumps(item).count('"tool_result"')) for item in body["messages"]]
        task, done = place_of([(said.replace("\\n", "\n"), results) for said, results in turns])
        names = {base_name(tool["name"]): tool["name"] for tool in body.get("tools", ())}
        rest: dict[str, Any] = {"model": body["model"], "usage": {**self.cache.usage(body, facts), "output_tokens": 50}}
        if is_summary(json.dumps(body["messages"][-1]), names):
            return _claude_answer(body, [text(self.summary(done))], rest)
        if "note" in names:  # the proof of `setup`
            is_over = body["messages"][-1]["content"][0]["type"] == "tool_result"
            return _claude_answer(body, [text("I noted it.")] if is_over else [tool_use("note", {"word": "lighthouse"})], rest)
        self.asked.append(done)
        steps = steps_of(task, list(names))
        thoughts = [thinking(f"Step {done} of this.", model=body["model"])]
        if done >= len(steps):
            blocks = [*thoughts, text(DONE[task])]
        else:
            given = steps[done].given
            arguments = given if isinstance(given, dict) else {"input": given}
            blocks = [*thoughts, text(SAID), tool_use(names[steps[done].tool], arguments, f"toolu_{name_of([task, done])}")]
        rest["usage"]["input_tokens"] = self.spent.get(len(self.asked) - 1, rest["usage"]["input_tokens"])
        answer = _claude_answer(body, signed(body, blocks), rest)
        fault = self.next_fault()
        if fault is None:
            return answer
        if fault == "overloaded":
            return anthropic.error_answer(529, "Overloaded")
        return cut(answer, b"text_delta" if fault == "cut in text" else b"input_json_delta")


def _claude_answer(body: dict[str, Any], blocks: list[Any], rest: dict[str, Any]) -> Answer:
    if not body.get("stream"):
        return anthropic.json_answer(anthropic.message(blocks, **rest))
    return anthropic.stream_answer(anthropic.stream_events(blocks, **rest))


@dataclass
class ScriptedChat(Script):
    """Behind OpenAI's chat. Mutable: `refusals`."""

    refusals: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        if request.method != "POST":
            return openai.json_answer({"object": "list", "data": [{"id": "gpt-x"}]})
        body = request.json
        problems = list(_problems(body))
        if problems:
            self.refusals += problems
            return openai.error_answer(400, problems[0])
        task, done = place_of([(str(one.get("content")), one["role"] == "tool") for one in body["messages"]])
        names = {base_name(tool["function"]["name"]): tool["function"]["name"] for tool in body.get("tools", ())}
        if is_summary(str(body["messages"][-1].get("content")), names):
            return self._said(body, [openai.chunk({"content": self.summary(done)}), openai.chunk({}, "stop")])
        self.asked.append(done)
        steps = steps_of(task, list(names))
        if done >= len(steps):
            chunks = [openai.chunk({"content": DONE[task]}), openai.chunk({}, "stop")]
        else:
            given = steps[done].given
            arguments = json.dumps(given if isinstance(given, dict) else {"input": given})
            head = {"index": 0, "id": f"call_{name_of([task, done])}", "type": "function"}
            called = {**head, "function": {"name": names[steps[done].tool], "arguments": ""}}
            pieces = [{"index": 0, "function": {"arguments": piece}} for piece in (arguments[:7], arguments[7:20], arguments[20:])]
            words = [openai.chunk({"content": piece}) for piece in (SAID[:9], SAID[9:])]
            chunks = [*words, *(openai.chunk({"tool_calls": [one]}) for one in (called, *pieces)), openai.chunk({}, "tool_calls")]
        answer = self._said(body, chunks)
        fault = self.next_fault()
        if fault is None:
            return answer
        return (
            openai.error_answer(503, "Overloaded")
            if fault == "overloaded"
            else cut(answer, b"content" if fault == "cut in text" else b"tool_calls")
        )

    def _said(self, body: dict[str, Any], chunks: list[dict[str, Any]]) -> Answer:
        prompt = self.spent.get(len(self.asked) - 1, 2000)
        usage = {"prompt_tokens": prompt, "completion_tokens": 40, "total_tokens": prompt + 40}
        last = {**openai.chunk({}), "choices": [], "usage": usage}
        if body.get("stream"):
            return openai.sse_answer(*(openai.event(one) for one in (*chunks, last)), openai.event("[DONE]"))
        words = "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)
        return openai.json_answer({**openai.completion(words), "usage": usage})


def _problems(body: dict[str, Any]) -> Iterator[str]:
    """What strict services refuse: words of the other protocol, calls without results right behind them, results without calls."""
    for name in body.keys() & {"input", "include", "reasoning", "text", "store", "client_metadata", "prompt_cache_key", "instructions"}:
        yield f"Unrecognized request argument supplied: {name}"
    waiting: list[str] = []
    for number, one in enumerate(body["messages"]):
        if one["role"] == "tool":
            if one["tool_call_id"] not in waiting:
                yield f"messages[{number}]: no call has the id {one['tool_call_id']}"
            waiting = [call for call in waiting if call != one["tool_call_id"]]
            continue
        if waiting:
            yield f"messages[{number}]: these calls have no results: {waiting}"
        waiting = [call["id"] for call in one.get("tool_calls", ())]
    for number, tool in enumerate(body.get("tools", ())):
        if tool.get("type") != "function":
            yield f"tools[{number}]: not a function"


@dataclass
class ScriptedResponses(responses.ResponsesApi, Script):
    """Behind OpenAI's Responses API, which has Codex' tools as they are, and compacts conversations itself."""

    def items(self, body: dict[str, Any], effort: str, account: str) -> list[Item]:
        turns = [(json.dumps(item).replace("\\n", "\n"), item.get("type") in _RESULTS) for item in body["input"]]
        task, done = place_of(turns)
        tools = tools_by_name(body)
        if body["input"][-1].get("type") == "compaction_trigger":
            return [{"type": "compaction", "id": "cmp_1", "encrypted_content": self.summary(done)}]
        if is_summary(json.dumps(body["input"][-1]), tools):
            return [message(text_part(self.summary(done)), item_id="msg_summary")]
        self.asked.append(done)
        steps, name = steps_of(task, list(tools)), name_of([task, done])
        thoughts = list(thought(body, effort, account, name))
        if done >= len(steps):
            return [*thoughts, message(text_part(DONE[task]), item_id=f"msg_{name}")]
        tool, given = steps[done]
        said = message(text_part(SAID), item_id=f"msg_{name}")
        place = {"namespace": tools[tool]} if tools[tool] else {}
        if isinstance(given, str):
            base = {"id": f"ctc_{name}", "type": "custom_tool_call", "status": "completed", "call_id": f"call_{name}"}
            return [*thoughts, said, {**base, "name": tool, "input": given, **place}]
        return [*thoughts, said, function_call(tool, json.dumps(given), f"call_{name}", f"fc_{name}", **place)]

    def remembered(self, items: list[Item]) -> list[Item]:
        return items if items[0]["type"] == "compaction" else super().remembered(items)

    def answer(self, body: dict[str, Any], items: list[Item]) -> Answer:
        fault = None if items[0]["type"] == "compaction" or not self.asked else self.next_fault()
        if fault == "overloaded":
            return responses.error_answer(503, "Overloaded", kind="server_error")
        answer = super().answer(body, items)
        if spent := self.spent.get(len(self.asked) - 1):
            usage = {**responses.USAGE, "input_tokens": spent, "total_tokens": spent + responses.USAGE["output_tokens"]}
            answer = responses.stream_answer(responses.stream_events(items, model=body["model"], usage=usage))
        if fault is None:
            return answer
        return cut(answer, b"output_text.delta" if fault == "cut in text" else b"_call_")


def tools_by_name(body: Mapping[str, Any]) -> dict[str, str]:
    """Name -> namespace, which may be empty."""
    given = [
        *(body.get("tools") or ()),
        *(one for item in body["input"] for one in item.get("tools", ()) if item.get("type") == "additional_tools"),
    ]
    found: dict[str, str] = {}
    for tool in given:
        inner = tool["tools"] if tool["type"] == "namespace" else (tool,)
        found |= {one["name"]: tool["name"] if tool["type"] == "namespace" else "" for one in inner if "name" in one}
    return found


def base_name(name: str) -> str:
    """The client's name of a tool, which may stand behind its namespace."""
    return name.rpartition("__")[2]


def is_summary(last: str, tools: Mapping[str, str]) -> bool:
    """Whether a request wants the conversation in short: in Codex' words, in the gateway's, or by no tools to go on with."""
    return not {"exec_command", "exec", "note"} & set(tools) or any(words in last for words in _ASKED)


def cut(answer: Answer, mark: bytes) -> Answer:
    """The stream up to the middle of what is marked."""
    places = [place for place, step in enumerate(answer.steps) if isinstance(step, bytes) and mark in step]
    return Answer((*answer.steps[: places[len(places) // 2]], Cut()), headers=answer.headers)
