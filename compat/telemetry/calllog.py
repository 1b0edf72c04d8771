"""The log: one JSON line per call and per event, and a readable line on the terminal.

A call never waits for the disk: `write` appends to a bounded queue and returns. One thread of the system (a real one, also under
gevent) takes lines from the queue and writes them, at most `FLUSH_S` later; what does not fit is counted and reported.

Prompts, answers and keys are never part of a record: records are built from named fields, not from requests. Who wants prompts in the
file (`log.prompts`) gets records of their own with them, which the terminal does not show.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

import msgspec

from compat.config.sections import LogSettings
from compat.storage.background import NativeThread, new_lock
from compat.storage.shared_log_file import SharedLogFile

FLUSH_S = 0.25
CLOSE_S = 3.0
"""How long the end waits for a disk, before what is left is given up."""

STUCK_S = 5.0
"""A write that takes longer is reported: the disk is stuck."""

MAX_QUEUED = 10_000
MAX_BATCH = 500
MAX_PROMPT_BYTES = 32 * 1024 * 1024
"""Of requests that wait to be written, where they are wanted."""

REQUEST = "call.request"
Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
_Record = tuple[Level, float, str, Mapping[str, Any]]
"""Its level, its time, its event and the fields."""


class Listener(Protocol):
    """Gets records as they happen, whatever their level, while it is watched."""

    is_watched: bool

    def add(self, event: str, fields: Mapping[str, Any], level: Level = "info") -> None:
        """See `CallLog.write`."""
        ...


class CallLog:
    """See above; `feed` gets all records.

    Mutable: the queue, the count of dropped lines, whether the file could be written last time, and since when it is being written."""

    def __init__(
        self, settings: LogSettings, base_dir: Path, now: Callable[[], float], terminal: TextIO | None = None, feed: Listener | None = None
    ) -> None:
        self._settings = settings
        self.base_dir = base_dir
        self._path = base_dir / settings.file
        self._now = now
        self._feed = feed
        self._queue: collections.deque[_Record] = collections.deque()
        self._terminal = terminal if terminal is not None else sys.stderr
        self._file = SharedLogFile(self._path, settings.max_bytes, settings.backups)
        self._levels = LEVELS[LEVELS.index(settings.level) :]
        self._background = NativeThread()
        self._writing = new_lock()  # the writer's thread and whoever calls `flush` write one after the other
        self._is_closed = False
        self._busy_since_s: float | None = None
        self._fault = ""
        self._prompt_bytes_in = self._prompt_bytes_out = 0  # each counted by one thread
        self.dropped = 0

    @property
    def fault(self) -> str:
        """What is wrong with the file just now; empty when all is well."""
        since_s = self._busy_since_s
        if since_s is not None and self._now() - since_s >= STUCK_S:
            return f"no line could be written for {self._now() - since_s:.0f} s"
        return self._fault

    @property
    def queued(self) -> int:
        """How many records wait to be written."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to write."""
        self._background.start(self._run)

    def write(self, event: str, fields: Mapping[str, Any], level: Level = "info") -> None:
        """Queue one record; never blocks, never raises."""
        if self._feed is not None and self._feed.is_watched:
            self._feed.add(event, fields, level)
        if level not in self._levels:
            return
        if len(self._queue) >= MAX_QUEUED:
            self.dropped += 1
            return
        self._queue.append((level, self._now(), event, fields))

    def request(self, request_id: str, client: str, body: bytes) -> None:
        """Queue what a client asked, where that is wanted; see `prompts`."""
        if not self._settings.prompts:
            return
        waiting_bytes = self._prompt_bytes_in - self._prompt_bytes_out
        if waiting_bytes + len(body) > MAX_PROMPT_BYTES or len(self._queue) >= MAX_QUEUED:
            self.dropped += 1
            return
        self._prompt_bytes_in += len(body)
        fields = {"request_id": request_id, "client": client, "bytes": len(body), "body": body.decode("utf-8", "replace")}
        self._queue.append(("info", self._now(), REQUEST, fields))

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        """Queue a record of something that is not a call; names that end in `failed` or `died` are warnings."""
        self.write(name, fields, "warning" if name.endswith(("failed", "died")) else "info")

    def flush(self) -> None:
        """Write what is queued now, in the caller's own time: for the end of the process and for tests."""
        with self._writing:
            self._write_queued()

    def close(self) -> None:
        """Write what is left and close the file; further calls do nothing. A stuck disk is given up after `CLOSE_S`."""
        self._is_closed = True
        self._background.wake()
        if not self._writing.acquire(timeout=CLOSE_S):
            self.dropped += len(self._queue)
            return
        try:
            self._write_queued()
            self._file.close()
        finally:
            self._writing.release()

    def _run(self) -> None:
        while not self._is_closed:
            self.flush()
            self._background.wait(FLUSH_S)

    def _write_queued(self) -> None:
        """Write what is queued now; what is added meanwhile waits, or under load every few calls would be a write of their own."""
        left = len(self._queue)
        while left:
            count = min(left, MAX_BATCH)
            self._write_batch([self._queue.popleft() for _ in range(count)])
            left -= count

    def _write_batch(self, batch: list[_Record]) -> None:
        """All lines in one write: other processes of this machine may write the same file."""
        lines: list[bytes] = []
        for record in batch:
            try:
                lines.append(_line(*record))
            except UnicodeEncodeError:  # half a surrogate pair, which no file can hold
                self.dropped += 1
        self._busy_since_s = self._now()
        try:
            written = self._file.write(lines)
        except OSError as error:
            self._note_fault(str(error.strerror or error), len(lines))
        else:
            self.dropped += len(lines) - written  # a full disk: the next batch shows it
            self._fault = ""
        finally:
            self._busy_since_s = None
        self._prompt_bytes_out += sum(fields["bytes"] for _, _, event, fields in batch if event == REQUEST)
        if self._settings.terminal:
            self._to_terminal(batch)

    def _note_fault(self, words: str, count: int) -> None:
        self.dropped += count
        if not self._fault:
            with contextlib.suppress(OSError, ValueError):
                self._terminal.write(f"The log file {self._path} can't be written: {words}. Calls continue.\n")
        self._fault = words

    def _to_terminal(self, batch: Sequence[_Record]) -> None:
        """All lines in one write: each of its own would take the interpreter from the calls once more."""
        lines = [f"{_clock_of(int(time_s))} {readable(event, fields)}\n" for _, time_s, event, fields in batch if event != REQUEST]
        try:
            self._terminal.write("".join(lines))
            self._terminal.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)


