"""Whether what the gateway writes can be written, tried without leaving anything behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.check import check
from compat.config.settings import load_settings
from compat.upstream.listing import Listing
from compat.writable import write_fault, written_places
from tests.unit.builders import make_gateway, make_upstream


def everything_in(folder: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.lstat().st_size) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["there/file", "there/new", "not/there/yet/new", "link", "dangling", "there"])
def test_what_can_be_written_is_left_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("as it was")
    (tmp_path / "link").symlink_to("there/file")
    (tmp_path / "dangling").symlink_to("there/later")
    before = everything_in(tmp_path)
    assert write_fault(tmp_path / name) == ""
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(("name", "words"), [("file/x.log", "Not a directory"), ("loop", ""), ("loop/x.log", "")])
def test_what_can_not_be_written_is_reported_in_the_systems_words(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    (tmp_path / "loop").symlink_to("loop")
    fault = write_fault(tmp_path / name)
    assert fault
    assert words in fault


def test_a_folder_in_the_place_of_a_file_is_reported(tmp_path: Path) -> None:
    assert write_fault(tmp_path, is_file=True) == "Is a directory"
    assert write_fault(tmp_path) == ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_a_folder_that_nobody_can_write_is_reported() -> None:
    assert write_fault(Path("/proc/nope/x.log"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["log", "usage", "vault", "run folder"]),
        ("usage.enabled = false\nvault.path = ''\n", ["log", "run folder"]),
        ("usage.path = ''\nvault.enabled = false\n", ["log", "run folder"]),
        ("storage.redis_url = 'redis://x'\n", ["log", "usage", "run folder"]),
    ],
)
def test_what_is_written_depends_on_the_settings(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / "config.toml").write_text(text)
    settings = load_settings(tmp_path / "config.toml", {})
    places = written_places(settings, tmp_path, {"OPENAI_COMPAT_RUN_DIR": "/run/mine"})
    assert list(places) == names
    assert (places["log"], places["run folder"]) == (tmp_path / "logs/openai_compat.log", Path("/run/mine"))


def test_the_check_tells_of_each_place_and_finds_the_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    gateway = make_gateway(tmp_path)
    gateway.router.learn({"openai": make_upstream("openai")}, {})
    said: list[str] = []
    places = {"log": tmp_path / "file/x.log", "usage": tmp_path / "usage"}
    assert check(gateway, lambda *_: Listing(), said.append, {"usage": places["usage"]}), said
    assert not check(gateway, lambda *_: Listing(), said.append, places)
    assert f"writes     FAULT log {tmp_path / 'file/x.log'} can't be written: Not a directory" in said
    assert f"writes     usage {tmp_path / 'usage'}" in said
    assert said[-1] == "Something is wrong: see the lines marked FAULT."
