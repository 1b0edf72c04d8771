"""Every client that can be set up: its files, and what a person does with them, each as its own documentation wants it.

    client_setup(name, offers, base_url, key) -> ClientSetup

kilo             https://kilo.ai/docs/code-with-ai/agents/custom-models: merged into the file that is there
opencode         https://opencode.ai/docs/providers: the same
roo              https://docs.roocode.com/features/settings-management: a file to import; the same for Kilo Code 5.x
cline            https://docs.cline.bot/cline-cli/installation and /provider-config/openai-compatible: no file, one command or four fields
continue         https://docs.continue.dev/reference: config.yaml
aider            https://aider.chat/docs/llms/openai-compat.html, /docs/config/adv-model-settings.html
openai           https://github.com/openai/openai-python#readme: two environment variables, which many other tools read as well
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from compat.setup.kilo import kilo_config, kilo_text
from compat.setup.offers import Offer, main_model

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A file of a client. `path` begins with `~` or is relative to where the command runs; `document` is set where it is merged."""

    path: str
    text: str
    document: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """All that one client needs. `commands` can be pasted into a shell; `steps` are for people, by language."""

    client: str
    title: str
    files: tuple[ClientFile, ...]
    commands: tuple[str, ...]
    steps: Mapping[Language, tuple[str, ...]]


def client_setup(client: str, offers: Sequence[Offer], base_url: str, key: str) -> ClientSetup:
    """What `client` (a key of `CLIENTS`) needs to use the gateway at `base_url`, which ends with `/v1`, under `key`."""
    return CLIENTS[client](offers, base_url, key)


def _kilo(offers: Sequence[Offer], base_url: str, key: str) -> ClientSetup:
    document = kilo_config(offers, base_url, key)
    steps: Mapping[Language, tuple[str, ...]] = {
        "en": (
            "Run the command, or save the file as ~/.config/kilo/kilo.jsonc (for one project: kilo.jsonc in its folder).",
            "Reload the window of your editor, or restart `kilo`: the models are under openai-compat.",
        ),
        "zh": (
            "运行该命令，或把文件保存为 ~/.config/kilo/kilo.jsonc（仅用于一个项目时：保存为项目目录下的 kilo.jsonc）。",
            "重新加载编辑器窗口，或重新启动 `kilo`：模型列在 openai-compat 之下。",
        ),
    }
    file = ClientFile("~/.config/kilo/kilo.jsonc", kilo_text(document), document)
    return ClientSetup("kilo", "Kilo Code", (file,), ("python app.py setup kilo",), steps)


def _opencode(offers: Sequence[Offer], base_url: str, key: str) -> ClientSetup:
    document = kilo_config(offers, base_url, key, "opencode")
    steps: Mapping[Language, tuple[str, ...]] = {
        "en": (
            "Run the command, or save the file as ~/.config/opencode/opencode.jsonc.",
            "Start `opencode`; `/models` lists openai-compat.",
        ),
        "zh": ("运行该命令，或把文件保存为 ~/.config/opencode/opencode.jsonc。", "启动 `opencode`；`/models` 会列出 openai-compat。"),
    }
    file = ClientFile("~/.config/opencode/opencode.jsonc", kilo_text(document, "opencode"), document)
    return ClientSetup("opencode", "opencode", (file,), ("python app.py setup opencode",), steps)


def _roo(offers: Sequence[Offer], base_url: str, key: str) -> ClientSetup:
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
    text = json.dumps({"providerProfiles": profiles, "globalSettings": {}}, indent=2) + "\n"
    root = base_url.removesuffix("/v1")
    steps: Mapping[Language, tuple[str, ...]] = {
        "en": (
            "Save the file, then import it: Roo Code or Kilo Code 5.x, Settings, About, Import.",
            f"For all models at once choose the provider LiteLLM: base URL {root}, the same key; limits and prices are read from it.",
        ),
        "zh": (
            "保存文件，然后导入：Roo Code 或 Kilo Code 5.x，设置 → 关于 → 导入。",
            f"若要一次得到所有模型，请改选提供商 LiteLLM：Base URL 为 {root}，密钥相同；上下文与价格会自动读取。",
        ),
    }
    return ClientSetup("roo", "Roo Code, Kilo Code 5.x", (ClientFile("openai-compat-roo.json", text),), ("python app.py setup roo",), steps)


