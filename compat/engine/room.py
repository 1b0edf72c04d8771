"""How much room this machine has: memory that programs may still take, and disk."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)
_INACTIVE = re.compile(r"^inactive_file (\d+)", re.MULTILINE)
_PAGES = re.compile(r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)", re.MULTILINE)
_PAGE_SIZE = re.compile(r"page size of (\d+) bytes")
_CGROUPS = (
    (re.compile(r"^0::/(.*)$", re.MULTILINE), "", "memory.max", "memory.current"),
    (re.compile(r"^\d+:memory:/(.*)$", re.MULTILINE), "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""For the second and the first version of control groups: our group in `/proc/self/cgroup`, their folder, a group's bound and use."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are free."""

    memory_bytes: int
    disk_bytes: int


def room_of(folder: Path) -> Room:
    """The room for a model that is kept in `folder`, which need not exist yet. What is not known is taken for none."""
    found = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    try:
        disk = shutil.disk_usage(found).free
    except OSError:
        disk = 0
    try:
        memory = _FREE_MEMORY.get(sys.platform, _half_of_all)()
    except (OSError, ValueError, AttributeError):
        memory = 0
    return Room(memory, disk)


def linux_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """What the kernel holds for available; less where a container or service has a bound of its own, or is in one that has."""
    found = _AVAILABLE.search((proc / "meminfo").read_text())
    available = int(found[1]) * 1024 if found else 0
    try:
        groups = (proc / "self/cgroup").read_text()
    except OSError:
        groups = ""
    for ours, root, bound, used in _CGROUPS:
        own = Path(*ours.findall(groups)[:1])
        for group in (own, *own.parents):
            available = min(available, _left_in(cgroup / root / group, bound, used))
    return max(available, 0)


def _left_in(group: Path, bound: str, used: str) -> int:
    """What a group's bound leaves; without one there is no end of it."""
    try:
        most, now = (group / bound).read_text().strip(), int((group / used).read_text())
        statistics = (group / "memory.stat").read_text()
    except (OSError, ValueError):
        return sys.maxsize
    cached = _INACTIVE.search(statistics)  # what the kernel gives back when memory is wanted
    return int(most) - now + (int(cached[1]) if cached else 0) if most.isdecimal() else sys.maxsize


def _vm_stat() -> str:
    try:
        return subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True).stdout
    except subprocess.SubprocessError as error:
        raise OSError(str(error)) from error


def mac_memory(told: Callable[[], str] = _vm_stat) -> int:
    """By `vm_stat`: pages that are free, or that the system gives back when they are wanted."""
    text = told()
    size = _PAGE_SIZE.search(text)
    return sum(map(int, _PAGES.findall(text))) * int(size[1] if size else 4096)


class _MemoryStatus(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        *((name, ctypes.c_ulonglong) for name in ("total", "available", "page", "page_free", "virtual", "virtual_free", "extended")),
    )


def windows_memory() -> int:
    """By `GlobalMemoryStatusEx`."""
    status = _MemoryStatus()
    status.length = ctypes.sizeof(_MemoryStatus)
    library = getattr(ctypes, "windll").kernel32  # noqa: B009  # there is no such name elsewhere
    return int(status.available) if library.GlobalMemoryStatusEx(ctypes.byref(status)) else 0


def _half_of_all() -> int:
    """Where the system says no more: half of what the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


_FREE_MEMORY: Mapping[str, Callable[[], int]] = MappingProxyType({"linux": linux_memory, "darwin": mac_memory, "win32": windows_memory})
