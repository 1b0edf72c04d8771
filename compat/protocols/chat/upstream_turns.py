"""A neutral history as OpenAI's messages: the upstream's half.

    leading instructions       one `system` message
    instructions in between    words of the user's in a tag: chat templates take a system message at the beginning only
    a turn's results           one `tool` message each, before anything else of that turn; their images follow in the user's message
    a thought                  `reasoning_content` of its message, where this very model had it and wants it back

Every call has one result and every result a call (`protocols/pairing`). What a message can't hold becomes words, with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from compat import jsonio
from compat.config.catalog import Model
from compat.protocols.arguments import arguments_text
from compat.protocols.base import TranslationContext
from compat.protocols.freeform import wrapped
from compat.protocols.marks import marker
from compat.protocols.names import digest_of, fit_name
from compat.protocols.notes import Notes
from compat.protocols.pairing import MISSING, STRAY, Pairing
from compat.protocols.request import CONTINUE, Block, CacheMark, Document, Image, Text, Thinking, ToolCall, ToolResult, Turn, Unknown
from compat.protocols.sealed import Sealed, is_ours
from compat.protocols.served import as_call, words_of

MAX_MARKS = 4
"""Anthropic's bound, which services before it pass on."""
_NOTHING_PRINTED = "(no output)"
_MAX_ID = 40
"""OpenAI's bound of the length of a call's id."""
_KEPT_OF_ID = 28

Message = dict[str, Any]
Part = dict[str, Any]


def fit_call_id(call_id: str) -> str:
    """The id of a call as OpenAI takes it."""
    if len(call_id) <= _MAX_ID:
        return call_id
    return f"{call_id[:_KEPT_OF_ID]}-{digest_of(call_id, 4)}"


def write_messages(turns: Sequence[Turn], ctx: TranslationContext, notes: Notes, cache: CacheMark | None = None) -> list[Message]:
    """The messages; `cache` marks the last of them."""
    writer = _Messages(ctx, notes)
    leading = next((number for number, turn in enumerate(turns) if turn.role != "system"), len(turns))
    writer.instructions(turns[:leading])
    for turn in turns[leading:]:
        _TURNS[turn.role](writer, turn)
    messages = writer.finish()
    marks = [*writer.marks, *([(len(messages) - 1, cache)] if cache is not None else [])]
    if marks and ctx.takes_marks and "cache_control" not in ctx.refused_parameters:
        _mark(messages, marks)
    return messages


def _mark(messages: list[Message], marks: Sequence[tuple[int, CacheMark]]) -> None:
    """Put the marks for the prompt cache where they count: at the end of the instructions, and on the last ones of the client's."""
    last = marks[-MAX_MARKS:]
    chosen = [marks[0], *last[1:]] if messages[marks[0][0]]["role"] == "system" else last
    for position, mark in chosen:
        message, marked = messages[position], {"cache_control": marker(mark)}
        content = message["content"]
        if message["role"] == "tool":
            message.update(marked)
        elif isinstance(content, str):
            message["content"] = [{**_text_part(content), **marked}]
        else:
            content[-1] = {**content[-1], **marked}


