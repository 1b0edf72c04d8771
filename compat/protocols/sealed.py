"""State of an upstream that travels in the client's own history: signed, versioned, bound to the upstream and model that made it.

A client keeps the signature of a thought and sends it back, whatever it holds. So ours holds what the upstream wants back with that
thought: it outlives restarts, goes to other workers and machines, and needs no store. A key of its own purpose signs it, so that nobody
else can make one; it is not secret from the client, to whom the thought belongs.

Secrets are rotated by putting a new one first: it signs, and the others are still accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import itsdangerous
import msgspec

PREFIX = "compat1."
"""Anthropic's signatures are base64 and have no dot."""

_SALT = "compat.protocols.sealed"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a token holds: `value` in the words of the wire API `origin`, for this `model` of this `upstream`."""

    upstream: str
    model: str
    origin: str
    value: Any = None


class _Json:
    """The serializer's JSON."""

    def dumps(self, value: Any, **_: Any) -> str:
        return str(msgspec.json.encode(value), "utf-8")

    def loads(self, text: str | bytes, **_: Any) -> Any:
        return msgspec.json.decode(text)


class Sealer:
    """Makes tokens and opens them. `secrets`: the newest first."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._serializer = itsdangerous.URLSafeSerializer([*reversed(secrets)], _SALT, serializer=_Json(), signer_kwargs=signer)

    def seal(self, sealed: Sealed) -> str:
        """The token; the same state gives the same one."""
        fields = [sealed.upstream, sealed.model, sealed.origin, sealed.value]
        return PREFIX + str(self._serializer.dumps(fields))

    def open(self, token: str) -> Sealed | None:
        """What a token holds; `None` where it is not ours, or its secret is no longer known."""
        if not is_ours(token):
            return None
        try:
            upstream, model, origin, value = self._serializer.loads(token.removeprefix(PREFIX))
        except itsdangerous.BadData:
            return None
        return Sealed(upstream, model, origin, value)

    def own(self, token: str, upstream: str, model: str) -> Sealed | None:
        """What a token holds that was made for this model of this upstream; `None` for all others."""
        sealed = self.open(token)
        return sealed if sealed is not None and (sealed.upstream, sealed.model) == (upstream, model) else None


def is_ours(token: str) -> bool:
    """Whether a gateway of this kind made the signature, whoever's secret it is of."""
    return token.startswith(PREFIX)
