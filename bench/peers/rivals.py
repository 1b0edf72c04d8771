"""The other gateways for language models, a row each.

Strategy: each is configured as its documentation says for an OpenAI-compatible upstream, for Anthropic's API and for an upstream behind
TLS; its limits of rate are off, for they would refuse the load. Nothing else is switched off or on. What each can do for agents was tried:
smg refuses fields that Claude Code and Codex send (a system message, `client_metadata`); ferrogw and Portkey pass these calls on, to
upstreams of the same protocol.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bench.answers import CHAT_KILO_MODEL, MINI_KILO_MODEL, Wire
from bench.peers.install import Npm, Pip
from bench.peers.target import CLAUDE, CLAUDE_TLS, KEY, TLS, Place, Target, base_url, pair, provider, routes
from bench.scenarios import Scenario

_PORTKEY = "@portkey-ai/gateway"

# rolter: TOML.

_ROLTER = """
[server]
host = "127.0.0.1"
port = {port}
{tls}

[[virtual_keys]]
key = "{key}"
name = "bench"
models = []
"""
_ROLTER_PROVIDER = """
[[providers.readonly]]
name = "{name}"
kind = "{kind}"
api_base = "{base}"
api_key_env = "UPSTREAM_KEY"
allow_custom_api_base = true
"""
_ROLTER_ROUTE = """
[[routes]]
model = "{route}"
strategy = "round_robin"
[[routes.targets]]
provider = "{provider}"
model = "{model}"
"""


def _rolter_files(place: Place) -> Mapping[str, str]:
    tls = f'[tls]\nca_bundles = ["{place.authority}"]' if place.authority else ""
    text = _ROLTER.format(port=place.port, tls=tls, key=KEY)
    for row in {provider(row): row for row in routes() if place.authority or not row.is_tls}.values():
        kind = "anthropic" if row.upstream == "anthropic" else "openai_compatible"
        text += _ROLTER_PROVIDER.format(name=provider(row), kind=kind, base=base_url(place, row))
    return {
        "rolter.toml": text + "".join(_ROLTER_ROUTE.format(route=row.route, provider=provider(row), model=row.model) for row in routes())
    }


# ferrogw: its configuration may be JSON; addresses of providers come from the environment. Each has one, so upstreams are told apart by
# providers of other names; there is none besides Anthropic for its protocol behind TLS.

_FERRO_PROVIDERS = {
    "openai": "openai",
    "openai-tls": "groq",
    "anthropic": "anthropic",
    "responses": "xai",
    "responses-tls": "cerebras",
}


def _ferro_files(_place: Place) -> Mapping[str, str]:
    models: dict[str, list[str]] = {}
    rows = [row for row in routes() if provider(row) in _FERRO_PROVIDERS]
    for row in rows:
        models.setdefault(_FERRO_PROVIDERS[provider(row)], []).append(_ferro_model(row))
    document: dict[str, Any] = {
        "strategy": {"mode": "fallback"},
        "targets": [{"virtual_key": name, "models": sorted(set(ids))} for name, ids in models.items()],
        "aliases": {row.route: _ferro_model(row) for row in rows},
    }
    return {"config.json": json.dumps(document)}


def _ferro_model(row: Scenario) -> str:
    """It chooses the provider by the model's name, so those behind TLS have another one, which the mock upstream takes for the same."""
    return f"tls-{row.model}" if row.is_tls else row.model


def _ferro_variables(place: Place) -> Mapping[str, str]:
    variables = {
        "GATEWAY_CONFIG": str(place.folder / "config.json"),
        "PORT": str(place.port),
        "ALLOW_UNAUTHENTICATED_PROXY": "true",
        "RATE_LIMIT_RPS": "1000000",
        "RATE_LIMIT_BURST": "1000000",
        **({"SSL_CERT_FILE": str(place.authority)} if place.authority else {}),
    }
    for row in routes():
        if name := _FERRO_PROVIDERS.get(provider(row), "").upper():
            variables |= {f"{name}_API_KEY": "k", f"{name}_BASE_URL": f"{base_url(place, row)}/v1"}  # a path has its version, too
    return variables


# Portkey: no configuration; each request says where it goes.


def _portkey_headers(place: Place, row: Scenario) -> Mapping[str, str]:
    name = "anthropic" if row.upstream == "anthropic" else "openai"
    return {"authorization": "Bearer k", "x-portkey-provider": name, "x-portkey-custom-host": f"{base_url(place, row)}/v1"}


