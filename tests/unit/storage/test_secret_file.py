"""A secret that is made once and stays."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from compat.storage.secret_file import secrets_in, shared_secrets


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "sealing.secret"
    [made] = secrets_in(path)
    assert len(made) == 64
    assert secrets_in(path) == [made]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_processes_that_start_at_once_get_the_same(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.extend(secrets_in(tmp_path / "secret"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1


def test_the_newest_stands_first(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("b" * 16 + "\n\n " + "a" * 20 + "\n")
    assert secrets_in(tmp_path / "secret") == [b"b" * 16, b"a" * 20]


@pytest.mark.parametrize("text", ["", "\n", "short", "a" * 16 + "\nshort"])
def test_a_secret_that_could_be_guessed_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text(text)
    with pytest.raises(ValueError, match="no secret of at least 16"):
        secrets_in(tmp_path / "secret")


class OneRedis:
    """A Redis with one key."""

    def __init__(self) -> None:
        self.value: bytes | None = None

    def set(self, _: str, value: str, *, nx: bool) -> None:
        assert nx
        self.value = self.value or value.encode()

    def get(self, _: str) -> bytes | None:
        return self.value


def test_gateways_of_one_redis_share_it() -> None:
    redis: Any = OneRedis()
    [made] = shared_secrets(redis, "key")
    assert shared_secrets(redis, "key") == [made]
