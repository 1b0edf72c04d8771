"""Plain completions over a chat model: the request as a chat, the answer as a completion.

    ask = read_completion(envelope)
    chat_body(envelope, ask, reasons=...)    -> the body of the chat call
    completion_document(chat_answer, ...)    -> the whole answer
    CompletionStream(...).feed(frames)       -> frames of the streamed one
    replayed(body, wants_usage)              -> a whole answer as the stream that it could have been

Models wrap code in fences although the prompt forbids it, so a fence around the whole answer is taken off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compat import jsonio
from compat.errors import BadRequest, UpstreamBroken
from compat.wire.envelope import Envelope
from compat.wire.sse import DONE, KEEP_ALIVE, EventSplitter, data_frame, parse_event

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
    model, prompt, suffix = envelope.value("model"), envelope.value("prompt", ""), envelope.value("suffix") or ""
    if not isinstance(model, str) or not model.strip():
        raise BadRequest("'model' must be a name: see GET /v1/models.", param="model")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadRequest("'prompt' must be one text.", param="prompt")
    if not isinstance(suffix, str):
        raise BadRequest("'suffix' must be a text.", param="suffix")
    if envelope.value("n") not in (None, 1) or envelope.value("best_of") not in (None, 1):
        raise BadRequest("Only one choice is served: 'n' and 'best_of' must be 1.", param="n")
    stream, options = envelope.value("stream"), envelope.value("stream_options") or {}
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("'stream' must be true or false.", param="stream")
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    max_tokens = envelope.value("max_tokens")
    if max_tokens is not None and (not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1):
        raise BadRequest("'max_tokens' must be a positive number.", param="max_tokens")
    echo = envelope.value("echo") is True
    wants_usage = options.get("include_usage") is True
    return Completion(model.strip(), prompt, suffix, bool(stream), wants_usage, max_tokens or _MAX_TOKENS, echo)


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


def completion_document(chat: Mapping[str, Any], model: str, echo: str = "") -> dict[str, Any]:
    """A whole chat answer as a completion under the name `model`, its text after `echo`."""
    choices = chat.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(choice, dict) or not isinstance(content, str | None):
        raise UpstreamBroken("The upstream's answer has no text that could be a completion.")
    text = unfenced(content or "")
    row = {"index": 0, "text": echo + text, "logprobs": None, "finish_reason": choice.get("finish_reason")}
    document = {**_head(chat, model), "choices": [row]}
    return {**document, "usage": chat["usage"]} if chat.get("usage") else document


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


def replayed(body: bytes, wants_usage: bool) -> bytes:  # one of `Translator.replay`
    """A whole completion as the stream that it could have been."""
    document = jsonio.decode(body)
    head = {key: value for key, value in document.items() if key != "usage"}
    frames = [data_frame(jsonio.encode({**head, "choices": [choice]})) for choice in document["choices"]]
    if wants_usage and document.get("usage"):
        frames.append(data_frame(jsonio.encode({**head, "choices": [], "usage": document["usage"]})))
    return b"".join((*frames, DONE))


class CompletionStream:
    """Frames of a chat in, frames of a completion out.

    Mutable: the text that is held back. An answer that begins with a fence is, to its end: only there it is clear what the fence holds.
    """

    def __init__(self, model: str, echo: str = "") -> None:
        """`model` is the client's name for it, `echo` what comes before the answer."""
        self._model = model
        self._splitter = EventSplitter()
        self._held: list[str] = []
        self._start = ""
        self._is_plain = False
        self._echo = echo

    def feed(self, frames: bytes) -> bytes:
        """Whole frames, errors and comments as they are."""
        if frames == KEEP_ALIVE:
            return frames
        return b"".join(self._event(block) for block in self._splitter.feed(frames))

    def _event(self, block: bytes) -> bytes:
        data = parse_event(block)[1]
        if not data:
            return KEEP_ALIVE
        if data == b"[DONE]":
            return DONE
        chunk = json.loads(data)
        if "error" in chunk:
            return data_frame(data)
        if not chunk.get("choices"):
            return data_frame(jsonio.encode({**_head(chunk, self._model), "choices": [], "usage": chunk.get("usage")}))
        choice = chunk["choices"][0]
        reason = choice.get("finish_reason")
        text = self._text((choice.get("delta") or {}).get("content") or "", is_end=bool(reason))
        if not text and not reason:
            return b""
        row = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return data_frame(jsonio.encode({**_head(chunk, self._model), "choices": [row]}))

    def _text(self, piece: str, *, is_end: bool) -> str:
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


def _head(answer: Mapping[str, Any], model: str) -> dict[str, Any]:
    identity = str(answer.get("id") or "").replace("chatcmpl-", "cmpl-", 1)
    return {"id": identity, "object": "text_completion", "created": answer.get("created") or 0, "model": model}
