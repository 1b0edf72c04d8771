"""How many questions the embedded models answer rightly: `python -m bench.embedded [--cache FOLDER] [MODEL ...]`.

Asks the questions of `bench/embedded_questions.py` in English, in Chinese and about code, then questions with tools on offer, each as a
client does that names no temperature, and prints how many answers were right (by a pattern each), how many repeated themselves or were
cut, and how long they took. Models that are not in the cache are left out; `-v` shows the answers that were wrong. Of the small model, and
with `--sampling`, the preset's sampling is compared with llama.cpp's own and with temperature 0.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"

from bench.embedded_questions import CALLS, QUESTIONS, TOOLS
from compat.config.sections import EmbeddedSettings
from compat.engine.model_file import cache_folder, cached_path
from compat.engine.presets import PRESETS, Preset
from compat.engine.program import reading_speed, server_parameters

SLOTS = 2
SEED = 100
KEY = "bench-" + "0" * 20
TIMEOUT_S = 3600
SAMPLINGS: Mapping[str, Mapping[str, Any]] = {"llama.cpp's own": {}, "temperature 0": {"temp": 0.0}}


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one question."""

    question: str
    message: Mapping[str, Any]
    tokens: int
    is_cut: bool
    is_right: bool


class Served:
    """A model that is served by the engine as the gateway has it."""

    def __init__(self, preset: Preset, folder: Path, sampling: Mapping[str, Any]) -> None:
        import xllamacpp

        row = {"path": str(cached_path(preset, folder)), "name": preset.name, "context_tokens": 8192, "template": preset.template}
        row |= {"default_max_tokens": preset.answer_tokens, "sampling": sampling, "parallel": 4, "threads": 0, "api_key": KEY}
        self._server = xllamacpp.Server(server_parameters(xllamacpp.CommonParams(), row))
        self.address = str(self._server.listening_address)

    def ask(self, question: str, **more: Any) -> tuple[Mapping[str, Any], int, bool]:
        """The message, its tokens, and whether it was cut."""
        connection = http.client.HTTPConnection(self.address.partition("//")[2], timeout=TIMEOUT_S)
        body = json.dumps({"messages": [{"role": "user", "content": question}], "seed": SEED, **more})
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", "authorization": f"Bearer {KEY}"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        choice = answer["choices"][0]
        return choice["message"], answer["usage"]["completion_tokens"], choice["finish_reason"] == "length"

    def talk(self, patterns: Mapping[str, str]) -> Iterator[Told]:
        """Questions that want words."""

        def one(question: str) -> Told:
            message, tokens, is_cut = self.ask(question)
            return Told(question, message, tokens, is_cut, re.search(patterns[question], message["content"]) is not None)

        with ThreadPoolExecutor(SLOTS) as pool:
            yield from pool.map(one, patterns)

    def call(self) -> Iterator[Told]:
        """Questions with tools on offer."""
        for question, (name, pattern) in CALLS.items():
            message, tokens, is_cut = self.ask(question, tools=TOOLS)
            yield Told(question, message, tokens, is_cut, is_right_call(message, name, pattern))


def is_right_call(message: Mapping[str, Any], name: str, pattern: str) -> bool:
    """Whether the function was called, with arguments that fit; without a name: whether none was, and the text fits."""
    calls = message.get("tool_calls") or []
    if not name:
        return not calls and re.search(pattern, message.get("content") or "") is not None
    if not calls or calls[0]["function"]["name"] != name:
        return False
    return re.search(pattern, json.dumps(json.loads(calls[0]["function"]["arguments"]), ensure_ascii=False)) is not None


def repeats(text: str) -> bool:
    """Whether the same eight words stand in it three times."""
    words = text.split()
    counts = collections.Counter(tuple(words[start : start + 8]) for start in range(len(words) - 7))
    return max(counts.values(), default=0) >= 3


def show(label: str, kind: str, told: list[Told], took_s: float, *, is_verbose: bool) -> None:
    right = sum(one.is_right for one in told)
    repeating = sum(repeats(one.message.get("content") or "") for one in told)
    cut, tokens = sum(one.is_cut for one in told), sum(one.tokens for one in told)
    print(
        f"| {label} | {kind} | {right} of {len(told)} | {repeating} | {cut} | {tokens / len(told):.0f} | {tokens / took_s:.1f} |",
        flush=True,
    )
    for one in told:
        if is_verbose and not one.is_right:
            print(f"    {one.question!r}: {json.dumps(one.message, ensure_ascii=False)[:300]}", file=sys.stderr, flush=True)


def measure(preset: Preset, folder: Path, label: str, sampling: Mapping[str, Any], *, is_verbose: bool) -> None:
    served = Served(preset, folder, sampling)
    speed = reading_speed(served.address, KEY)
    print(f"| {label} | reads {speed:g} tokens/s | | | | | |", flush=True)
    right = asked = 0
    for kind, patterns in QUESTIONS.items():
        begun_s = time.monotonic()
        told = list(served.talk(patterns))
        show(label, kind, told, time.monotonic() - begun_s, is_verbose=is_verbose)
        right, asked = right + sum(one.is_right for one in told), asked + len(told)
    print(f"| {label} | **all questions** | **{right} of {asked}** ({100 * right / asked:.0f} %) | | | | |", flush=True)
    if preset.template:
        begun_s = time.monotonic()
        show(label, "tools", list(served.call()), time.monotonic() - begun_s, is_verbose=is_verbose)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.embedded")
    parser.add_argument("models", nargs="*", default=list(PRESETS), metavar="MODEL")
    parser.add_argument("--cache", type=Path, default=cache_folder(EmbeddedSettings()))
    parser.add_argument("--sampling", action="store_true")
    parser.add_argument("-v", action="store_true", dest="is_verbose")
    given = parser.parse_args()
    print("| model | what | right | repeating | cut | tokens: mean | tokens/s |\n|---|---|---|---|---|---|---|", flush=True)
    for name in given.models:
        preset = PRESETS[name]
        if not cached_path(preset, given.cache).exists():
            continue
        measure(preset, given.cache, name, preset.sampling, is_verbose=given.is_verbose)
        if given.sampling:
            for how, sampling in SAMPLINGS.items():
                measure(preset, given.cache, f"{name}, {how}", sampling, is_verbose=given.is_verbose)


if __name__ == "__main__":
    main()
