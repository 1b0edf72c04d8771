"""What set-up changed, so that `setup CLIENT --undo` can put it back: `data/setup.json`, mode 0600.

    remember(record, client, path, before, after, ...)   before a file is written: records it, and says where its copy is to be
    undo(record, client, say)                            puts files back that are still as set-up left them

Several runs of a set-up are one change: the copy is of the file before the first. A file that somebody else changed since is never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from compat.storage.whole_file import replace_file

MAX_RECORD_BYTES = 1024 * 1024


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as set-up left it.

    `digest` is its SHA-256, empty when others changed it between two runs; `copy` is where the file is as it was before, `None` where there
    was no file; `ours` names what in it is set-up's, and is empty where all of it is.
    """

    digest: str
    copy: str | None = None
    ours: tuple[str, ...] = ()


Records = Mapping[str, Mapping[str, Change]]
"""Client -> path -> the change."""


def read_records(path: Path) -> Records:
    """All that is recorded. Errors: `ValueError` for a file that can't be read, with what to do."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_RECORD_BYTES), type=dict[str, dict[str, Change]])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise ValueError(
            f"the record of set-ups, {path}, can't be read ({error}): move it away, and nothing before it can be undone"
        ) from error


def remember(record: Path, client: str, path: Path, before: str | None, after: str, ours: tuple[str, ...], copy: Path) -> Path | None:
    """Record that `path` goes from `before` to `after`. Errors: `OSError`, `ValueError`.

    Returns where the file as it was is to be kept: `copy`, or where it is already; `None` where there was no file.
    """
    records = read_records(record)
    known = records.get(client, {}).get(str(path))
    kept, digest = (None if before is None else str(copy)), _digest(after.encode())
    if known is not None and before is not None and not _is_first(known, before):
        if _digest(before.encode()) == known.digest:
            kept = known.copy
        else:
            digest = ""
    change = Change(digest, kept, ours)
    _write(record, {**records, client: {**records.get(client, {}), str(path): change}})
    return Path(kept) if kept is not None else None


def undo(record: Path, client: str, say: Callable[[str], None]) -> bool:
    """Put back every file that `setup client` changed, one line each; false when one was left alone. Errors: `OSError`, `ValueError`."""
    records = read_records(record)
    changes = records.get(client, {})
    if not changes:
        say(f"Nothing to undo: no change of `setup {client}` is recorded in {record}.")
        return True
    left = {}
    for name, change in changes.items():
        is_done, words = _put_back(Path(name), change)
        if not is_done:
            left[name] = change
        say(words)
    _write(record, {**{other: found for other, found in records.items() if other != client}, **({client: left} if left else {})})
    return not left


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _put_back(path: Path, change: Change) -> tuple[bool, str]:
    """Restore one file. Returns whether that is done, and what was done, or why not."""
    copy = Path(change.copy) if change.copy is not None else None
    as_it_was = f" (as it was: {copy})" if copy is not None else ""
    try:
        digest = _digest(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return True, f"Already gone: {path}{as_it_was}"
    if digest != change.digest or (copy is not None and not copy.exists()):
        why = "it was changed since" if digest != change.digest else "the copy is gone"
        ours = ", ".join(change.ours) or "all that you didn't write"
        return False, f"Left alone, because {why}: {path}{as_it_was}; take out by hand: {ours}"
    if copy is None:
        path.unlink()
        return True, f"Removed: {path}"
    copy.replace(path)
    return True, f"Put back: {path}"


def _is_first(known: Change, before: str) -> bool:
    """Whether a change is the first again, because the file has been put back by hand."""
    if known.copy is None:
        return False
    with contextlib.suppress(OSError):
        return Path(known.copy).read_bytes() == before.encode("utf-8")
    return False


def _write(record: Path, records: Records) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    replace_file(record, msgspec.json.format(msgspec.json.encode(records), indent=1), is_synced=True)
