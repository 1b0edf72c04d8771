"""Client keys that come and go while the gateway runs: `data/keys.json` beside `app.py`, written by `python app.py keys`.

    write_keys(path, with_key(read_keys(path), "laptop", digest, KeyTerms(), now))     the key itself is kept nowhere
    KeyStore(path, ...).current()                                                      what the gateway knows just now

The file holds hashes, has mode 0600, and is written whole, as a new file that takes the old one's place. Revoked names stay in it: a
gateway whose last key was revoked must not take any key again.

A running gateway looks at the stamp of the file once a second, at the first call after that second. A file that can't be read, or is gone,
leaves the known keys valid, and is reported: nobody gets in because a disk is full or an editor saves.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from compat.config.sections import Dollars, KeyHash, KeySettings, Moment
from compat.config.settings import SettingsError
from compat.storage.whole_file import replace_file, stamp_of

VARIABLE = "OPENAI_COMPAT_KEYS"
"""The environment variable that names another place of the file."""

HASH_MARK = "sha256:"
LOOK_S = 1.0
MAX_FILE_BYTES = 16 * 1024 * 1024

KeyName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class KeyTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a key may do: limit strings (`60/minute; 100000 tokens/minute`), US dollars per day and month, until when, which models; with
    `console` it may see everybody's calls in the console, not its own alone.

    Empty, 0 and none: what `[limits]` of the configuration says of every key, and all models. `group` is one of `[groups]`.
    """

    limit: str = ""
    day_usd: Dollars = 0.0
    month_usd: Dollars = 0.0
    expires: Moment | None = None
    console: bool = False
    models: tuple[str, ...] = ()
    group: str = ""


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key of the file; `revoked` is when it was. After a rotation `old_hash` is accepted as well, until `old_until`."""

    hash: KeyHash
    created: Moment
    terms: KeyTerms = KeyTerms()
    revoked: Moment | None = None
    old_hash: KeyHash | None = None
    old_until: Moment | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    keys: dict[KeyName, KeyRecord] = msgspec.field(default_factory=dict)


Records = Mapping[str, KeyRecord]


def keys_path(base_dir: Path, environment: Mapping[str, str]) -> Path:
    """Where the keys are: in `data`, which the services may write. A `keys.json` of before, beside `app.py`, stays in use."""
    if named := environment.get(VARIABLE):
        return base_dir / named
    path, before = base_dir / "data" / "keys.json", base_dir / "keys.json"
    return before if before.exists() and not path.exists() else path


def read_keys(path: Path) -> Records:
    """The keys of the file, none where there is no file. `SettingsError` where it can't be read or is not one of ours."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"{path}: can't be read: {error.strerror}.") from error
    if len(data) > MAX_FILE_BYTES:
        raise SettingsError(f"{path}: is longer than {MAX_FILE_BYTES} bytes.")
    try:
        return msgspec.json.decode(data, type=_File).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(
            f"{path}: is not a file of client keys ({error}): restore it, or move it away and make the keys anew."
        ) from error


def lock_path(path: Path) -> Path:
    """The lock of whoever changes the file."""
    return path.with_name(f".{path.name}.lock")


def make_place(path: Path) -> None:
    """The folder of the file and its lock, where they are missing. Errors: `OSError`."""
    folder = path.parent
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _hand_over(folder, folder.parent)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(lock_path(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            _hand_over(descriptor, folder)
        finally:
            os.close(descriptor)


def _hand_over(made: int | Path, folder: Path) -> None:
    """What root has just made in a folder of another user is that user's: the gateway that runs as them is to read it."""
    owner = folder.stat()
    if hasattr(os, "geteuid") and os.geteuid() == 0 and owner.st_uid:  # Windows has neither users nor owners of this kind
        with contextlib.suppress(OSError):  # a container may have taken the right to do so
            os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=isinstance(made, int))


def write_keys(path: Path, records: Records) -> None:
    """Replace what the file held by `records`, in one step. Errors: `OSError`."""
    text = msgspec.json.format(msgspec.json.encode(_File(keys=dict(records))), indent=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text + b"\n", lambda descriptor: _hand_over(descriptor, path.parent), is_synced=True)


def with_key(records: Records, name: str, digest: str, terms: KeyTerms, now: datetime.datetime) -> Records:
    """`records` with a key of that name and hash. A revoked name may be used again. `ValueError` for one that is taken, or is no name."""
    try:
        msgspec.convert(name, KeyName)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name[:100]!a} is not a valid name for a key: use letters, digits, '.', '_' and '-', at most 64.") from error
    known = records.get(name)
    if known is not None and known.revoked is None:
        raise ValueError(f"A key '{name}' exists already; revoke it first, or choose another name.")
    return {**records, name: KeyRecord(digest, now, terms)}


def with_revoked(records: Records, name: str, now: datetime.datetime) -> Records:
    """`records` with that key revoked. `ValueError` where there is none of the name."""
    return {**records, name: msgspec.structs.replace(_valid(records, name), revoked=now)}