def _cline(offers: Sequence[Offer], base_url: str, key: str) -> ClientSetup:
    main = main_model(offers)
    steps: Mapping[Language, tuple[str, ...]] = {
        "en": (
            "The command sets up the Cline CLI. In the editor open Cline's settings, API Provider: OpenAI Compatible.",
            f"Base URL: {base_url}  API key: {key}  Model ID: {main}",
        ),
        "zh": (
            "该命令配置 Cline CLI。在编辑器中打开 Cline 设置，API Provider 选择 OpenAI Compatible。",
            f"Base URL：{base_url}  API key：{key}  Model ID：{main}",
        ),
    }
    return ClientSetup("cline", "Cline", (), (f"cline auth -p openai -k {key} -b {base_url} -m {main}",), steps)


def _continue(offers: Sequence[Offer], base_url: str, key: str) -> ClientSetup:
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
    steps: Mapping[Language, tuple[str, ...]] = {
        "en": ("Save the file as ~/.continue/config.yaml; if you have one, add the entries below its `models:`.",),
        "zh": ("把文件保存为 ~/.continue/config.yaml；如果已有该文件，请把这些条目加到其 `models:` 之下。",),
    }
    file = ClientFile("~/.continue/config.yaml", "\n".join(lines) + "\n")
    return ClientSetup("continue", "Continue", (file,), ("python app.py setup continue",), steps)


def _aider(offers: Sequence[Offer], base_url: str, key: str) -> ClientSetup:
    main = main_model(offers)
    settings = [f"openai-api-base: {json.dumps(base_url)}", f"openai-api-key: {json.dumps(key)}", f"model: {json.dumps(f'openai/{main}')}"]
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
    files = (
        ClientFile("~/.aider.conf.yml", "\n".join(settings) + "\n"),
        ClientFile("~/.aider.model.metadata.json", json.dumps(metadata, ensure_ascii=False, indent=2) + "\n"),
    )
    command = f"aider --openai-api-base {base_url} --openai-api-key {key} --model openai/{main}"
    steps: Mapping[Language, tuple[str, ...]] = {
        "en": (
            "Save both files in your home folder: the first names the gateway, the second limits and prices.",
            "Or run the command once.",
        ),
        "zh": ("把两个文件保存到主目录：第一个指定网关，第二个是上下文与价格。", "或者直接运行一次该命令。"),
    }
    return ClientSetup("aider", "aider", files, (command,), steps)


def _openai(offers: Sequence[Offer], base_url: str, key: str) -> ClientSetup:
    main = main_model(offers)
    steps: Mapping[Language, tuple[str, ...]] = {
        "en": (
            "The OpenAI SDKs, and many tools on top of them, read these two variables.",
            "Set them in the client's shell only: a gateway that is started with them takes itself for its upstream, and refuses to start.",
            f"In code: OpenAI(base_url='{base_url}', api_key='{key}'), model='{main}'.",
        ),
        "zh": (
            "OpenAI SDK 以及基于它的许多工具会读取这两个变量。",
            "只在客户端的 shell 中设置：网关若带着它们启动，会把自己当作上游，因而拒绝启动。",
            f"代码中：OpenAI(base_url='{base_url}', api_key='{key}')，model='{main}'。",
        ),
    }
    return ClientSetup("openai", "OpenAI SDK", (), (f"export OPENAI_BASE_URL={base_url}", f"export OPENAI_API_KEY={key}"), steps)


def per_token(dollars_per_million: float) -> float:
    """Dollars per token, without the noise of binary fractions."""
    return float(f"{dollars_per_million / 1_000_000:.12g}")


CLIENTS: Mapping[str, Callable[[Sequence[Offer], str, str], ClientSetup]] = MappingProxyType(
    {
        "kilo": _kilo,
        "opencode": _opencode,
        "roo": _roo,
        "cline": _cline,
        "continue": _continue,
        "aider": _aider,
        "openai": _openai,
    }
)
"""Client -> what makes its set-up, in the order in which they are shown."""
