"""What the commands of `restart_services.py` say of a folder that is not as they left it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compat.service.commands import EXIT_DOWN, EXIT_FAILED, main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    monkeypatch.setenv("OPENAI_COMPAT_RUN_DIR", str(run))
    return run


@pytest.mark.parametrize("text", ['{"generations":"x"}', '{"generations":[{"number":1}]}', "{", '{"watcher":[1],"latest":1e999}'])
@pytest.mark.parametrize("command", ["status", "stop"])
def test_a_damaged_file_of_the_watcher_is_told_in_one_line(
    command: str, text: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "service.json").write_text(text)
    code = main([command, "--json"], tmp_path)
    report = json.loads(capsys.readouterr().out)
    assert (code, report["outcome"]) == ((EXIT_DOWN, "down") if command == "status" else (0, "was down"))
    assert report["notes"] == [f"{folder / 'service.json'} is damaged, or of another version, and was ignored."]


@pytest.mark.parametrize("command", ["status", "start", "stop", "restart", "reload", "logs", "run"])
def test_a_folder_that_others_can_write_to_is_refused_in_one_line(
    command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.chmod(0o777)
    assert main([command], tmp_path) == EXIT_FAILED
    said = capsys.readouterr()
    assert said.out == (
        "openai-compat  failed\n"
        f"  {folder}: others can write to it (mode 0777): remove it, or set OPENAI_COMPAT_RUN_DIR to a folder of your own\n"
    )
    assert said.err == ""
    assert not list(folder.iterdir())
