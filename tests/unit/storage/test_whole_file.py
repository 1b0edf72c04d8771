"""Files that are replaced whole."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from compat.storage.whole_file import replace_file


@pytest.mark.parametrize("is_synced", [False, True])
def test_a_file_is_replaced_whole_and_is_its_owners_alone(tmp_path: Path, is_synced: bool) -> None:
    path = tmp_path / "x.json"
    path.write_text("before")
    before = path.stat().st_ino
    replace_file(path, b"after", is_synced=is_synced)
    assert path.read_bytes() == b"after"
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_to_be_done_with_the_new_file_comes_before_anything_is_in_it(tmp_path: Path) -> None:
    def prepare(descriptor: int) -> None:
        (made,) = tmp_path.iterdir()
        assert made.stat().st_size == 0
        made.chmod(0o640)

    replace_file(tmp_path / "x.json", b"new", prepare)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o640


def test_a_file_that_can_not_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("before")

    def fail(_descriptor: int) -> None:
        raise PermissionError("not here")

    with pytest.raises(PermissionError, match="not here"):
        replace_file(path, b"after", fail)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
