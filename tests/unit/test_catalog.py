"""The catalog's data, and lookups over it."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from compat.catalog import Catalog, load_catalog
from compat.upstream.kinds import UPSTREAM_KINDS


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
    assert model.retires is None or model.retires > datetime.date(2026, 11, 23)


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
        ("claude-fable-5-1", "adaptive", "always", "none", False, "never"),
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


def test_an_unknown_model_has_plain_defaults(catalog: Catalog) -> None:
    model = catalog.model_of("ollama", "qwen3:8b")
    assert (model.id, model.owned_by, model.price.input) == ("qwen3:8b", "ollama", 0)


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
