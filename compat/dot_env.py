"""What is odd in `.env`: lines and names that nobody reads, so that a misspelt key does not pass for a missing one. No value is shown."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from compat.service.configuration import Sources
from compat.upstream.kinds import UPSTREAM_KINDS

_OURS = ("OPENAI_COMPAT_CONFIG", "OPENAI_COMPAT_WORKERS", "OPENAI_COMPAT_KEYS")
_LIKENESS = 0.85
_MAX_NAME_CHARS = 60


def env_warnings(sources: Sources, path: Path | None = None, outer: Mapping[str, str] = os.environ) -> list[str]:
    """A line for each oddity of the file, which is shown as `path`; `outer` is the environment that counts before it."""
    shown = path or sources.env_file
    return [f"{shown}: {words}" for words in _oddities(sources, outer)]


def _oddities(sources: Sources, outer: Mapping[str, str]) -> Iterator[str]:
    if sources.garbage:
        lines = ", ".join(map(str, sources.garbage[:10]))
        noun, verb = ("lines", "are") if len(sources.garbage) > 1 else ("line", "is")
        yield f"{noun} {lines} {verb} not NAME=value and {verb} ignored."
    keys = {kind.key_variable for kind in UPSTREAM_KINDS.values() if kind.key_variable}
    addresses = {kind.base_url_variable for kind in UPSTREAM_KINDS.values() if kind.base_url_variable}
    empty = [name for name, value in sources.written.items() if name in keys and not value.strip() and not outer.get(name)]
    if empty:
        yield f"{', '.join(empty)} {'are' if len(empty) > 1 else 'is'} empty: an upstream without a key is not used."
    known = sorted({*keys, *addresses, *_OURS})
    for name in sources.written:
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=_LIKENESS) if name not in known else []
        if near and not _is_named(name, sources):
            shown = name if name.isprintable() else ascii(name)
            yield f"{shown[:_MAX_NAME_CHARS]} has no effect; did you mean {near[0]}?"


def _is_named(name: str, sources: Sources) -> bool:
    """Whether the configuration takes a value from that variable (`env:NAME`), or the file itself does (`${NAME}`)."""
    try:
        text = sources.config.read_text(encoding="utf-8") if sources.config is not None else ""
        return f"env:{name}" in text or f"${{{name}" in sources.env_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
