"""What clients asked, found again in the log's files, where `[log] prompts` has them written.

    prompt_of(settings.log, base_dir, request_id, client)

They are lines of the log like others: in files of mode 0600, `max_bytes` and `backups` bound them, and rotation takes the oldest away.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import msgspec

from compat.config.sections import LogSettings
from compat.telemetry.calllog import REQUEST, line_of

_END = b"\n"


class _Line(msgspec.Struct, frozen=True):
    body: str


def prompt_of(settings: LogSettings, base_dir: Path, request_id: str, client: str) -> str | None:
    """The body of a client's request as it came; `None` where it was not kept, or is not there any more.

    Clients may choose their requests' ids, so that both names count. The newest of several is given.
    """
    try:
        mark = line_of({"event": REQUEST, "request_id": request_id, "client": client})[1:-2]
    except UnicodeEncodeError:  # half a surrogate pair, which is in no line
        return None
    path = (base_dir / settings.file).resolve()  # older files are where a link leads, see `SharedLogFile`
    for file in (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, settings.backups + 1))):
        line = _last_line_with(file, mark)
        if line is not None:
            return msgspec.json.decode(line, type=_Line).body
    return None


def _last_line_with(path: Path, mark: bytes) -> bytes | None:
    """The last line that holds `mark`, which is a part of the JSON that no text in it can be: quotes in texts are escaped."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            place = data.rfind(mark)
            if place < 0:
                return None
            end = data.find(_END, place)
            return data[data.rfind(_END, 0, place) + 1 : end] if end >= 0 else None
    except (OSError, ValueError):  # no such file, or an empty one
        return None
