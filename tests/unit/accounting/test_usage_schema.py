"""What is written into the usage store's tables."""

from __future__ import annotations

import contextlib
import sqlite3

from compat.accounting.usage_rows import NewCall, row_of
from compat.accounting.usage_schema import CREATE, extend, put_calls

HUGE_USD = 1e9
"""As billionths of a dollar 10^18, the most that another machine's store may say of a call."""


def test_sums_of_a_batch_may_pass_64_bits() -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as writer:
        for statement in CREATE:
            writer.execute(statement)
        extend(writer)
        put_calls(writer, [(*row_of(NewCall({"client": "c", "cost_usd": HUGE_USD}, 1000.0)), "") for _ in range(20)])
        assert writer.execute("SELECT count(*) FROM calls").fetchone() == (20,)
        assert writer.execute("SELECT calls, cost_nano FROM days").fetchone() == (20, 2e19)
