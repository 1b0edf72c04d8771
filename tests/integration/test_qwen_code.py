"""The real Qwen Code through the gateway, configured by `setup qwen` alone: it writes a file by a tool call, and says so.

It needs the CLI (`npm install --no-save @qwen-code/qwen-code@0.24.4`); its `cli-entry.js`, or the folder it was installed into, is named by
QWEN_CLI.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients import installed
from tests.conftest import to_upstream
from tests.fakes.openai_answers import chunk, json_answer, stream_answer, text_chunks, usage_chunk
from tests.fakes.upstream import Answer, FakeUpstream, Request
from tests.unit.service.command_line import CommandLine

PROGRAM = installed("QWEN_CLI", "@qwen-code/qwen-code/cli-entry.js")
NODE = shutil.which("node")
WORDS = "The note is there."

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None or NODE is None, reason="Qwen Code is not installed: see the docstring of this module"),
]


class Model:
    """Writes the note where it has the tool for it, and says so once it has the result; anything else is answered in words."""

    def __init__(self, note: Path) -> None:
        self.note = note
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: Request) -> Answer:
        if request.method == "GET":
            return json_answer({"data": [{"id": "their-model"}]})
        body: dict[str, Any] = request.json
        self.bodies.append(body)
        tools = {tool["function"]["name"] for tool in body.get("tools", ())}
        if "write_file" not in tools or body["messages"][-1]["role"] == "tool":
            return stream_answer(text_chunks(WORDS))
        arguments = json.dumps({"file_path": str(self.note), "content": "lighthouse\n"})
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "write_file", "arguments": arguments}}
        return stream_answer([chunk({"role": "assistant", "tool_calls": [call]}), chunk({}, "tool_calls"), usage_chunk()])


def test_it_works_as_it_was_set_up_and_is_as_before_when_that_is_undone(start_gateway: Any, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    model = Model(folder / "note.txt")
    with FakeUpstream(default=model) as upstream:
        gateway = start_gateway(to_upstream(upstream))
        cli = CommandLine(home)
        done = cli.call("setup", "qwen", "--url", gateway.root, "--no-proof")
        assert done.returncode == 0, done.stdout + done.stderr
        environment = {"PATH": f"{Path(str(NODE)).parent}:/usr/bin:/bin", "HOME": str(home), "NO_PROXY": "*"}
        command = [str(NODE), str(PROGRAM), "--approval-mode", "yolo", "-p", "Write lighthouse into note.txt."]
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert WORDS in ran.stdout
    assert model.note.read_text() == "lighthouse\n"
    assert {body["model"] for body in model.bodies} == {"their-model"}
    assert cli.call("setup", "qwen", "--undo").stdout == f"Removed: {home / '.qwen/settings.json'}\n"
