"""A usage store with calls in it, for tests of what is read from one."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.accounting.usage_rows import CallFacts
from compat.accounting.usage_store import UsageStore
from compat.config.catalog import Price
from compat.config.sections import UsageSettings
from compat.storage.background import NativeThread
from compat.wire.usage import Usage, cost_of

NOON_S = 1_699_963_200.0  # Tuesday, 2023-11-14 12:00:00 UTC
DAY_S = 86_400
PRICE = Price(3.0, 15.0, 0.3, 3.75, 6.0)
USED = Usage(1000, 100, 600, 200)
FILE_OF_BEFORE = Path(__file__).parents[2] / "cases/usage_of_before.sql"
"""A store with 60 calls, as the code of version 3 wrote it."""


class StoredCalls:
    """A store whose clock stands until it is moved, written by nobody but `flush`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.now_s = NOON_S
        self.path = folder / "data/usage.sqlite"
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.usage = UsageStore(
            UsageSettings(**settings),
            folder,
            NativeThread(),
            clock=lambda: self.now_s,
            on_event=lambda name, fields: self.events.append((name, fields)),
        )
        self._count = 0

    def add(self, used: Usage = USED, facts: CallFacts | None = None, price: Price = PRICE, **changes: Any) -> None:
        """A call that ended now. `facts` have its price by themselves, where they have none."""
        self._count += 1
        record = {
            "request_id": f"r{self._count}",
            "client": "laptop",
            "model": "sonnet",
            "deployment": "up/m",
            "outcome": "ok",
            "status": 200,
            "attempts": 1,
            "duration_ms": 2000.0,
            "prompt_tokens": used.prompt_tokens,
            "completion_tokens": used.completion_tokens,
            "cache_read_tokens": used.cache_read_tokens,
            "cache_write_tokens": used.cache_write_tokens,
            "cost_usd": cost_of(used, price),
        }
        self.usage.add(record | changes, facts or CallFacts("openai.chat", "anthropic.messages", priced=((used, price),)))

    def put_file_of_before(self) -> None:
        """The store is one of earlier code."""
        self.path.parent.mkdir(exist_ok=True)
        connection = sqlite3.connect(self.path)
        connection.executescript(FILE_OF_BEFORE.read_text())
        connection.close()
