"""A secret that is made once and stays: in a file of mode 0600, or in the Redis that gateways share.

The first gateway that asks makes it; all others, started at the same moment, get the same one. Several secrets stand one per line, the
newest first: a line that is put before the others rotates it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

_BYTES = 32
MIN_CHARS = 16


def secrets_in(path: Path) -> list[bytes]:
    """The secrets in a file, which is made where there is none. Errors: `OSError`, `ValueError` where there is none in it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{secrets.token_hex(_BYTES)}\n")
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(name, path)
        finally:
            Path(name).unlink()
    return _lines(path.read_bytes(), str(path))


def shared_secrets(redis: Any, key: str) -> list[bytes]:
    """The secrets in a Redis. Errors: its own, `ValueError`."""
    redis.set(key, secrets.token_hex(_BYTES), nx=True)
    return _lines(redis.get(key) or b"", "Redis")


def _lines(text: bytes, where: str) -> list[bytes]:
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found or min(map(len, found)) < MIN_CHARS:
        raise ValueError(f"{where} holds no secret of at least {MIN_CHARS} characters")
    return found
