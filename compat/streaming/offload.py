"""Work on large bodies, off the event loop: a thread does it while everybody else is served.

    offload.run(body, work)                      -> what `work()` returns
    offload.request(translator, envelope, ctx)   -> the translated request, and the context for its answer

All of it is pure (bytes in, data out), so it does not matter which thread does it. The interpreter lets another thread in every few
milliseconds, between two of its steps: a step that takes long (a decoder over many megabytes) is bounded where it is made
(`compat/wire/extent.py`). Short bodies, which are nearly all, stay where they are: a thread costs a fifth of a millisecond.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPool

from compat.errors import GatewayError
from compat.protocols.base import ThinkingRecord, TranslatedRequest, TranslationContext, Translator
from compat.wire.envelope import Envelope

T = TypeVar("T")
_thread_id: Callable[[], int] = monkey.get_original("_thread", "get_ident")

LONG_BYTES = 256 * 1024
MANY_VALUES = 8000
_FEW_BYTES = 16 * 1024
_IDLE_S = 60
_MOST_BEGUN = 100
_MIDDLE_AGED = 1
THREADS = 2
"""More would not be faster, for one of them computes at a time, and the event loop would wait for its turn longer."""


def is_long(body: bytes) -> bool:
    """Whether work on `body` may take so long that others would notice: it is large, or holds many small things."""
    size = len(body)
    return size > LONG_BYTES or (size > _FEW_BYTES and body.count(b",") + body.count(b"{") > MANY_VALUES)


class _Sought(Exception):
    """Thinking is asked for that has not been looked up yet."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        super().__init__()
        self.ids = ids


class Offload:
    """The threads. Mutable: the pool, made with the first long body, in the process that serves; how much is under way, and how often work
    was begun since the collector last ran."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._under_way = 0
        self._begun = 0

    def run(self, body: bytes, work: Callable[[], T]) -> T:
        """The result of `work`, which is about `body`. It may ask nothing of the event loop. Errors: those of `work`."""
        if not is_long(body):
            return work()
        return self.in_thread(work)

    def request(self, translator: Translator, envelope: Envelope, ctx: TranslationContext) -> tuple[TranslatedRequest, TranslationContext]:
        """The client's call for an upstream (`Translator.request`), and `ctx` for its answer.

        Where a store holds the thinking that is put back, it is asked on the event loop, between two tries.
        """
        if not is_long(envelope.body):
            return translator.request(envelope, ctx), ctx
        found: dict[tuple[str, ...], Mapping[str, ThinkingRecord]] = {}

        def find(ids: Sequence[str]) -> Mapping[str, ThinkingRecord]:
            key = tuple(ids)
            if key not in found:
                raise _Sought(key)
            return found[key]

        while True:
            try:
                request = self.in_thread(partial(translator.request, envelope, replace(ctx, find_thinking=find)))
            except _Sought as sought:
                found[sought.ids] = ctx.find_thinking(sought.ids)
            else:
                break
        return request, ctx if ctx.count_prompt is None else replace(ctx, count_prompt=_Once(self, ctx.count_prompt))

    def in_thread(self, work: Callable[[], T]) -> T:
        """The result of `work`, whatever its size."""
        if self._pool is None:
            self._pool = ThreadPool(THREADS, idle_task_timeout=_IDLE_S)
        with self._no_collector():
            value, error = self._pool.apply(_outcome, (work,))
        if error is not None:
            raise error
        result: T = value
        return result

    @contextlib.contextmanager
    def _no_collector(self) -> Iterator[None]:
        """Keep the collector of garbage away: it would walk over all that lives again and again while a decoder makes many small things,
        and nothing else can run meanwhile. They are no garbage, and go as soon as nobody needs them."""
        if not self._under_way and not gc.isenabled():
            yield
            return
        self._under_way += 1
        self._begun += 1
        gc.disable()
        if self._begun >= _MOST_BEGUN:
            self._begun = 0
            gc.collect(_MIDDLE_AGED)
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._begun = 0
                gc.enable()


class _Once:
    """A count that is made when it is first wanted, which most calls never do: in a thread, unless who asks can't wait for one, as another
    thread and a callback of the event loop. Mutable: it."""

    def __init__(self, offload: Offload, count: Callable[[], int]) -> None:
        self._offload = offload
        self._count = count
        self._loop = _thread_id()
        self._found: int | None = None

    def __call__(self) -> int:
        if self._found is None:
            waits = _thread_id() == self._loop and gevent.getcurrent() is not gevent.get_hub()
            self._found = self._offload.in_thread(self._count) if waits else self._count()
        return self._found


def _outcome(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """The result, or the error that the caller expects; gevent would print one that leaves a thread."""
    try:
        return work(), None
    except (GatewayError, _Sought) as error:
        return None, error
