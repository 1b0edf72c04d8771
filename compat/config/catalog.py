"""What is known about models: aliases with dated targets, limits, prices, capabilities, retirement dates.

The facts are data (`compat/data/catalog.toml`), never conditions on names; a user's `config.toml` can override any field of a model.
Prices are US dollars per million tokens, sizes are tokens, dates are ISO days.
"""

from __future__ import annotations

import datetime
import difflib
import fnmatch
import functools
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Literal

import msgspec

Api = Literal["openai.chat", "openai.responses", "anthropic.messages", "gemini.generate"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_SATURDAY = 5
_FREE = ":free"
"""How OpenRouter marks a variant that costs nothing."""
_COMPARED_CHARS = 100
"""Of a name that is looked for: comparing takes time and memory by the square of its length."""


class PriceTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Factors on a price, `input` with what is read from and written to a cache, `output`, and when they hold: all of these together.

    above      the prompt has more tokens than that; then they are for all of the call
    hours      of the day in UTC, each from (included) and to (excluded); empty: all of them
    weekdays   Monday to Friday in UTC only
    since      from this day of UTC on
    """

    above: int = 0
    hours: tuple[tuple[float, float], ...] = ()
    weekdays: bool = False
    since: datetime.date | None = None
    input: float = 1.0
    output: float = 1.0

    @property
    def depends_on_time(self) -> bool:
        """Whether it may hold at one time and not at another."""
        return bool(self.hours) or self.weekdays or self.since is not None

    def holds_at(self, moment: datetime.datetime) -> bool:
        """Whether its hours and days hold at a moment of UTC."""
        hour = moment.hour + moment.minute / 60 + moment.second / 3600
        is_hour = not self.hours or any(start <= hour < end for start, end in self.hours)
        return is_hour and (not self.weekdays or moment.weekday() < _SATURDAY) and (self.since is None or self.since <= moment.date())


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens; `tiers` change them by the size of the prompt and by time."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    cache_write_1h: float = 0.0
    tiers: tuple[PriceTier, ...] = ()

    def at(self, now_s: float) -> Price:
        """The price at a time (seconds since 1970): what is left of `tiers` depends on the prompt only."""
        if not any(tier.depends_on_time for tier in self.tiers):
            return self
        moment = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
        holding = [tier for tier in self.tiers if tier.holds_at(moment)]
        by_size = tuple(PriceTier(tier.above, input=tier.input, output=tier.output) for tier in holding if tier.above)
        return msgspec.structs.replace(self._times([tier for tier in holding if not tier.above]), tiers=by_size)

    def listed_at(self, now_s: float) -> Price:
        """The price of a usual prompt at most hours of the day: for lists, which are kept for a while."""
        day = datetime.datetime.fromtimestamp(now_s, datetime.UTC).date()
        lasting = (tier for tier in self.tiers if not (tier.above or tier.hours or tier.weekdays))
        return self._times(tier for tier in lasting if tier.since is None or tier.since <= day)

    def of_prompt(self, tokens: int) -> Price:
        """The price of a call with a prompt of so many tokens; what depends on time (see `at`) is left out."""
        if not self.tiers:
            return self
        holding = [tier for tier in self.tiers if tokens > tier.above and not tier.depends_on_time]
        return self._times(holding) if holding else self

    def _times(self, tiers: Iterable[PriceTier]) -> Price:
        tiers = tuple(tiers)
        into, out = math.prod(tier.input for tier in tiers), math.prod(tier.output for tier in tiers)
        reads, writes, writes_1h = self.cache_read * into, self.cache_write * into, self.cache_write_1h * into
        return Price(self.input * into, self.output * out, reads, writes, writes_1h)


class MessagesFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model behaves behind Anthropic's Messages API.

    The defaults are for a model other than Claude, on a server of its own that speaks this protocol; Claude's families are in the data.

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


class ResponsesFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What OpenAI's Responses API takes for a model that reasons.

    efforts          levels of `reasoning.effort`, rising
    default_effort   the level of a request that names none; `none`: it does not reason unasked
    breakpoints      parts of the prompt may be marked for the cache (`prompt_cache_breakpoint`)
    """

    efforts: tuple[ReasoningEffort, ...] = ("low", "medium", "high")
    default_effort: ReasoningEffort = "medium"
    breakpoints: bool = False


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of one model.

    `ids` maps an upstream kind to the id the model has there, `replaced_by` names the model that takes over after `retires`.
    `apis` are the wire APIs of its vendor that it does everything on, the best first; empty: that of its upstream, whichever it is.
    `source` says where price and limits were read; `reseller` is a thin one, which an upstream's own list overrides.
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
    apis: tuple[Api, ...] = ()
    source: Literal["vendor", "reseller", "configuration"] = "vendor"
    messages: MessagesFacts = MessagesFacts()
    responses: ResponsesFacts = ResponsesFacts()

    @property
    def reasoning_efforts(self) -> tuple[ReasoningEffort, ...]:
        """Levels of effort that a client may ask for, rising; empty where the model does not reason."""
        facts = self.messages if self.apis[:1] == ("anthropic.messages",) else self.responses
        return facts.efforts if self.reasoning else ()


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

    def model_of(self, upstream_kind: str, upstream_id: str, *, is_local: bool = False) -> Model:
        """The facts of the model that `upstream_kind` calls `upstream_id`; for an unknown id those of its family, else plain defaults.

        On this machine (`is_local`) a model of a family costs nothing, and its sizes are what the server was started with: the defaults.
        """
        known = self._by_upstream_id.get((upstream_kind, upstream_id)) or self.models.get(upstream_id)
        if known is not None:
            return known
        bare_id = upstream_id.rsplit("/", 1)[-1].replace(".", "-").lower()
        unknown = Model(id=upstream_id, display_name=upstream_id, owned_by=upstream_kind)
        for pattern, family in self._families.items():
            if fnmatch.fnmatchcase(bare_id, pattern):
                found = msgspec.structs.replace(family, id=upstream_id, display_name=upstream_id)
                if is_local:
                    return msgspec.structs.replace(found, price=Price(), context=unknown.context, max_output=unknown.max_output)
                return msgspec.structs.replace(found, price=Price()) if bare_id.endswith(_FREE) else found
        return unknown

    def with_facts(self, model: Model, facts: Mapping[str, Any]) -> Model:
        """`model` with some of its fields overridden, tables merged."""
        return msgspec.convert(merge(msgspec.to_builtins(model), facts), Model) if facts else model

    def nearest_names(self, name: str, candidates: Iterable[str]) -> list[str]:
        """Up to three names that look like `name`, best first."""
        return difflib.get_close_matches(name[:_COMPARED_CHARS].lower(), sorted(set(candidates)), n=3, cutoff=0.4)


def load_catalog(overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Catalog:
    """The packaged catalog with the fields of `overrides` (model id -> fields of `Model`) laid over it. Errors: as `model_with`."""
    file = _packaged()
    models = {name: _model(file, name, row) for name, row in file.models.items()}
    models |= {name: model_with(name, facts) for name, facts in (overrides or {}).items()}
    families = {pattern: msgspec.convert({"id": pattern, **_whole(file, row)}, Model) for pattern, row in file.families.items()}
    return Catalog(models, file.aliases, families)


def model_with(name: str, facts: Mapping[str, Any]) -> Model:
    """The packaged model of that name, or a new one, with fields overridden.

    It may name `like`, a family whose fields it starts from. `msgspec.ValidationError` names a wrong field.
    """
    file = _packaged()
    return _model(file, name, {**merge(file.models.get(name, {}), facts), "source": "configuration"})


def _model(file: _CatalogFile, name: str, row: Mapping[str, Any]) -> Model:
    return msgspec.convert({"id": name, "display_name": name, **_whole(file, row)}, Model)


@functools.cache
def _packaged() -> _CatalogFile:
    """The packaged data, which nobody changes. It is read once: a configuration's facts are checked row by row."""
    data = resources.files("compat").joinpath("data/catalog.toml").read_bytes()
    return msgspec.toml.decode(data, type=_CatalogFile, strict=True)


def _whole(file: _CatalogFile, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the facts of the family that it is `like`, and of the one that this is like."""
    own = {key: value for key, value in row.items() if key != "like"}
    return merge(_whole(file, _family(file, row["like"])), own) if "like" in row else own


def _family(file: _CatalogFile, pattern: Any) -> Mapping[str, Any]:
    found = file.families.get(pattern) if isinstance(pattern, str) else None
    if found is None:
        raise msgspec.ValidationError(f"{pattern!r} is not a family of the catalog ({', '.join(file.families)}) - at `$.like`")
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, tables merged, neither changed."""
    merged = dict(base)
    for key, value in over.items():
        mine = merged.get(key)
        merged[key] = merge(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return merged
