"""Names of tools and ids of calls that a strict upstream takes (docs/translation.md, rules 5 and 6).

Anthropic takes ids of `[A-Za-z0-9_-]+` and names of up to 64 of these characters, and OpenAI the same names. What does not fit is
rewritten in a way that depends on the name alone, so that turns stay byte-stable, and any process writes the same; answers get the client's
own name back.
"""

from __future__ import annotations

import hashlib
import re

MAX_NAME = 64
_KEPT_OF_NAME = MAX_NAME - 7
_KEPT_OF_ID = 48
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


def fit_name(name: str) -> str:
    """`name` as the upstream takes it; one that fits stays as it is, any other gets a suffix of its digest."""
    if name and len(name) <= MAX_NAME and _UNFIT.search(name) is None:
        return name
    return f"{_UNFIT.sub('_', name[:_KEPT_OF_NAME])}_{digest_of(name, 3)}"


def fit_id(call_id: str) -> str:
    """A tool call's id as the upstream takes it; distinct ids stay distinct."""
    if call_id and _UNFIT.search(call_id) is None:
        return call_id
    return f"{_UNFIT.sub('_', call_id[:_KEPT_OF_ID])}-{digest_of(call_id, 4)}"


def digest_of(text: str, size_bytes: int) -> str:
    """A digest in hexadecimal digits, two a byte: the same in any process."""
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=size_bytes).hexdigest()
