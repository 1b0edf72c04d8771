"""Conversations that were made short here: the summary is sealed into the client's own history, and any worker opens it.

A summary of another service's is closed to us: it is left out with a note, where it can't be passed on as it is.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from compat.protocols.request import Request, Summary, Text, Turn
from compat.protocols.sealed import PREFIX, Sealed, Sealer

_ORIGIN = "compat.summary"
INTRODUCTION = "The conversation up to here was made short. What it came to, in the words of the model that led it:\n\n"


def sealed_summary(words: str, sealer: Sealer | None) -> str:
    """A summary as its client is to keep it; it can be opened where there is a sealer."""
    return sealer.seal(Sealed("", "", _ORIGIN, words)) if sealer is not None else PREFIX


def summary_in(token: str, sealer: Sealer | None) -> str:
    """The words of a summary; empty where it is not one of ours."""
    sealed = sealer.open(token) if sealer is not None else None
    return sealed.value if sealed is not None and sealed.origin == _ORIGIN and isinstance(sealed.value, str) else ""


def recalled(request: Request, sealer: Sealer | None) -> Request:
    """The request with its summaries as words."""
    turns: list[Turn] = []
    lost = 0
    for turn in request.turns:
        block = turn.blocks[0] if turn.blocks else None
        if not isinstance(block, Summary):
            turns.append(turn)
        elif words := summary_in(block.seal, sealer):
            turns.append(msgspec.structs.replace(turn, blocks=(Text(block.where, INTRODUCTION + words),)))
        else:
            lost += 1
    note = (f"dropped=summary({lost})",) if lost else ()
    return replace(request, turns=tuple(turns), changes=(*request.changes, *note), has_summaries=False)
