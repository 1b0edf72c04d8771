"""`GET /v1/model/info` in LiteLLM's shape, for Roo Code and Kilo Code 5.x with the provider LiteLLM.

They read `model_name`, `litellm_params.model` and, of `model_info`, limits, prices in dollars per token, vision and caching
(https://docs.litellm.ai/docs/proxy/model_management).
"""

from __future__ import annotations

from typing import Any

import flask

from compat import jsonio
from compat.calls.gateway import Gateway
from compat.config.catalog import Model
from compat.endpoints.answers import json_body
from compat.endpoints.models import client_of, listed_routes
from compat.routing.router import Route


def model_info_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The endpoint over `gateway`."""
    blueprint = flask.Blueprint("model_info", __name__)

    @blueprint.get("/v1/model/info")
    def model_info() -> flask.Response:
        routes = listed_routes(gateway, client_of(gateway, flask.request.environ))
        return json_body(jsonio.encode({"data": [info_row(route, gateway.clock.now()) for route in routes]})).response()

    return blueprint


def info_row(route: Route, now_s: float) -> dict[str, Any]:
    """What LiteLLM's proxy would say of one public name."""
    model, first = route.model, route.deployments[0]
    price = model.price.listed_at(now_s)
    return {
        "model_name": route.name,
        "litellm_params": {"model": first.name},
        "model_info": {
            "id": route.name,
            "key": first.target,
            "db_model": False,
            "mode": "chat",
            "litellm_provider": model.owned_by or first.upstream.kind.name,
            "max_tokens": _output(model),
            "max_input_tokens": model.context,
            "max_output_tokens": _output(model),
            "input_cost_per_token": _per_token(price.input),
            "output_cost_per_token": _per_token(price.output),
            "cache_read_input_token_cost": _per_token(price.cache_read),
            "cache_creation_input_token_cost": _per_token(price.cache_write),
            "supports_vision": model.images,
            "supports_pdf_input": model.files,
            "supports_function_calling": model.tools,
            "supports_tool_choice": model.tools,
            "supports_prompt_caching": price.cache_read > 0,
            "supports_reasoning": model.reasoning,
            "supports_native_streaming": True,
        },
    }


def _output(model: Model) -> int:
    """A model whose facts are defaults may claim more output than it has context."""
    return min(model.max_output, max(model.context // 2, 1))


def _per_token(dollars_per_million: float) -> float:
    """Dollars per token, without the noise of binary fractions."""
    return float(f"{dollars_per_million / 1_000_000:.12g}")
