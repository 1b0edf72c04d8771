"""Every vault against a model of it: what is kept, found, written, lost and started again, in whatever order and at whatever time.

The model says in dictionaries what vaults promise: a memory whose records expire a time to live after their last use and give way to newer
ones with one of their tool calls; a store that is told of records and, not too often, of uses, and so keeps a little longer; a server that
may be gone for a while.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from compat.protocols.base import ThinkingRecord
from compat.storage.background import RETRY_S, TIDY_S
from compat.vault.buffered import ThinkingVault
from tests.unit.vault.bench import KEPT_S, MIB, TOLD_AGAIN_S, TTL_S, Bench, Clock

RECORD_BYTES = 10_000
FEW_BYTES = 3 * RECORD_BYTES + 10_000
"""Room for three records in memory."""

Key = tuple[str, str, str]
Change = tuple[tuple[Key, ...], ThinkingRecord | None, float]


@dataclass(eq=False)
class Kept:
    """A record in memory or in a store, and when it was used last; `told_s` is the last use that memory has told the store of."""

    keys: tuple[Key, ...]
    record: ThinkingRecord
    used_s: float
    told_s: float


@dataclass
class Store:
    """What outlives the process. Where it `knows_turns`, a use of one call is one of all calls of its turn, and counts from when it was."""

    knows_turns: bool
    rows: dict[Key, Kept] = field(default_factory=dict)
    is_gone: bool = False
    asked: int = 0

    def write(self, changes: list[Change], now_s: float) -> None:
        self.asked += sum(len(keys) for keys, _, _ in changes) or 1
        for keys, record, used_s in changes:
            when_s = used_s if self.knows_turns else now_s
            if record is not None:
                kept = Kept(keys, record, when_s, when_s)
                self.rows |= {key: kept if self.knows_turns else replace(kept) for key in keys}
            else:
                for kept in [self.rows[key] for key in keys if key in self.rows]:
                    if self.knows_turns or now_s - kept.used_s < KEPT_S:  # a server has dropped what is expired at once
                        kept.used_s = max(kept.used_s, when_s)
        self.rows = {key: kept for key, kept in self.rows.items() if now_s - kept.used_s < KEPT_S}

    def read(self, keys: list[Key], now_s: float) -> list[Kept]:
        """The rows, put together by their records."""
        self.asked += 1
        found: list[Kept] = []
        for key in keys:
            row = self.rows.get(key)
            if row is None or now_s - row.used_s >= KEPT_S:
                continue
            same = next((kept for kept in found if kept.record == row.record), None)
            if same is None:
                found.append(Kept((key,), row.record, now_s, row.used_s if self.knows_turns else 0.0))
            else:
                same.keys += (key,)
        return found


@dataclass
class Model:
    """One process's vault. `memory` are the records, the longest unused first, of which `room` stay."""

    clock: Clock
    store: Store | None
    room: int | None = None
    memory: list[Kept] = field(default_factory=list)
    queue: list[Change] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    can_read: bool = True
    failed_s: float | None = None
    tidied_s: float | None = None
    is_failing: bool = False

    def keep(self, keys: tuple[Key, ...], record: ThinkingRecord) -> None:
        if keys:
            now_s = self.clock()
            self._put(Kept(keys, record, now_s, now_s))
            self.queue += [(keys, record, now_s)] if self.store else []

    def find(self, keys: list[Key]) -> dict[Key, ThinkingRecord]:
        now_s = self.clock()
        used: dict[Key, Kept] = {key: kept for key in keys if (kept := self._take(key, now_s))}
        missing = [key for key in keys if key not in used]
        if self.store is not None and self.can_read and missing:
            if self.store.is_gone:
                self.can_read = False
                self._fail(now_s)
            else:
                for kept in self.store.read(missing, now_s):
                    self._put(kept)
                    used |= dict.fromkeys(kept.keys, kept)
        for kept in used.values() if self.store else ():
            if now_s - kept.told_s >= TOLD_AGAIN_S:
                kept.told_s = now_s
                self.queue.append((kept.keys, None, now_s))
        return {key: used[key].record for key in keys if key in used}

    def flush(self) -> None:
        now_s = self.clock()
        tidies = self.tidied_s is None or now_s - self.tidied_s >= TIDY_S
        waits = self.failed_s is not None and now_s - self.failed_s < RETRY_S
        if self.store is None or waits or not (self.queue or tidies):
            return
        if self.store.is_gone:
            self._fail(now_s)
            return
        self.store.write(self.queue, now_s)
        self.queue, self.can_read, self.failed_s = [], True, None
        self.tidied_s = now_s if tidies else self.tidied_s
        self.events += ["vault.recovered"] if self.is_failing else []
        self.is_failing = False

    def close(self) -> None:
        self.failed_s = None
        self.flush()

    def _fail(self, now_s: float) -> None:
        assert self.store is not None
        self.store.asked += 1
        self.events += [] if self.is_failing else ["vault.failed"]
        self.is_failing, self.failed_s, self.tidied_s = True, now_s, None

    def _put(self, kept: Kept) -> None:
        self.memory = [other for other in self.memory if not set(other.keys) & set(kept.keys)] + [kept]
        while (self.room is not None and len(self.memory) > self.room) or kept.used_s - self.memory[0].used_s >= TTL_S:
            del self.memory[0]

    def _take(self, key: Key, now_s: float) -> Kept | None:
        kept = next((kept for kept in self.memory if key in kept.keys), None)
        if kept is None:
            return None
        self.memory.remove(kept)
        if now_s - kept.used_s >= TTL_S:
            return None
        kept.used_s = now_s
        self.memory.append(kept)
        return kept


