"""Client keys: none configured means that any key, or none, is accepted (only on loopback; the settings see to that).

Stored as SHA-256 of a long random key, compared in constant time; a client is known by its key's name, never by the key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from compat.errors import InvalidKey
from compat.sections import KeySettings

ANONYMOUS = "anonymous"


class ClientKeys:
    """The configured keys. Immutable."""

    def __init__(self, keys: Mapping[str, KeySettings]) -> None:
        self._hashes = {name: bytes.fromhex(key.hash.removeprefix("sha256:")) for name, key in keys.items()}

    @property
    def are_required(self) -> bool:
        """Whether a call needs one of the keys."""
        return bool(self._hashes)

    def client_of(self, authorization: str, x_api_key: str = "") -> str:
        """The name of the client whose key these headers hold. Errors: `InvalidKey`."""
        scheme, _, credential = authorization.strip().partition(" ")
        key = credential.strip() if scheme.lower() == "bearer" else x_api_key.strip()
        if not self._hashes:  # any key is as good as another, but those with different ones share nothing
            return f"key-{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}" if key else ANONYMOUS
        if not key:
            raise InvalidKey("This gateway requires a key: send it as 'Authorization: Bearer KEY'.")
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = ""
        for name, known in self._hashes.items():
            if hmac.compare_digest(known, digest):
                found = name
        if not found:
            raise InvalidKey("This gateway does not know the key that was sent.")
        return found


def new_key() -> tuple[str, str]:
    """A fresh client key and the hash to be configured."""
    key = "sk-compat-" + secrets.token_urlsafe(32)
    return key, "sha256:" + hashlib.sha256(key.encode()).hexdigest()
