"""The files that workers count in: no holes, so that a full disk is an error where it would end the process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compat.telemetry.metrics_files import FIRST_BYTES, SolidFile

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with hardly any room."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    if (
        sys.platform != "linux"
        or os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("mounting a file system of its own takes root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return filler


def test_a_file_keeps_its_counts_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    file = SolidFile(str(path))
    names = [f"count of {number}" * 20 for number in range(1000)]
    for number, name in enumerate(names):
        file.write_value(name, float(number), 0.0)
    assert path.stat().st_size > FIRST_BYTES
    assert path.read_bytes()[-100:] == bytes(100)
    assert [value for _, value, _, _ in SolidFile.read_all_values_from_file(str(path))] == list(range(1000))
    file.close()


def test_a_full_disk_is_an_error_and_ends_as_it_does(tiny: Path) -> None:
    file = SolidFile(str(tiny / "counter_1.db"))
    file.write_value("first", 1.0, 0.0)
    filler = fill(tiny)

    def write_all() -> None:
        for number in range(1000):
            file.write_value(f"count of {number}" * 10, 1.0, 0.0)

    with pytest.raises(OSError, match="No space left"):
        write_all()
    with pytest.raises(OSError, match="No space left"):
        SolidFile(str(tiny / "counter_2.db"))
    assert [path.name for path in tiny.glob("*.db")] == ["counter_1.db"]
    file.write_value("first", 2.0, 0.0)
    filler.unlink()
    write_all()
    assert file.read_value("first")[0] == 2.0
    file.close()


def test_a_worker_counts_or_says_why_not_and_goes_on_when_the_disk_is_full(tiny: Path) -> None:
    """From its start: the file of the first count can't be made, either."""
    fill(tiny)
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tiny)}
    command = [sys.executable, "-m", "tests.unit.metrics_program", "count", "3"]
    worker = subprocess.run(command, cwd=ROOT, env=environment, input="", capture_output=True, text=True, check=False)
    assert (worker.returncode, worker.stdout.strip()) == (0, "metrics can't be counted: [Errno 28] No space left on device"), worker.stderr
