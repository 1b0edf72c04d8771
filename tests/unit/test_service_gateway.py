"""What workers share in telling: one of them says what concerns them all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from compat.service.state import RunFolder
from compat.service_gateway import teller


@pytest.mark.skipif(sys.platform == "win32", reason="workers are gunicorn's, which Windows lacks")
def test_one_worker_tells_for_all(tmp_path: Path) -> None:
    first, second = teller(RunFolder(tmp_path)), teller(RunFolder(tmp_path))
    assert [first(), second(), first()] == [True, False, True]


def test_without_a_folder_for_the_lock_each_worker_tells(tmp_path: Path) -> None:
    first, second = teller(RunFolder(tmp_path / "not there")), teller(RunFolder(tmp_path / "not there"))
    assert [first(), second()] == [True, True]
