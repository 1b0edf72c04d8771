"""Client keys: none at all means that any key, or none, is accepted (only on loopback; the settings see to that).

They come from `[keys.NAME]` of the configuration and from the file of `python app.py keys` (`key_store.py`), which a running gateway
follows. Stored as SHA-256 of a long random key, compared in constant time; a client is known by its key's name, never by the key.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterator, Mapping

from compat.accounting.key_store import KeyStore, KeyTerms, StoredKeys, digest_of, old_digests
from compat.config.sections import GroupSettings, KeySettings
from compat.errors import InvalidKey, ModelForbidden

ANONYMOUS = "anonymous"
_NONE = StoredKeys()


class ClientKeys:
    """The keys that are accepted. Immutable but for what `store` finds in its file; `now` gives seconds since 1970."""

    def __init__(
        self,
        keys: Mapping[str, KeySettings],
        store: KeyStore | None = None,
        now: Callable[[], float] = time.time,
        groups: Mapping[str, GroupSettings] | None = None,
    ) -> None:
        self._hashes = {name: digest_of(key.hash) for name, key in keys.items()}
        self._old = old_digests(keys)
        self._terms = {
            name: KeyTerms(models=key.models, group=key.group, console=key.console)
            for name, key in keys.items()
            if key.models or key.group or key.console
        }
        self._groups = groups or {}
        self.store = store
        self._now = now

    @property
    def are_required(self) -> bool:
        """Whether a call needs one of the keys."""
        return bool(self._hashes) or self._stored().is_in_use

    @property
    def names(self) -> list[str]:
        """The names of all keys."""
        return list(dict.fromkeys([*self._hashes, *self._stored().hashes]))

    @property
    def fault(self) -> str:
        """What is wrong with the file of keys just now; empty when all is well."""
        return self.store.fault if self.store is not None else ""

    def terms_of(self, client: str) -> KeyTerms | None:
        """What its key says a client may do; `None` where it says nothing."""
        return self._stored().terms.get(client) if client not in self._hashes else self._terms.get(client)

    def members_of(self, group: str) -> list[str]:
        """The names of the keys of a group, also of those that were revoked."""
        groups = {name: terms.group for name, terms in self._terms.items()}
        return [name for name, own in {**self._stored().groups, **groups}.items() if own == group]

    def models_of(self, client: str) -> tuple[str, ...]:
        """The public names that a client may call, with `*` for anything; none: all of them."""
        terms = self.terms_of(client)
        if terms is None:
            return ()
        return terms.models or (self._groups[terms.group].models if terms.group in self._groups else ())

    def may_call(self, client: str, model: str) -> bool:
        """Whether a client may call the model of that public name."""
        models = self.models_of(client)
        return not models or any(fnmatch.fnmatchcase(model, one) for one in models)

    def check_model(self, client: str, model: str) -> None:
        """Errors: `ModelForbidden` where a client may not call it."""
        if self.terms_of(client) is not None and not self.may_call(client, model):
            allowed = ", ".join(self.models_of(client))[:500]
            raise ModelForbidden(f"The key '{client[:100]}' may not call '{model[:200]}', only: {allowed}.", param="model")

    def client_of(self, authorization: str, x_api_key: str = "") -> str:
        """The name of the client whose key these headers hold. Errors: `InvalidKey`."""
        scheme, _, credential = authorization.strip().partition(" ")
        key = credential.strip() if scheme.lower() == "bearer" else x_api_key.strip()
        stored = self._stored()
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape"))
        if not self._hashes and not stored.is_in_use:  # any key is as good as another, but those with different ones share nothing
            return f"key-{digest.hexdigest()}" if key else ANONYMOUS
        if not key:
            raise InvalidKey("This gateway requires a key: send it as 'Authorization: Bearer KEY'.")
        found = ""
        for name, known in self._known(stored):
            if hmac.compare_digest(known, digest.digest()):
                found = name
        if not found:
            raise InvalidKey("This gateway does not know the key that was sent.")
        if self._has_expired(found, stored):
            raise InvalidKey(f"The key '{found}' has expired.")
        terms = self.terms_of(found)
        if terms is not None and terms.group and terms.group not in self._groups:  # its limits would be none
            raise InvalidKey(f"The key '{found}' is of the group '{terms.group}', which the configuration does not have.")
        return found

    def sees_all(self, name: str) -> bool:
        """Whether a key may see everybody's calls."""
        terms = self.terms_of(name)
        return terms is not None and terms.console

    def fingerprint(self, name: str) -> str:
        """What is known of a key while it is accepted, and changes with it: by this a sign-in ends with its key. Empty where it is not."""
        stored = self._stored()
        digest = self._hashes.get(name) or stored.hashes.get(name)
        if digest is None or self._has_expired(name, stored):
            return ""
        return hashlib.sha256(b"compat.console" + digest).hexdigest()

    def _has_expired(self, name: str, stored: StoredKeys) -> bool:
        expires = stored.terms[name].expires if name not in self._hashes else None
        return expires is not None and self._now() >= expires.timestamp()

    def admits(self, authorization: str, x_api_key: str = "") -> bool:
        """Whether a request with these headers may see names: it holds one of the keys, or none is required."""
        if not self.are_required:
            return True
        try:
            self.client_of(authorization, x_api_key)
        except InvalidKey:
            return False
        return True

    def _stored(self) -> StoredKeys:
        return self.store.current() if self.store is not None else _NONE

    def _known(self, stored: StoredKeys) -> Iterator[tuple[str, bytes]]:
        """The keys of both places, with those of before a rotation; the configuration's count where a name is in both."""
        for hashes, old in ((self._hashes, self._old), (stored.hashes, stored.old)):
            for name, digest in hashes.items():
                if hashes is self._hashes or name not in self._hashes:
                    yield name, digest
                    if name in old and self._now() < old[name][1]:
                        yield name, old[name][0]


def new_key() -> tuple[str, str]:
    """A fresh client key and the hash to be configured."""
    key = "sk-compat-" + secrets.token_urlsafe(32)
    return key, "sha256:" + hashlib.sha256(key.encode()).hexdigest()
