"""Who may see the console, and what of it: one guard for pages and feeds alike.

Without client keys whoever gets past the rules for hosts and browsers (`endpoints/front.py`) is on this machine, and sees all. With client
keys a visitor signs in with one of them, or a program sends it as for a call: a key that was made with `--console` sees all, any other one
its own calls and budget.

A sign-in is a cookie that names the key and ends after `SESSION_S`. It is signed by a key of its own purpose, holds no secret, and counts
only as long as the gateway accepts the key that it was made with: who revokes a key ends its sign-ins on every worker and machine.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flask
import itsdangerous

from compat.accounting.keys import ClientKeys
from compat.errors import InvalidKey

COOKIE = "compat_console"
SESSION_S = 12 * 3600
_SALT = "compat.console.access"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at the console. `name` is that of the key, empty where none is needed."""

    name: str = ""
    sees_all: bool = True
    is_signed_in: bool = False

    @property
    def key(self) -> str | None:
        """The one key whose calls may be seen; `None` for all."""
        return None if self.sees_all else self.name


class Access:
    """The guard. `known_secrets` are what the gateway signs with; where there are none, sign-ins last as long as the process."""

    def __init__(self, keys: ClientKeys, known_secrets: Callable[[], Sequence[bytes]], now: Callable[[], float]) -> None:
        self._keys = keys
        self._now = now
        self._serializer = functools.cache(lambda: _serializer(known_secrets() or [secrets.token_bytes(32)]))

    def visitor_of(self, request: flask.Request) -> Visitor | None:
        """Who sent a request; `None` for somebody who may see nothing."""
        if not self._keys.are_required:
            return Visitor()
        authorization, x_api_key = request.headers.get("authorization", ""), request.headers.get("x-api-key", "")
        if not (authorization or x_api_key):
            return self._signed_in(request.cookies.get(COOKIE, ""))
        try:
            name = self._keys.client_of(authorization, x_api_key)
        except InvalidKey:
            return None
        return Visitor(name, self._keys.sees_all(name))

    def sign_in(self, key: str) -> str:
        """The cookie's value for whoever holds `key`. Errors: `InvalidKey`."""
        name = self._keys.client_of("", key)
        return str(self._serializer().dumps([name, self._keys.fingerprint(name), self._now() + SESSION_S]))

    def _signed_in(self, cookie: str) -> Visitor | None:
        try:
            name, fingerprint, end_s = self._serializer().loads(cookie)
        except itsdangerous.BadData:
            return None
        if self._now() >= end_s or not hmac.compare_digest(self._keys.fingerprint(name) or "-", fingerprint):
            return None
        return Visitor(name, self._keys.sees_all(name), is_signed_in=True)


def _serializer(known: Sequence[bytes]) -> itsdangerous.URLSafeSerializer:
    signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return itsdangerous.URLSafeSerializer([*reversed(known)], _SALT, signer_kwargs=signer)
