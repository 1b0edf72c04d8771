"""A slice of the long run, the same cases every time; `scripts/fuzz` tries a hundred thousand others."""

from __future__ import annotations

import hypothesis
import pytest

from compat.protocols import TRANSLATORS
from tests.security.fuzz import PROPERTIES, main
from tests.security.fuzz_translate import TRANSLATED

CASES = 40


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_hostile_input_does_no_harm(name: str) -> None:
    strategy, check = PROPERTIES[name]
    hypothesis.settings(max_examples=CASES)(hypothesis.given(strategy)(check))()


def test_no_translator_is_left_out() -> None:
    assert {pair for pair in TRANSLATORS if pair[0] == "openai.chat"} == TRANSLATED, "the others go by way of these"


@pytest.mark.slow
def test_the_long_run_tells_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "20", "--seed", "1", "sse", "front"]) == 0
    assert "failed: none" in capsys.readouterr().out


def test_the_long_run_refuses_a_target_that_there_is_not() -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