CLIENTS = st.sampled_from(["ada", "grace", "adac", "", "\udc80"])
MODELS = st.sampled_from(["claude-x", "laude-x", "adaclaude-x", "\ud800"])
MAIN = st.just("ada"), st.just("claude-x")  # most of what is kept and asked for meets
SCOPES = st.one_of(st.tuples(*MAIN), st.tuples(*MAIN), st.tuples(CLIENTS, MODELS))
IDS = ["a", "b", "c", "A", "é😀'\""]
STEPS_S = [1.0, RETRY_S, TIDY_S, TOLD_AGAIN_S - 1, TOLD_AGAIN_S, TTL_S / 2, TTL_S - 1, TTL_S, KEPT_S - 1, KEPT_S]
ROOT = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a file that is written hundreds of times, for no disk to be waited for


def keys_of(scope: tuple[str, str], ids: Iterable[Any]) -> list[Key]:
    return [(*scope, one) for one in dict.fromkeys(ids) if isinstance(one, str)]


class Vault(RuleBasedStateMachine):
    """One vault and its model; what is started anew finds the same store."""

    store: Store | None = None
    room: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=ROOT)
        self.bench = Bench(Path(self.folder.name))
        self.number = 0
        self.store = replace(self.store, rows={}) if self.store else None
        self.events: list[str] = []
        self.vault, self.model = self.opened()

    def make(self) -> ThinkingVault:
        raise NotImplementedError  # each store has its own below

    def opened(self) -> tuple[ThinkingVault, Model]:
        return self.make(), Model(self.bench.clock, self.store, self.room, events=self.events)

    def teardown(self) -> None:
        self.bench.close()
        self.folder.cleanup()

    def check_found(self, vault: ThinkingVault, model: Model, scope: tuple[str, str], ids: list[Any]) -> None:
        found, expected = vault.find(*scope, iter(ids)), model.find(keys_of(scope, ids))
        assert list(found.items()) == [(call_id, record) for (_, _, call_id), record in expected.items()]

    @initialize(turns=st.lists(st.lists(st.sampled_from(IDS), min_size=1, max_size=2), min_size=1, max_size=3))
    def begin(self, turns: list[list[str]]) -> None:
        """Hypothesis leaves out whole rules in most of its runs: without this one, most would be about an empty vault."""
        for ids in turns:
            self.keep(("ada", "claude-x"), ids)

    @rule(ids=st.lists(st.sampled_from(IDS[:3]), min_size=1, max_size=2))
    def keep_again(self, ids: list[str]) -> None:
        self.keep(("ada", "claude-x"), ids)

    @rule(scope=SCOPES, ids=st.lists(st.sampled_from(IDS), max_size=3))
    def keep(self, scope: tuple[str, str], ids: list[str]) -> None:
        self.number += 1
        thought = {"type": "thinking", "thinking": f"Thought {self.number}", "signature": "x" * RECORD_BYTES}
        record = ThinkingRecord(tuple(ids), (thought, {"type": "redacted_thinking", "data": "\u2028é😀"}))
        self.vault.keep(*scope, record)
        self.model.keep(tuple(keys_of(scope, ids)), record)

    @rule(scope=SCOPES, ids=st.lists(st.sampled_from([*IDS, "unknown", 7]), max_size=4))
    def find(self, scope: tuple[str, str], ids: list[Any]) -> None:
        self.check_found(self.vault, self.model, scope, ids)

    @rule()
    def find_all_twice(self) -> None:
        """What was found is in memory, and the same object."""
        self.check_found(self.vault, self.model, ("ada", "claude-x"), IDS)
        first = self.vault.find("ada", "claude-x", IDS)
        assert all(record is first[call_id] for call_id, record in self.vault.find("ada", "claude-x", IDS).items())
        for _ in range(2):
            self.model.find(keys_of(("ada", "claude-x"), IDS))

    @rule(step_s=st.sampled_from(STEPS_S))
    def wait(self, step_s: float) -> None:
        self.bench.clock.now_s += step_s

    @rule(step_s=st.sampled_from(STEPS_S), ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=4))
    def be_used_later(self, step_s: float, ids: list[str]) -> None:
        for _ in range(2):
            self.bench.clock.now_s += step_s
            self.check_found(self.vault, self.model, ("ada", "claude-x"), ids)

    @invariant()
    def the_report_is_true(self) -> None:
        vault, model = self.vault, self.model
        assert (bool(vault.fault), vault.queued, vault.dropped) == (model.is_failing, len(model.queue), 0)
        assert self.bench.events.names == self.events
        assert "secret" not in vault.fault

    def memory_is_full(self) -> None:
        assert self.vault.entries == len(self.model.memory)
        assert len(self.model.memory) * RECORD_BYTES <= self.vault.size_bytes <= len(self.model.memory) * (RECORD_BYTES + 5_000)


