"""From a name to deployments: which rule wins, in which order they are tried, and what is said of an unknown name."""

from __future__ import annotations

import dataclasses
import datetime
import tracemalloc
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from compat.config.catalog import Catalog, Model, Price, PriceTier, load_catalog
from compat.config.sections import ModelSettings
from compat.errors import ModelNotFound, NoUpstream
from compat.protocols.refusals import endpoint_mark
from compat.routing.router import Deployment, Router
from compat.routing.upstreams import EMBEDDED_KIND
from compat.upstream.client import Upstream
from compat.upstream.kinds import UPSTREAM_KINDS, speaking
from compat.upstream.listing import Listing
from tests.unit.builders import make_catalog, make_upstream

EMBEDDED = Deployment(Upstream("embedded", EMBEDDED_KIND, EMBEDDED_KIND.base_url), "tiny", Model(id="tiny"))
ELSEWHERE = "http://elsewhere.example/v1"


def make_router(
    *upstreams: Upstream,
    models: Mapping[str, Any] | None = None,
    offers: Mapping[str, tuple[str, ...]] | None = None,
    embedded: Deployment | None = EMBEDDED,
) -> Router:
    rows = msgspec.convert(models or {}, dict[str, ModelSettings])
    router = Router(make_catalog(), {upstream.name: upstream for upstream in upstreams}, rows, embedded)
    if offers is not None:
        router.learn(router.upstreams, offers)
    return router


def targets(router: Router, name: str) -> list[str]:
    return [deployment.name for deployment in router.resolve(name).deployments]


ANTHROPIC, OPENROUTER, OPENAI = make_upstream("anthropic", "anthropic"), make_upstream("openrouter", "openrouter"), make_upstream("openai")
OPENAI_BY_CHAT = dataclasses.replace(OPENAI, kind=speaking(OPENAI.kind, "openai.chat", OPENAI.base_url))
PROXY = make_upstream("proxy", base_url=ELSEWHERE)

# name, upstreams, offers, where it goes
ROUTES: list[tuple[str, str, tuple[Upstream, ...], dict[str, tuple[str, ...]], list[str]]] = [
    ("an alias, by the upstream's own id", "sonnet", (ANTHROPIC,), {}, ["anthropic/claude-x-1"]),
    (
        "an alias at every upstream that has it",
        "sonnet",
        (OPENROUTER, ANTHROPIC),
        {},
        ["openrouter/anthropic/claude-x", "anthropic/claude-x-1"],
    ),
    ("an alias, past an upstream that lacks it", "sonnet", (OPENAI, ANTHROPIC), {}, ["anthropic/claude-x-1"]),
    ("an alias at an upstream that lists its model", "sonnet", (PROXY,), {"proxy": ("a", "claude-x")}, ["proxy/claude-x"]),
    ("an alias that no upstream has: the kind's default", "sonnet", (OPENAI,), {}, ["openai/gpt-4o"]),
    ("an alias at a server elsewhere: the first of its list", "sonnet", (PROXY,), {"proxy": ("b", "a")}, ["proxy/b"]),
    ("an alias at a server elsewhere without a list", "sonnet", (PROXY,), {}, ["proxy/gpt-4o"]),
    ("an alias at a local server", "sonnet", (make_upstream("ollama", "ollama"),), {"ollama": ("qwen",)}, ["ollama/qwen"]),
    ("an alias without an upstream", "sonnet", (), {}, ["embedded/tiny"]),
    ("an alias where no upstream has a model", "sonnet", (make_upstream("ollama", "ollama"),), {}, ["embedded/tiny"]),
    ("any model of an upstream", "proxy/what/ever", (PROXY,), {}, ["proxy/what/ever"]),
    ("an exact id of the catalog", "claude-x", (ANTHROPIC,), {}, ["anthropic/claude-x-1"]),
    ("an exact id of the catalog elsewhere, presumed", "gpt-x", (PROXY,), {}, ["proxy/gpt-x"]),
    ("an exact id of the catalog elsewhere, listed", "gpt-x", (PROXY,), {"proxy": ("gpt-x",)}, ["proxy/gpt-x"]),
    ("an upstream's id of a catalog model", "claude-x-1", (ANTHROPIC,), {}, ["anthropic/claude-x-1"]),
    ("an upstream's id that has a slash", "anthropic/claude-x", (OPENROUTER,), {}, ["openrouter/anthropic/claude-x"]),
    ("an id in an upstream's list", "qwen", (PROXY, OPENAI), {"proxy": ("qwen",), "openai": ("qwen", "z")}, ["proxy/qwen", "openai/qwen"]),
    ("an id in an upstream's settings", "mine", (make_upstream("p", models=("mine",)),), {}, ["p/mine"]),
    ("the embedded model by name", "tiny", (OPENAI,), {}, ["embedded/tiny"]),
]


