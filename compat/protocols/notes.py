"""Receipts: what a translation changed, gathered while it works and shown in `x-compat-notes` and the call log.

A note is `verb=subject`; equal notes are counted: `thinking=restored(2)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MAX_NOTES = 24
_MAX_KEPT = 1000
"""Different notes that are kept apart: the rest is only counted."""
_SUBJECT = re.compile(r"[^A-Za-z0-9_.@()\[\]/:-]")


class Notes:
    """Notes in the order of their first appearance. Mutable."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._uncounted = 0

    def add(self, verb: str, subject: str) -> None:
        """Note `verb=subject`. A subject may hold a client's words: it is cut and cleaned."""
        note = f"{verb}={_SUBJECT.sub('_', subject[:60])}"
        if note in self._counts or len(self._counts) < _MAX_KEPT:
            self._counts[note] = self._counts.get(note, 0) + 1
        else:
            self._uncounted += 1

    def add_all(self, verb: str, subjects: Iterable[str]) -> None:
        """Note each subject."""
        for subject in subjects:
            self.add(verb, subject)

    def told(self) -> tuple[str, ...]:
        """The notes, each once, with a count where there were several; a bounded number of them."""
        told = [note if count == 1 else f"{note}({count})" for note, count in self._counts.items()]
        more = len(told) - _MAX_NOTES + self._uncounted
        return tuple(told) if more <= 0 else (*told[:_MAX_NOTES], f"more={more}")


def header_text(text: str) -> str:
    """`text` as a header can hold it: printable ASCII, bounded."""
    if text.isascii() and text.isprintable():
        return text[:1000]
    return "".join(character if " " <= character <= "~" else "?" for character in text[:1000])
