"""The live feed: what happens to calls, for pages that show it as it happens.

    feed.add("call.started", fields)               # nothing at all while nobody watches
    feed.follow(FeedFilter(model="sonnet"), "")    # server-sent events, for as long as they are taken

The workers of a machine share it. Whoever watches keeps the time of the file `<path>.watched` fresh; while it is, each worker appends its
events to the log file at `path`, at most `WRITE_S` late, and whoever watches reads them from there. Log file and backup are the ring: it is
small, and enough to resume from. Nobody looks at the mark more often than every `LOOK_S`, and no thread runs while nobody watches.

An event is a JSON object with `id`, `time`, `level`, `event`, and the fields of a call (`request_id`, `client`, `model` ...). The log's own
events are among them (`call`, which is the end of one; `attempt.failed`; `circuit.open`), prompts and answers never.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import gevent
import msgspec

from compat.errors import TooManyRequests
from compat.storage.background import NativeThread, new_lock
from compat.storage.shared_log_file import SharedLogFile
from compat.telemetry.calllog import LEVELS, Level, line_of

RING_BYTES = 512 * 1024
"""Of the log file, and of the one before it."""

LOOK_S = 1.0
WATCH_S = 20.0
"""How long events are written after the last page was seen: long enough for one to come back and go on where it was."""

MARK_S = 5.0
WRITE_S = 0.2
READ_S = 0.25
HEARTBEAT_S = 10.0
MAX_QUEUED = 5000
MAX_LINE_BYTES = 16 * 1024
MAX_FOLLOWERS = 32
HEARTBEAT = b": \n\n"
MISSED = b'event: missed\ndata: {"event":"missed"}\n\n'
"""What was asked for is not in the ring any more: what follows is what is left of it."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """Which events are wanted: from a level on, and with `key` or `model` only those of such calls. With `key` nothing else is seen."""

    level: Level = "debug"
    key: str | None = None
    model: str = ""


class _Head(msgspec.Struct, frozen=True):
    id: str
    level: Level
    client: str = ""
    model: str | None = ""


class Feed:
    """See above. `now` is in seconds since 1970, `new_id` makes random hexadecimal digits. Mutable: everything else.

    `is_watched` is as it was at the last `look`; `dropped` counts events that could not be written.
    """

    def __init__(self, path: Path, now: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._path = path
        self._mark = Path(f"{path}.watched")
        self._now = now
        self._name = new_id()[:8]
        self._numbers = itertools.count(1)
        self._queue: collections.deque[tuple[float, str, Level, Mapping[str, Any]]] = collections.deque()
        self._file = SharedLogFile(path, RING_BYTES, 1)
        self._background = NativeThread()
        self._writing = new_lock()
        self._is_running = False
        self._is_closed = False
        self._is_dismissed = False
        self._looked_s = 0.0
        self.is_watched = False
        self.followers = 0
        self.dropped = 0

    def look(self) -> None:
        """See whether anybody watches, in any process: at most every `LOOK_S`."""
        now_s = self._now()
        if abs(now_s - self._looked_s) < LOOK_S:
            return
        self._looked_s = now_s
        try:
            self.is_watched = abs(now_s - self._mark.stat().st_mtime) < WATCH_S and not self._is_closed
        except OSError:
            self.is_watched = False
        if self.is_watched:
            self._begin()

    def add(self, event: str, fields: Mapping[str, Any], level: Level = "info") -> None:
        """An event; never waits, never raises. `fields` is not changed any more."""
        if not self.is_watched:
            return
        if len(self._queue) >= MAX_QUEUED:
            self.dropped += 1
            return
        self._queue.append((self._now(), event, level, fields))

    def follow(self, wanted: FeedFilter, last_id: str = "", *, is_over: Callable[[], bool] = lambda: False) -> Iterator[bytes]:
        """Server-sent events from now on, or from the one after `last_id` (`Last-Event-ID`), and a comment after `HEARTBEAT_S` without any.

        They end when all are dismissed, or where `is_over`. Errors: `TooManyRequests`.
        """
        if self.followers >= MAX_FOLLOWERS:
            raise TooManyRequests("As many pages as this worker serves are open: close one.", retry_after_s=HEARTBEAT_S)
        return self._following(wanted, last_id if _ID.fullmatch(last_id) else "", is_over)

    def _following(self, wanted: FeedFilter, last_id: str, is_over: Callable[[], bool]) -> Iterator[bytes]:
        self.followers += 1
        marked_s = told_s = 0.0
        try:
            with contextlib.closing(_Tail(self._path)) as tail:
                frames = tail.begin(last_id, wanted)
                while not (self._is_dismissed or is_over()):
                    now_s = self._now()
                    if abs(now_s - marked_s) >= MARK_S:
                        self._watch(now_s)
                        marked_s = now_s
                    if frames or abs(now_s - told_s) >= HEARTBEAT_S:
                        told_s = now_s
                        yield frames or HEARTBEAT
                    gevent.sleep(READ_S)
                    frames = _frames(tail.lines(), wanted)
        finally:
            self.followers -= 1

    def flush(self) -> None:
        """Write what is queued, in the caller's own time."""
        with self._writing:
            lines = [line for line in map(self._line, [self._queue.popleft() for _ in range(len(self._queue))]) if line]
            try:
                written = self._file.write(lines) if lines else 0
            except OSError:
                written = 0
            self.dropped += len(lines) - written

    def dismiss(self) -> None:
        """Let all go who follow: this worker is about to leave, and they go on at another one. Its own events are still written."""
        self._is_dismissed = True

    def close(self) -> None:
        """Write what is left; nobody is served any more."""
        self._is_closed = self._is_dismissed = True
        self.is_watched = False
        self.flush()
        self._file.close()
        self._background.wake()

    def _watch(self, now_s: float) -> None:
        """Let all processes know that somebody watches."""
        with contextlib.suppress(OSError):  # then only this one knows
            self._mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._mark, os.O_CREAT | os.O_WRONLY, 0o600))
            os.utime(self._mark, (now_s, now_s))
        self.is_watched = True
        self._begin()

    def _begin(self) -> None:
        if not self._is_running and not self._is_closed:
            self._is_running = True
            self._background.start(self._run)

    def _run(self) -> None:
        while self.is_watched:
            self.flush()
            self._background.wait(WRITE_S)
            self.look()
        self._is_running = False

    def _line(self, item: tuple[float, str, Level, Mapping[str, Any]]) -> bytes | None:
        time_s, event, level, fields = item
        stamp = datetime.datetime.fromtimestamp(time_s, datetime.UTC).isoformat(timespec="milliseconds")
        head = {"id": f"{self._name}-{next(self._numbers)}", "time": stamp, "level": level, "event": event}
        with contextlib.suppress(UnicodeEncodeError):  # half a surrogate pair, which no file can hold
            line = line_of({**head, **fields, **head})
            if len(line) <= MAX_LINE_BYTES:
                return line
        self.dropped += 1
        return None