@functools.lru_cache(maxsize=2)
def _clock_of(second: int) -> str:
    """The time of day of a second since 1970, for the terminal."""
    return time.strftime("%H:%M:%S", time.localtime(second))


def _line(level: Level, time_s: float, event: str, fields: Mapping[str, Any]) -> bytes:
    """A record as a line of the file. `UnicodeEncodeError` for what no file can hold."""
    stamp = datetime.datetime.fromtimestamp(time_s, datetime.UTC).isoformat(timespec="milliseconds")
    return line_of({"time": stamp, "level": level, "event": event, **fields})


def line_of(record: Mapping[str, Any]) -> bytes:
    """A record as a line of JSON, without a control character. `UnicodeEncodeError` for what no file can hold."""
    return _visible(msgspec.json.encode(record, enc_hook=str).decode()).encode() + b"\n"


def readable(event: str, fields: Mapping[str, Any]) -> str:
    """The terminal's line: a call in one glance, any other event as `name key=value`. Control characters are escaped.

    A value that could be taken for several, or for none, is in quotes, as JSON has them.
    """
    if event == "call":
        route = " -> ".join(_quoted(fields[name]) for name in ("model", "deployment") if fields.get(name))
        took = f"{fields['duration_ms']} ms" if "duration_ms" in fields else ""
        words = " ".join(str(word) for word in (fields.get("outcome"), route, fields.get("status"), took) if word)
        tokens = f" {fields['prompt_tokens']}+{fields['completion_tokens']} tokens" if fields.get("prompt_tokens") is not None else ""
        error = f" ({fields['error']})" if fields.get("error") else ""
        line = f"{words}{tokens}{error}"
    else:
        line = event + "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
    return line if line.isprintable() else "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)


def _quoted(value: Any) -> str:
    if value is None:
        return "-"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    is_plain = text and text != "-" and not any(character in ' "=' for character in text)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _visible(line: str) -> str:
    """JSON text whose invisible characters (DEL, C1 controls, U+2028, marks of direction) are escaped; JSON itself escapes fewer."""
    if line.isprintable():
        return line
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in line)
