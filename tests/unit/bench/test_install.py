"""Peers are installed once, and anew when an installation was interrupted or asks for something else."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.peers.install import NotInstalled, Npm, Pip, install


@dataclass(slots=True)
class FakeEnvironment:
    words: str = "one"
    fails: bool = False
    made: list[Path] = field(default_factory=list)

    def make(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "part").touch()
        self.made.append(folder)
        if self.fails:
            raise NotInstalled("no network")

    def version(self, folder: Path, package: str) -> str:
        return "1"


def test_an_environment_is_made_once(tmp_path: Path):
    environment = FakeEnvironment()
    folders = [install("peer", environment, tmp_path / "cache") for _ in range(2)]
    assert folders == [environment.made[0]] * 2
    assert len(environment.made) == 1


def test_an_environment_of_other_packages_has_a_folder_of_its_own(tmp_path: Path):
    assert install("peer", FakeEnvironment("one"), tmp_path) != install("peer", FakeEnvironment("two"), tmp_path)


def test_what_was_interrupted_is_made_anew(tmp_path: Path):
    environment = FakeEnvironment(fails=True)
    with pytest.raises(NotInstalled, match="no network"):
        install("peer", environment, tmp_path)
    environment.fails = False
    folder = install("peer", environment, tmp_path)
    assert environment.made == [folder, folder]


@pytest.mark.slow
def test_what_a_registry_says_no_to_is_told(tmp_path: Path):
    with pytest.raises(NotInstalled, match=r"python failed: .*nonsense"):
        Pip("./nonsense").make(tmp_path / "environment")


def test_each_kind_is_named_by_what_is_in_it():
    assert len({Pip("a").words, Pip("a", is_loose=True).words, Pip("b").words, Npm({"a": "1"}).words, Npm({"a": "2"}).words}) == 5
