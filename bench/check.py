"""Is an answer right? Strict reading of a raw HTTP/1.1 response, and the comparison with what the mock upstream says.

Strategy: nothing is checked while the load runs, so that checking costs the measurement nothing; the raw bytes of every answer are kept
and read here afterwards. A `Fault` says what is wrong with one answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.answers import STAMP, Shape, Wire

_CLOCK_DIGITS_S = 0.000_01


class Fault(Exception):
    """An answer that is not what was expected."""


def split_response(raw: bytes) -> tuple[int, bytes]:
    """Status and body, with the framing taken off. Errors: `Fault`."""
    head, separator, rest = raw.partition(b"\r\n\r\n")
    if not separator:
        raise Fault("the head has no end")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        rest = b"".join(_chunks(rest))
    elif len(rest) != int(headers.get("content-length", "-1")):
        raise Fault(f"the body has {len(rest)} bytes, content-length says {headers.get('content-length')}")
    return int(status_line.split(" ", 2)[1]), rest


def check_answer(raw: bytes, wire: Wire, shape: Shape, *, is_stream: bool) -> None:
    """Errors: `Fault`, unless the answer is complete and has the text that was expected."""
    try:
        status, body = split_response(raw)
        if status != 200:
            raise Fault(f"status {status}: {body[:200]!r}")
        text, finish_reason = _READERS[wire, is_stream](body)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Fault(f"the answer can't be read: {type(error).__name__}: {error}") from error
    if finish_reason not in {"stop", "end_turn", "completed"}:
        raise Fault(f"the finish_reason is {finish_reason!r}")
    if is_stream and shape.gap_s:
        _check_stamps(text, shape)
    elif text != (wanted := shape.text):
        at = next((at for at, (one, other) in enumerate(zip(text, wanted, strict=False)) if one != other), min(len(text), len(wanted)))
        raise Fault(f"the text differs: {len(text)} characters, from {at} on {text[at : at + 20]!r}, not {wanted[at : at + 20]!r}")


def _chunks(data: bytes) -> Iterator[bytes]:
    """The chunks of a chunked body. Errors: `Fault`, `ValueError`."""
    at = 0
    while True:
        line_end = data.index(b"\r\n", at)
        size = int(data[at:line_end].split(b";")[0], 16)
        at = line_end + 2 + size
        if data[at : at + 2] != b"\r\n":
            raise Fault("a chunk has not the size that it tells")
        if size == 0:
            break
        yield data[line_end + 2 : at]
        at += 2
    if at + 2 != len(data):
        raise Fault("there are bytes after the last chunk")


def _check_stamps(text: str, shape: Shape) -> None:
    """All pieces of a slow stream, in order, due one gap after the other."""
    stamps = STAMP.findall(text)
    if "".join(f"{number}@{due};" for number, due in stamps) != text or len(stamps) != len(shape.pieces):
        raise Fault(f"the text of the slow stream differs: {text[:60]!r}...")
    begun_s = float(stamps[0][1])
    for position, (number, due) in enumerate(stamps):
        if int(number) != position or abs(float(due) - begun_s - position * shape.gap_s) > _CLOCK_DIGITS_S:
            raise Fault(f"piece {position} of the slow stream is {number}@{due}")


def _data_of_events(body: bytes) -> list[str]:
    """The data of each server-sent event; comments and event names are passed over."""
    if not body.endswith(b"\n\n"):
        raise Fault("the stream ends within an event")
    return [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]


def _read_openai(body: bytes) -> tuple[str, str | None]:
    choice = json.loads(body)["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


def _read_openai_stream(body: bytes) -> tuple[str, str | None]:
    *events, last = _data_of_events(body)
    if last != "[DONE]" or "[DONE]" in events:
        raise Fault("the stream does not end with one [DONE]")
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]  # some gateways leave null out
    if len(reasons) != 1:
        raise Fault(f"the stream has {len(reasons)} finish_reasons")
    return "".join(choice["delta"].get("content") or "" for choice in choices), reasons[0]


def _read_anthropic(body: bytes) -> tuple[str, str | None]:
    message = json.loads(body)
    return "".join(block["text"] for block in message["content"]), message["stop_reason"]


def _read_anthropic_stream(body: bytes) -> tuple[str, str | None]:
    events: list[dict[str, Any]] = [json.loads(data) for data in _data_of_events(body)]
    if events[-1]["type"] != "message_stop":
        raise Fault("the stream does not end with message_stop")
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    return text, next(event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta")


def _read_responses(body: bytes) -> tuple[str, str | None]:
    answer = json.loads(body)
    return "".join(part["text"] for item in answer["output"] for part in item["content"]), answer["status"]


def _read_responses_stream(body: bytes) -> tuple[str, str | None]:
    events: list[dict[str, Any]] = [json.loads(data) for data in _data_of_events(body) if data != "[DONE]"]  # LiteLLM sends it
    if events[-1]["type"] != "response.completed":
        raise Fault("the stream does not end with response.completed")
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta"), events[-1]["response"]["status"]


_READERS: Mapping[tuple[Wire, bool], Callable[[bytes], tuple[str, str | None]]] = {
    ("openai", False): _read_openai,
    ("openai", True): _read_openai_stream,
    ("anthropic", False): _read_anthropic,
    ("anthropic", True): _read_anthropic_stream,
    ("responses", False): _read_responses,
    ("responses", True): _read_responses_stream,
}
