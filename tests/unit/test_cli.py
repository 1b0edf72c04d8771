"""The command line, without a process of its own: misspelt words, and readers that leave."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.cli import main
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
        (["setp", "kilo"], "unrecognized arguments: setp kilo; did you mean 'setup'?"),
        (["doctr"], "did you mean 'doctor'?"),
        (["key", "list"], "did you mean 'keys'?"),
        (["--prot", "1"], "did you mean '--port'?"),
        (["--chek"], "did you mean '--check'?"),
        (["--hots=::1"], "did you mean '--host'?"),
        (["xyzzy"], "unrecognized arguments: xyzzy\n"),
    ],
)
def test_a_misspelt_word_is_reported_with_the_one_that_was_probably_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], hint: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv, tmp_path)
    assert ended.value.code == 2
    assert hint in capsys.readouterr().err


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
