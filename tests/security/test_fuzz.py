"""A slice of the long run, the same cases every time; `scripts/fuzz` tries a hundred thousand others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

import compat
from compat.translate import TRANSLATORS
from tests.security.fuzz import PROPERTIES
from tests.security.fuzz_translate import TRANSLATED

CASES = 40
KNOWN: dict[str, str] = {"completion": "wire/infill.completion_document takes a message that is no object for one, and fails"}


@pytest.mark.parametrize("name", [name for name in PROPERTIES if name not in KNOWN])
def test_hostile_input_does_no_harm(name: str) -> None:
    strategy, check = PROPERTIES[name]
    hypothesis.settings(max_examples=CASES)(hypothesis.given(strategy)(check))()


def test_no_translator_is_left_out() -> None:
    assert set(TRANSLATORS) == TRANSLATED


@pytest.mark.parametrize(("arguments", "code"), [(["--cases", "20", "--seed", "1", "sse", "front"], 0), (["nothing"], 2)])
def test_the_long_run_can_be_started(arguments: list[str], code: int) -> None:
    program = "import sys, tests.monkey; from tests.security.fuzz import main; sys.exit(main(sys.argv[1:]))"
    folder = Path(compat.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert code or "failed: none" in done.stdout
