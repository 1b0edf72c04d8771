"""The configuration: defaults, `config.toml`, the environment; checked at start, frozen afterwards.

Every key is optional. A wrong or unknown key ends the start with a message that names the key and the file (`SettingsError`).
Values written `env:NAME` are taken from the environment, so that a configuration file need not hold a secret.
"""

from __future__ import annotations

import msgspec


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class EmbeddedSettings(Section):
    """`[embedded]`: the model on this machine that answers when no upstream is configured.

    `model` is a preset (`smollm2-135m-instruct`, `qwen2.5-coder-0.5b-instruct`) or the path of a `.gguf` file.
    `cache_dir` is where fetched models are kept; empty: the user's cache folder.
    """

    enabled: bool = True
    model: str = "smollm2-135m-instruct"
    context_tokens: int = 8192
    parallel: int = 4
    threads: int = 0
    cache_dir: str = ""
