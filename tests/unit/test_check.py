"""`--check` and the banner: the routes that they print are those that calls take."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from compat.banner import banner
from compat.calls.gateway import Gateway
from compat.check import check
from compat.config.sections import DiscoverySettings
from compat.errors import UpstreamUnreachable
from compat.routing.discovery import Discovery
from compat.upstream.client import Upstream
from compat.upstream.listing import Listing
from tests.unit.builders import make_gateway

ELSEWHERE: dict[str, Any] = {"upstreams": {"ok": {"kind": "openai", "base_url": "http://ok.example/v1", "api_keys": ["sk-12345678"]}}}
LISTED = ("gpt-4o", "claude-sonnet-4-6")


def lists(upstream: Upstream, _timeout_s: float) -> Listing:
    if upstream.name == "ok":
        return Listing(LISTED)
    raise UpstreamUnreachable(f"{upstream.name} is away.")


def away(upstream: Upstream, _timeout_s: float) -> Listing:
    raise UpstreamUnreachable(f"{upstream.name} is away.")


def gateway_of(base_dir: Path, list_models: Any = lists, *, is_enabled: bool = True, **settings: Any) -> Gateway:
    switch = {"discovery": {"enabled": is_enabled}}
    gateway = make_gateway(base_dir, {**ELSEWHERE, **switch, **settings})
    discovery = Discovery(DiscoverySettings(enabled=is_enabled), gateway.router, [], list_models, lambda *_: None)
    return dataclasses.replace(gateway, discovery=discovery)


def routes_in(lines: Sequence[str]) -> dict[str, str]:
    rows = [line.split(" -> ") for line in lines if " -> " in line]
    return {row[0].split()[-1]: row[1] for row in rows}


def called(gateway: Gateway, name: str) -> str:
    return ", then ".join(deployment.name for deployment in gateway.router.resolve(name).deployments)


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_check_prints_the_routes_that_calls_take(tmp_path: Path, is_enabled: bool) -> None:
    said: list[str] = []
    assert check(gateway_of(tmp_path, is_enabled=is_enabled), lists, said.append)
    serving = gateway_of(tmp_path, is_enabled=is_enabled)
    if is_enabled:
        serving.discovery.refresh_configured()  # what a gateway that serves does in the background, and only where it is wanted
    printed = routes_in(said)
    assert printed == {name: called(serving, name) for name in printed}
    assert printed["claude-4-sonnet"] == ("ok/claude-sonnet-4-6" if is_enabled else "ok/gpt-4o")


def test_the_check_follows_the_doctor(tmp_path: Path) -> None:
    said: list[str] = []
    facts = {"claude-sonnet-4-6": {"facts": {"retires": "2020-01-01", "replaced_by": "claude-sonnet-5"}}}
    gateway = gateway_of(tmp_path, upstreams={"a": {"kind": "anthropic", "api_keys": ["sk-12345678"]}}, models=facts)
    check(gateway, lambda _upstream, _timeout_s: Listing(("claude-sonnet-5", "claude-opus-4-8")), said.append)
    assert routes_in(said)["claude-4-sonnet"] == "a/claude-sonnet-5"


def test_the_check_notes_a_route_whose_model_wants_another_wire_api(tmp_path: Path) -> None:
    said: list[str] = []
    models = {"best": {"route": ["o/gpt-6.1-sol"]}}
    gateway = gateway_of(tmp_path, upstreams={"o": {"kind": "openai", "wire_api": "chat", "api_keys": ["sk-12345678"]}}, models=models)
    assert check(gateway, lambda _upstream, _timeout_s: Listing(("gpt-6.1-sol", "gpt-4o")), said.append)
    (note,) = [line.strip() for line in said if "NOTE" in line]
    assert note == "NOTE o/gpt-6.1-sol may refuse tools: it supports them on openai.responses, and openai.chat is used"


def test_the_banner_says_that_its_routes_are_provisional_until_the_lists_have_come(tmp_path: Path) -> None:
    gateway = gateway_of(tmp_path)
    assert "  Models (provisional: ok has not listed its models yet; " in banner(gateway, 1)
    gateway.discovery.refresh_configured()
    text = banner(gateway, 1)
    assert "  Models\n" in text
    assert "claude-4-sonnet  ->  ok/claude-sonnet-4-6\n" in text


@pytest.mark.parametrize(("list_models", "is_enabled"), [(away, True), (lists, False)])
def test_a_list_that_is_not_to_be_had_is_not_awaited(tmp_path: Path, list_models: Any, is_enabled: bool) -> None:
    gateway = gateway_of(tmp_path, list_models, is_enabled=is_enabled)
    if is_enabled:
        gateway.discovery.refresh_configured()
    assert "  Models\n" in banner(gateway, 1)
    gateway.discovery.wait(60)  # returns at once


def test_lists_are_waited_for_within_bounds(tmp_path: Path) -> None:
    gateway = gateway_of(tmp_path)
    gateway.discovery.wait(0.01)
    assert gateway.discovery.awaited() == ["ok"]


def test_a_slow_upstream_does_not_keep_back_what_the_others_list(tmp_path: Path) -> None:
    seen: list[dict[str, tuple[str, ...]]] = []

    def in_turn(upstream: Upstream, timeout_s: float) -> Listing:
        seen.append(dict(gateway.router.offers))
        return lists(upstream, timeout_s)

    rows = {name: {**ELSEWHERE["upstreams"]["ok"], "base_url": f"http://{name}.example/v1"} for name in ("ok", "slow")}
    gateway = gateway_of(tmp_path, in_turn, upstreams=rows)
    gateway.discovery.refresh_configured()
    assert seen == [{}, {"ok": LISTED}]
