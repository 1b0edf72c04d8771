"""What set-up changed is put back, and nothing that somebody else wrote is lost."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.setup.jsonc import json_text, with_values
from compat.setup.undo import read_records, remember, undo, written

CLIENT = "kilo"
OURS = ("provider.openai-compat", "model")


class Place:
    """A client's file, and set-ups of it: each writes what it is told to, as the command does."""

    def __init__(self, folder: Path) -> None:
        self.record = folder / "data/setup.json"
        self.path = folder / "kilo.jsonc"
        self.runs = 0
        self.said: list[str] = []

    def set_up(self, text: str, client: str = CLIENT) -> Path | None:
        self.runs += 1
        before = self.path.read_text() if self.path.exists() else None
        copy = self.path.with_name(f"kilo.jsonc.backup-{self.runs}")
        kept = remember(self.record, client, self.path, before, text, OURS if before is not None else (), copy, ())
        if kept == copy:
            copy.write_text(before or "")
        self.path.write_text(text)
        return kept

    def undo(self, client: str = CLIENT) -> bool:
        self.said.clear()
        return undo(self.record, client, self.said.append)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir() if path.is_file())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_file_that_was_new_is_removed_also_after_several_runs(place: Place) -> None:
    place.set_up("one")
    assert stat.S_IMODE(place.record.stat().st_mode) == 0o600
    place.set_up("two")
    assert place.undo()
    assert (place.said, place.files()) == ([f"Removed: {place.path}"], [])
    assert read_records(place.record) == {}


def test_several_runs_go_back_to_the_state_before_the_first_and_leave_no_copy(place: Place) -> None:
    place.path.write_text("theirs")
    copies = {place.set_up(text) for text in ("one", "two", "three")}
    assert len(copies) == 1
    assert place.undo()
    assert (place.said, place.files(), place.path.read_text()) == ([f"Put back: {place.path}"], ["kilo.jsonc"], "theirs")


def test_a_second_undo_says_that_there_is_nothing(place: Place) -> None:
    place.set_up("one")
    place.undo()
    assert place.undo()
    assert place.said == [f"Nothing to undo: no change of `setup kilo` is recorded in {place.record}."]


def changed_after(place: Place) -> None:
    place.set_up("one")
    place.path.write_text("one, and theirs")


def changed_between(place: Place) -> None:
    place.set_up("one")
    place.path.write_text("one, and theirs")
    place.set_up("two, and theirs")


def without_copy(place: Place) -> None:
    copy = place.set_up("one")
    assert copy is not None
    copy.unlink()


@pytest.mark.parametrize(
    ("happen", "why", "copy"),
    [(changed_after, "it was changed since", 1), (changed_between, "it was changed since", 2), (without_copy, "the copy is gone", 1)],
)
def test_a_file_that_somebody_changed_is_left_alone_and_said_to_be(
    place: Place, happen: Callable[[Place], None], why: str, copy: int
) -> None:
    place.path.write_text("theirs")
    happen(place)
    text = place.path.read_text()
    for _ in range(2):  # what is left alone stays known
        assert not place.undo()
        kept = place.path.with_name(f"kilo.jsonc.backup-{copy}")
        assert place.said == [
            f"Left alone, because {why}: {place.path} (as it was: {kept}); take out by hand: provider.openai-compat, model"
        ]
        assert place.path.read_text() == text


def test_a_new_file_to_which_something_was_added_is_left_alone(place: Place) -> None:
    changed_after(place)
    assert not place.undo()
    assert place.said == [f"Left alone, because it was changed since: {place.path}; take out by hand: all that you didn't write"]


def test_a_file_that_is_gone_needs_nothing(place: Place) -> None:
    place.set_up("one")
    place.path.unlink()
    assert place.undo()
    assert place.said == [f"Already gone: {place.path}"]


