"""The words of the pages, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from compat.setup.clients import Language

TEXTS: Mapping[Language, Mapping[str, str]] = MappingProxyType(
    {
        "en": {
            "title": "Set up a client",
            "lead": "Made for this gateway, with the models that it offers now, their limits, prices and abilities.",
            "address": "Address",
            "key": "API key",
            "any_key": "any value works",
            "needs_key": "one of the gateway's client keys; Kilo Code and opencode read it from the variable OPENAI_COMPAT_KEY",
            "locked": "Model names are shown only with a client key. Put yours into these commands:",
            "embedded": "No upstream is configured: a small embedded model answers. It is not fit for agents: set a key first.",
            "copy_it": "Copy",
            "copied": "Copied",
            "failed": "Press Ctrl+C",
            "open": "Open the file",
            "switch": "中文",
            "prove": "The command merges this into the file you have, keeps a copy of it, and proves with a tool call that it works.",
            "home": "Start page",
            "models": "All models",
        },
        "zh": {
            "title": "配置客户端",
            "lead": "以下内容均按本网关当前提供的模型生成：上下文、价格、图像、推理。",
            "address": "地址",
            "key": "API 密钥",
            "any_key": "任意值均可",
            "needs_key": "网关的客户端密钥之一；Kilo Code 与 opencode 从环境变量 OPENAI_COMPAT_KEY 读取",
            "locked": "只有发送客户端密钥的请求才能看到模型名称。把密钥填入下面的命令即可：",
            "embedded": "尚未配置上游：由内置的小模型回答。它只用于演示，不适合智能体；请先设置密钥。",
            "copy_it": "复制",
            "copied": "已复制",
            "failed": "请按 Ctrl+C",
            "open": "打开文件",
            "switch": "English",
            "prove": "该命令会把配置合并到已有文件中，保留其备份，并通过一次真实的工具调用证明可用。",
            "home": "首页",
            "models": "全部模型",
        },
    }
)

START_TEXTS: Mapping[Language, Mapping[str, str]] = MappingProxyType(
    {
        "en": {
            "switch": "中文",
            "stop": ".",
            "colon": ":",
            "lead": "An OpenAI-compatible gateway, version",
            "status": "Status",
            "causes": "What does not work",
            "provider": "Provider: OpenAI Compatible",
            "any_key": "Any API key works",
            "client_key": "The API key must be a client key of this gateway",
            "locked": "Names of models and upstreams are shown only with a client key, as in the command above.",
            "routes": "Where each model goes",
            "model": "Model",
            "goes": "Goes to",
            "embedded": "No upstream is configured: answers come from a small embedded model",
            "embedded_use": "It is a demonstration and a fallback; for real work set a key, for example",
            "try": "Try it",
            "links": "Links",
            "setup": "Kilo Code, opencode, Roo, Cline, Continue, aider, OpenAI SDK: complete configurations to copy",
            "models": "all models with limits and prices",
            "health": "state of the gateway and its upstreams",
        },
        "zh": {
            "switch": "English",
            "stop": "。",
            "colon": "：",
            "lead": "OpenAI 兼容网关，版本",
            "status": "状态",
            "causes": "有问题的部分",
            "provider": "提供商：OpenAI Compatible",
            "any_key": "API 密钥可以是任意值",
            "client_key": "API 密钥必须是本网关的客户端密钥之一",
            "locked": "只有像上面的命令那样发送客户端密钥，才能看到模型与上游的名称。",
            "routes": "每个模型的去向",
            "model": "模型",
            "goes": "去向",
            "embedded": "尚未配置上游：由内置的小模型回答",
            "embedded_use": "它只用于演示和兜底；真正使用时请设置密钥，例如",
            "try": "试一下",
            "links": "链接",
            "setup": "Kilo Code、opencode、Roo、Cline、Continue、aider、OpenAI SDK：可直接复制的完整配置",
            "models": "全部模型及其限制与价格",
            "health": "网关及其上游的状态",
        },
    }
)
