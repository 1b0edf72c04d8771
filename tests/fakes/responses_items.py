"""The items of an answer of the Responses API, as events and whole, and what a plausible answer to a request is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.fakes.anthropic_blocks import example, name_of
from tests.fakes.responses_rules import CALLS, Item, items_of, kind_of, tools_of
from tests.fakes.responses_sealing import sealed

PIECES = (1, 4, 9, 2, 6)
ACCOUNT, MODEL = "sk-canary", "gpt-6.1-sol"


def pieces(words: str) -> list[str]:
    """`words` in a few uneven pieces, which split words, escapes and anything else."""
    cuts, place = list[str](), 0
    while place < len(words):
        step = PIECES[len(cuts) % len(PIECES)]
        cuts.append(words[place : place + step])
        place += step
    return cuts


# Items as an answer holds them, complete.


def reasoning(*summaries: str, item_id: str = "rs_1", seal: str | None = None) -> Item:
    parts = [{"type": "summary_text", "text": words} for words in summaries]
    content = sealed(ACCOUNT, MODEL, item_id, " ".join(summaries)) if seal is None else seal
    return {"id": item_id, "type": "reasoning", "summary": parts, **({"encrypted_content": content} if content else {})}


def open_reasoning(words: str = "Let me see.", item_id: str = "rs_1") -> Item:
    """Reasoning as servers of open models tell it: in its own words."""
    return {"id": item_id, "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": words}]}


def text_part(words: str = "Hello there.", annotations: Sequence[Item] = ()) -> Item:
    return {"type": "output_text", "text": words, "annotations": list(annotations), "logprobs": []}


def refusal_part(words: str = "I can't help with that.") -> Item:
    return {"type": "refusal", "refusal": words}


def message(*parts: Item, item_id: str = "msg_1", status: str = "completed", **rest: Any) -> Item:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": list(parts or (text_part(),)), **rest}


def function_call(name: str = "read_file", arguments: str = "{}", call_id: str = "call_1", item_id: str = "fc_1", **rest: Any) -> Item:
    return {
        "id": item_id,
        "type": "function_call",
        "status": "completed",
        "arguments": arguments,
        "call_id": call_id,
        "name": name,
        **rest,
    }


def custom_call(name: str = "apply_patch", words: str = "*** Begin", call_id: str = "call_1", item_id: str = "ctc_1") -> Item:
    return {"id": item_id, "type": "custom_tool_call", "status": "completed", "call_id": call_id, "input": words, "name": name}


def web_search(item_id: str = "ws_1") -> Item:
    return {"id": item_id, "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "weather"}}


def url_citation(url: str = "https://example.com/a", title: str = "A page") -> Item:
    return {"type": "url_citation", "url": url, "title": title, "start_index": 0, "end_index": 5}


# Items as events.


def item_events(index: int, item: Item) -> Iterator[Item]:
    """The events that add up to `item`, without their sequence numbers."""
    place = {"output_index": index}
    yield {"type": "response.output_item.added", **place, "item": _begun(item)}
    place["item_id"] = item["id"]
    kind = item["type"]
    if kind == "reasoning":
        yield from _summary_events(item, place)
    elif kind == "message":
        for number, part in enumerate(item["content"]):
            yield from _part_events({**place, "content_index": number}, part)
    elif kind == "function_call":
        yield from _deltas("response.function_call_arguments", place, "arguments", item["arguments"])
    elif kind == "custom_tool_call":
        yield from _deltas("response.custom_tool_call_input", place, "input", item["input"])
    elif kind == "web_search_call":
        for step in ("in_progress", "searching", "completed"):
            yield {"type": f"response.web_search_call.{step}", **place}
    del place["item_id"]
    yield {"type": "response.output_item.done", **place, "item": item}


def _begun(item: Item) -> Item:
    empty: dict[str, Any] = {"summary": [], "content": [], "arguments": "", "input": "", "status": "in_progress"}
    begun = {**item, **{name: value for name, value in empty.items() if name in item}}
    if item["type"] == "reasoning":
        begun.pop("content", None)
        if "encrypted_content" in item:
            begun["encrypted_content"] = item["encrypted_content"][:9]
    return begun


def _summary_events(item: Item, place: Mapping[str, Any]) -> Iterator[Item]:
    for number, part in enumerate(item["summary"]):
        here = {**place, "summary_index": number}
        yield {"type": "response.reasoning_summary_part.added", **here, "part": {**part, "text": ""}}
        yield from _deltas("response.reasoning_summary_text", here, "text", part["text"])
        yield {"type": "response.reasoning_summary_part.done", **here, "part": part}
    for number, part in enumerate(item.get("content", ())):
        yield from _deltas("response.reasoning_text", {**place, "content_index": number}, "text", part["text"])


def _part_events(place: Mapping[str, Any], part: Item) -> Iterator[Item]:
    kind = part["type"]
    if kind not in {"output_text", "refusal"}:
        yield from ({"type": f"response.content_part.{step}", **place, "part": part} for step in ("added", "done"))
        return
    key, more = ("text", {"logprobs": []}) if kind == "output_text" else ("refusal", {})
    yield {"type": "response.content_part.added", **place, "part": {**part, key: "", **({"annotations": []} if more else {})}}
    yield from _deltas(f"response.{kind}", place, key, part[key], **more)
    for number, annotation in enumerate(part.get("annotations", ())):
        yield {"type": "response.output_text.annotation.added", **place, "annotation_index": number, "annotation": annotation}
    yield {"type": "response.content_part.done", **place, "part": part}


def _deltas(name: str, place: Mapping[str, Any], key: str, words: str, **more: Any) -> Iterator[Item]:
    yield from ({"type": f"{name}.delta", **place, "delta": piece, **more} for piece in pieces(words))
    yield {"type": f"{name}.done", **place, key: words, **more}


# What is answered.


def answer_items(body: Mapping[str, Any], effort: str, account: str) -> list[Item]:
    """A plausible answer: calls where tools are offered and the last item isn't a result, JSON where a schema is given, else words."""
    items = items_of(body)
    is_result = kind_of(items[-1]) in CALLS.values() if items else False
    calls = [] if is_result else list(called(body))
    words = "The tool has answered." if is_result else "Hello there."
    wanted = (body.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        words = json.dumps(example(wanted["schema"]))
    name = name_of([body["model"], items])
    return [*thought(body, effort, account, name), *(calls or [message(text_part(words), item_id=f"msg_{name}")])]


def thought(body: Mapping[str, Any], effort: str, account: str, name: str, words: str = "Let me see what is asked.") -> Iterator[Item]:
    """The reasoning before an answer: always sealed where that is asked for, in words where a summary is."""
    if effort in {"", "none"}:
        return
    item_id = f"rs_{name}"
    is_sealed = "reasoning.encrypted_content" in (body.get("include") or ())
    summary = (words,) if (body.get("reasoning") or {}).get("summary") else ()
    yield reasoning(*summary, item_id=item_id, seal=sealed(account, body["model"], item_id, words) if is_sealed else "")


def called(body: Mapping[str, Any], first: int = 0, count: int = 2) -> Iterator[Item]:
    """One or two calls, of the tool that is asked for or of those from `first` on."""
    choice = body.get("tool_choice", "auto")
    tools = [tool for tool in tools_of(body) if tool["type"] in {"function", "custom"} and not tool.get("defer_loading")]
    if choice == "none" or not tools:
        return
    if isinstance(choice, dict):
        names = [tool.get("name") for tool in choice.get("tools", (choice,))]
        tools = [tool for tool in tools if tool["name"] in names]
    for number in range(1 if body.get("parallel_tool_calls") is False else min(count, len(tools))):
        tool = tools[(first + number) % len(tools)]
        name = name_of([first, number, items_of(body)])
        if tool["type"] == "custom":
            yield custom_call(tool["name"], "*** Begin Patch", f"call_{name}", f"ctc_{name}")
        else:
            yield function_call(tool["name"], json.dumps(example(tool.get("parameters") or {})), f"call_{name}", f"fc_{name}")
