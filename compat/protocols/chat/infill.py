"""Plain completions over a chat model: the request as a chat, the answer as a completion.

    ask = read_completion(envelope)
    chat_body(envelope, ask, reasons=...)    -> the body of the chat call
    CompletionWriter                         -> the answer, whole and streamed, from events
    replayed(body, wants_usage)              -> a whole answer as the stream that it could have been

Models wrap code in fences although the prompt forbids it, so a fence around the whole answer is taken off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from compat import jsonio
from compat.errors import BadRequest
from compat.protocols.base import TranslationContext
from compat.protocols.chat.chunks import DONE
from compat.protocols.chat.client import wants_usage
from compat.protocols.chat.usage import estimate_object, with_cost
from compat.protocols.chat.writer import REASONS, usage_object
from compat.protocols.client_protocol import is_stream, model_of
from compat.protocols.events import Event, Start, Stop, TextDelta, Unknown, Used
from compat.protocols.joined import FrameWriter
from compat.protocols.notes import Notes
from compat.wire.envelope import Envelope
from compat.wire.sse import data_frame

_PASSED = ("temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "user")
_MAX_TOKENS = 256
_FENCE = "```"

_FILL = (
    "You are the completion engine of a code editor. The user's message is a file with a hole, marked <hole/>. Write what belongs into the "
    "hole, and nothing else: no explanation, no code fence, nothing of the text before or after it. Your answer is put into the file as it "
    "is, so spaces and line breaks count. Where nothing is missing, answer with one space."
)
_GO_ON = (
    "You are the completion engine of a code editor. Carry on the text of the user's message from its last character, and write nothing "
    "else: no explanation, no code fence, no repetition. Your answer is appended to the text as it is."
)


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion that is asked for."""

    model: str
    prompt: str
    suffix: str
    is_stream: bool
    wants_usage: bool
    max_tokens: int
    echoes: bool


def read_completion(envelope: Envelope) -> Completion:
    """The request in `envelope`. `BadRequest` names the field that is wrong, or that nobody serves here."""
    model, prompt, suffix = model_of(envelope), envelope.value("prompt", ""), envelope.value("suffix") or ""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("'prompt' must be one text.", param="prompt")
    if not isinstance(suffix, str):
        raise BadRequest("'suffix' must be a text.", param="suffix")
    if envelope.value("n") not in (None, 1) or envelope.value("best_of") not in (None, 1):
        raise BadRequest("Only one choice is served: 'n' and 'best_of' must be 1.", param="n")
    streams, has_usage = is_stream(envelope), wants_usage(envelope)
    max_tokens = envelope.value("max_tokens")
    if max_tokens is not None and (not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1):
        raise BadRequest("'max_tokens' must be a positive number.", param="max_tokens")
    return Completion(model, prompt, suffix, streams, has_usage, max_tokens or _MAX_TOKENS, envelope.value("echo") is True)


def chat_body(envelope: Envelope, ask: Completion, *, reasons: bool) -> bytes:
    """The chat that asks for the completion. A model that `reasons` is asked not to, for an editor waits."""
    text = f"{ask.prompt}<hole/>{ask.suffix}" if ask.suffix else ask.prompt
    body: dict[str, Any] = {
        "model": ask.model,
        "messages": [{"role": "system", "content": _FILL if ask.suffix else _GO_ON}, {"role": "user", "content": text or " "}],
        "max_tokens": ask.max_tokens,
        "stream": ask.is_stream,
    }
    if ask.is_stream:
        body["stream_options"] = {"include_usage": ask.wants_usage}
    if reasons:
        body["reasoning_effort"] = "none"
    body |= {name: envelope.value(name) for name in _PASSED if name in envelope}
    return jsonio.encode(body)


def unfenced(text: str) -> str:
    """`text` without a code fence around the whole of it, whose end may be cut off."""
    start = text.lstrip()
    if not start.startswith(_FENCE) or "\n" not in start:
        return text
    inner = _without_end(start[start.index("\n") + 1 :])
    return inner if _FENCE not in inner else text


