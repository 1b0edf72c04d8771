"""Files that are written for a client and never merged: Roo Code's to import, Continue's and aider's YAML."""

from __future__ import annotations

import json

from compat.setup.offers import Offer, Offers, main_model


def roo_text(offers: Offers, base_url: str, key: str) -> str:
    """A profile to import, with the main model."""
    main = main_model(offers)
    offer = next((offer for offer in offers if offer.id == main), Offer(main, main))
    profile = {
        "id": "openaicompat",
        "apiProvider": "openai",
        "openAiBaseUrl": base_url,
        "openAiApiKey": key,
        "openAiModelId": main,
        "openAiStreamingEnabled": True,
        "includeMaxTokens": True,
        "openAiCustomModelInfo": {
            "maxTokens": offer.output,
            "contextWindow": offer.context,
            "supportsImages": offer.images,
            "supportsPromptCache": offer.cache_read_price > 0,
            "inputPrice": offer.input_price,
            "outputPrice": offer.output_price,
            "cacheReadsPrice": offer.cache_read_price,
            "cacheWritesPrice": offer.cache_write_price,
        },
    }
    profiles = {"currentApiConfigName": "openai-compat", "apiConfigs": {"openai-compat": profile}}
    return json.dumps({"providerProfiles": profiles, "globalSettings": {}}, indent=2) + "\n"


def continue_text(offers: Offers, base_url: str, key: str) -> str:
    """`config.yaml`: an entry for each model."""
    lines = ["name: openai-compat", "version: 1.0.0", "schema: v1", "models:"]
    for offer in offers:
        abilities = [*(["tool_use"] if offer.tools else []), *(["image_input"] if offer.images else [])]
        lines += [
            f"  - name: {json.dumps(offer.name, ensure_ascii=False)}",
            "    provider: openai",
            f"    model: {json.dumps(offer.id, ensure_ascii=False)}",
            f"    apiBase: {json.dumps(base_url)}",
            f"    apiKey: {json.dumps(key)}",
            "    roles: [chat, edit, apply]",
            f"    capabilities: [{', '.join(abilities)}]",
            "    defaultCompletionOptions:",
            f"      contextLength: {offer.context}",
            f"      maxTokens: {offer.output}",
        ]
    return "\n".join(lines) + "\n"


def aider_text(offers: Offers, base_url: str, key: str) -> str:
    """`.aider.conf.yml`: the gateway and the model."""
    settings = {"openai-api-base": base_url, "openai-api-key": key, "model": f"openai/{main_model(offers)}"}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())


def aider_metadata(offers: Offers, _base_url: str, _key: str) -> str:
    """`.aider.model.metadata.json`: limits and prices, as LiteLLM names them."""
    metadata = {
        f"openai/{offer.id}": {
            "max_tokens": offer.output,
            "max_input_tokens": offer.context,
            "max_output_tokens": offer.output,
            "input_cost_per_token": per_token(offer.input_price),
            "output_cost_per_token": per_token(offer.output_price),
            "supports_vision": offer.images,
            "litellm_provider": "openai",
            "mode": "chat",
        }
        for offer in offers
    }
    return json.dumps(metadata, ensure_ascii=False, indent=2) + "\n"


def per_token(dollars_per_million: float) -> float:
    """Dollars per token, without the noise of binary fractions."""
    return float(f"{dollars_per_million / 1_000_000:.12g}")
