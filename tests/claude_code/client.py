"""The real Claude Code in print mode, kept from everything but the gateway."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compat

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
    named = os.environ.get("CLAUDE_CLI")
    folders = [Path(named)] if named else []
    folders.append(Path(compat.__file__).parents[1])
    candidates = [Path(named)] if named else []
    candidates += [folder / "node_modules/@anthropic-ai" / package / "claude" for folder in folders for package in _PACKAGES]
    return next((path for path in candidates if path.is_file()), None)


@dataclass(frozen=True)
class Session:
    """What one run of the CLI printed: its events, its exit code, and what went to its standard error."""

    events: list[dict[str, Any]]
    exit_code: int
    output: str

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
        for block in self._blocks():
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
            elif block["type"] == "tool_result":
                done.append((names[block["tool_use_id"]], not block.get("is_error")))
        return done

    def _blocks(self) -> list[dict[str, Any]]:
        contents = [event["message"]["content"] for event in self.events if event["type"] in ("assistant", "user")]
        return [block for content in contents if isinstance(content, list) for block in content]


def run_claude(binary: Path, home: Path, folder: Path, task: str, *arguments: str, timeout_s: float = 240, **environment: str) -> Session:
    """One run in `folder`; what is not in `environment` it has from the settings below `home`."""
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "NO_PROXY": "*",
        **_QUIET,
        **environment,
    }
    done = subprocess.run(
        [str(binary), "-p", task, "--output-format", "stream-json", "--verbose", "--permission-mode", "bypassPermissions", *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    lines = done.stdout.decode().splitlines()
    return Session([json.loads(line) for line in lines if line.startswith("{")], done.returncode, done.stderr.decode("utf-8", "replace"))