class _Messages:
    """The messages so far. Mutable: all of it. `_rest` are the parts of the user's message that is being gathered. `marks` are the
    positions of messages in which the client marks the prompt for the cache.
    """

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        self._ctx = ctx
        self._notes = notes
        self._messages: list[Message] = []
        self._rest: list[Part] = []
        self.marks: list[tuple[int, CacheMark]] = []
        self._rest_mark: CacheMark | None = None
        self._pairing = Pairing(fit_call_id)
        self._is_blind = is_known(ctx.model) and not ctx.model.images
        self._wants_thoughts = "reasoning_content" not in ctx.unwanted_fields | ctx.refused_parameters

    def instructions(self, turns: Sequence[Turn]) -> None:
        """Those that the conversation begins with."""
        texts = [text for turn in turns for text in self._texts(turn.blocks)]
        if texts:
            self._messages.append({"role": "system", "content": "\n\n".join(texts)})
            self._note_mark(_mark_of(block for turn in turns for block in turn.blocks))

    def system(self, turn: Turn) -> None:
        """Instructions in between."""
        texts = self._texts(turn.blocks)
        if texts:
            self._notes.add("moved", f"system@{turn.position}")
            words = "\n\n".join(texts)
            self._rest.append(_text_part(f"<system-reminder>\n{words}\n</system-reminder>"))

    def user(self, turn: Turn) -> None:
        """The user's words, and results of calls."""
        results = [block for block in turn.blocks if isinstance(block, ToolResult)]
        media = [part for result in results for part in self._result(result)]
        self._rest += media
        said = [block for block in turn.blocks if not isinstance(block, ToolResult)]
        self._rest += self._parts(said)
        self._rest_mark = turn.cache or _mark_of(said) or self._rest_mark

    def assistant(self, turn: Turn) -> None:
        """The model's own turn, in several messages where a server ran tools in the midst of it."""
        blocks: list[Block] = []
        is_empty = True
        for block in map(as_call, turn.blocks):
            if not isinstance(block, ToolResult):
                blocks.append(block)
                continue
            is_empty &= not self._said(blocks)
            self._result(block)
            blocks = []
        if not self._said(blocks) and is_empty:
            self._notes.add("dropped", f"empty@{turn.position}")

    def _said(self, blocks: Sequence[Block]) -> bool:
        """One message of the model's, if it says anything."""
        calls = [block for block in blocks if isinstance(block, ToolCall)]
        thoughts, extras = self._thoughts(blocks)
        texts = self._texts(blocks)
        if not texts and not calls:
            return False
        self._flush()
        message: Message = {"role": "assistant", "content": "".join(texts) or None}
        if thoughts:
            message["reasoning_content"] = thoughts
        if calls:
            message["tool_calls"] = [self._call(call, extras) for call in calls]
        self._messages.append(message)
        return True

    def finish(self) -> list[Message]:
        """All messages; the last one is not the model's."""
        self._flush()
        if not self._messages or self._messages[-1]["role"] in ("assistant", "system"):
            if self._messages and self._messages[-1]["role"] == "assistant":
                self._notes.add("prefill", "continue")
            self._messages.append({"role": "user", "content": CONTINUE})
        return self._messages

    def _flush(self) -> None:
        """End the user's turn: results that are missing, then the user's message."""
        for ours in self._pairing.given_up():
            self._notes.add("added", "tool_result")
            self._messages.append({"role": "tool", "tool_call_id": ours, "content": MISSING})
        parts, self._rest = self._rest, []
        mark, self._rest_mark = self._rest_mark, None
        if not parts:
            return
        if all(part["type"] == "text" for part in parts):
            self._messages.append({"role": "user", "content": "\n\n".join(part["text"] for part in parts)})
        else:
            self._messages.append({"role": "user", "content": parts})
        self._note_mark(mark)

    def _note_mark(self, mark: CacheMark | None) -> None:
        """Know that the message that was written last has a mark, if it has one."""
        if mark is not None:
            self.marks.append((len(self._messages) - 1, mark))

    def _call(self, call: ToolCall, extras: Mapping[str, Any]) -> Message:
        arguments = str(jsonio.encode(wrapped(call)), "utf-8") if call.kind == "freeform" else arguments_text(call)
        function = {"name": fit_name(call.name), "arguments": arguments}
        told: Message = {"id": self._pairing.opened(call.call_id), "type": "function", "function": function}
        more = extras.get(call.call_id)
        return {**told, **more} if isinstance(more, dict) else told

    def _result(self, result: ToolResult) -> list[Part]:
        """Write a result; its media, and results of no call, are returned for the user's message."""
        ours = self._pairing.taken(result.call_id)
        parts = self._parts(result.blocks)
        texts = [part["text"] for part in parts if part["type"] == "text"]
        media = [part for part in parts if part["type"] != "text"]
        if ours is None:
            self._notes.add("moved", f"stray_result@{result.where}")
            return [_text_part(STRAY), *parts]
        text = "\n\n".join(texts) or ("(see below)" if media else _NOTHING_PRINTED)
        if result.is_error and "error" not in text[:100].lower():
            text = f"[error] {text}"
        self._messages.append({"role": "tool", "tool_call_id": ours, "content": text})
        self._note_mark(result.cache or _mark_of(result.blocks))
        return [_text_part(f"What the call {ours} gave besides:"), *media] if media else []

    # Blocks.

    def _texts(self, blocks: Sequence[Block]) -> list[str]:
        """The words in blocks that can be nothing else than words; blank ones are left out."""
        return [part["text"] for part in self._parts(blocks) if part["type"] == "text"]

    def _parts(self, blocks: Sequence[Block]) -> list[Part]:
        return [part for block in blocks for part in _PARTS[type(block)](self, block)]

    def _text(self, block: Text) -> Iterator[Part]:
        if block.text and not block.text.isspace():
            yield _text_part(block.text)

    def _image(self, block: Image) -> Iterator[Part]:
        url = block.url or (f"data:{block.media_type or 'image/png'};base64,{block.data}" if block.data else "")
        if self._is_blind or not url:
            self._notes.add("left_out", "image")
            yield _text_part("[An image was left out: this model reads text only.]" if url else "[An image was left out.]")
            return
        detail = {"detail": "high" if block.detail == "original" else block.detail} if block.detail else {}
        yield {"type": "image_url", "image_url": {"url": url, **detail}}

    def _document(self, block: Document) -> Iterator[Part]:
        name = block.name or "document"
        if block.text:
            yield _text_part(f"{name}:\n\n{block.text}")
        elif block.data and self._ctx.model.files:
            data = f"data:{block.media_type or 'application/pdf'};base64,{block.data}"
            yield {"type": "file", "file": {"filename": name, "file_data": data}}
        else:
            self._notes.add("left_out", "document")
            yield _text_part(f"[The file {name} was left out: this model can't read it.]")

    def _unknown(self, block: Unknown) -> Iterator[Part]:
        text = words_of(block.value)
        if not text:
            self._notes.add("left_out", block.what)
            return
        yield _text_part(text)

    def _nothing(self, _: Block) -> Iterator[Part]:
        yield from ()

    def _thoughts(self, blocks: Sequence[Block]) -> tuple[str, Mapping[str, Any]]:
        """What the model thought, where it is this one and wants it back, and what it said besides of its calls."""
        texts: list[str] = []
        extras: dict[str, Any] = {}
        for block in blocks:
            if not isinstance(block, Thinking):
                continue
            ctx = self._ctx
            sealed = ctx.sealer.own(block.seal, ctx.upstream_name, ctx.target) if ctx.sealer is not None else None
            if sealed is None:
                self._notes.add("thinking", "omitted" if is_ours(block.seal) or not block.seal else "foreign")
                continue
            text, calls = _state_of(sealed)
            extras |= calls
            texts.append(text or block.text)
        whole = "".join(texts) if self._wants_thoughts else ""
        if texts and not whole and any(texts):
            self._notes.add("thinking", "omitted")
        elif whole:
            self._notes.add("thinking", "restored")
        return whole, extras


