"""Writing beside the calls, for a store that is slow or can fail.

BackgroundWriter    a bounded queue, and what writes it: says once that the store fails, and tries again
Background          how that is done: in a thread of the system, or in a greenlet
"""

from __future__ import annotations

import abc
import collections
import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

import gevent
import gevent.event
import gevent.lock
from gevent import monkey

IDLE_S = 0.5
RETRY_S = 5.0
TIDY_S = 60.0
new_lock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")
_start_thread = monkey.get_original("_thread", "start_new_thread")

OnEvent = Callable[[str, Mapping[str, Any]], None]
T = TypeVar("T")


class StoreFailed(Exception):
    """A store can't be used; the message is for a person. `is_mended`: the cause is removed already, so try again at once."""

    def __init__(self, message: str, *, is_mended: bool = False) -> None:
        super().__init__(message)
        self.is_mended = is_mended


class NativeThread:
    """A thread of the system, also under gevent, whose own threads would stand still while SQLite writes.

    `lock` lets one writer in at a time.
    """

    def __init__(self) -> None:
        self.lock: AbstractContextManager[Any] = new_lock()
        self._bell = new_lock()
        self._bell.acquire()

    def start(self, run: Callable[[], None]) -> None:
        """Let `run` begin; it ends with the process at the latest."""
        _start_thread(run, ())

    def wake(self) -> None:
        """End the present or the next `wait`."""
        with contextlib.suppress(RuntimeError):  # has been called already
            self._bell.release()

    def wait(self, timeout_s: float) -> None:
        """Wait, in `run`."""
        self._bell.acquire(timeout=timeout_s)


class Greenlet:
    """A greenlet, for what works on gevent's sockets, which belong to one thread; as `NativeThread`."""

    def __init__(self) -> None:
        self.lock: AbstractContextManager[Any] = gevent.lock.BoundedSemaphore(1)
        self._bell = gevent.event.Event()

    def start(self, run: Callable[[], None]) -> None:
        """Let `run` begin."""
        gevent.spawn(run)

    def wake(self) -> None:
        """End the present or the next `wait`."""
        self._bell.set()

    def wait(self, timeout_s: float) -> None:
        """Wait, in `run`."""
        self._bell.wait(timeout_s)
        self._bell.clear()


Background = NativeThread | Greenlet


class BackgroundWriter(abc.ABC, Generic[T]):
    """Writes what a subclass has queued every `IDLE_S`, or, while the store fails, whenever `RETRY_S` have passed.

    It is not woken for each call, and what is queued while it writes waits for the next time: a thread that has to be given the interpreter
    in the middle of a call costs more than the call's own work.
    A quiet store is looked at every `TIDY_S`. A queue of more than `max_queued` loses its oldest items (`dropped`), and `max_batch` are
    written at once, by their sizes. `fault` is what is wrong now, for people. `on_event` gets `<name>.failed`, once, and
    `<name>.recovered`, also from the writing thread. `clock` is in seconds since 1970.

    Mutable: the queue and the batch that is being written (under `_lock`, never held during I/O), and how the store does.
    """

    def __init__(
        self,
        name: str,
        background: Background,
        *,
        clock: Callable[[], float],
        on_event: OnEvent,
        max_queued: int,
        max_batch: int,
        size_of: Callable[[T], int] = lambda _: 1,
    ) -> None:
        self._name = name
        self._background = background
        self._clock = clock
        self._on_event = on_event
        self._max_queued = max_queued
        self._max_batch = max_batch
        self._size_of = size_of
        self._lock = new_lock()
        self._queue: collections.deque[T] = collections.deque()
        self._queued_size = 0
        self._batch: list[T] = []
        self._failed_s: float | None = None
        self._tidied_s: float | None = None
        self._is_closed = False
        self.dropped = 0
        self.fault = ""

    @abc.abstractmethod
    def _write(self, batch: Sequence[T], now_s: float, *, tidies: bool) -> None:
        """Write a batch; where it `tidies`, an empty one too, to see that all is well. Errors: `StoreFailed`, when nothing is written."""

    def _shrink(self) -> None:
        """Give back room that a store has no use for; called after it was tidied. Errors: `StoreFailed`."""

    @abc.abstractmethod
    def _close_store(self) -> None:
        """Close it."""

    @property
    def queued(self) -> int:
        """How many items wait to be written."""
        return len(self._queue) + len(self._batch)

    def start(self) -> None:
        """Begin to write in the background; a store that can't be used is reported right away."""
        self._background.start(self._run)

    def flush(self) -> None:
        """Write what is queued, in the caller's own time: for the background, for the end of the process and for tests."""
        with self._background.lock:
            was_mended = False
            while not self._is_closed:
                try:
                    if not self._write_some():
                        return
                except StoreFailed as error:
                    if was_mended or not error.is_mended:
                        self._failed_s = self._clock()
                        return
                    was_mended = True

    def close(self) -> None:
        """Write what is left, also to a store that has just failed, and close it; further calls do nothing."""
        self._failed_s = None
        self.flush()
        while self._queue and self._failed_s is None and not self._is_closed:  # added meanwhile
            self.flush()
        with self._background.lock:
            self._is_closed = True
            self._close_store()
        self._background.wake()

    def _run(self) -> None:
        while not self._is_closed:
            self.flush()
            self._background.wait(IDLE_S)

    def _enqueue(self, item: T) -> None:
        """Queue an item; the caller holds `_lock`."""
        self._queue.append(item)
        self._queued_size += self._size_of(item)
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while self._queued_size > self._max_queued:
            self._queued_size -= self._size_of(self._queue.popleft())
            self.dropped += 1

    def _take_batch(self) -> list[T]:
        size = 0
        with self._lock:
            while self._queue and size < self._max_batch:
                self._batch.append(self._queue.popleft())
                size += self._size_of(self._batch[-1])
            self._queued_size -= size
        return self._batch

    def _put_back(self) -> None:
        with self._lock:
            self._queue.extendleft(reversed(self._batch))
            self._queued_size += sum(map(self._size_of, self._batch))
            self._batch = []
            self._drop_oldest()

    def _write_some(self) -> bool:
        """Write one batch; whether it left a part of the queue, which what is added meanwhile is not. Errors: `StoreFailed`."""
        now_s = self._clock()
        if self._failed_s is not None and abs(now_s - self._failed_s) < RETRY_S:  # abs: the clock of the wall may be set back
            return False
        tidies = self._tidied_s is None or abs(now_s - self._tidied_s) >= TIDY_S
        batch = self._take_batch()
        is_rest = bool(self._queue)
        if not batch and not tidies:
            return False
        try:
            self._write(batch, now_s, tidies=tidies)
            self._batch = []  # written once, whatever follows
            if tidies:
                self._shrink()
        except BaseException as error:
            self._put_back()
            if isinstance(error, StoreFailed):
                self._note_fault(error)
            raise
        self._tidied_s = now_s if tidies else self._tidied_s
        self._failed_s = None
        if self.fault:
            self.fault = ""
            self._on_event(f"{self._name}.recovered", {"dropped": self.dropped})
        return is_rest

    def _note_fault(self, error: StoreFailed) -> None:
        """Say it, once until the store is well again; see to it that the store is tried without anything to write, too."""
        self._tidied_s = None
        was_well = not self.fault
        self.fault = str(error)
        if was_well:
            self._on_event(f"{self._name}.failed", {"reason": self.fault})
