"""The view of a fetch: lines in a log, a bar on a terminal, and no fault where neither can be written."""

from __future__ import annotations

import io

import pytest

from compat.engine.progress import FetchProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A stream whose other end is closed; `writes` counts the tries."""

    def __init__(self, error: Exception, is_terminal: bool) -> None:
        super().__init__()
        self.error, self.is_terminal, self.writes = error, is_terminal, 0

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, _text: str) -> int:
        self.writes += 1
        raise self.error


def lines_of(*updates: tuple[int, int]) -> list[str]:
    stream = io.StringIO()
    progress = FetchProgress("tiny", stream)
    for done, total in updates:
        progress.update(done, total)
    progress.close()
    return [line.removeprefix("Fetching the embedded model tiny: ") for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("updates", "lines"),
    [
        ([], []),
        ([(0, 90_000_000)], ["0 of 90 MB"]),
        ([(done * 1_000_000, 10_000_000) for done in range(11)], [f"{done} of 10 MB" for done in range(11)]),
        ([(done * 1_000_000, 100_000_000) for done in range(101)], [f"{done} of 100 MB" for done in range(0, 101, 10)]),
        ([(0, 10_000_000), (9_999_999, 10_000_000), (10_000_000, 10_000_000)], ["0 of 10 MB", "9 of 10 MB", "10 of 10 MB"]),
        ([(5_000_000, 10_000_000), (1_000_000, 10_000_000), (5_500_000, 10_000_000)], ["5 of 10 MB"]),
        ([(0, 0), (0, 0)], ["0 of 0 MB"]),
    ],
    ids=["nothing", "the beginning", "every tenth", "only tenths", "leaps", "it never goes back", "nothing to fetch"],
)
def test_a_log_gets_a_line_at_every_tenth(updates: list[tuple[int, int]], lines: list[str]) -> None:
    assert lines_of(*updates) == lines


def test_a_terminal_gets_one_line_that_is_taken_away_again() -> None:
    terminal = Terminal()
    progress = FetchProgress("tiny", terminal)
    for done in (0, 50, 20, 100):
        progress.update(done, 100)
    text = terminal.getvalue()
    assert "Fetching the embedded model tiny" in text
    assert "\n" not in text
    progress.close()
    assert terminal.getvalue().split("\r")[-2].strip() == ""


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ValueError("I/O operation on closed file")])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_stream_that_is_gone_is_no_fault(error: Exception, is_terminal: bool) -> None:
    stream = Gone(error, is_terminal)
    progress = FetchProgress("tiny", stream)
    progress.update(1, 2)
    progress.update(2, 2)
    progress.close()
    progress.close()
    assert stream.writes
