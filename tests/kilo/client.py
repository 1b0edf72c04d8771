"""The real Kilo CLI, headless, kept from everything but the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import Printed, installed

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
    return installed("KILO_CLI", *(f"@kilocode/{package}/bin/kilo" for package in _PACKAGES))


@dataclass(frozen=True)
class Session(Printed):
    """What one run of the CLI printed.

    An overflow is told as an error, and makes the exit code 1, also where the work went on after compacting.
    """

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
    folders = {f"XDG_{name.upper()}_HOME": str(home / name) for name in ("data", "state", "cache")}
    return Session.by(
        [str(binary), "run", "--auto", "--format", "json", task], home, folder, {**folders, **_QUIET, **environment}, timeout_s
    )
