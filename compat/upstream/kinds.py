"""The table of upstream kinds: a new OpenAI-compatible service is one more row.

A row is in effect as soon as its key is in the environment. Where a row has `local`, the server is looked for on this machine instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from compat.protocols.base import MessagesSubset, WireApi


@dataclass(frozen=True, slots=True)
class UpstreamKind:
    """What is common to all upstreams of one kind.

    `apis` are the wire APIs that it speaks, each with its path below the base URL: a call takes the client's own where it is among them,
    else the first that it can be translated to. `paths` are its other endpoints (`models`, `embeddings`). `key_variable` and
    `base_url_variable` name the environment variables that configure it. `auth_header` and `auth_prefix` say how the key is sent.
    `default_model` answers for an alias whose own model no upstream offers. `sends_usage_option`: it knows `stream_options`. `is_lenient`:
    it takes malformed messages or breaks on them, so that they are checked here first. `unwanted_fields` are fields of messages and tools
    that the service at `base_url` refuses. `knows_cache_key`: its chat has `prompt_cache_key`; `takes_marks`: it takes `cache_control`.
    `messages` is what it takes of Anthropic's protocol, where that is not all, and `messages_url` its base URL for that, where it has
    another.
    """

    name: str
    apis: Mapping[WireApi, str]
    base_url: str
    key_variable: str = ""
    base_url_variable: str = ""
    auth_header: str = "authorization"
    auth_prefix: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=lambda: OPENAI_PATHS)
    default_model: str = ""
    local: bool = False
    sends_usage_option: bool = True
    unwanted_fields: frozenset[str] = frozenset()
    is_lenient: bool = False
    knows_cache_key: bool = False
    takes_marks: bool = False
    messages: MessagesSubset | None = None
    messages_url: str = ""

    @property
    def endpoints(self) -> Mapping[str, str]:
        """All endpoints, those of its APIs by their names, with their paths."""
        return dict([*self.apis.items(), *self.paths.items()])


OPENAI_PATHS: Mapping[str, str] = MappingProxyType({"models": "/models", "embeddings": "/embeddings"})
ANTHROPIC_PATHS: Mapping[str, str] = MappingProxyType({"models": "/v1/models?limit=1000", "anthropic.count": "/v1/messages/count_tokens"})

API_PATHS: Mapping[WireApi, str] = MappingProxyType(
    {"openai.chat": "/chat/completions", "openai.responses": "/responses", "anthropic.messages": "/messages"}
)
"""Paths below a base URL that ends with the version; one without has the version in its paths."""
CHAT: Mapping[WireApi, str] = MappingProxyType({"openai.chat": "/chat/completions"})
LLAMA: Mapping[WireApi, str] = MappingProxyType({"llama.chat": "/chat/completions"})
_MESSAGES: Mapping[WireApi, str] = MappingProxyType({"anthropic.messages": "/v1/messages"})

_CHAT_AND_RESPONSES: Mapping[WireApi, str] = MappingProxyType({api: API_PATHS[api] for api in ("openai.chat", "openai.responses")})

_CHAT_ONLY: Mapping[str, str] = MappingProxyType({"models": "/models"})
_COMPLETING: Mapping[str, str] = MappingProxyType({**OPENAI_PATHS, "completions": "/completions"})
_FILLING_IN: Mapping[str, str] = MappingProxyType({**_COMPLETING, "infill": "/completions"})
"""`completions` carry a prompt on, `infill` completes between a prompt and a suffix."""

_MESSAGES_HEADERS: Mapping[str, str] = MappingProxyType({"anthropic-version": "2023-06-01"})
_VERSIONED = re.compile(r"/v\d\w*(?:/|$)")
_NOT_OPENAI = frozenset({"cache_control", "reasoning_content"})
"""What Kilo Code adds to messages, and OpenAI's own API and its strict followers refuse as unknown."""


_LIKE_FIELDS = frozenset(
    {"model", "messages", "system", "max_tokens", "stream", "stop_sequences", "temperature", "top_p", "tools", "tool_choice", "thinking"}
    | {"metadata"}
)
_LIKE_BLOCKS = frozenset({"text", "image", "thinking", "tool_use", "tool_result"})
_LIKE = MessagesSubset(_LIKE_FIELDS | {"output_config"}, _LIKE_BLOCKS)
"""Z.ai and Moonshot have no list of what they take; their guides for Claude Code set an effort besides."""
_OF_DEEPSEEK = MessagesSubset(
    _LIKE_FIELDS | {"output_config"},
    _LIKE_BLOCKS | {"server_tool_use", "web_search_tool_result"},
    frozenset({"files-api-2025-04-14"}),
    frozenset({"web_search"}),
)
"""https://api-docs.deepseek.com/api/create-message"""
_OF_MINIMAX = MessagesSubset(_LIKE_FIELDS - {"stop_sequences"}, _LIKE_BLOCKS)
"""https://platform.minimax.io/docs/api-reference/text-anthropic-api"""
_OF_LLAMA = MessagesSubset(_LIKE_FIELDS | {"top_k"}, _LIKE_BLOCKS)
"""The conversion in llama.cpp's `tools/server/server-common.cpp`."""


