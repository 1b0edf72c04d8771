"""Claude Code's settings: `env` of `~/.claude/settings.json`, which it reads before anything else.

Its models for all sizes of work are names of the gateway, for its own would reach an upstream that doesn't know them. Of a name that it
doesn't know it assumes a window of a million tokens, so the real one is said. The line that it puts before its prompt changes with every
request, and would cost another vendor's prompt cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.setup.offers import Offers, main_model, small_model

_SCHEMA = "https://json.schemastore.org/claude-code-settings.json"


def claude_config(offers: Offers, base_url: str, key: str) -> dict[str, Any]:
    """The whole file. `base_url` ends with `/v1`."""
    main = main_model(offers)
    small = small_model([offer for offer in offers if offer.tools], main)
    windows = [offer.context for offer in offers if offer.id in (main, small)]
    env = {
        "ANTHROPIC_BASE_URL": base_url.removesuffix("/v1"),
        "ANTHROPIC_AUTH_TOKEN": key,
        "ANTHROPIC_MODEL": main,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": main,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": main,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": small,
        "CLAUDE_CODE_SUBAGENT_MODEL": main,
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        **({"CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(min(windows))} if windows else {}),
    }
    return {"$schema": _SCHEMA, "env": env}


def config_path(environment: Mapping[str, str], home: Path) -> Path:
    """The user's settings, below CLAUDE_CONFIG_DIR or `~/.claude`."""
    folder = environment.get("CLAUDE_CONFIG_DIR")
    return (Path(folder) if folder else home / ".claude") / "settings.json"
