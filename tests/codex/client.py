"""The real Codex in `exec` mode, kept from everything but the gateway."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import Printed, installed

_PLATFORMS = (
    ("codex-linux-x64", "x86_64-unknown-linux-musl"),
    ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
)
_QUIET = {"check_for_update_on_startup": False, "analytics.enabled": False, "feedback.enabled": False}


def codex_binary() -> Path | None:
    """The CLI; `None` where it is not installed. `CODEX_CLI` names it, or the folder that npm installed it into."""
    return installed("CODEX_CLI", *(f"@openai/{package}/vendor/{target}/bin/codex" for package, target in _PLATFORMS))


@dataclass(frozen=True)
class Session(Printed):
    """What one run of the CLI printed."""

    @property
    def items(self) -> list[dict[str, Any]]:
        """All that was done and said, in its order; warnings of the program are left out."""
        done = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item for item in done if item["type"] != "error"]

    @property
    def is_good(self) -> bool:
        return self.exit_code == 0 and any(event["type"] == "turn.completed" for event in self.events)

    @property
    def text(self) -> str:
        """The last words."""
        return next((str(item["text"]) for item in reversed(self.items) if item["type"] == "agent_message"), "")


def run_codex(binary: Path, home: Path, folder: Path, task: str, *arguments: str, timeout_s: float = 120, **settings: Any) -> Session:
    """One run in `folder`; what is not in `settings` it has from the configuration below `home`."""
    given = [f"{name}={json.dumps(value)}" for name, value in {**_QUIET, **settings}.items()]
    options = [
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        "--json",
        *(word for one in given for word in ("-c", one)),
    ]
    command = [str(binary), "exec", *options, *arguments, task]
    return Session.by(command, home, folder, {"NO_PROXY": "*", "CODEX_HOME": str(home / ".codex")}, timeout_s)