def _mark_of(blocks: Iterable[Block]) -> CacheMark | None:
    """The last mark in blocks."""
    found = None
    for block in blocks:
        found = getattr(block, "cache", None) or found
    return found


def is_known(model: Model) -> bool:
    """Whether the catalog or the configuration say anything of the model but its name."""
    return model != Model(id=model.id, display_name=model.display_name, owned_by=model.owned_by)


def _text_part(text: str) -> Part:
    return {"type": "text", "text": text}


def _state_of(sealed: Sealed) -> tuple[str, Mapping[str, Any]]:
    """The text of a thought that was not shown, and what belongs to its calls, by their ids."""
    if isinstance(sealed.value, str):
        return sealed.value, {}
    calls = sealed.value.get("calls") if isinstance(sealed.value, dict) else None
    return "", calls if isinstance(calls, dict) else {}


_TURNS: Mapping[str, Callable[[_Messages, Turn], None]] = {
    "system": _Messages.system,
    "user": _Messages.user,
    "assistant": _Messages.assistant,
}
_PARTS: Mapping[type[Block], Callable[[_Messages, Any], Iterator[Part]]] = {
    Text: _Messages._text,
    Image: _Messages._image,
    Document: _Messages._document,
    Unknown: _Messages._unknown,
    Thinking: _Messages._nothing,
    ToolCall: _Messages._nothing,
    ToolResult: _Messages._nothing,
}
