"""A Redis server as the gateway uses it: quick answers or none, and never in a call's way.

    client = redis_client("redis://...")          # for the answer cache and the thinking vault
    options = limiter_options("redis://...")      # `storage_options` of Flask-Limiter
    link = Link("limits", clock.monotonic, on_event, LIMITER_ERRORS)
    link.ask(lambda: client.get(key))             # None while the server can't be used

While a server fails, it is left alone for `RETRY_S` between two tries, and calls go on without it. That is said once, and once more
when it is well again.

What a server holds was not necessarily written by a gateway. Whoever reads it checks it as he does a client's body: a value that can't be
right is ignored, and reported by `Link.distrust`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from limits.errors import StorageError

from compat.storage.background import OnEvent

TIMEOUT_S = 0.5
RETRY_S = 5.0
KEY_PREFIX = "openai-compat"
LIMITER_ERRORS: tuple[type[Exception], ...] = (StorageError,)

T = TypeVar("T")


class Link:
    """How a server is doing. Mutable: every field; no step of it waits but the question itself.

    `fault` is what is wrong now, for people; empty when all is well. `clock` is a monotonic one, `server` is what it is called. The events
    of `on_event` are `<name>.failed`, `<name>.recovered` and `<name>.value_failed`. Only `errors` are the server's; others leave.
    """

    def __init__(
        self, name: str, clock: Callable[[], float], on_event: OnEvent, errors: tuple[type[Exception], ...], server: str = "Redis"
    ) -> None:
        self._name = name
        self._server = server
        self._clock = clock
        self._on_event = on_event
        self._errors = errors
        self._retry_at_s: float | None = None
        self.fault = ""
        self._distrusted: set[str] = set()

    def distrust(self, what: str) -> None:
        """Report that a value of some kind was not what a gateway writes, and is ignored; once for each kind. `what` is our own word."""
        if what not in self._distrusted:
            self._distrusted.add(what)
            self._on_event(f"{self._name}.value_failed", {"reason": f"{self._server} holds {what} that no gateway wrote; it is ignored"})

    @property
    def is_left_alone(self) -> bool:
        """Whether the server is not asked just now, since it failed a moment ago."""
        return self._retry_at_s is not None and self._clock() < self._retry_at_s

    def ask(self, question: Callable[[], T]) -> T | None:
        """The answer to `question`; `None` where the server failed, or did so a moment ago."""
        if self.is_left_alone:
            return None
        if self._retry_at_s is not None:
            self._retry_at_s = self._clock() + RETRY_S  # others stay away while this one tries
        try:
            answer = question()
        except self._errors as error:
            self._note_fault(error)
            return None
        if self.fault:
            self._retry_at_s = None
            self.fault = ""
            self._on_event(f"{self._name}.recovered", {})
        return answer

    def _note_fault(self, error: Exception) -> None:
        """The kind of error only: its text may name the server's address with a password."""
        self._retry_at_s = self._clock() + RETRY_S
        was_well = not self.fault
        self.fault = f"{self._server} can't be used: {type(error.__cause__ or error).__name__}"
        if was_well:
            self._on_event(f"{self._name}.failed", {"reason": self.fault})


def redis_client(url: str) -> Any:
    """A client of `redis.Redis`, which connects at its first use. `ValueError` for what is not a URL of Redis."""
    import redis

    return redis.Redis.from_url(url, **_options())


def redis_errors() -> tuple[type[Exception], ...]:
    """What a client of `redis_client` raises when the server can't be used."""
    import redis

    return (redis.RedisError, OSError)


def limiter_options(url: str) -> dict[str, Any]:
    """The `storage_options` of Flask-Limiter for the storage at `url` (memory, a file, `redis://...`): its errors are `LIMITER_ERRORS`."""
    if not url.startswith(("redis", "valkey")):
        return {"wrap_exceptions": True}
    return {"wrap_exceptions": True, "key_prefix": f"{KEY_PREFIX}:limits", **_options()}


def _options() -> dict[str, Any]:
    """One more try at once, for a pooled connection that the server has closed; never after a timeout, when a command may have run."""
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as Disconnected
    from redis.retry import Retry

    return {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
    }