class InMemory(Vault):
    def make(self) -> ThinkingVault:
        return self.bench.memory(max_bytes=4 * MIB)

    @invariant()
    def entries_are_those_in_memory(self) -> None:
        self.memory_is_full()


class InLittleMemory(InMemory):
    room = 3

    def make(self) -> ThinkingVault:
        return self.bench.memory(max_bytes=FEW_BYTES)


class Lasting(Vault):
    @rule()
    def flush(self) -> None:
        self.vault.flush()
        self.model.flush()

    @rule()
    def restart(self) -> None:
        self.vault.close()
        self.model.close()
        self.vault, self.model = self.opened()

    @rule()
    def be_killed(self) -> None:
        """What was not written is lost."""
        self.vault, self.model = self.opened()

    @rule(steps_s=st.lists(st.sampled_from(STEPS_S), min_size=1, max_size=3), last_s=st.sampled_from(STEPS_S))
    def live_on_in_the_store(self, steps_s: list[float], last_s: float) -> None:
        """A use counts for other processes as well."""
        self.keep(("ada", "claude-x"), ["a", "b"])
        for step_s in [0.0, *steps_s]:
            self.bench.clock.now_s += step_s
            self.check_found(self.vault, self.model, ("ada", "claude-x"), ["b", "c"])
            self.flush()
        self.bench.clock.now_s += last_s
        self.ask_another(("ada", "claude-x"))

    @rule(scope=SCOPES)
    def ask_another(self, scope: tuple[str, str]) -> None:
        """Another process finds what the store has been told."""
        vault, model = self.opened()
        self.check_found(vault, model, scope, IDS)
        vault.close()
        model.close()


class InFile(Lasting):
    store = Store(knows_turns=True)

    def make(self) -> ThinkingVault:
        return self.bench.sqlite()


class InRedis(Lasting):
    store = Store(knows_turns=False)

    def make(self) -> ThinkingVault:
        return self.bench.over_redis()

    @precondition(lambda self: not self.store.is_gone)
    @rule()
    def the_server_goes(self) -> None:
        assert self.store is not None
        self.bench.redis.gone = self.store.is_gone = True

    @precondition(lambda self: self.store.is_gone)
    @rule(after_s=st.sampled_from([0.0, RETRY_S]))
    def the_server_comes_back(self, after_s: float) -> None:
        assert self.store is not None
        self.bench.redis.gone = self.store.is_gone = False
        self.bench.clock.now_s += after_s

    @invariant()
    def it_is_asked_no_more_than_needed(self) -> None:
        assert self.store is not None
        assert self.bench.redis.calls == self.store.asked

    @invariant()
    def entries_are_those_in_memory(self) -> None:
        self.memory_is_full()


@pytest.mark.slow
@pytest.mark.parametrize(("vault", "runs"), [(InMemory, 30), (InLittleMemory, 30), (InFile, 25), (InRedis, 50)])
def test_a_vault_does_what_its_model_does(vault: type[Vault], runs: int) -> None:
    run_state_machine_as_test(vault, settings=hypothesis.settings(max_examples=runs, stateful_step_count=40))
