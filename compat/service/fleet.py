"""The workers of this machine, as they describe themselves: one file each, read by whoever wants to know of all.

A worker writes its file when it begins to serve, when it begins to leave, and once a second if something changed. The files of
workers that are gone count for nothing, and are swept up by the watcher.

States of a worker: `serving`; `retiring`, when others have taken its place and its last answers may finish; `stopping`, when the
whole gateway ends.
"""

from __future__ import annotations

import contextlib
import datetime
import hmac
import os
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec

from compat.service.state import Identity, Keeper, RunFolder, Service, identity_of, is_alive, read_json, write_json

WorkerState = Literal["serving", "retiring", "stopping"]


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker. `generation` counts the times that workers were replaced, `since_s` is when it began, in seconds since 1970."""

    identity: Identity
    generation: int
    state: WorkerState
    since_s: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    in_flight: int
    calls: int


class Fleet:
    """This worker's file, and a view on all. Mutable: what was written last.

    `is_watched`: it was started by the watcher; otherwise the watcher's file, if there is one, is an old one and not about this worker.
    """

    def __init__(self, run: RunFolder, generation: int, now_s: float, *, is_watched: bool = True) -> None:
        identity = identity_of(os.getpid()) or Identity(os.getpid(), "", "")
        self._run = run
        self._is_watched = is_watched
        self._path = run.workers / f"{os.getpid()}.json"
        self._own = Worker(identity, generation, "serving", now_s, 0, 0)
        self._written: Worker | None = None
        with contextlib.suppress(OSError):
            run.make()
            run.make_health_key()

    @property
    def generation(self) -> int:
        """The generation of this worker."""
        return self._own.generation

    def note(self, state: WorkerState, in_flight: int, calls: int) -> None:
        """Tell the others. A folder that is gone or full is no reason to stop serving."""
        self._own = replace(self._own, state=state, in_flight=in_flight, calls=calls)
        if self._own == self._written and self._path.exists():
            return
        with contextlib.suppress(OSError):
            self._run.make()
            write_json(self._path, self._own)
            self._written = self._own

    def forget(self) -> None:
        """Take the file away."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def report(self) -> list[dict[str, Any]]:
        """The generations for `/healthz`."""
        return generations(workers(self._run), self._run.read_service())

    def admits(self, authorization: str) -> bool:
        """Whether a request comes from a command of whoever runs the service, by the key in its folder."""
        key = self._run.health_key()
        sent = authorization.partition(" ")[2].strip()
        return bool(key) and hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), key.encode("utf-8", "surrogatepass"))

    def is_over(self) -> bool:
        """Whether this worker should have been signalled to end: gunicorn's signal is lost on a worker that is only beginning."""
        return self.is_service_stopping() or self.was_replaced()

    def is_service_stopping(self) -> bool:
        """Whether the watcher ends the whole service."""
        return self._is_watched and self._run.read_service().state == "stopping"

    def was_replaced(self) -> bool:
        """Whether a worker that has to end has successors: the watcher, or gunicorn's master at a reload, says so in a file."""
        if not self._is_watched:
            reloads = read_json(self._run.root / f"gunicorn-{os.getppid()}.json", dict[str, int]) or {}
            return reloads.get("generation", 0) > self.generation
        service = self._run.read_service()
        states = [row.state for row in service.generations if row.number == self.generation]
        return states == ["retiring"] and service.state != "stopping"


def workers(run: RunFolder) -> list[Worker]:
    """The workers that live, the oldest first."""
    found = [read_json(path, Worker) for path in run.workers.glob("*.json")]
    return sorted((worker for worker in found if worker is not None and is_alive(worker.identity)), key=lambda worker: worker.since_s)


def sweep(run: RunFolder) -> int:
    """Remove the files of workers that are gone; how many."""
    swept = 0
    for path in run.workers.glob("*.json"):
        worker = read_json(path, Worker)
        if worker is None or not is_alive(worker.identity):
            with contextlib.suppress(OSError):
                path.unlink()
                swept += 1
    return swept


def keepers(run: RunFolder) -> list[Keeper]:
    """What the keepers of embedded engines write, of those that live."""
    told = [read_json(path, Keeper) for path in sorted(run.root.glob("engine-*.json"))]
    return [row for row in told if row is not None and is_alive(row.keeper)]


def generations(alive: list[Worker], service: Service) -> list[dict[str, Any]]:
    """The workers by generation, the oldest first; `pid` is the master's where a watcher names it."""
    masters = {row.number: row.identity.pid for row in service.generations if row.identity is not None}
    rows: list[dict[str, Any]] = []
    for number in sorted({worker.generation for worker in alive}):
        members = [worker for worker in alive if worker.generation == number]
        rows.append(
            {
                "generation": number,
                "pid": masters.get(number),
                "state": "serving" if any(worker.state == "serving" for worker in members) else members[0].state,
                "started": timestamp(members[0].since_s),
                "in_flight": sum(worker.in_flight for worker in members),
                "calls": sum(worker.calls for worker in members),
                "workers": [
                    {"pid": worker.identity.pid, "state": worker.state, "in_flight": worker.in_flight, "calls": worker.calls}
                    for worker in members
                ],
            }
        )
    return rows


def timestamp(time_s: float) -> str:
    """Seconds since 1970 as ISO 8601, in UTC."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).isoformat(timespec="seconds")