def with_rotated(records: Records, name: str, digest: str, old_until: datetime.datetime) -> Records:
    """`records` with a new hash of that key; the one before counts until `old_until`. `ValueError` where there is no key of the name."""
    record = _valid(records, name)
    return {**records, name: msgspec.structs.replace(record, hash=digest, old_hash=record.hash, old_until=old_until)}


def _valid(records: Records, name: str) -> KeyRecord:
    record = records.get(name)
    if record is None:
        raise ValueError(f"There is no key '{name[:100]}'; `keys list` shows all.")
    if record.revoked is not None:
        raise ValueError(f"The key '{name}' was revoked already.")
    return record


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The keys of the file as they count for calls: those that are not revoked. `is_in_use`: there was one at some time.

    `old` are hashes of before a rotation, each with the time (seconds since 1970) until which it counts. `groups` are those of all keys,
    also of revoked ones: what these spent was spent.
    """

    hashes: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    terms: Mapping[str, KeyTerms] = field(default_factory=dict)
    is_in_use: bool = False
    old: Mapping[str, tuple[bytes, float]] = field(default_factory=dict, repr=False)
    groups: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Records) -> StoredKeys:
        """What counts of `records`."""
        valid = {name: record for name, record in records.items() if record.revoked is None}
        return cls(
            {name: digest_of(record.hash) for name, record in valid.items()},
            {name: record.terms for name, record in valid.items()},
            is_in_use=bool(records),
            old=old_digests(valid),
            groups={name: record.terms.group for name, record in records.items() if record.terms.group},
        )


def digest_of(written: str) -> bytes:
    """The bytes of a hash as files hold it."""
    return bytes.fromhex(written.removeprefix(HASH_MARK))


def old_digests(records: Mapping[str, KeyRecord] | Mapping[str, KeySettings]) -> dict[str, tuple[bytes, float]]:
    """By name, the hash of before a rotation, and until when it counts, in seconds since 1970."""
    return {
        name: (digest_of(record.old_hash), record.old_until.timestamp() if record.old_until is not None else math.inf)
        for name, record in records.items()
        if record.old_hash is not None
    }


class KeyStore:
    """The file as a running gateway sees it. Mutable: what was read last, the file's stamp then, when to look again, the last `fault`.

    `clock` measures, `on_event` is the log's, `check` raises `SettingsError` for terms of a key that nobody could hold it to. Raises it
    as well when the file can't be used at the start.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        on_event: Callable[[str, Mapping[str, Any]], None],
        check: Callable[[str, KeyTerms], object] = lambda _name, _terms: None,
    ) -> None:
        self.path = path
        self._clock = clock
        self._on_event = on_event
        self._check = check
        self.fault = ""
        self._stamp = stamp_of(path)
        self._stored = self._checked()
        self._next_look_s = clock() + LOOK_S

    def current(self) -> StoredKeys:
        """What is known now, a second old at most. Never fails, never waits for more than a small file."""
        now_s = self._clock()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_S
            stamp = stamp_of(self.path)
            if stamp != self._stamp:
                self._read(stamp)
        return self._stored

    def _read(self, stamp: tuple[int, ...] | None) -> None:
        self._stamp = stamp
        try:
            if stamp is None:
                raise SettingsError(f"{self.path}: is gone; its keys stay valid until the next start.")
            self._stored = self._checked()
        except SettingsError as error:
            self.fault = str(error)
            self._on_event("keys.failed", {"fault": self.fault})
            return
        self.fault = ""
        self._on_event("keys.read", {"keys": len(self._stored.hashes)})

    def _checked(self) -> StoredKeys:
        stored = StoredKeys.of(read_keys(self.path))
        for name, terms in stored.terms.items():
            try:
                self._check(name, terms)
            except SettingsError as error:
                raise SettingsError(f"{self.path}: {error}") from error
        return stored


def expiry_of(text: str, now: datetime.datetime) -> datetime.datetime:
    """`30d`, `12h`, or a date or time (of UTC where it says nothing else) as a moment that is to come. `ValueError` otherwise."""
    number, unit = text[:-1], text[-1:]
    if number.isascii() and number.isdigit() and len(number) < 6 and unit in {"d", "h"}:
        moment = now + datetime.timedelta(days=int(number)) if unit == "d" else now + datetime.timedelta(hours=int(number))
    else:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"'{text[:50]}' is neither a span (30d, 12h) nor a date (2027-01-31).") from error
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    if moment <= now:
        raise ValueError(f"'{text[:50]}' is in the past.")
    return moment


def exposed_files(paths: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """A warning for each of the files that holds one of `secrets` and can be read by other users. Systems without modes have none."""
    sought = [secret.encode("utf-8", "surrogateescape") for secret in secrets if secret]
    warnings = []
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            is_exposed = os.name == "posix" and mode & 0o044 and any(secret in path.read_bytes() for secret in sought)
        except OSError:
            continue
        if is_exposed:
            warnings.append(f"{path} holds keys, and others on this machine can read it (mode {mode:04o}): chmod 600 {path}")
    return warnings
