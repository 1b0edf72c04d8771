"""Writing beside the calls, for a store that is slow or can fail.

BackgroundWriter    writes what its owner has queued, says once that the store fails, and tries again
Background          how that is done: NativeThread here, or a greenlet (`compat/vault/redis.py`)
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from gevent import monkey

IDLE_S = 0.5
RETRY_S = 5.0
TIDY_S = 60.0
new_lock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")
_start_thread = monkey.get_original("_thread", "start_new_thread")

OnEvent = Callable[[str, Mapping[str, Any]], None]


class StoreFailed(Exception):
    """A store can't be used; the message is for a person. `is_mended`: the cause is removed already, so try again at once."""

    def __init__(self, message: str, *, is_mended: bool = False) -> None:
        super().__init__(message)
        self.is_mended = is_mended


class Background(Protocol):
    """How writing is done beside the calls. `lock` lets one writer in at a time."""

    lock: AbstractContextManager[Any]

    def start(self, run: Callable[[], None]) -> None:
        """Let `run` begin."""
        ...

    def wake(self) -> None:
        """End the present or the next `wait`."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Wait, in `run`."""
        ...


class NativeThread:
    """A thread of the system, also under gevent, whose own threads would stand still while SQLite writes."""

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


class BackgroundWriter(abc.ABC):
    """Writes the queue of a subclass every `IDLE_S`, or, while the store fails, whenever `RETRY_S` have passed. Mutable: how the store
    does.

    It is not woken for each call: a thread that has to be given the interpreter in the middle of one costs more than the call's own work.

    A quiet store is looked at every `TIDY_S`. `fault` is what is wrong now, for people; `dropped` counts what the queue
    had no room for. `on_event` gets `<name>.failed`, once, and `<name>.recovered`. `clock` is in seconds since 1970.
    """

    def __init__(self, name: str, background: Background, *, clock: Callable[[], float], on_event: OnEvent) -> None:
        self._name = name
        self._background = background
        self._clock = clock
        self._on_event = on_event
        self._failed_s: float | None = None
        self._tidied_s: float | None = None
        self._is_closed = False
        self.dropped = 0
        self.fault = ""

    @abc.abstractmethod
    def _write_batch(self, now_s: float, *, is_tidy: bool) -> bool:
        """Write one batch, an empty one to see that all is well; `False`, and nothing is done, where it is empty and all `is_tidy`.

        Sets `_tidied_s`. Errors: `StoreFailed`, with the batch still to be written.
        """

    @abc.abstractmethod
    def _close_store(self) -> None:
        """Close it."""

    def _on_recovery(self) -> Mapping[str, Any]:
        """What there is to say when the store is well again."""
        return {}

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
        """Write what is left and close the store; further calls do nothing."""
        self.flush()
        with self._background.lock:
            self._is_closed = True
            self._close_store()
        self._background.wake()

    def _run(self) -> None:
        while not self._is_closed:
            self.flush()
            self._background.wait(IDLE_S)

    def _write_some(self) -> bool:
        """Write one batch; whether there may be more. Errors: `StoreFailed`."""
        now_s = self._clock()
        if self._failed_s is not None and abs(now_s - self._failed_s) < RETRY_S:  # abs: the clock of the wall may be set back
            return False
        is_tidy = self._tidied_s is not None and abs(now_s - self._tidied_s) < TIDY_S
        try:
            if not self._write_batch(now_s, is_tidy=is_tidy):
                return False
        except StoreFailed as error:
            self._note_fault(error)
            raise
        self._failed_s = None
        if self.fault:
            self.fault = ""
            self._on_event(f"{self._name}.recovered", self._on_recovery())
        return True

    def _note_fault(self, error: StoreFailed) -> None:
        """Say it, once until the store is well again; see to it that the store is tried without anything to write, too."""
        self._tidied_s = None
        was_well = not self.fault
        self.fault = str(error)
        if was_well:
            self._on_event(f"{self._name}.failed", {"reason": self.fault})
