"""What the embedded model's preset makes of its answers: `python -m bench.embedded`, about five minutes.

Asks 18 questions three times with fixed seeds, first with llama.cpp's own sampling and a quarter of the context for an answer, then with
the preset's sampling and limit, and prints how many answers were right (by a pattern each), how long they were, and how many repeated
themselves.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"

from compat.config.sections import EmbeddedSettings
from compat.engine.model_file import cache_folder, cached_path
from compat.engine.presets import PRESETS
from compat.engine.program import server_parameters

SEEDS = range(100, 103)
SLOTS = 4
KEY = "bench-" + "0" * 20
QUESTIONS = {
    "Hello": r"\?|!|help",
    "Hi! Who are you?": r"(?i)smollm|\bAI\b|assist",
    "What is the capital of France?": r"Paris",
    "Write a Python function that reverses a string.": r"\[::-1\]|reversed",
    "Explain what an API is in two sentences.": r"(?i)application programming",
    "Tell me a short joke.": r".",
    "What is 17 plus 25?": r"42",
    "List three fruits.": r"(?i)banana|apple|orange",
    "Why is the sky blue?": r"(?i)scatter",
    "Translate 'good morning' into Spanish.": r"(?i)buen[oa]s",
    "Write a haiku about the sea.": r"(?i)sea|wave|ocean",
    "How do I list files in a directory on Linux?": r"\bls\b",
    "Summarise: The quick brown fox jumps over the lazy dog.": r"(?i)fox",
    "\u4f60\u597d": r"(?i)hello|help|\u4f60\u597d",
    "Write a short story about a dog.": r"(?i)dog",
    "Explain recursion to a beginner, with an example.": r"(?i)recurs",
    "Write a Python class for a stack.": r"\bclass ",
    "Give me a recipe for pancakes.": r"(?i)flour|egg|milk",
}


def answers(sampling: dict[str, Any], answer_tokens: int) -> Iterator[tuple[str, str, int, bool]]:
    """Question, answer, its tokens, and whether it was cut."""
    import xllamacpp

    preset = PRESETS[EmbeddedSettings().model]
    row = {"path": str(cached_path(preset, cache_folder(EmbeddedSettings()))), "name": preset.name, "context_tokens": preset.context_tokens}
    row |= {"default_max_tokens": answer_tokens, "sampling": sampling, "parallel": SLOTS, "threads": 0, "api_key": KEY}
    server = xllamacpp.Server(server_parameters(xllamacpp.CommonParams(), row))
    address = str(server.listening_address).partition("//")[2]

    def ask(job: tuple[str, int]) -> tuple[str, str, int, bool]:
        connection = http.client.HTTPConnection(address, timeout=600)
        body = json.dumps({"messages": [{"role": "user", "content": job[0]}], "seed": job[1]})
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", "authorization": f"Bearer {KEY}"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        choice = answer["choices"][0]
        return job[0], choice["message"]["content"], answer["usage"]["completion_tokens"], choice["finish_reason"] == "length"

    with ThreadPoolExecutor(SLOTS) as pool:
        yield from pool.map(ask, [(question, seed) for seed in SEEDS for question in QUESTIONS])


def repeats(text: str) -> bool:
    """Whether the same eight words stand in it three times."""
    words = text.split()
    counts = collections.Counter(tuple(words[start : start + 8]) for start in range(len(words) - 7))
    return max(counts.values(), default=0) >= 3


def row_of(name: str, sampling: dict[str, Any], answer_tokens: int) -> str:
    told = list(answers(sampling, answer_tokens))
    sizes = sorted(tokens for _, _, tokens, _ in told)
    right = sum(re.search(QUESTIONS[question], text) is not None for question, text, _, _ in told)
    hello = next(text for question, text, _, _ in told if question == "Hello")
    return (
        f"| {name} | {right} of {len(told)} | {sum(sizes) / len(sizes):.0f}, {sizes[len(sizes) // 2]}, {sizes[-1]} |"
        f" {sum(cut for *_, cut in told)} | {sum(repeats(text) for _, text, _, _ in told)} | {hello[:70]!r} |"
    )


def main() -> None:
    preset = PRESETS[EmbeddedSettings().model]
    print("| sampling | right | tokens: mean, median, most | cut | repeating | to Hello |\n|---|---|---|---|---|---|")
    print(row_of("llama.cpp's own", {}, preset.context_tokens // 4), flush=True)
    print(row_of("the preset's", dict(preset.sampling), preset.answer_tokens), flush=True)


if __name__ == "__main__":
    main()
