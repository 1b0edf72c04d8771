"""What the state files of the service may hold (`compat/service/state.py`). Whatever else is in one counts as no file.

They lie in a folder that nobody else can write to; but they are read by whatever version comes next, and decide what is signalled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_Identity = dict[str, str | int] | None


class _Facts(msgspec.Struct, frozen=True):
    shutdown_s: _Seconds
    workers: _Count = 0
    log_file: str = ""
    warnings: list[str] = []


class _Generation(msgspec.Struct, frozen=True):
    number: _Count
    state: str
    facts: _Facts
    configuration: _Count = 0
    since_s: _Seconds = 0.0
    identity: _Identity = None


class _Operation(msgspec.Struct, frozen=True):
    id: str = ""
    is_done: bool = False
    fault: str = ""
    since_s: _Seconds = 0.0
    took_s: _Seconds = 0.0


class _Service(msgspec.Struct, frozen=True):
    watcher: _Identity = None
    mode: str = ""
    state: str = ""
    since_s: _Seconds = 0.0
    address: tuple[str, _Port] | None = None
    bound: tuple[str, _Port] | None = None
    latest: _Count = 0
    current: _Count | None = None
    generations: list[_Generation] = []
    operation: _Operation | None = None


class _Keeper(msgspec.Struct, frozen=True):
    keeper: _Identity
    state: str
    detail: str
    model: str
    pid: _Count | None
    context_tokens: _Count
    restarts: _Count
    base_url: str = ""
    api_key: str = ""


class _Request(msgspec.Struct, frozen=True):
    id: str = ""
    environment: dict[str, str] = {}


def is_service(value: Mapping[str, Any]) -> bool:
    """Whether it can be `service.json`."""
    return _fits(value, _Service)


def is_keeper(value: Mapping[str, Any]) -> bool:
    """Whether it can be what a keeper of the embedded engine writes."""
    return _fits(value, _Keeper)


def wish_of(value: Mapping[str, Any] | None) -> tuple[str, dict[str, str]]:
    """The id in `request.json`, and the variables that go with it; both empty where it is anything else."""
    try:
        request = msgspec.convert(value or {}, _Request)
    except msgspec.ValidationError:
        return "", {}
    sound = {name: text for name, text in request.environment.items() if name and "=" not in name and "\0" not in name + text}
    return request.id, sound


def _fits(value: Mapping[str, Any], kind: type[msgspec.Struct]) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
