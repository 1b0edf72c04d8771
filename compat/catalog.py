"""What is known about models: aliases with dated targets, limits, prices, capabilities, retirement dates.

The facts are data (`compat/data/catalog.toml`), never conditions on names; a user's `config.toml` can override any field of a model.
Prices are US dollars per million tokens, sizes are tokens, dates are ISO days.
"""

from __future__ import annotations

import datetime
import difflib
import fnmatch
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Literal

import msgspec

Effort = Literal["low", "medium", "high", "xhigh", "max"]
_COMPARED_CHARS = 100
"""Of a name that is looked for: comparing takes time and memory by the square of its length."""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    cache_write_1h: float = 0.0


class MessagesFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model behaves behind Anthropic's Messages API.

    The defaults are for a model that is no Claude, on a server of its own that speaks this protocol; Claude's families are in the data.

    thinking           which `thinking.type` values it takes: `adaptive` only, `both`, `enabled` (a budget) only, or `none`
    thinking_default   what happens when a request says nothing: `off`, `on`, or `always` (can't be switched off)
    efforts            levels of `output_config.effort`, rising; empty when it has none
    sampling           `none`: non-default values are refused; `one`: temperature or top_p, not both; `all`
    prefill            a trailing assistant message is continued instead of refused
    forced_tools       whether `tool_choice` any/tool is taken: `always`, `unless_enabled` (not with `thinking.type: enabled`), `never`
    structured_output  `output_config.format` with a JSON schema
    system_in_middle   `role: "system"` messages natively, after a user turn
    cache_minimum      tokens below which a cache breakpoint has no effect
    bound_thinking     thinking blocks are bound to the model and the exact prefix before them
    """

    thinking: Literal["adaptive", "both", "enabled", "none"] = "adaptive"
    thinking_default: Literal["off", "on", "always"] = "off"
    efforts: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")
    sampling: Literal["none", "one", "all"] = "all"
    prefill: bool = True
    forced_tools: Literal["always", "unless_enabled", "never"] = "always"
    structured_output: bool = False
    system_in_middle: bool = False
    cache_minimum: int = 1024
    bound_thinking: bool = False


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of one model.

    `ids` maps an upstream kind to the id the model has there, `replaced_by` names the model that takes over after `retires`.
    """

    id: str = ""
    display_name: str = ""
    owned_by: str = ""
    context: int = 128_000
    max_output: int = 16_384
    price: Price = Price()
    tools: bool = True
    images: bool = False
    files: bool = False
    reasoning: bool = False
    released: datetime.date | None = None
    retires: datetime.date | None = None
    replaced_by: str | None = None
    ids: dict[str, str] = {}
    messages: MessagesFacts = MessagesFacts()


class Alias(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public model name. `target` is a model of the catalog, `since` the day the name was pointed at it."""

    target: str
    since: datetime.date
    display_name: str = ""


class _CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    aliases: dict[str, Alias]
    models: dict[str, dict[str, Any]]
    families: dict[str, dict[str, Any]] = {}


class Catalog:
    """Lookups over the catalog's data; immutable after construction.

    `models` by canonical id, `aliases` by public name. A family is a pattern of ids with the facts of models that the data doesn't
    know by name.
    """

    def __init__(self, models: Mapping[str, Model], aliases: Mapping[str, Alias], families: Mapping[str, Model]) -> None:
        self.models = dict(models)
        self.aliases = dict(aliases)
        self._families = dict(families)
        self._by_upstream_id = {(kind, name): model for model in models.values() for kind, name in model.ids.items()}

    def model_of(self, upstream_kind: str, upstream_id: str) -> Model:
        """The facts of the model that `upstream_kind` calls `upstream_id`; for an unknown id those of its family, else plain defaults."""
        known = self._by_upstream_id.get((upstream_kind, upstream_id)) or self.models.get(upstream_id)
        if known is not None:
            return known
        bare_id = upstream_id.rsplit("/", 1)[-1].replace(".", "-")
        for pattern, family in self._families.items():
            if fnmatch.fnmatchcase(bare_id, pattern):
                return msgspec.structs.replace(family, id=upstream_id, display_name=upstream_id)
        return Model(id=upstream_id, display_name=upstream_id, owned_by=upstream_kind)

    def with_facts(self, model: Model, facts: Mapping[str, Any]) -> Model:
        """`model` with some of its fields overridden, tables merged."""
        return msgspec.convert(_merge(msgspec.to_builtins(model), facts), Model) if facts else model

    def nearest_names(self, name: str, candidates: Iterable[str]) -> list[str]:
        """Up to three names that look like `name`, best first."""
        return difflib.get_close_matches(name[:_COMPARED_CHARS].lower(), sorted(set(candidates)), n=3, cutoff=0.4)


def load_catalog(overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Catalog:
    """The packaged catalog with the fields of `overrides` (model id -> fields of `Model`) laid over it.

    A model may name `like`, a family whose fields it starts from. `msgspec.ValidationError` names a wrong field.
    """
    data = resources.files("compat").joinpath("data/catalog.toml").read_bytes()
    file = msgspec.toml.decode(data, type=_CatalogFile, strict=True)
    models: dict[str, Model] = {}
    rows = {name: dict(row) for name, row in file.models.items()}
    for name, row in (overrides or {}).items():
        rows[name] = _merge(rows.get(name, {}), row)
    for name, row in rows.items():
        base = _family(file, row.pop("like")) if "like" in row else {}
        models[name] = msgspec.convert({"id": name, "display_name": name, **_merge(base, row)}, Model)
    families = {pattern: msgspec.convert({"id": pattern, **row}, Model) for pattern, row in file.families.items()}
    return Catalog(models, file.aliases, families)


def _family(file: _CatalogFile, pattern: Any) -> Mapping[str, Any]:
    found = file.families.get(pattern) if isinstance(pattern, str) else None
    if found is None:
        raise msgspec.ValidationError(f"{pattern!r} is not a family of the catalog ({', '.join(file.families)}) - at `$.like`")
    return found


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, tables merged, neither changed."""
    merged = dict(base)
    for key, value in over.items():
        mine = merged.get(key)
        merged[key] = _merge(mine, value) if isinstance(mine, dict) and isinstance(value, Mapping) else value
    return merged
