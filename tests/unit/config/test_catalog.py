"""The catalog's data, and lookups over it."""

from __future__ import annotations

import datetime
import math

import msgspec
import pytest

from compat.config.catalog import Catalog, Model, Price, PriceTier, load_catalog
from compat.upstream.kinds import UPSTREAM_KINDS, UpstreamKind
from compat.wire.usage import Usage, cost_of

TODAY = datetime.date(2026, 11, 29)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


@pytest.mark.parametrize(
    ("alias", "target"),
    [
        ("claude-4-sonnet", "claude-sonnet-4-6"),
        ("claude-3-sonnet", "claude-sonnet-4-6"),
        ("claude-4-opus", "claude-opus-4-8"),
        ("gpt-4", "gpt-4o"),
        ("gpt-4o", "gpt-4o"),
    ],
)
def test_the_promised_names_stand_for_living_models(catalog: Catalog, alias: str, target: str) -> None:
    assert catalog.aliases[alias].target == target
    model = catalog.models[target]
    assert model.retires is None or model.retires > TODAY


def test_every_reference_of_the_data_leads_somewhere(catalog: Catalog) -> None:
    assert {alias.target for alias in catalog.aliases.values()} <= set(catalog.models)
    for model in catalog.models.values():
        assert set(model.ids) <= set(UPSTREAM_KINDS), model.id
        assert model.replaced_by is None or model.replaced_by in catalog.models, model.id
        assert (model.retires is None) == (model.replaced_by is None), model.id
        assert model.price.output >= model.price.input > 0, model.id


def test_no_two_models_have_the_same_id_at_one_upstream(catalog: Catalog) -> None:
    pairs = [pair for model in catalog.models.values() for pair in model.ids.items()]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize(
    ("model_id", "thinking", "default", "sampling", "prefill", "forced"),
    [
        ("claude-fable-5-2", "adaptive", "always", "none", False, "never"),
        ("claude-fable-5-1", "adaptive", "always", "none", False, "never"),
        ("claude-sonnet-5-5", "adaptive", "always", "none", False, "never"),
        ("claude-haiku-5-5", "adaptive", "on", "none", False, "always"),
        ("claude-opus-5-5", "adaptive", "always", "none", False, "never"),
        ("claude-fable-5", "adaptive", "always", "none", False, "always"),
        ("claude-opus-5", "adaptive", "on", "none", False, "always"),
        ("claude-sonnet-5", "adaptive", "on", "none", False, "always"),
        ("claude-opus-4-8", "adaptive", "off", "none", False, "always"),
        ("claude-opus-4-7", "adaptive", "off", "none", False, "always"),
        ("claude-opus-4-6", "both", "off", "one", False, "unless_enabled"),
        ("claude-sonnet-4-6", "both", "off", "one", False, "unless_enabled"),
        ("claude-opus-4-5-20251101", "enabled", "off", "one", True, "unless_enabled"),
        ("claude-sonnet-4-5-20250929", "enabled", "off", "one", True, "unless_enabled"),
        ("claude-haiku-4-5", "enabled", "off", "one", True, "unless_enabled"),
        ("claude-3-5-haiku-20241022", "none", "off", "all", True, "always"),
        ("claude-saga-9", "adaptive", "always", "none", False, "never"),
        ("claude-sonnet-7", "adaptive", "always", "none", False, "never"),
        ("claude-haiku-6", "adaptive", "on", "none", False, "always"),
    ],
)
def test_claude_models_have_the_facts_of_their_family(
    catalog: Catalog, model_id: str, thinking: str, default: str, sampling: str, prefill: bool, forced: str
) -> None:
    facts = catalog.model_of("anthropic", model_id).messages
    assert (facts.thinking, facts.thinking_default, facts.sampling, facts.prefill, facts.forced_tools) == (
        thinking,
        default,
        sampling,
        prefill,
        forced,
    )


def test_another_upstreams_spelling_has_the_same_facts(catalog: Catalog) -> None:
    assert catalog.model_of("openrouter", "anthropic/claude-sonnet-4.6").id == "claude-sonnet-4-6"
    assert catalog.model_of("openrouter", "anthropic/claude-opus-4.5-preview").context == 200_000


def test_a_name_of_no_family_has_plain_defaults(catalog: Catalog) -> None:
    model = catalog.model_of("openai", "somebodys-own")
    assert model == Model(id="somebodys-own", display_name="somebodys-own", owned_by="openai")


