"""Asking the service for its health, over HTTP, as its clients reach it."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Health:
    """`is_well`: it answers, and says `ok` or `degraded`. `words` are for people."""

    is_well: bool
    words: str


def ask_health(url: str, key: str = "") -> Health:
    """`GET /healthz` at `url`; never through a proxy, never raises. `key` is the run folder's, for what is not for everybody."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz", headers={"connection": "close"} | ({"authorization": f"Bearer {key}"} if key else {}))
        answer = connection.getresponse()
        report = json.loads(answer.read(1_000_000))
        status = str(report["status"])
        causes = [str(cause) for cause in report.get("causes", ())]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return Health(False, f"does not answer ({type(error).__name__})" if url else "no address yet")
    finally:
        connection.close()
    words = "".join(character if character.isprintable() else "?" for character in ", ".join([status, *causes]))
    return Health(status in {"ok", "degraded"}, words)