# LiteLLM: YAML, of which JSON is a part. Where its client does not speak chat it takes "openai" for an upstream that speaks Responses, and
# which other provider it takes for one of chat differs by client. Fields that the upstream does not have it refuses, unless it is told to
# drop them.

_LITELLM_CHAT = {CHAT_KILO_MODEL: "hosted_vllm", MINI_KILO_MODEL: "deepseek"}


def _litellm_files(place: Place) -> Mapping[str, str]:
    def parameters(row: Scenario) -> dict[str, str]:
        if row.upstream == "anthropic":
            return {"model": f"anthropic/{row.model}", "api_base": base_url(place, row), "api_key": "k"}
        name = _LITELLM_CHAT.get(row.model, "openai")
        return {"model": f"{name}/{row.model}", "api_base": f"{base_url(place, row)}/v1", "api_key": "k"}

    models = [{"model_name": row.route, "litellm_params": parameters(row)} for row in routes()]
    settings = {"general_settings": {"master_key": KEY}, "litellm_settings": {"drop_params": True}}
    return {"config.yaml": json.dumps({"model_list": models, **settings})}


def _pairs(client: Wire) -> Iterator[str]:
    """It translates that client's calls to chat and to Anthropic's API, and has no upstreams that speak Responses."""
    return (pair(client, upstream) for upstream in ("openai", "anthropic"))


RIVALS = (
    Target(
        "rolter",
        "rolter (Rust)",
        serves=frozenset({CLAUDE, TLS, CLAUDE_TLS, *_pairs("anthropic"), *_pairs("responses")}),
        command=lambda place: [str(place.installed / "bin/rolter"), "gateway", "--config", str(place.folder / "rolter.toml")],
        environment=Pip("rolter==0.1.*"),
        package="rolter",
        files=_rolter_files,
        variables=lambda _: {"UPSTREAM_KEY": "k", "ROLTER_UPDATE_CHECK": "false"},
    ),
    Target(
        "ferrogw",
        "ferrogw (Go)",
        command=lambda place: [str(place.installed / "bin/ferrogw"), "serve"],
        environment=Pip("ferrogw==1.5.*"),
        package="ferrogw",
        serves=frozenset({CLAUDE, TLS, pair("responses", "responses")}),
        files=_ferro_files,
        variables=_ferro_variables,
        ready="/health",
    ),
    Target(
        "smg",
        "smg (Rust, sglang's gateway)",
        command=lambda place: [
            *(str(place.installed / "bin/smg"), "launch", "--host", "127.0.0.1", "--port", str(place.port), "--backend", "openai"),
            *("--worker-urls", f"http://127.0.0.1:{place.mock.port}/openai", "--policy", "round_robin", "--disable-health-check"),
        ],
        serves=frozenset(),
        environment=Pip("smg==1.13.*"),
        package="smg",
        ready="/readiness",
        is_default=False,
    ),
    Target(
        "portkey",
        "Portkey (Node)",
        serves=frozenset({CLAUDE, TLS, CLAUDE_TLS, pair("anthropic", "anthropic"), pair("responses", "responses")}),
        command=lambda place: [
            *("node", str(place.installed / "node_modules" / _PORTKEY / "build/start-server.js"), f"--port={place.port}", "--headless")
        ],
        environment=Npm({_PORTKEY: "1.15.2", "@hono/node-server": "1.8.2"}),  # with a later node-server its streams are 500
        package=_PORTKEY,
        variables=lambda place: {"NODE_EXTRA_CA_CERTS": str(place.authority)} if place.authority else {},
        ready="/",
        headers=_portkey_headers,
        share=0.5,
        most_rounds=1,
    ),
    Target(
        "litellm",
        "LiteLLM (Python)",
        command=lambda place: [
            *(str(place.installed / "bin/litellm"), "--config", str(place.folder / "config.yaml"), "--host", "127.0.0.1"),
            *("--port", str(place.port), "--telemetry", "False"),
        ],
        environment=Pip("litellm[proxy]==1.109.*", is_loose=True),
        package="litellm",
        files=_litellm_files,
        variables=lambda place: {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is fetched at the start
            **({"SSL_CERT_FILE": str(place.authority)} if place.authority else {}),
        },
        ready="/health/liveliness",
        start_limit_s=180.0,
        share=0.05,
        most_rounds=1,
    ),
)