@pytest.mark.parametrize(("name", "upstreams", "offers", "expected"), [row[1:] for row in ROUTES], ids=[row[0] for row in ROUTES])
def test_a_name_goes_where_its_rule_says(
    name: str, upstreams: tuple[Upstream, ...], offers: dict[str, tuple[str, ...]], expected: list[str]
) -> None:
    router = make_router(*upstreams, offers=offers)
    assert targets(router, name) == expected
    assert router.resolve(name).name == name


def test_an_exact_id_in_an_upstreams_list_is_found_though_its_kind_has_another_id() -> None:
    router = make_router(make_upstream("proxy", "openrouter", ELSEWHERE), offers={"proxy": ("claude-x",)})
    assert targets(router, "claude-x") == ["proxy/claude-x"]


def test_the_configurations_route_wins_over_everything() -> None:
    router = make_router(ANTHROPIC, OPENAI, models={"sonnet": {"route": ["openai/a"]}, "openai/b": {"route": ["anthropic/c"]}})
    assert targets(router, "sonnet") == ["openai/a"]
    assert targets(router, "openai/b") == ["anthropic/c"]


def test_facts_alone_leave_a_name_its_usual_way() -> None:
    assert targets(make_router(ANTHROPIC, models={"sonnet": {"facts": {"context": 5}}}), "sonnet") == ["anthropic/claude-x-1"]


@pytest.mark.parametrize(
    ("target", "context", "owner"),
    [("claude-x-1", 200_000, "anthropic"), ("claude-9", 777, "anthropic"), ("other", 128_000, "anthropic")],
    ids=["known", "by its family", "unknown"],
)
def test_a_deployment_has_the_facts_of_its_model(target: str, context: int, owner: str) -> None:
    route = make_router(ANTHROPIC).resolve(f"anthropic/{target}")
    assert (route.model.context, route.model.owned_by) == (context, owner)


