"""`python app.py setup` as a process: what it writes, what it keeps, what it proves."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from compat.setup.command import gateway_url
from compat.setup.jsonc import parse
from tests.conftest import RunningGateway, to_upstream
from tests.fakes.openai_answers import chunk, json_answer, stream_answer, text_chunks, usage_chunk
from tests.fakes.upstream import Answer, FakeUpstream, Request
from tests.unit.service.command_line import CommandLine

pytestmark = pytest.mark.slow

HAND_WRITTEN = (
    '{\n\t// mine\n\t"theme": "dark", /* dark */\n\t"provider": {\n\t\t"other": {"options": {"apiKey": "sk-other"}}, // keep\n\t},\n}\n'
)


def agent(request: Request) -> Answer:
    """Calls the tool that it is offered, and answers in words once it has the result."""
    if request.method == "GET":
        return json_answer({"data": [{"id": "their-model"}]})
    if request.json["messages"][-1]["role"] == "tool":
        return stream_answer(text_chunks("I noted it."))
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "note", "arguments": '{"word": "lighthouse"}'}}
    return stream_answer([chunk({"role": "assistant", "tool_calls": [call]}), chunk({}, "tool_calls"), usage_chunk()])


@pytest.fixture
def upstream() -> Any:
    with FakeUpstream(default=agent) as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    (tmp_path / "home").mkdir()
    return CommandLine(tmp_path / "home")


def kilo_file(cli: CommandLine) -> Path:
    return cli.folder / ".config/kilo/kilo.jsonc"


def write_by_hand(cli: CommandLine, text: str = HAND_WRITTEN) -> Path:
    path = kilo_file(cli)
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode())
    path.chmod(0o640)
    return path


def test_a_new_file_is_written_for_its_owner_only_and_proved(gateway: RunningGateway, cli: CommandLine) -> None:
    done = cli.run("setup", "kilo", "--url", gateway.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "It works."
    assert done.stdout.count("  ok    ") == 4
    path = kilo_file(cli)
    node = parse(path.read_text())
    assert node is not None
    assert node.value["provider"]["openai-compat"]["options"]["baseURL"] == gateway.url
    assert "claude-4-sonnet" in node.value["provider"]["openai-compat"]["models"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_merged_kept_and_the_difference_shown(gateway: RunningGateway, cli: CommandLine) -> None:
    path = write_by_hand(cli)
    done = cli.call("setup", "kilo", "--url", gateway.root)
    assert done.returncode == 0, done.stdout + done.stderr
    backups = sorted(path.parent.glob("kilo.jsonc.backup-*"))
    assert [backup.read_text() for backup in backups] == [HAND_WRITTEN]
    changed = path.read_text()
    assert changed.startswith(HAND_WRITTEN.removesuffix("\t},\n}\n"))
    assert changed.endswith("}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert '+\t\t"openai-compat": {' in done.stdout
    assert f"The file as it was: {backups[0]}" in done.stdout
    assert sorted(item.name for item in path.parent.iterdir()) == [path.name, backups[0].name]
    assert cli.call("setup", "kilo", "--undo").stdout == f"Put back: {path}\n"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (HAND_WRITTEN, 0o640)


def test_a_second_run_changes_nothing(gateway: RunningGateway, cli: CommandLine) -> None:
    path = write_by_hand(cli)
    cli.call("setup", "kilo", "--url", gateway.root, "--no-proof")
    before = path.read_bytes()
    done = cli.call("setup", "kilo", "--url", gateway.root, "--no-proof")
    assert (done.returncode, path.read_bytes()) == (0, before)
    assert f"Unchanged: {path}" in done.stdout
    assert len(list(path.parent.iterdir())) == 2


def test_a_link_to_the_file_stays_a_link(gateway: RunningGateway, cli: CommandLine) -> None:
    path = write_by_hand(cli)
    real = cli.folder / "dotfiles.jsonc"
    path.rename(real)
    path.symlink_to(real)
    assert cli.call("setup", "kilo", "--url", gateway.root, "--no-proof").returncode == 0
    assert path.is_symlink()
    assert '"openai-compat"' in real.read_text()


@pytest.mark.parametrize("text", ['{"provider": 1}', "{ oops", b"\xff\xfe{}".decode("latin-1")])
def test_a_file_that_can_not_be_merged_is_left_alone(gateway: RunningGateway, cli: CommandLine, text: str) -> None:
    path = write_by_hand(cli, "")
    path.write_bytes(text.encode("latin-1"))
    done = cli.call("setup", "kilo", "--url", gateway.root)
    assert (done.returncode, path.read_bytes()) == (1, text.encode("latin-1"))
    assert done.stdout.startswith(f"Not changed: {path}: ")
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_print_prints_nothing_but_the_configuration(gateway: RunningGateway, cli: CommandLine) -> None:
    done = cli.call("setup", "kilo", "--print", "--url", gateway.root, "--key", "sk-mine")
    node = parse(done.stdout)
    assert node is not None
    assert node.value["provider"]["openai-compat"]["options"]["apiKey"] == "sk-mine"
    assert (done.returncode, kilo_file(cli).exists()) == (0, False)


def test_without_a_running_gateway_the_file_is_written_but_not_proved(cli: CommandLine) -> None:
    cli.configure("discovery.enabled = false\n[server]\nport = 1\n")
    done = cli.run("setup", "kilo", ANTHROPIC_API_KEY="sk-canary-0123456789")
    assert done.returncode == 1
    assert "Not tested yet: no gateway answers at http://127.0.0.1:1/v1." in done.stdout
    node = parse(kilo_file(cli).read_text())
    assert node is not None
    assert node.value["provider"]["openai-compat"]["models"]["claude-4-sonnet"]["limit"]["context"] > 100_000
    assert "canary" not in done.stdout + done.stderr + kilo_file(cli).read_text()


def test_a_proof_that_fails_says_why(start_gateway: Any, cli: CommandLine) -> None:
    with FakeUpstream(default=lambda _: stream_answer(text_chunks("I am only a chat model."))) as upstream:
        done = cli.call("setup", "kilo", "--url", start_gateway(to_upstream(upstream)).root)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "It does not work yet."
    assert "FAIL  the model answered in text instead of calling the tool: 'I am only a chat model.'" in done.stdout


def test_a_key_that_is_refused_is_told(start_gateway: Any, upstream: FakeUpstream, cli: CommandLine) -> None:
    settings = {**to_upstream(upstream), "keys": {"ada": {"hash": "sha256:" + "0" * 64}}}
    done = cli.call("setup", "kilo", "--url", start_gateway(settings).root)
    assert (done.returncode, kilo_file(cli).exists()) == (1, False)
    assert "refuses the key" in done.stdout


def test_something_else_at_the_address_is_told(upstream: FakeUpstream, cli: CommandLine) -> None:
    upstream.script(Answer((b"<html>",), 200, (("content-type", "text/html"),)))
    done = cli.call("setup", "kilo", "--url", upstream.url)
    assert (done.returncode, kilo_file(cli).exists()) == (1, False)
    assert "is not an openai-compat gateway" in done.stdout


@pytest.mark.parametrize(
    ("client", "paths"),
    [
        ("opencode", [".config/opencode/opencode.jsonc"]),
        ("kilo-anthropic", [".config/kilo/kilo.jsonc"]),
        ("qwen", [".qwen/settings.json"]),
        ("crush", [".config/crush/crush.json"]),
        ("zed", [".config/zed/settings.json"]),
        ("roo", ["openai-compat-roo.json"]),
        ("continue", [".continue/config.yaml"]),
        ("aider", [".aider.conf.yml", ".aider.model.metadata.json"]),
        ("cline", []),
        ("openai", []),
    ],
)
def test_other_clients_are_set_up_and_proved_the_same_way(gateway: RunningGateway, cli: CommandLine, client: str, paths: list[str]) -> None:
    done = cli.call("setup", client, "--url", gateway.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "It works."
    for path in paths:
        assert gateway.url in (cli.folder / path).read_text() or path.endswith("metadata.json")
    if not paths:
        assert gateway.url in done.stdout
    printed = cli.call("setup", client, "--url", gateway.root, "--print").stdout
    for path in paths:
        assert (cli.folder / path).read_text().strip() in printed
    undone = cli.call("setup", client, "--undo")
    assert (undone.returncode, len(undone.stdout.splitlines())) == (0, max(len(paths), 1))
    assert not any((cli.folder / path).exists() for path in paths)


def test_a_file_that_can_not_be_merged_without_loss_is_not_touched(gateway: RunningGateway, cli: CommandLine) -> None:
    path = cli.folder / ".continue/config.yaml"
    path.parent.mkdir()
    path.write_text("# mine\n")
    done = cli.call("setup", "continue", "--url", gateway.root, "--no-proof")
    assert path.read_text() == "# mine\n"
    assert f"Not changed, because it exists: {path}" in done.stdout
    assert 'model: "claude-4-sonnet"' in done.stdout


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:28889", "http://127.0.0.1:28889/v1"),
        ("http://gw.lan/v1/", "http://gw.lan/v1"),
        ("http://127.0.0.1:28889/v1/chat/completions", "http://127.0.0.1:28889/v1"),
        ("https://gw.lan/prefix", "https://gw.lan/prefix/v1"),
        ("http://[::1]:1", "http://[::1]:1/v1"),
        ("localhost", "http://localhost/v1"),
        ("gateway:28889", "http://gateway:28889/v1"),
        ("http://gateway", "http://gateway/v1"),
        ("gw.lan", "http://gw.lan/v1"),
    ],
)
def test_an_address_is_understood_however_it_is_given(given: str, url: str) -> None:
    assert gateway_url(given) == url


@pytest.mark.parametrize("given", ["ftp://x", "http://", "", "notaurl", "http://a b", "http://x:99999", "http://x:y", "x:y"])
def test_an_address_that_is_none_is_refused(cli: CommandLine, given: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a gateway"):
        gateway_url(given)


def test_the_configuration_of_the_page_is_the_same_as_the_commands(gateway: RunningGateway, cli: CommandLine) -> None:
    printed = cli.call("setup", "kilo", "--print", "--url", gateway.root).stdout
    assert gateway.get("/setup/kilo.jsonc").text == printed
    assert json.loads(gateway.get("/setup/openai-compat-roo.json").text)["globalSettings"] == {}
    assert os.environ.get("HOME") != str(cli.folder)
