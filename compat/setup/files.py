"""The files of each client: what makes them of what the gateway offers, merges them with what is there, and finds them.

    FILES[client] -> makers, one for each path of its row in `compat/data/clients.toml`

A file that can be merged without loss has a `merge`; any other is written where there is none, and left alone otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from compat.setup import claude, codex, crush, kilo, qwen, zed
from compat.setup.jsonc import is_empty, json_text, with_values
from compat.setup.offers import PROVIDER, Offers
from compat.setup.undo import Written, written
from compat.setup.written import aider_metadata, aider_text, continue_text, roo_text

Merge = Callable[[str], str]
Place = Callable[[Mapping[str, str], Path], Path]
"""Where a client looks for its file, by the environment and the user's home."""


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A file of a client. `path` begins with `~` or is relative to where the command runs.

    Where it is merged, `merge` puts ours into the text of a file (`JsoncError`, `TomlError`), `place` says where it is, and `ours`
    names what in it is ours; in JSON `values` are its places and what is written there.
    """

    path: str
    text: str
    merge: Merge | None = None
    place: Place | None = None
    ours: tuple[str, ...] = ()
    values: tuple[Written, ...] = ()


Maker = Callable[[str, Offers, str, str], ClientFile]
"""Makes a file of its path, the offers, the base URL and the key."""
Document = Mapping[str, Any]
Paths = Sequence[tuple[str, ...]]
"""Where in a document what is ours stands."""


def _written(text: Callable[[Offers, str, str], str]) -> Maker:
    return lambda path, offers, base_url, key: ClientFile(path, text(offers, base_url, key))


def _json(client: str, config: Callable[[Offers, str, str], Document], ours: Paths, header: str = "") -> Maker:
    def make(path: str, offers: Offers, base_url: str, key: str) -> ClientFile:
        return _json_file(client, path, config(offers, base_url, key), ours, header)

    return make


def _claude(path: str, offers: Offers, base_url: str, key: str) -> ClientFile:
    document = claude.claude_config(offers, base_url, key)
    return _json_file("claude", path, document, [("env", name) for name in document["env"]])


def _json_file(client: str, path: str, document: Document, ours: Paths, header: str = "") -> ClientFile:
    """A file of JSON with comments. A new one is `header` and `document`; into one that is there goes what `document` has at `ours`."""
    text = header + json_text(document)

    def merge(there: str) -> str:
        return text if is_empty(there) else with_values(there, document, ours)

    return ClientFile(path, text, merge, PLACES[client], tuple(".".join(one) for one in ours), written(document, ours))


def _codex(path: str, offers: Offers, base_url: str, key: str) -> ClientFile:
    document = codex.codex_config(offers, base_url, key)
    names = ("model", "model_provider", f"[model_providers.{PROVIDER}]")
    return ClientFile(path, codex.codex_text(document), partial(codex.merged, document=document), PLACES["codex"], names)


PLACES: Mapping[str, Place] = MappingProxyType(
    {
        **{client: partial(kilo.config_path, client=client) for client in kilo.FLAVOURS},
        "claude": claude.config_path,
        "codex": codex.config_path,
        "qwen": qwen.config_path,
        "crush": crush.config_path,
        "zed": zed.config_path,
    }
)
"""Client -> where its file is that is merged."""
FILES: Mapping[str, tuple[Maker, ...]] = MappingProxyType(
    {
        **{
            client: (_json(client, partial(kilo.kilo_config, client=client), kilo.ours(client), kilo.header(client)),)
            for client in kilo.FLAVOURS
        },
        "claude": (_claude,),
        "codex": (_codex,),
        "qwen": (_json("qwen", qwen.qwen_config, qwen.OURS),),
        "crush": (_json("crush", crush.crush_config, crush.OURS),),
        "zed": (_json("zed", zed.zed_config, zed.OURS),),
        "roo": (_written(roo_text),),
        "continue": (_written(continue_text),),
        "aider": (_written(aider_text), _written(aider_metadata)),
    }
)