def _without_end(inner: str) -> str:
    """What stands in a fence, without the fence's end."""
    bare = inner.rstrip()
    return bare.removesuffix(_FENCE).removesuffix("\n") if bare.endswith(_FENCE) else inner


def completion_id(answer_id: str) -> str:
    """The id of a completion for that of the chat it was."""
    return answer_id.replace("chatcmpl-", "cmpl-", 1)


def replayed(body: bytes, wants_usage: bool) -> bytes:  # one of `ClientProtocol.replay`
    """A whole completion as the stream that it could have been."""
    document = jsonio.decode(body)
    head = {key: value for key, value in document.items() if key != "usage"}
    frames = [data_frame(jsonio.encode({**head, "choices": [choice]})) for choice in document["choices"]]
    if wants_usage and document.get("usage"):
        frames.append(data_frame(jsonio.encode({**head, "choices": [], "usage": document["usage"]})))
    return b"".join((*frames, DONE))


class CompletionWriter(FrameWriter):
    """See `FrameWriter`: an answer's text as a plain completion, after what the client wants to read before it.

    Mutable: the text that is held back. An answer that begins with a fence is, to its end: only there it is clear what the fence holds.
    """

    def __init__(self, ctx: TranslationContext, notes: Notes) -> None:
        self._ctx = ctx
        self._notes = notes
        self._echo = ctx.memory.echo
        self._head: dict[str, Any] = _head(ctx, "", 0)
        self._held: list[str] = []
        self._start = ""
        self._is_plain = False

    def write(self, event: Event) -> bytes:
        """See `FrameWriter`."""
        match event:
            case Start():
                self._head = _head(self._ctx, event.answer_id, event.created_s)
            case TextDelta():
                text = self._shown(event.text, is_end=False)
                return self._frame(text, None) if text else b""
            case Unknown():
                self._notes.add("left_out", event.what)
            case Stop():
                self.reason = REASONS[event.reason]
                return self._frame(self._shown("", is_end=True), self.reason)
            case Used() if self._ctx.wants_usage:
                return data_frame(jsonio.encode({**self._head, "choices": [], "usage": _usage(event, self._ctx)}))
        return b""

    def finish(self) -> bytes:
        """See `FrameWriter`."""
        return DONE

    def body(self, events: Iterable[Event]) -> bytes:
        """See `FrameWriter`."""
        document: dict[str, Any] = {}
        for event in events:
            match event:
                case TextDelta():
                    self._held.append(event.text)
                case Stop():
                    self.reason = REASONS[event.reason]
                    text = self._echo + unfenced("".join(self._held))
                    document["choices"] = [{"index": 0, "text": text, "logprobs": None, "finish_reason": self.reason}]
                case Used():
                    document["usage"] = _usage(event, self._ctx)
                case _:
                    self.write(event)
        return jsonio.encode({**self._head, **document})

    def _frame(self, text: str, reason: str | None) -> bytes:
        row = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return data_frame(jsonio.encode({**self._head, "choices": [row]}))

    def _shown(self, piece: str, *, is_end: bool) -> str:
        """What of the answer can be shown now."""
        if not self._is_plain:
            self._held.append(piece)
            self._start = (self._start + piece[: len(piece) if not self._start else len(_FENCE)]).lstrip()[: len(_FENCE)]
            if not is_end and _FENCE.startswith(self._start):
                return ""
            self._is_plain, piece = True, unfenced("".join(self._held))
            self._held.clear()
        echo, self._echo = self._echo, ""
        return echo + piece


def _head(ctx: TranslationContext, answer_id: str, created_s: int) -> dict[str, Any]:
    return {
        "id": completion_id(answer_id or ctx.completion_id),
        "object": "text_completion",
        "created": created_s or ctx.created_s,
        "model": ctx.alias,
    }


def _usage(event: Used, ctx: TranslationContext) -> dict[str, Any]:
    if isinstance(event.told, dict):
        return with_cost(event.told, ctx)
    return with_cost(estimate_object(event.usage), ctx) if event.usage.is_estimate else usage_object(event.usage, ctx)
