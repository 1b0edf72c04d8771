"""Every client that can be set up: its files, and what a person does with them, each as its own documentation wants it.

    client_setup(name, offers, base_url, key, command) -> ClientSetup

What is the same for everybody is data (`compat/data/clients.toml`); the files depend on what the gateway offers (`files`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal

import msgspec

from compat.config.settings import COMMAND
from compat.protocols.base import ClientApi
from compat.setup.files import FILES, ClientFile
from compat.setup.offers import Offers, main_model

Language = Literal["en", "zh"]


class ClientRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client in the data. `api` is what it speaks, and what its set-up is proved by."""

    title: str
    steps: dict[Language, tuple[str, ...]]
    api: ClientApi = "openai.chat"
    files: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """All that one client needs. `commands` can be pasted into a shell; `steps` are for people, by language."""

    client: str
    title: str
    files: tuple[ClientFile, ...]
    commands: tuple[str, ...]
    steps: Mapping[Language, tuple[str, ...]]


@functools.cache
def clients() -> Mapping[str, ClientRow]:
    """Every client, in the order in which they are shown."""
    data = resources.files("compat").joinpath("data/clients.toml").read_bytes()
    return MappingProxyType(msgspec.toml.decode(data, type=dict[str, ClientRow]))


def client_setup(client: str, offers: Offers, base_url: str, key: str, command: str = COMMAND) -> ClientSetup:
    """What `client` (a key of `clients()`) needs to use the gateway at `base_url`, which ends with `/v1`, under `key`.

    `command` is how this program is called.
    """
    row = clients()[client]
    values = {"base_url": base_url, "root_url": base_url.removesuffix("/v1"), "key": key, "command": command, "model": main_model(offers)}

    def filled(lines: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(line.format_map(values) for line in lines)

    makers = FILES[client] if row.files else ()
    files = tuple(make(path, offers, base_url, key) for path, make in zip(row.files, makers, strict=True))
    return ClientSetup(client, row.title, files, filled(row.commands), {language: filled(steps) for language, steps in row.steps.items()})
