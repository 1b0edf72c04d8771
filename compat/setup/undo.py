"""What set-up changed, so that `setup CLIENT --undo` can put it back: `data/setup.json`, mode 0600.

    remember(record, client, path, before, after, ...)   before a file is written: records it, and says where its copy is to be
    undo(record, client, say)                            puts files back

Several runs of a set-up are one change: the copy is of the file before the first. A file that is still as set-up left it is put back whole.
From one that somebody else changed since, as Kilo Code changes its own at its first start, what is still as set-up wrote it is taken out,
where it is JSON; any other is left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from compat.setup.jsonc import parse, value_at, with_value, without_value
from compat.storage.whole_file import keep_mode, replace_file

MAX_RECORD_BYTES = 1024 * 1024
_NOTHING: Any = object()


Written = tuple[tuple[str, ...], str]


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as set-up left it.

    `digest` is its SHA-256, empty when others changed it between two runs; `copy` is where the file is as it was before, `None` where there
    was no file; `ours` names what in it is set-up's, and is empty where all of it is. `values` are its places in JSON, with the digest of
    what was written there.
    """

    digest: str
    copy: str | None = None
    ours: tuple[str, ...] = ()
    values: tuple[Written, ...] = ()


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


def written(document: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> tuple[Written, ...]:
    """What `document` has at `paths`, for `Change.values`."""
    return tuple((path, _digest_of(value_at(document, *path))) for path in paths)


def remember(
    record: Path,
    client: str,
    path: Path,
    before: str | None,
    after: str,
    ours: tuple[str, ...],
    copy: Path,
    values: tuple[Written, ...],
) -> Path | None:
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
    change = Change(digest, kept, ours, values)
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
    if digest != change.digest and (taken := _take_out(path, change, copy)):
        return True, f"Taken out of {path}, which was changed since: {', '.join(taken)}{as_it_was}"
    if digest != change.digest or (copy is not None and not copy.exists()):
        why = "it was changed since" if digest != change.digest else "the copy is gone"
        ours = ", ".join(change.ours) or "all that you didn't write"
        return False, f"Left alone, because {why}: {path}{as_it_was}; take out by hand: {ours}"
    if copy is None:
        path.unlink()
        return True, f"Removed: {path}"
    copy.replace(path)
    return True, f"Put back: {path}"


def _take_out(path: Path, change: Change, copy: Path | None) -> list[str]:
    """Let a file of JSON have what it had before, at each place where what set-up wrote still stands; the names of these places."""
    taken = []
    try:
        text = path.read_bytes().decode("utf-8")
        before = parse(copy.read_bytes().decode("utf-8")) if copy is not None and copy.exists() else None
        for place, digest in change.values:
            node = parse(text)
            if node is not None and _digest_of(value_at(node.value, *place, default=_NOTHING)) == digest:
                old = value_at(before.value, *place, default=_NOTHING) if before is not None else _NOTHING
                text = without_value(text, place) if old is _NOTHING else with_value(text, place, old)
                taken.append(".".join(place))
    except ValueError:  # `JsoncError`, and bytes that are not UTF-8
        return []
    if taken:
        replace_file(path, text.encode("utf-8"), keep_mode(path))
    return taken


def _digest_of(value: Any) -> str:
    return "" if value is _NOTHING else _digest(json.dumps(value, sort_keys=True).encode())


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
