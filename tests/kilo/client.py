"""The real Kilo CLI, headless, kept from everything but the gateway."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compat

_PACKAGES = ("cli-linux-x64", "cli-linux-x64-baseline")
_QUIET = {
    "KILO_TELEMETRY_LEVEL": "off",
    "KILO_DISABLE_MODELS_FETCH": "1",
    "KILO_DISABLE_AUTOUPDATE": "1",
    "KILO_DISABLE_SHARE": "1",
    "KILO_DISABLE_LSP_DOWNLOAD": "1",
    "KILO_DISABLE_DEFAULT_PLUGINS": "1",
    "KILO_DISABLE_SESSION_INGEST": "1",
    "KILO_DISABLE_PRESENCE": "1",
    "KILO_DISABLE_CODEBASE_INDEXING": "1",
    "KILO_DISABLE_CLAUDE_CODE": "1",
    "KILO_DISABLE_EXTERNAL_SKILLS": "1",
    "KILO_NO_DAEMON": "1",
    "KILO_PURE": "1",
}


def kilo_binary() -> Path | None:
    """The CLI; `None` where it is not installed. `KILO_CLI` names it, or the folder that npm installed it into."""
    named = os.environ.get("KILO_CLI")
    folders = [Path(named)] if named else []
    folders.append(Path(compat.__file__).parents[1])
    candidates = [Path(named)] if named else []
    candidates += [folder / "node_modules/@kilocode" / package / "bin/kilo" for folder in folders for package in _PACKAGES]
    return next((path for path in candidates if path.is_file()), None)


@dataclass(frozen=True)
class Session:
    """What one run of the CLI printed: its events, its exit code, and what went to its standard error.

    An overflow is told as an error, and makes the exit code 1, also where the work went on after compacting.
    """

    events: list[dict[str, Any]]
    exit_code: int
    output: str

    @property
    def errors(self) -> list[str]:
        """The names of the errors that were shown."""
        return [event["error"]["name"] for event in self.events if event["type"] == "error"]

    def parts(self, kind: str) -> Iterator[dict[str, Any]]:
        """The parts of the events of one kind."""
        return (event["part"] for event in self.events if event["type"] == kind)

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts("text"))

    @property
    def tools(self) -> list[tuple[str, str]]:
        """Name and outcome of each tool call."""
        return [(part["tool"], part["state"]["status"]) for part in self.parts("tool_use")]

    @property
    def steps(self) -> list[tuple[int, int, int, float]]:
        """Of each step: tokens in (cached ones among them), cached, out; dollars. As the client shows them."""
        rows = []
        for part in self.parts("step_finish"):
            tokens = part["tokens"]
            read, write = tokens["cache"]["read"], tokens["cache"]["write"]
            rows.append((tokens["input"] + read + write, read, tokens["output"] + tokens.get("reasoning", 0), part["cost"]))
        return rows


def run_kilo(binary: Path, home: Path, folder: Path, task: str, *, timeout_s: float = 240, **environment: str) -> Session:
    """One headless session in `folder`, with the configuration below `home`."""
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        **_QUIET,
        **environment,
    }
    done = subprocess.run(
        [str(binary), "run", "--auto", "--format", "json", task],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    lines = done.stdout.decode().splitlines()
    return Session([json.loads(line) for line in lines if line.startswith("{")], done.returncode, done.stderr.decode("utf-8", "replace"))
