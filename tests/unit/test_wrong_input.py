"""Whatever is wrong with an argument, a key, a file, a port or a disk is one line and an exit code; the documents have all of them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases.wrong_input import BEGIN, CASES, DOCUMENTS, PORT, Wrong, with_table
from tests.unit.service.command_line import CommandLine


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    """A port that somebody has: this test, or whoever was first."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        yield


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if case.is_real else (), id=f"{' '.join(case.argv)}: {case.said}") for case in CASES],
)
def test_what_is_wrong_is_said_in_one_line(case: Wrong, tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    if case.config is not None:
        cli.configure(case.config)
    for name, data in case.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if data is None else path.write_bytes(data)
    if case.before:
        assert cli.call(*case.before).returncode == 0
    with taken(int(PORT)):
        done = (cli.run if case.is_real else cli.call)(*case.argv, **case.environment)
    assert done.returncode == case.code, done.stdout + done.stderr
    said = done.stderr if case.code == 2 else done.stdout
    assert case.said in " ".join(said.split())
    assert "Traceback" not in done.stdout + done.stderr
    if case.code == 2:
        assert (said.startswith("openai-compat: "), len(said.splitlines()), done.stdout) == (True, 1, "")


def test_there_are_forty_of_them_and_no_two_are_alike() -> None:
    assert len({(case.said, *case.argv) for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize("language", list(DOCUMENTS))
def test_the_documents_have_a_line_for_each(language: str) -> None:
    text = DOCUMENTS[language].read_text(encoding="utf-8")
    assert BEGIN in text
    assert with_table(text, language) == text, "run `python -m tests.cases.wrong_input`"
