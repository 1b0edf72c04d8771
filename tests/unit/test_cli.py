"""The command line, without a process of its own: misspelt words, and readers that leave."""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.cli import COMPLETION, main
from compat.service import commands as services


def ended_by_head(run: Callable[[], int]) -> int:
    """What `run` returns while the reader of standard output has left. What is left at the end of the process goes nowhere."""
    reader, writer = socket.socketpair()
    reader.close()
    with os.fdopen(writer.detach(), "w") as pipe, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        return run()


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["setp", "kilo"], "No such command 'setp'. Did you mean 'setup'? See `app.py --help`."),
        (["doctr"], "Did you mean 'doctor'?"),
        (["key", "list"], "Did you mean 'keys'?"),
        (["keys", "lst"], "Did you mean 'list'? See `app.py keys --help`."),
        (["--prot", "1"], "'--port'"),
        (["--chek"], "'--check'"),
        (["--hots=::1"], "'--host'"),
        (["xyzzy"], "No such command 'xyzzy'. See"),
        (["keys"], "Missing command. See `app.py keys --help`."),
        (["setup", "--print"], "Missing argument 'CLIENT'. Choose from: kilo, "),
    ],
)
def test_a_misspelt_word_is_reported_with_the_one_that_was_probably_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], hint: str
) -> None:
    assert main(argv, tmp_path) == 2
    done = capsys.readouterr()
    (line,) = done.err.splitlines()
    assert line.startswith("openai-compat: ")
    assert hint in line
    assert done.out == ""


@pytest.mark.parametrize("argv", [["--help"], ["keys", "--help"], ["keys", "add", "-h"], ["setup", "--help"], ["doctor", "--help"]])
def test_help_is_shown_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    (tmp_path / "config.toml").write_text("server.prot = 1\n")
    assert main(argv, tmp_path) == 0
    assert capsys.readouterr().out.startswith("Usage: app.py")


def test_a_shell_is_given_completions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(COMPLETION, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "openai-compat setup k")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert main([], tmp_path, "openai-compat") == 0
    assert capsys.readouterr().out.split() == ["plain,kilo", "plain,kilo-anthropic"]


@pytest.mark.parametrize("argv", [["keys", "list"], ["--host", "0.0.0.0"], ["setup", "qwen", "--url", "http://127.0.0.1:9"]])
def test_the_installed_program_is_named_as_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text("discovery.enabled = false\nembedded.enabled = false\n")
    for program, shown in (("openai-compat", "openai-compat"), ("app.py", "python app.py")):
        main(argv, tmp_path, program)
        done = capsys.readouterr()
        said = done.out + done.err
        assert f"`{shown}" in said or f"'{shown} keys add NAME'" in said
        assert ("python app.py" in said) == (program == "app.py")


@pytest.mark.parametrize("argv", [["--new-key"], ["setup", "openai", "--print", "--url", "http://127.0.0.1:9"]])
def test_a_reader_that_has_read_enough_ends_it_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str], argv: list[str]) -> None:
    (tmp_path / "config.toml").write_text("discovery.enabled = false\nembedded.enabled = false\n")
    assert ended_by_head(lambda: main(argv, tmp_path)) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("argv", [["status"], ["status", "--json"], ["logs"]])
def test_a_reader_of_a_report_that_has_read_enough_ends_it_without_a_word(tmp_path: Path, argv: list[str]) -> None:
    assert ended_by_head(lambda: services.main(argv, tmp_path)) == services.EXIT_DONE


def test_the_time_of_what_failed_is_not_taken_for_how_long_the_service_goes_on() -> None:
    failed = services.Report("reload", "not reloaded: the service goes on as it was", took_s=0.7)
    assert services.readable(failed) == "openai-compat  not reloaded: the service goes on as it was, after 0.7 s\n"
    assert services.readable(services.Report("reload", "reloaded", took_s=0.7)) == "openai-compat  reloaded in 0.7 s\n"
    assert services.readable(services.Report("status", "up")) == "openai-compat  up\n"


class Terminal(io.StringIO):
    """Says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("argv", [["keys", "list"], ["keys", "ad"], ["--help"], ["--usage"], ["doctor"]])
def test_nothing_is_coloured_so_that_no_color_has_nothing_to_switch_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    (tmp_path / "config.toml").write_text("discovery.enabled = false\nembedded.enabled = false\n")
    terminal = Terminal()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    main(argv, tmp_path)
    assert terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()