# kind, id that the data doesn't know, context, most output, dollars for input and output
UNKNOWN = [
    ("openai", "gpt-6.3-sol", 1_050_000, 128_000, 2, 10),
    ("openai", "gpt-7-luna", 1_050_000, 128_000, 0.1, 0.5),
    ("openai", "gpt-6.1-sol-2026-09-29", 1_050_000, 128_000, 2, 10),
    ("openai", "gpt-5.6-luna-pro", 1_050_000, 128_000, 0.2, 1.2),
    ("openai", "gpt-5.1", 400_000, 128_000, 0, 0),
    ("anthropic", "claude-sonnet-7", 1_000_000, 128_000, 2, 10),
    ("anthropic", "claude-fable-5-2-20261109", 1_000_000, 128_000, 8, 40),
    ("anthropic", "claude-mythos-5-1", 1_000_000, 128_000, 10, 50),
    ("gemini", "gemini-5-neon", 1_048_576, 65_536, 2, 10),
    ("gemini", "gemini-3.7-flash", 1_048_576, 65_536, 0.75, 3.75),
    ("gemini", "gemini-2.5-flash-preview", 1_048_576, 65_536, 0, 0),
    ("xai", "grok-4.8", 500_000, 200_000, 2, 6),
    ("deepseek", "deepseek-v5", 1_000_000, 384_000, 0, 0),
    ("together", "deepseek-ai/DeepSeek-V3.1", 128_000, 64_000, 0, 0),
    ("together", "moonshotai/Kimi-K4", 1_048_576, 131_072, 0, 0),
    ("moonshot", "kimi-k2.6", 262_144, 65_536, 0, 0),
    ("zai", "glm-5.4", 1_000_000, 131_072, 0, 0),
    ("zai", "glm-4.7", 200_000, 131_072, 0, 0),
    ("dashscope", "qwen3.9-max", 1_000_000, 131_072, 0, 0),
    ("together", "Qwen/Qwen3-Coder-480B", 262_144, 65_536, 0, 0),
    ("openrouter", "openai/gpt-6.3-sol:free", 1_050_000, 128_000, 0, 0),
    ("groq", "openai/gpt-oss-20b", 131_072, 65_536, 0, 0),
]


@pytest.mark.parametrize(("kind", "model_id", "context", "most", "into", "out"), UNKNOWN, ids=[row[1] for row in UNKNOWN])
def test_an_unknown_id_has_the_facts_of_its_newest_family(
    catalog: Catalog, kind: str, model_id: str, context: int, most: int, into: float, out: float
) -> None:
    model = catalog.model_of(kind, model_id)
    assert (model.id, model.context, model.max_output, model.price.input, model.price.output) == (model_id, context, most, into, out)


@pytest.mark.parametrize("model_id", ["qwen3:8b", "gpt-oss:20b", "deepseek-r1:7b", "glm-4.7-flash"])
def test_a_model_on_this_machine_costs_nothing_and_has_no_vendors_sizes(catalog: Catalog, model_id: str) -> None:
    model = catalog.model_of("ollama", model_id, is_local=True)
    assert (model.context, model.max_output, model.price) == (Model().context, Model().max_output, Price())
    assert model.reasoning


@pytest.mark.parametrize("kind", [kind for kind in UPSTREAM_KINDS.values() if kind.default_model], ids=lambda kind: kind.name)
def test_what_answers_in_the_place_of_others_is_known_and_lives(catalog: Catalog, kind: UpstreamKind) -> None:
    model = catalog.model_of(kind.name, kind.default_model)
    assert model.id in catalog.models
    assert model.retires is None or model.retires > TODAY


@pytest.mark.parametrize(
    ("model_id", "day", "heirs"),
    [
        ("gpt-4o", "2027-01-14", ["gpt-6-luna"]),
        ("gpt-4o-mini", "2027-01-14", ["gpt-6-luna"]),
        ("gpt-4.1", "2027-01-14", ["gpt-6-luna"]),
        ("gpt-4.1-mini", "2027-01-14", ["gpt-6-luna"]),
        ("gpt-5", "2026-12-11", ["gpt-6.1-sol"]),
        ("gpt-5-mini", "2026-12-11", ["gpt-6.1-terra"]),
        ("o3", "2026-12-11", ["gpt-6.1-sol"]),
        ("gemini-2.5-pro", "2026-12-01", ["gemini-3.8-flash"]),
        ("gemini-2.5-flash", "2026-12-01", ["gemini-3.5-flash-lite"]),
        ("claude-sonnet-4-5", "2026-11-30", ["claude-sonnet-5-5"]),
        ("deepseek-chat", "2026-07-24", ["deepseek-flash"]),
        ("deepseek-reasoner", "2026-07-24", ["deepseek-flash"]),
        ("grok-4", "2026-05-15", ["grok-4.7"]),
        ("grok-code-fast-1", "2026-05-15", ["grok-4.7"]),
    ],
)
def test_what_dies_has_its_day_and_an_heir_that_lives(catalog: Catalog, model_id: str, day: str, heirs: list[str]) -> None:
    model = catalog.models[model_id]
    assert (str(model.retires), model.replaced_by) == (day, heirs[0])
    assert catalog.models[heirs[0]].retires is None


def test_an_heir_is_had_where_its_model_was(catalog: Catalog) -> None:
    for model in catalog.models.values():
        if model.replaced_by is not None and model.owned_by != "anthropic":
            vendor = next(iter(model.ids))
            assert vendor in catalog.models[model.replaced_by].ids, model.id


