"""What is remembered of prompts, to tell what lost the upstream's cache."""

from __future__ import annotations

from compat.routing.prompt_cache import MAX_SEGMENTS, PromptCacheWatch
from compat.wire.usage import Usage

WRITTEN, LOST = Usage(cache_write_tokens=1000), Usage(cache_read_tokens=10)


def prompt(changed: int = -1) -> list[tuple[str, bytes]]:
    return [(f"messages[{number}]", b"new" if number == changed else b"old") for number in range(MAX_SEGMENTS + 10)]


def test_the_first_part_that_changed_is_named() -> None:
    watch = PromptCacheWatch()
    assert watch.first_change("c", "s", "d", prompt(), WRITTEN) is None
    assert watch.first_change("c", "s", "d", prompt(5), LOST) == "messages[5]"


def test_of_a_very_long_prompt_its_beginning_is_remembered() -> None:
    watch = PromptCacheWatch()
    watch.first_change("c", "s", "d", prompt(), WRITTEN)
    assert watch.first_change("c", "s", "d", prompt(MAX_SEGMENTS - 1), LOST) == f"messages[{MAX_SEGMENTS - 1}]"
    watch.first_change("c", "t", "d", prompt(), WRITTEN)
    assert watch.first_change("c", "t", "d", prompt(MAX_SEGMENTS), LOST) == "expired"
