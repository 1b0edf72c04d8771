"""LiteLLM's model list, as Roo Code and Kilo Code 5.x read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from compat.accounting.keys import new_key
from compat.factory import create_app
from tests.unit.builders import make_gateway

PRICE = {"input": 3.0, "output": 15.0, "cache_read": 0.3, "cache_write": 3.75}
FACTS = {"context": 200_000, "max_output": 64_000, "price": PRICE, "images": True}
MINE = {
    "upstreams": {"up": {"kind": "openai", "base_url": "http://up.example/v1", "models": ["mine", "plain"], "api_keys": ["sk-canary-1"]}},
    "models": {"mine": {"route": ["up/mine"], "facts": FACTS}, "plain": {"route": ["up/plain"], "facts": {"context": 8000}}},
}


def as_roo_reads(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The client's own reading: rows that lack one of three parts are passed over, prices are made dollars per million."""
    rows = {}
    for row in document["data"]:
        name, info, target = row.get("model_name"), row.get("model_info"), (row.get("litellm_params") or {}).get("model")
        if name and info and target:
            rows[name] = {
                "maxTokens": info.get("max_output_tokens") or info.get("max_tokens") or 8192,
                "contextWindow": info.get("max_input_tokens") or 200_000,
                "supportsImages": bool(info.get("supports_vision")),
                "supportsPromptCache": bool(info.get("supports_prompt_caching")),
                "prices": [
                    info[key] * 1_000_000
                    for key in (
                        "input_cost_per_token",
                        "output_cost_per_token",
                        "cache_read_input_token_cost",
                        "cache_creation_input_token_cost",
                    )
                ],
            }
    return rows


@pytest.mark.parametrize("path", ["/v1/model/info", "/model/info", "/v1/v1/model/info", "/v1/model/info/"])
def test_roo_reads_limits_prices_and_abilities(tmp_path: Path, path: str) -> None:
    rows = as_roo_reads(Client(create_app(make_gateway(tmp_path, MINE))).get(path).json)
    mine = rows["mine"]
    assert mine.pop("prices") == pytest.approx([3.0, 15.0, 0.3, 3.75])
    assert mine == {"maxTokens": 64_000, "contextWindow": 200_000, "supportsImages": True, "supportsPromptCache": True}
    assert (rows["plain"]["maxTokens"], rows["plain"]["supportsPromptCache"]) == (4000, False)


def test_every_listed_name_is_told(tmp_path: Path) -> None:
    client = Client(create_app(make_gateway(tmp_path, MINE)))
    names = [row["id"] for row in client.get("/v1/models").json["data"]]
    assert [row["model_name"] for row in client.get("/v1/model/info").json["data"]] == names
    assert "canary" not in client.get("/v1/model/info").text


def test_a_key_is_asked_for_once_there_is_one(tmp_path: Path) -> None:
    key, digest = new_key()
    client = Client(create_app(make_gateway(tmp_path, {**MINE, "keys": {"ada": {"hash": digest}}})))
    assert client.get("/v1/model/info").status_code == 401
    assert client.get("/v1/model/info", headers={"authorization": f"Bearer {key}"}).status_code == 200
