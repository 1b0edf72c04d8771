"""A generation as the watcher knows it, and its messages to systemd."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from compat.service.fleet import Worker, workers
from compat.service.state import Identity, RunFolder, is_of_the_service, send_signal

State = Literal["starting", "serving", "retiring"]


@dataclass(slots=True)
class Generation:
    """A gunicorn that was started. Mutable: `state`.

    `configuration` is the number its copy is kept under, `facts` what the check found there; `log_since` is where its words begin in the
    service log, `begun_s` a monotonic time.
    """

    number: int
    identity: Identity
    state: State
    configuration: int
    since_s: float
    facts: dict[str, Any]
    log_since: int = 0
    begun_s: float = field(default_factory=time.monotonic)

    def as_json(self) -> dict[str, Any]:
        """For the state file."""
        return {
            "number": self.number,
            "identity": self.identity.as_json(),
            "state": self.state,
            "configuration": self.configuration,
            "since_s": self.since_s,
            "facts": self.facts,
        }

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Generation | None:
        """What `as_json` wrote, if that generation still lives; `None` for anything else."""
        identity = Identity.read(value.get("identity"))
        if identity is None or not is_of_the_service(identity):
            return None
        try:
            facts = {"workers": value["facts"]["workers"], **value["facts"]}
            return cls(value["number"], identity, value["state"], value["configuration"], value["since_s"], facts)
        except (KeyError, TypeError, ValueError):
            return None

    def workers(self, run: RunFolder) -> list[Worker]:
        """Its workers that have written their files."""
        return [worker for worker in workers(run) if worker.generation == self.number]

    def end(self, run: RunFolder, number: int) -> None:
        """Send a signal to its gunicorn; SIGKILL, which that can't pass on, to its workers as well."""
        members = self.workers(run) if number == signal.SIGKILL else []
        send_signal(self.identity, number)
        for worker in members:
            send_signal(worker.identity, number)


def reason_of_end(code: int | None) -> str:
    """A gunicorn's exit code in words."""
    if code is None:
        return "gunicorn is gone"
    return f"gunicorn ended with status {code}" if code >= 0 else f"gunicorn was ended by {signal.Signals(-code).name}"


def tell_systemd(environment: Mapping[str, str], **words: str) -> None:
    """`sd_notify(3)`: each of `words` is a variable; nothing where nobody listens."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    text = "".join(f"{name}={value}\n" for name, value in words.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(text.encode())