@pytest.mark.parametrize(
    ("upstream", "target", "api"),
    [
        (OPENAI_BY_CHAT, "gpt-6.1-sol", "openai.responses"),
        (OPENAI_BY_CHAT, "gpt-6.3-sol", "openai.responses"),
        (OPENAI_BY_CHAT, "gpt-4o", ""),
        (OPENAI, "gpt-6.1-sol", ""),
        (OPENROUTER, "openai/gpt-6.1-sol", ""),
        (make_upstream("mine", base_url=ELSEWHERE), "gpt-6.1-sol", ""),
        (ANTHROPIC, "claude-opus-5-5", ""),
        (make_upstream("gemini", "gemini"), "gemini-4-carbon", ""),
        (make_upstream("moonshot", "moonshot"), "kimi-k3.1-pro", ""),
        (OPENAI, "somebodys-own", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_model_that_needs_another_wire_api_at_its_vendor_says_so(upstream: Upstream, target: str, api: str) -> None:
    router = Router(load_catalog(), {upstream.name: upstream}, {}, None)
    (deployment,) = router.resolve(f"{upstream.name}/{target}").deployments
    assert deployment.wanted_api == api


def test_a_deployment_has_the_price_of_a_time_and_is_the_same_where_that_does_not_matter() -> None:
    steady, timed = Model(id="a"), Model(id="b", price=Price(1, 1, tiers=(PriceTier(since=datetime.date(2026, 12, 1), input=2),)))
    before, after = (datetime.datetime(2026, month, 1, tzinfo=datetime.UTC).timestamp() for month in (11, 12))
    kept = Deployment(OPENAI, "a", steady)
    assert kept.priced(after) is kept
    assert [Deployment(OPENAI, "b", timed).priced(when).model.price.input for when in (before, after)] == [1, 2]


@pytest.mark.parametrize(
    ("target", "overrides", "context", "into"),
    [
        ("somebodys-own", {}, 7, 3.0),
        ("qwen9-flash", {}, 7, 3.0),  # known by its family
        ("kimi-k3", {}, 7, 3.0),  # by thin sources
        ("gpt-6.1-sol", {}, 1_050_000, 2.0),  # by the vendor's page
        ("kimi-k3", {"kimi-k3": {"context": 9}}, 9, 3.0),  # by the user
    ],
)
def test_what_an_upstreams_list_tells_goes_before_thin_sources(target: str, overrides: Any, context: int, into: float) -> None:
    router = Router(load_catalog(overrides), {"proxy": PROXY}, {}, None)
    listing = Listing((target,), {}, {target: {"context": 7, "price": {"input": 3.0}}})
    router.learn(router.upstreams, {"proxy": listing.ids}, {"proxy": listing})
    model = router.resolve(target).model
    assert (model.context, model.price.input) == (context, into)
    assert router.resolve(f"proxy/{target}").model.context == context
    assert router.resolve(target).model.price.output == load_catalog().model_of("openai", target).price.output


def test_only_the_engines_deployment_is_embedded() -> None:
    router = make_router(OPENAI)
    assert router.resolve("tiny").deployments[0].is_embedded
    assert not router.resolve("openai/tiny").deployments[0].is_embedded


# Routes of several deployments.

CHAIN = make_upstream("a"), make_upstream("b"), make_upstream("c")


def ordered(route: list[Any]) -> list[str]:
    router = make_router(*CHAIN, models={"m": {"route": route}})
    return [deployment.name for deployment in router.resolve("m").deployments]


def step(to: str, **rest: int) -> dict[str, Any]:
    return {"to": to, **rest}


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (["b/1", "a/2", "c/3"], ["b/1", "a/2", "c/3"]),
        ([step("a/1", priority=2), step("b/2", priority=1), step("c/3", priority=-1)], ["c/3", "b/2", "a/1"]),
        (["a/1", "a/2"], ["a/1", "a/2"]),
        (["gone/1", "b/2"], ["b/2"]),
        (["a/x/y"], ["a/x/y"]),
        (["a/1", "embedded/tiny"], ["a/1", "embedded/tiny"]),
        (["embedded/tiny", "a/1"], ["embedded/tiny", "a/1"]),
        ([step("a/1", priority=0), "gone/1", step("embedded/tiny", priority=-1)], ["embedded/tiny", "a/1"]),
    ],
    ids=[
        "as written",
        "by priority",
        "one upstream twice",
        "one is not configured",
        "a slash in the id",
        "embedded last",
        "embedded first",
        "embedded by priority",
    ],
)
def test_deployments_are_tried_in_the_order_of_their_priority(route: list[Any], expected: list[str]) -> None:
    assert ordered(route) == expected


def test_the_embedded_model_has_the_priority_that_is_written() -> None:
    assert ordered([step("embedded/tiny", priority=9), step("a/1", priority=1)]) == ["a/1", "embedded/tiny"]


@pytest.mark.parametrize("embedded", [None, EMBEDDED])
def test_a_route_without_any_configured_upstream_is_told(embedded: Deployment | None) -> None:
    router = make_router(models={"m": {"route": ["gone/1", "gone/2"]}}, embedded=embedded)
    with pytest.raises(NoUpstream, match="No upstream of the route of 'm' is configured"):
        router.resolve("m")


# Names that lead nowhere.


def test_an_alias_without_upstream_and_engine_tells_what_to_do() -> None:
    with pytest.raises(NoUpstream, match="set a key"):
        make_router(embedded=None).resolve("sonnet")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sonet", "does not exist here. The nearest name is: sonnet."),
        ("SONNET", "The nearest name is: sonnet."),
        ("opena/gpt-x", "The nearest names are: openai/gpt-x, gpt-x."),
        ("zzzzzzzz", "The model 'zzzzzzzz' does not exist here. GET /v1/models lists all."),
        ("openai/", "does not exist here"),
        ("/gpt-x", "The nearest names are: gpt-x, "),
        ("nobody/gpt", "does not exist here"),
        ("embedded/tiny", "The nearest name is: tiny."),
        ("claude-x", "is known, but no upstream that offers it is configured (it is offered by: anthropic, openrouter)."),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_ones(name: str, words: str) -> None:
    router = make_router(OPENAI, offers={"openai": ("gpt-x",)})
    with pytest.raises(ModelNotFound) as caught:
        router.resolve(name)
    assert words in caught.value.message
    assert (caught.value.param, caught.value.status) == ("model", 404)


@pytest.mark.parametrize("settings", [{"rescue": False}, {"facts": {"context": 5}}])
def test_a_name_that_is_configured_without_a_route_is_not_its_own_nearest_name(settings: dict[str, Any]) -> None:
    catalog = load_catalog({"qqq": settings["facts"]} if "facts" in settings else None)
    router = Router(catalog, {"openai": OPENAI}, msgspec.convert({"qqq": settings}, dict[str, ModelSettings]), EMBEDDED)
    with pytest.raises(ModelNotFound) as caught:
        router.resolve("qqq")
    assert caught.value.message == (
        "The model 'qqq' is in the configuration, but without a route, and no upstream lists it. Give [models.\"qqq\"] a route."
    )
    assert "qqq" not in router.names()
    router.learn(router.upstreams, {"openai": ("qqq",)})
    assert "qqq" in router.names()


def test_the_words_for_an_unknown_name_are_bounded() -> None:
    with pytest.raises(ModelNotFound) as caught:
        make_router(OPENAI).resolve("x" * 10_000)
    assert len(caught.value.message) < 500


def test_the_work_for_an_unknown_name_is_bounded() -> None:
    router, name = make_router(OPENAI), "xyz" * 70_000
    tracemalloc.start()
    try:
        with pytest.raises(ModelNotFound):
            router.resolve(name)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5 * len(name)


# What is listed, and what discovery changes.


def test_every_listed_name_leads_somewhere_and_comes_once() -> None:
    router = make_router(
        ANTHROPIC,
        PROXY,
        models={"sonnet": {"route": ["proxy/a"]}, "mine": {"route": ["proxy/a"]}},
        offers={"proxy": ("a", "b", "claude-x")},
    )
    names = router.names()
    assert names == ["sonnet", "mine", "claude-x", "proxy/a", "proxy/b", "proxy/claude-x", "tiny"]
    assert all(router.resolve(name).deployments for name in names)
    assert make_router(embedded=None).names() == ["sonnet"]


def test_the_first_upstream_says_what_an_id_stands_for() -> None:
    """Two kinds may have one id for two models; the answer must not depend on chance."""
    models = {name: Model(id=name, ids={kind: "same"}) for name, kind in (("one", "openai"), ("two", "openrouter"))}
    for first, second, target in ((OPENAI, OPENROUTER, "one"), (OPENROUTER, OPENAI, "two")):
        router = Router(Catalog(models, {}, {}), {first.name: first, second.name: second}, {}, None)
        assert [deployment.model.id for deployment in router.resolve("same").deployments] == [target]


def test_a_very_long_name_is_not_kept() -> None:
    router, name = make_router(PROXY), "proxy/" + "x" * 1000
    assert router.resolve(name) is not router.resolve(name)


def test_what_discovery_learns_holds_at_once() -> None:
    router = make_router(PROXY, offers={})
    assert targets(router, "sonnet") == ["proxy/gpt-4o"]
    router.learn({"proxy": PROXY}, {"proxy": ["claude-x"]})
    assert targets(router, "sonnet") == ["proxy/claude-x"]
    router.learn({}, {})
    assert targets(router, "sonnet") == ["embedded/tiny"]
    with pytest.raises(ModelNotFound):
        router.resolve("proxy/claude-x")


def test_a_route_is_found_once_and_kept_within_bounds() -> None:
    router = make_router(PROXY)
    assert router.resolve("proxy/a") is router.resolve("proxy/a")
    first = router.resolve("proxy/a")
    for number in range(10_001):
        router.resolve(f"proxy/{number}")
    assert router.resolve("proxy/a") is not first
    assert router.resolve("proxy/a") == first


def test_facts_of_a_routed_name_override_those_of_its_target() -> None:
    settings = {"mine": ModelSettings(route=("fake/claude-sonnet-4-6",), facts={"price": {"input": 9.0}, "max_output": 1234})}
    fake = Upstream("fake", UPSTREAM_KINDS["anthropic"], "http://127.0.0.1:1")
    model = Router(load_catalog(), {"fake": fake}, settings, None).resolve("mine").model
    assert (model.price.input, model.price.output, model.max_output) == (9.0, 15.0, 1234)


@pytest.mark.parametrize(
    ("upstream", "target", "refused", "apis"),
    [
        (OPENAI, "gpt-6.1-sol", (), ["openai.responses"]),
        (OPENAI, "gpt-6.1-sol", ("openai.responses",), ["openai.chat"]),
        (OPENAI, "gpt-6.1-sol", ("openai.responses", "openai.chat"), ["openai.responses"]),
        (OPENAI, "gpt-5", (), ["openai.responses", "openai.chat"]),
        (OPENAI, "gpt-5", ("openai.chat",), ["openai.responses"]),
        (OPENAI, "somebodys-own", (), ["openai.chat", "openai.responses"]),
        (OPENAI_BY_CHAT, "gpt-6.1-sol", (), ["openai.chat"]),
        (OPENAI_BY_CHAT, "gpt-6.1-sol", ("openai.chat",), ["openai.chat"]),
        (ANTHROPIC, "claude-opus-5-5", (), ["anthropic.messages"]),
    ],
)
def test_a_deployment_is_called_by_the_apis_that_its_model_and_its_upstream_have(
    upstream: Upstream, target: str, refused: tuple[str, ...], apis: list[str]
) -> None:
    (deployment,) = Router(load_catalog(), {upstream.name: upstream}, {}, None).resolve(f"{upstream.name}/{target}").deployments
    assert list(deployment.apis_left([endpoint_mark(api) for api in refused])) == apis


def test_a_name_with_claude_in_front_leads_where_the_name_does() -> None:
    router = make_router(make_upstream("openai"))
    assert router.resolve("claude-compat/gpt-x") is router.resolve("gpt-x")
    for name in ("claude-compat/nobody", "claude-compat/claude-compat/gpt-x"):
        with pytest.raises(ModelNotFound):
            router.resolve(name)