class _Tail:
    """Reads what is appended to the file at a path that others write and rotate. Mutable: the open file, and the beginning of a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._part = b""

    def begin(self, last_id: str, wanted: FeedFilter) -> bytes:
        """Go to the end; the frames of what came after `last_id`."""
        self._file = self._opened(self._path)
        older = self._opened(Path(f"{self._path}.1")) if last_id else None
        with contextlib.ExitStack() as ends:
            if older is not None:
                ends.enter_context(older)
            if self._file is None or not last_id:
                if self._file is not None:
                    self._file.seek(0, os.SEEK_END)
                return MISSED if last_id else b""
            is_same = older is not None and os.path.samestat(os.fstat(older.fileno()), os.fstat(self._file.fileno()))
            ring = older.read() if older is not None and not is_same else b""
        *lines, self._part = (ring + self._file.read()).split(b"\n")
        mark = b'{"id":"%s",' % last_id.encode()
        place = next((number for number, line in enumerate(lines) if line.startswith(mark)), None)
        missed = MISSED if place is None else b""
        return missed + _frames(lines[place + 1 :] if place is not None else lines, wanted)

    def lines(self) -> list[bytes]:
        """The lines that were completed since the last time. After a rotation the rest of the old file comes first."""
        found = self._read()
        if self._is_rotated():
            found += self._read()  # what was written between the two
            self.close()
            self._file = self._opened(self._path)
            found += self._read()
        return found

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> list[bytes]:
        data = self._file.read() if self._file is not None else b""
        if not data:
            return []
        *lines, self._part = (self._part + data).split(b"\n")
        return lines

    def _is_rotated(self) -> bool:
        try:
            status = self._path.stat()
        except OSError:
            return False
        return self._file is None or not os.path.samestat(status, os.fstat(self._file.fileno()))

    @staticmethod
    def _opened(path: Path) -> BinaryIO | None:
        try:
            return path.open("rb", buffering=0)
        except OSError:
            return None


def _frames(lines: Iterable[bytes], wanted: FeedFilter) -> bytes:
    """The frames of the lines that are wanted; a line that is not of the feed is left out."""
    found: list[bytes] = []
    least = LEVELS.index(wanted.level)
    for line in lines:
        try:
            head = msgspec.json.decode(line, type=_Head)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        is_wanted = LEVELS.index(head.level) >= least and wanted.key in (None, head.client) and wanted.model in ("", head.model)
        if is_wanted and _ID.fullmatch(head.id):
            found.append(b"id: %s\ndata: %s\n\n" % (head.id.encode(), line))
    return b"".join(found)
