"""Real clients as programs, headless, kept from everything but the gateway: where one is installed, and what one run of it prints."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import compat


def installed(variable: str, *places: str) -> Path | None:
    """The program; `None` where it is not installed. `variable` names it, or the folder that npm installed it into.

    `places` are below `node_modules`, one for each machine that the client is made for.
    """
    named = os.environ.get(variable)
    folders = [*([Path(named)] if named else []), Path(compat.__file__).parents[1]]
    candidates = [*folders[:-1], *(folder / "node_modules" / place for folder in folders for place in places)]
    return next((path for path in candidates if path.is_file()), None)


def environment_of(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """What a client knows of its surroundings: nothing of ours but `more`."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8", **more}


@dataclass(frozen=True)
class Printed:
    """What one run of a client printed: its events, one JSON object a line; its exit code; what went to its standard error."""

    events: list[dict[str, Any]]
    exit_code: int
    output: str

    @classmethod
    def by(cls, command: Sequence[str], home: Path, folder: Path, environment: Mapping[str, str], timeout_s: float = 240) -> Self:
        """One run in `folder`, whose settings are below `home` and in `environment`; nothing else of ours is known to it."""
        env = environment_of(home, environment)
        done = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
        lines = done.stdout.decode().splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return cls(events, done.returncode, done.stderr.decode("utf-8", "replace"))