def _openai(
    name: str, base_url: str, variable: str, default_model: str = "", apis: Mapping[WireApi, str] = CHAT, **rest: Any
) -> UpstreamKind:
    prefix = variable.removesuffix("_API_KEY")
    return UpstreamKind(
        name,
        apis,
        base_url,
        variable,
        f"{prefix}_BASE_URL",
        default_model=default_model,
        **rest,
    )


def _local(name: str, base_url: str, base_url_variable: str, paths: Mapping[str, str], **rest: Any) -> UpstreamKind:
    return UpstreamKind(name, CHAT, base_url, "", base_url_variable, paths=paths, local=True, is_lenient=True, **rest)


_ROWS = (
    UpstreamKind(
        "anthropic",
        _MESSAGES,
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        auth_header="x-api-key",
        auth_prefix="",
        headers=_MESSAGES_HEADERS,
        paths=ANTHROPIC_PATHS,
        default_model="claude-sonnet-4-6",
    ),
    _openai(
        "openai",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "gpt-4o",
        _CHAT_AND_RESPONSES,
        unwanted_fields=_NOT_OPENAI,
        paths={**_FILLING_IN, "openai.count": "/responses/input_tokens"},
        knows_cache_key=True,
    ),
    _openai("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "anthropic/claude-sonnet-4.6", takes_marks=True),
    _openai(
        "deepseek",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
        "deepseek-flash",
        paths=_CHAT_ONLY,
        messages=_OF_DEEPSEEK,
        messages_url="https://api.deepseek.com/anthropic",
    ),
    _openai(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        "gemini-3.8-flash",
        unwanted_fields=frozenset({"cache_control"}),
    ),
    _openai(
        "mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", "devstral-latest", sends_usage_option=False, unwanted_fields=_NOT_OPENAI
    ),
    _openai("xai", "https://api.x.ai/v1", "XAI_API_KEY", "grok-4.7", paths=_CHAT_ONLY),
    _openai(
        "groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", "llama-3.3-70b-versatile", unwanted_fields=_NOT_OPENAI, paths=_CHAT_ONLY
    ),
    _openai("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY", paths=_COMPLETING),
    _openai("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", paths=_COMPLETING),
    _openai("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", paths=_CHAT_ONLY),
    _openai(
        "moonshot",
        "https://api.moonshot.ai/v1",
        "MOONSHOT_API_KEY",
        paths=_CHAT_ONLY,
        knows_cache_key=True,  # https://platform.moonshot.ai/docs/api/chat
        messages=_LIKE,
        messages_url="https://api.moonshot.ai/anthropic",
    ),
    _openai("zai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY", messages=_LIKE, messages_url="https://api.z.ai/api/anthropic"),
    _openai(
        "minimax",
        "https://api.minimax.io/v1",
        "MINIMAX_API_KEY",
        paths=_CHAT_ONLY,
        messages=_OF_MINIMAX,
        messages_url="https://api.minimax.io/anthropic",
    ),
    _openai("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY", takes_marks=True),
    _local("ollama", "http://127.0.0.1:11434/v1", "OLLAMA_BASE_URL", _FILLING_IN),
    _local("lmstudio", "http://127.0.0.1:1234/v1", "LMSTUDIO_BASE_URL", _COMPLETING),
    _local("llama-server", "http://127.0.0.1:8080/v1", "LLAMA_SERVER_BASE_URL", _COMPLETING, messages=_OF_LLAMA),
)


def speaking(kind: UpstreamKind, api: WireApi, base_url: str) -> UpstreamKind:
    """The kind as an upstream at `base_url` that is called by one API only, whichever the kind speaks."""
    path = kind.apis.get(api) or ("" if _VERSIONED.search(base_url) else "/v1") + API_PATHS[api]
    headers = {**_MESSAGES_HEADERS, **kind.headers} if api == "anthropic.messages" else kind.headers
    paths = {name: path for name, path in kind.paths.items() if name in OPENAI_PATHS}
    return replace(kind, apis={api: path}, headers=headers, paths=paths)


UPSTREAM_KINDS: Mapping[str, UpstreamKind] = MappingProxyType({row.name: row for row in _ROWS})
"""Kind -> row, best first: an alias goes to the first configured upstream that offers its model."""
