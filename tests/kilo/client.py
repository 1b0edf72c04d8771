"""The real Kilo CLI, headless, kept from everything but the gateway."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.clients import Printed, environment_of, installed

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
_EVENTS = {"text": "text", "tool": "tool_use", "step-finish": "step_finish"}
"""What the CLI calls the parts of messages that it prints."""


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


def run_kilo(binary: Path, home: Path, folder: Path, task: str, *, timeout_s: float = 240) -> Session:
    """One headless session in `folder`, with the configuration below `home`."""
    return Session.by([str(binary), "run", "--auto", "--format", "json", task], home, folder, _settings(home), timeout_s)


class KiloServer:
    """Kilo as a server: its start, most of what a run costs, serves many sessions. Each has the configuration that is in its own folder."""

    def __init__(self, binary: Path, home: Path, port: int) -> None:
        home.mkdir()
        command = [str(binary), "serve", "--hostname", "127.0.0.1", "--port", str(port)]
        environment = environment_of(home, _settings(home))
        self._process = subprocess.Popen(command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert any("listening" in line for line in self._process.stdout), "it ended"
        self._http = requests.Session()
        self._http.trust_env = False
        self._url = f"http://127.0.0.1:{port}/session"

    def work(self, folder: Path, task: str, *, timeout_s: float = 240) -> Session:
        """One session in `folder`, to its end, as `run_kilo` has it; only what its messages have is an error."""

        def ask(method: str, path: str = "", **body: Any) -> Any:
            answer = self._http.request(method, self._url + path, params={"directory": str(folder)}, json=body or None, timeout=timeout_s)
            assert answer.status_code == 200, answer.text
            return answer.json()

        session = ask("POST", permission=[{"permission": "*", "pattern": "*", "action": "allow"}])["id"]
        ask("POST", f"/{session}/message", parts=[{"type": "text", "text": task}])
        said = [message for message in ask("GET", f"/{session}/message") if message["info"]["role"] == "assistant"]
        events = [{"type": "error", "error": message["info"]["error"]} for message in said if message["info"].get("error")]
        events += [
            {"type": _EVENTS[part["type"]], "part": part} for message in said for part in message["parts"] if part["type"] in _EVENTS
        ]
        return Session(events, 0, "")

    def close(self) -> None:
        """End it."""
        self._http.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _settings(home: Path) -> dict[str, str]:
    return {**{f"XDG_{name.upper()}_HOME": str(home / name) for name in ("data", "state", "cache")}, **_QUIET}
