"""How the messages of a request must follow each other, and where each kind of block may stand.

A body that gets here has the right fields (`anthropic_shapes`). Messages are counted as the request counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from compat.config.catalog import MessagesFacts
from tests.fakes.anthropic_shapes import SERVER_RESULTS

Block = dict[str, Any]

THINKING = ("thinking", "redacted_thinking")
ROLES_OF = {
    "tool_use": "assistant",
    "server_tool_use": "assistant",
    **dict.fromkeys((*THINKING, *SERVER_RESULTS), "assistant"),
    **dict.fromkeys(("tool_result", "image", "document", "search_result"), "user"),
    "text": "",
}
THINKING_FIRST = (
    "When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use`"
    " and `tool_result` blocks). We recommend you include thinking blocks from previous turns."
    " To avoid this requirement, disable `thinking`."
)


def blocks_of(message: dict[str, Any]) -> list[Block]:
    """The message's blocks; a string is one text block, an empty string none."""
    content = message["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []


def walk(body: dict[str, Any]) -> Iterator[tuple[str, Block]]:
    """Every tool and block with its path, in the order in which the cache sees them: inner blocks come before the one that holds them."""
    yield from ((f"tools.{number}", tool) for number, tool in enumerate(body.get("tools", ())))
    system = body.get("system", ())
    yield from ((f"system.{number}", block) for number, block in enumerate(() if isinstance(system, str) else system))
    for number, message in enumerate(body["messages"]):
        for place, block in enumerate(blocks_of(message)):
            yield from _inner(f"messages.{number}.content.{place}", block)


def _inner(path: str, block: Block) -> Iterator[tuple[str, Block]]:
    kind = block["type"]
    parts = (
        block.get("content") if kind in {"tool_result", "search_result"} else block["source"].get("content") if kind == "document" else ()
    )
    for number, part in enumerate(parts if isinstance(parts, list) else ()):
        yield from _inner(f"{path}.content.{number}", part)
    yield path, block


def conversation_violations(body: dict[str, Any], facts: MessagesFacts) -> Iterator[str]:
    messages: list[dict[str, Any]] = body["messages"]
    roles = [message["role"] for message in messages]
    unknown = [role for role in roles if role not in {"user", "assistant", "system"}]
    if not messages:
        yield "messages: at least one message is required"
    elif unknown:
        yield f'messages: Unexpected role "{unknown[0]}". Allowed roles are "user", "assistant" or "system".'
    else:
        if roles[0] == "assistant":
            yield 'messages: first message must use the "user" role'
        yield from _system_messages(messages, facts)
        yield from _texts(body)
        yield from _empty_messages(messages, facts)
        yield from _places(messages)
        yield from _tool_pairs(messages)
        yield from _tool_results(messages)
        yield from _server_tool_pairs(messages)
        yield from _last_message(messages, facts)
        if body.get("thinking", {}).get("type") == "enabled":
            yield from _open_turn(messages)


def _system_messages(messages: list[dict[str, Any]], facts: MessagesFacts) -> Iterator[str]:
    for number, message in enumerate(messages):
        if message["role"] != "system":
            continue
        before = messages[number - 1] if number else None
        after = messages[number + 1] if number + 1 < len(messages) else None
        if not facts.system_in_middle:
            yield f"messages.{number}: role 'system' is not supported on this model"
        elif before is None:
            yield "messages.0: use the top-level 'system' parameter for the initial system prompt"
        elif before["role"] == "system":
            yield f"messages.{number}: consecutive 'system' messages are not allowed"
        elif before["role"] == "assistant" and [block["type"] for block in blocks_of(before)][-1:] != ["server_tool_use"]:
            yield f"messages.{number}: a 'system' message must follow a 'user' message"
        if facts.system_in_middle and after is not None and after["role"] != "assistant":
            yield f"messages.{number}: a 'system' message must be the last message or be followed by an 'assistant' message"


def _texts(body: dict[str, Any]) -> Iterator[str]:
    for path, block in walk(body):
        if path.startswith("tools.") or block["type"] != "text":
            continue
        if not block["text"]:
            yield f"{path}: text content blocks must be non-empty"
        elif not block["text"].strip():
            yield f"{path}: text content blocks must contain non-whitespace text"


def _empty_messages(messages: list[dict[str, Any]], facts: MessagesFacts) -> Iterator[str]:
    last = len(messages) - 1
    for number, message in enumerate(messages):
        is_optional = number == last and message["role"] == "assistant" and facts.prefill
        if not blocks_of(message) and not is_optional:
            yield f"messages.{number}: all messages must have non-empty content except for the optional final assistant message"


def _places(messages: list[dict[str, Any]]) -> Iterator[str]:
    for number, message in enumerate(messages):
        blocks = blocks_of(message)
        for kind in dict.fromkeys(block["type"] for block in blocks):
            allowed = ROLES_OF[kind]
            if allowed and message["role"] != allowed:
                yield f"messages.{number}: `{kind}` blocks can only be in `{allowed}` messages"
        if blocks and message["role"] == "assistant" and blocks[-1]["type"] in THINKING:
            yield f"messages.{number}: The final block in an assistant message cannot be `{blocks[-1]['type']}`."


def _tool_pairs(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Each call is answered at the start of the very next message, and nothing else is answered."""
    calls = [[block["id"] for block in blocks_of(message) if block["type"] == "tool_use"] for message in messages]
    for name, count in Counter(name for names in calls for name in names).items():
        if count > 1:
            yield f"messages: `tool_use` ids must be unique: {name}"
    for number, message in enumerate(messages):
        before = calls[number - 1] if number else []
        leads = True
        answered: list[str] = []
        for place, block in enumerate(blocks_of(message)):
            if block["type"] != "tool_result":
                leads = False
                continue
            name = block["tool_use_id"]
            if name not in before:
                yield (
                    f"messages.{number}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: {name}."
                    " Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                )
            elif leads:
                answered.append(name)
        yield from _unanswered(number - 1, before, answered)
    yield from _unanswered(len(messages) - 1, calls[-1], [])


def _unanswered(number: int, calls: list[str], answered: list[str]) -> Iterator[str]:
    missing = [name for name in calls if name not in answered]
    if missing:
        yield (
            f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(missing)}."
            " Each `tool_use` block must have a corresponding `tool_result` block in the next message."
        )
    for name, count in Counter(answered).items():
        if count > 1:
            yield (
                f"messages.{number + 1}.content: each tool_use must have a single result."
                f" Found multiple `tool_result` blocks with id: {name}"
            )


def _tool_results(messages: list[dict[str, Any]]) -> Iterator[str]:
    """A failed call needs words, and only words."""
    for number, message in enumerate(messages):
        for place, block in enumerate(blocks_of(message)):
            if block["type"] != "tool_result" or not block.get("is_error"):
                continue
            content = block.get("content") or []
            path = f"messages.{number}.content.{place}.tool_result"
            if not content or (isinstance(content, str) and not content.strip()):
                yield f"{path}: content cannot be empty if `is_error` is true"
            elif not isinstance(content, str) and any(part["type"] != "text" for part in content):
                yield f"{path}: all content must be type `text` if `is_error` is true"


def _server_tool_pairs(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Calls that the server runs are answered inside the assistant's turn; only the last message may end before the answer."""
    for number, message in enumerate(messages):
        calls: list[str] = []
        for place, block in enumerate(blocks_of(message)):
            kind = block["type"]
            if kind == "server_tool_use":
                calls.append(block["id"])
            elif kind in SERVER_RESULTS and block["tool_use_id"] not in calls:
                yield (
                    f"messages.{number}.content.{place}: unexpected `tool_use_id` found in `{kind}` blocks: {block['tool_use_id']}."
                    f" Each `{kind}` block must have a corresponding `server_tool_use` block before it."
                )
            elif kind in SERVER_RESULTS:
                calls.remove(block["tool_use_id"])
        if calls and number + 1 < len(messages):
            yield f"messages.{number}: server tool use with id {calls[0]} was found without a corresponding result block"


def _last_message(messages: list[dict[str, Any]], facts: MessagesFacts) -> Iterator[str]:
    """A trailing assistant message asks for its continuation, unless it is a turn that the server paused."""
    blocks = blocks_of(messages[-1])
    if messages[-1]["role"] != "assistant" or (blocks and blocks[-1]["type"] in ("server_tool_use", "tool_use", *SERVER_RESULTS)):
        return
    if not facts.prefill:
        yield "This model does not support assistant message prefill. The conversation must end with a user message."
    if blocks and blocks[-1]["type"] == "text" and blocks[-1]["text"] != blocks[-1]["text"].rstrip():
        yield "messages: final assistant content cannot end with trailing whitespace"


def _open_turn(messages: list[dict[str, Any]]) -> Iterator[str]:
    """The turn that goes on (its calls were just answered, or its text is continued) must have begun with thinking."""
    start = len(messages)
    for number in range(len(messages) - 1, -1, -1):
        blocks = blocks_of(messages[number])
        if messages[number]["role"] == "assistant":
            start = number
        elif messages[number]["role"] == "user" and not (blocks and blocks[0]["type"] == "tool_result"):
            break
    first = blocks_of(messages[start])[:1] if start < len(messages) else []
    if first and first[0]["type"] not in THINKING:
        found = f"Expected `thinking` or `redacted_thinking`, but found `{first[0]['type']}`"
        yield f"messages.{start}.content.0.type: {found}. {THINKING_FIRST}"