def test_after_a_file_was_put_back_by_hand_the_next_run_is_the_first_again(place: Place) -> None:
    place.path.write_text("theirs")
    place.set_up("one")
    place.path.write_text("theirs")
    place.set_up("two")
    assert place.undo()
    assert place.path.read_text() == "theirs"


def test_clients_of_one_file_are_undone_in_the_reverse_order(place: Place) -> None:
    place.path.write_text("theirs")
    place.set_up("one", "kilo")
    place.set_up("two", "kilo-anthropic")
    assert not place.undo("kilo")
    assert place.undo("kilo-anthropic")
    assert place.undo("kilo")
    assert (place.path.read_text(), place.files()) == ("theirs", ["kilo.jsonc"])


@pytest.mark.parametrize("content", [b"{", b'{"kilo": 5}', b"\xff"])
def test_a_record_that_cannot_be_read_is_never_taken_for_an_empty_one(place: Place, content: bytes) -> None:
    place.record.parent.mkdir()
    place.record.write_bytes(content)
    with pytest.raises(ValueError, match="can't be read"):
        place.set_up("one")
    with pytest.raises(ValueError, match="move it away"):
        place.undo()
    assert (place.path.exists(), place.record.read_bytes()) == (False, content)


# Files of JSON that were changed since, of which only what is still set-up's is taken out.

DOCUMENT = {"$schema": "s", "model": "openai-compat/m", "provider": {"openai-compat": {"name": "g", "models": {"a.b": {}}}}}
PATHS = (("provider", "openai-compat"), ("model",))
ADDED = '{\n  // mine\n  "permission": "ask",'


def set_up_json(place: Place) -> None:
    before = place.path.read_text() if place.path.exists() else None
    text = json_text(DOCUMENT) if before is None else with_values(before, DOCUMENT, PATHS)
    copy = place.path.with_name("kilo.jsonc.backup-1")
    if remember(place.record, CLIENT, place.path, before, text, OURS if before else (), copy, written(DOCUMENT, PATHS)) == copy:
        copy.write_text(before or "")
    place.path.write_text(text)


def undone(place: Place) -> str:
    place.path.write_text(place.path.read_text().replace("{", ADDED, 1))
    place.path.chmod(0o640)
    assert place.undo()
    assert read_records(place.record) == {}
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o640
    return place.path.read_text()


def test_from_a_new_file_that_its_client_changed_ours_is_taken_out(place: Place) -> None:
    set_up_json(place)
    assert undone(place) == '{\n  // mine\n  "permission": "ask",\n  "$schema": "s"\n}\n'
    assert place.said == [f"Taken out of {place.path}, which was changed since: provider.openai-compat, model"]


def test_what_a_file_had_before_comes_back_though_it_was_changed_since(place: Place) -> None:
    place.path.write_text('{\n  "model": "theirs/m", // the best\n  "provider": {"theirs": {}}\n}\n')
    set_up_json(place)
    text = undone(place)
    assert text == '{\n  // mine\n  "permission": "ask",\n  "model": "theirs/m", // the best\n  "provider": {"theirs": {}\n  }\n}\n'
    assert place.said == [
        f"Taken out of {place.path}, which was changed since: provider.openai-compat, model (as it was: {place.path}.backup-1)"
    ]


def test_what_the_user_has_changed_of_ours_is_the_users(place: Place) -> None:
    set_up_json(place)
    place.path.write_text(place.path.read_text().replace("openai-compat/m", "other/m"))
    assert '"model": "other/m"' in undone(place)
    assert place.said == [f"Taken out of {place.path}, which was changed since: provider.openai-compat"]


@pytest.mark.parametrize("text", ["{", '{"model": "other"}', "[]", "\x00"])
def test_a_file_with_nothing_of_ours_that_can_be_found_is_left_alone(place: Place, text: str) -> None:
    set_up_json(place)
    place.path.write_text(text)
    assert not place.undo()
    assert place.path.read_text() == text
    assert place.said[0].startswith("Left alone, because it was changed since")