@pytest.mark.parametrize(
    ("model_id", "apis"),
    [
        ("gpt-6.2-sol", ("openai.responses",)),
        ("gpt-5.6-luna", ("openai.responses",)),
        ("gpt-4o", ("openai.chat", "openai.responses")),
        ("claude-opus-5-5", ("anthropic.messages",)),
        ("deepseek-flash", ("openai.chat", "openai.responses", "anthropic.messages")),
        ("codestral-latest", ()),
    ],
)
def test_the_wire_apis_that_a_model_needs_are_told(catalog: Catalog, model_id: str, apis: tuple[str, ...]) -> None:
    assert catalog.models[model_id].apis == apis


def test_a_wire_api_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"apis"):
        load_catalog({"mine": {"apis": ["openai.smalltalk"]}})


@pytest.mark.parametrize("model_id", ["gpt-6.1-sol", "grok-4.7", "gemini-3.1-pro-preview", "claude-haiku-5-5", "gpt-5.6-terra"])
def test_a_long_prompt_makes_all_of_the_call_dearer(catalog: Catalog, model_id: str) -> None:
    price = catalog.models[model_id].price
    (tier,) = price.tiers
    at_most = Usage(prompt_tokens=tier.above, completion_tokens=1000, cache_read_tokens=1000)
    beyond = Usage(prompt_tokens=tier.above + 1, completion_tokens=1000, cache_read_tokens=1000)
    plain, cached = tier.above - 1000, 1000
    into = plain * price.input + cached * price.cache_read
    assert math.isclose(cost_of(at_most, price) * 1e6, into + 1000 * price.output)
    assert math.isclose(cost_of(beyond, price) * 1e6, (into + price.input) * tier.input + 1000 * price.output * tier.output)


def seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("moment", "output"),
    [
        ("2026-11-30T00:59:59", 0.6),
        ("2026-11-30T01:00:00", 1.2),
        ("2026-11-30T03:59:59", 1.2),
        ("2026-11-30T04:00:00", 0.6),
        ("2026-11-30T09:30:00", 1.2),
        ("2026-11-28T02:00:00", 0.6),  # a Saturday
    ],
)
def test_a_price_by_the_hour_holds_at_its_hours_on_working_days(catalog: Catalog, moment: str, output: float) -> None:
    price = catalog.models["deepseek-flash"].price
    assert price.at(seconds(moment)).output == output
    assert price.listed_at(seconds(moment)).output == 0.6


@pytest.mark.parametrize(("moment", "into"), [("2026-11-30T23:59:59", 2), ("2026-12-01T00:00:00", 4)])
def test_a_price_that_is_announced_holds_from_its_day_on(catalog: Catalog, moment: str, into: float) -> None:
    price = catalog.models["gemini-4-carbon"].price
    assert (price.at(seconds(moment)).input, price.listed_at(seconds(moment)).input) == (into, into)


def test_tiers_of_time_and_of_size_hold_together() -> None:
    tiers = (PriceTier(above=10, hours=((1, 2),), input=2), PriceTier(hours=((1, 2),), output=3), PriceTier(above=10, output=5))
    price = Price(1, 1, tiers=tiers)
    night = price.at(seconds("2026-11-30T01:30:00"))
    assert (night.of_prompt(10).input, night.of_prompt(10).output) == (1, 3)
    assert (night.of_prompt(11).input, night.of_prompt(11).output) == (2, 15)
    assert (price.at(0).of_prompt(11).input, price.at(0).of_prompt(11).output) == (1, 5)


def test_a_price_without_tiers_is_the_same_at_any_time() -> None:
    price = Price(1, 2)
    assert price.at(0) is price
    assert price.of_prompt(10**9) is price


def test_a_configuration_lays_fields_over_a_model() -> None:
    catalog = load_catalog({"claude-sonnet-4-6": {"price": {"input": 1.5}}, "mine": {"context": 32_000}})
    assert catalog.models["claude-sonnet-4-6"].price.input == 1.5
    assert catalog.models["claude-sonnet-4-6"].price.output == 15
    assert catalog.models["mine"].context == 32_000


def test_a_wrong_field_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match="contxt"):
        load_catalog({"mine": {"contxt": 1}})


@pytest.mark.parametrize("family", ["no-such-family", 5])
def test_an_unknown_family_is_named(family: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"{family!r} is not a family of the catalog"):
        load_catalog({"mine": {"like": family}})


def test_a_model_starts_from_the_facts_of_its_family() -> None:
    model = load_catalog({"mine": {"like": "claude-opus-5-5*", "context": 5}}).models["mine"]
    assert (model.id, model.context, model.max_output) == ("mine", 5, 128_000)


def test_near_names_are_found(catalog: Catalog) -> None:
    assert catalog.nearest_names("Claude-4-Sonet", catalog.aliases)[0] == "claude-4-sonnet"


@pytest.mark.parametrize(
    ("facts", "efforts"),
    [
        ({"like": "claude-opus-5-5*"}, ("low", "medium", "high", "xhigh", "max")),
        ({"reasoning": True, "responses": {"efforts": ["none", "high"]}}, ("none", "high")),
        ({"reasoning": False}, ()),
    ],
)
def test_efforts_are_those_of_the_api_that_the_model_wants(facts: dict[str, object], efforts: tuple[str, ...]) -> None:
    assert load_catalog({"mine": facts}).models["mine"].reasoning_efforts == efforts
