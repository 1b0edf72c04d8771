"""`python app.py keys add|list|rotate|revoke`: client keys without an editor and without a restart.

A new key is shown once, here; the file holds its hash. A gateway that runs follows the file within a second.
"""

from __future__ import annotations

import datetime
import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from compat.accounting.key_store import (
    LOOK_S,
    VARIABLE,
    KeyRecord,
    KeyTerms,
    Records,
    expiry_of,
    keys_path,
    lock_path,
    make_place,
    read_keys,
    with_key,
    with_revoked,
    with_rotated,
    write_keys,
)
from compat.accounting.keys import new_key
from compat.accounting.limit_rules import parse_rules
from compat.config.settings import COMMAND, SettingsError, file_text
from compat.service.state import FileLock

_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}
Say = Callable[[str], None]
_LEAST_USD, _MOST_USD = 0.01, 1e9


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """What was asked for: see `keys add --help`; `command` is how the program was called."""

    action: Literal["add", "list", "rotate", "revoke"]
    name: str = ""
    limit: str = ""
    day_usd: float = 0.0
    month_usd: float = 0.0
    console: bool = False
    expires: str = ""
    models: str = ""
    group: str = ""
    overlap: str = ""
    command: str = COMMAND


def run_keys(
    order: KeyOrder, base_dir: Path, environment: Mapping[str, str], config: Path | None, now: datetime.datetime, say: Say
) -> None:
    """Do what `order` asks for; `config` is the configuration file. Errors: `SettingsError`, `ValueError`, `OSError`."""
    path = keys_path(base_dir, environment)
    if order.action == "list":
        _list(order, read_keys(path), configured_names(config), now, say)
        return
    lock = FileLock(lock_path(path))
    try:
        make_place(path)
        lock.acquire(waits=True)
        _ACTIONS[order.action](order, path, config, now, say)
    except OSError as error:
        raise SettingsError(unwritable(path, error)) from error
    finally:
        lock.release()


def unwritable(path: Path, error: OSError) -> str:
    """Why the file can't be written, and the way out where its folder is for others to write."""
    words = f"{path}: can't be written: {error.strerror or error}."
    return f"{words} {VARIABLE} names another file, here and where the gateway runs." if error.errno in _NOT_OURS else words


def _add(order: KeyOrder, path: Path, config: Path | None, now: datetime.datetime, say: Say) -> None:
    records, configured = read_keys(path), configured_names(config)
    if order.name in configured:
        raise ValueError(f"The configuration already has a key '{order.name}'.")
    terms = terms_of(order, now)
    if terms.group and terms.group not in configured_names(config, "groups"):
        raise ValueError(f"There is no group '{terms.group[:100]}': add [groups.NAME] to the configuration first.")
    key, digest = new_key()
    write_keys(path, with_key(records, order.name, digest, terms, now))
    say(f"Give this key to the client; it is shown only once:\n  {key}")
    say(f"Its hash is in {path}. A running gateway accepts it within {LOOK_S:g} s.")
    if terms.console:
        say("It also signs in to the console, the gateway's start page.")
    if not records and not configured:
        say("It is the first key: from now on every client needs one.")


def _rotate(order: KeyOrder, path: Path, config: Path | None, now: datetime.datetime, say: Say) -> None:
    name = order.name
    if name in configured_names(config):
        raise ValueError(f"The key '{name}' is in the configuration: put the hash of `--new-key` there, and the present one in old_hash.")
    until = expiry_of(order.overlap, now)
    key, digest = new_key()
    write_keys(path, with_rotated(read_keys(path), name, digest, until))
    say(f"Give this key to the client; it is shown only once:\n  {key}")
    say(f"A running gateway accepts it within {LOOK_S:g} s, and the one before until {until:%Y-%m-%d %H:%M %Z}.")


def _revoke(order: KeyOrder, path: Path, config: Path | None, now: datetime.datetime, say: Say) -> None:
    name, configured = order.name, configured_names(config)
    if name in configured:
        raise ValueError(f"The key '{name}' is in the configuration: remove [keys.{name}] there.")
    records = with_revoked(read_keys(path), name, now)
    write_keys(path, records)
    say(f"The key '{name}' is revoked. A running gateway refuses it within {LOOK_S:g} s.")
    if not configured and all(record.revoked is not None for record in records.values()):
        say(f"No key is left, so every call is refused. To accept any key again, delete {path} and restart the gateway.")


def terms_of(order: KeyOrder, now: datetime.datetime) -> KeyTerms:
    """The terms that were asked for. `ValueError`, `SettingsError` for invalid ones."""
    if order.limit:
        parse_rules(order.limit, "client", "--limit")
    amounts = (order.day_usd, order.month_usd)
    if not all(amount == 0 or _LEAST_USD <= amount < _MOST_USD for amount in amounts):
        raise ValueError("A budget is a number of US dollars; 0 means no limit.")
    models = tuple(one.strip() for one in order.models.split(",") if one.strip())
    if order.models and not models:
        raise ValueError("--models names no model: write names with commas between them, or leave it out for all.")
    expires = expiry_of(order.expires, now) if order.expires else None
    return KeyTerms(order.limit, *amounts, expires, order.console, models, order.group)


def _list(order: KeyOrder, records: Records, configured: frozenset[str], now: datetime.datetime, say: Say) -> None:
    rows = [("NAME", "STATE", "CREATED", "TERMS")]
    rows += [(_shown(name), "accepted", "configuration", "") for name in sorted(configured)]
    rows += [(name, state_of(record, now), f"{record.created:%Y-%m-%d}", _words(record, now)) for name, record in sorted(records.items())]
    if len(rows) == 1:
        say(f"There are no client keys: the gateway accepts any, on this machine only. Make one with `{order.command} keys add NAME`.")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        say("  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])).rstrip())


def state_of(record: KeyRecord, now: datetime.datetime) -> str:
    """Whether a key is accepted, in a word."""
    if record.revoked is not None:
        return "revoked"
    return "expired" if record.terms.expires is not None and record.terms.expires <= now else "accepted"


def _words(record: KeyRecord, now: datetime.datetime) -> str:
    terms = record.terms
    parts = [f"group {terms.group}" if terms.group else "", f"models {', '.join(terms.models)}" if terms.models else "", terms.limit]
    parts += [f"{amount:g} usd/{period}" for amount, period in ((terms.day_usd, "day"), (terms.month_usd, "month")) if amount]
    parts += ["console"] if terms.console else []
    parts += [f"until {terms.expires:%Y-%m-%d %H:%M %Z}"] if terms.expires is not None else []
    if record.old_until is not None and record.old_until > now and record.revoked is None:
        parts.append(f"old secret until {record.old_until:%Y-%m-%d %H:%M %Z}")
    return "; ".join(part for part in parts if part)


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)


_ACTIONS = {"add": _add, "rotate": _rotate, "revoke": _revoke}


def configured_names(config: Path | None, section: str = "keys") -> frozenset[str]:
    """The names under `[keys]` of the configuration file. A file with other faults has them too, one that is not TOML has none."""
    if config is None:
        return frozenset()
    try:
        document = msgspec.toml.decode(file_text(config))
    except (SettingsError, msgspec.DecodeError):
        return frozenset()
    rows = document.get(section)
    return frozenset(rows) if isinstance(rows, dict) else frozenset()
