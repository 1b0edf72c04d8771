"""The real Claude Code in print mode, kept from everything but the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import Printed, installed

_PACKAGES = ("claude-code-linux-x64", "claude-code-linux-arm64")
_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_BUG_COMMAND": "1",
    "IS_SANDBOX": "1",
}


def claude_binary() -> Path | None:
    """The CLI; `None` where it is not installed. `CLAUDE_CLI` names it, or the folder that npm installed it into."""
    return installed("CLAUDE_CLI", *(f"@anthropic-ai/{package}/claude" for package in _PACKAGES))


@dataclass(frozen=True)
class Session(Printed):
    """What one run of the CLI printed."""

    @property
    def result(self) -> dict[str, Any]:
        """The event that ends a run."""
        return next((event for event in self.events if event["type"] == "result"), {})

    @property
    def is_good(self) -> bool:
        return self.exit_code == 0 and self.result.get("subtype") == "success" and not self.result.get("is_error")

    @property
    def text(self) -> str:
        return str(self.result.get("result", ""))

    @property
    def tools(self) -> list[tuple[str, bool]]:
        """Name of each tool that was called, and whether it worked."""
        names: dict[str, str] = {}
        done = []
        for block in self.blocks:
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
            elif block["type"] == "tool_result":
                done.append((names[block["tool_use_id"]], not block.get("is_error")))
        return done

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """All blocks of all messages, in their order."""
        contents = [event["message"]["content"] for event in self.events if event["type"] in ("assistant", "user")]
        return [block for content in contents if isinstance(content, list) for block in content]


def run_claude(binary: Path, home: Path, folder: Path, task: str, *arguments: str, timeout_s: float = 240, **environment: str) -> Session:
    """One run in `folder`; what is not in `environment` it has from the settings below `home`."""
    command = [str(binary), "-p", task, "--output-format", "stream-json", "--verbose", "--permission-mode", "bypassPermissions", *arguments]
    return Session.by(command, home, folder, {"NO_PROXY": "*", **_QUIET, **environment}, timeout_s)
