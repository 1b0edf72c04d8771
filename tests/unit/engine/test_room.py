"""The room of a machine: read as each system tells it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from compat.engine.room import linux_memory, mac_memory, room_of

KB = 1024
GB = 1024**3


def proc(folder: Path) -> Path:
    (folder / "meminfo").write_text(f"MemTotal: {8 * GB // KB} kB\nMemFree: 1 kB\nMemAvailable:   {6 * GB // KB} kB\n")
    return folder


@pytest.mark.parametrize(
    ("bound", "used", "memory"),
    [
        ("max", 1, 6 * GB),
        (str(2 * GB), GB, GB + 5),
        (str(100 * GB), GB, 6 * GB),
        (str(GB), 2 * GB, 0),
        ("garbage", 1, 6 * GB),
    ],
    ids=["no bound", "a container", "a large bound", "over its bound", "garbage"],
)
def test_a_container_has_what_its_bound_leaves(tmp_path: Path, bound: str, used: int, memory: int) -> None:
    (tmp_path / "memory.max").write_text(bound + "\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 5\n")
    assert linux_memory(proc(tmp_path), tmp_path) == memory


@pytest.mark.parametrize("bounded", ["system.slice/gateway.service", "system.slice"], ids=["its own bound", "a bound above"])
def test_a_service_has_what_its_own_bound_leaves(tmp_path: Path, bounded: str) -> None:
    (proc(tmp_path) / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("1:name=systemd:/other\n0::/system.slice/gateway.service\n")
    group = tmp_path / bounded
    group.mkdir(parents=True)
    for name, value in (("max", 2 * GB), ("current", GB), ("stat", "anon 7")):
        (group / f"memory.{name}").write_text(str(value))
    assert linux_memory(tmp_path, tmp_path) == GB


def test_an_older_container_is_known_too(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    for name, value in (("limit_in_bytes", 3 * GB), ("usage_in_bytes", GB)):
        (tmp_path / f"memory/memory.{name}").write_text(str(value))
    (tmp_path / "memory/memory.stat").write_text("cache 1\n")
    assert linux_memory(proc(tmp_path), tmp_path) == 2 * GB


def test_without_a_container_the_kernel_is_believed(tmp_path: Path) -> None:
    assert linux_memory(proc(tmp_path), tmp_path / "none") == 6 * GB
    (tmp_path / "meminfo").write_text("garbage")
    assert linux_memory(tmp_path, tmp_path / "none") == 0


def test_a_mac_tells_pages() -> None:
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:   100.\nPages active: 9000.\nPages inactive:   50.\n"
        "Pages speculative: 7.\nPages wired down: 9.\nPages purgeable: 3.\n"
    )
    assert mac_memory(lambda: text) == 160 * 16384


def test_the_room_of_this_machine_is_known_even_for_a_folder_that_is_not_there(tmp_path: Path) -> None:
    room = room_of(tmp_path / "a" / "b")
    assert room.disk_bytes > 0
    assert room.memory_bytes > 0


def test_what_is_not_known_is_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    if not hasattr(__import__("ctypes"), "windll"):
        assert room_of(tmp_path).memory_bytes == 0
    monkeypatch.setattr(sys, "platform", "other")
    assert room_of(tmp_path).memory_bytes > 0
