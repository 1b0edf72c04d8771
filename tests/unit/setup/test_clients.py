"""The files of every client, as its own documentation wants them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from compat.setup import claude, codex, crush, zed
from compat.setup.clients import client_setup, clients
from compat.setup.files import FILES
from compat.setup.jsonc import JsoncError, json_text, parse
from compat.setup.kilo import config_path
from compat.setup.offers import Offer, Offers

URL, KEY = "http://127.0.0.1:28889/v1", "sk-any"
OFFERS = (
    Offer("claude-4-sonnet", 'Claude "4"', 200_000, 64_000, 3.0, 15.0, 0.3, 3.75, images=True, files=True, reasoning=True),
    Offer("small", "Small", 32_000, 4096, 0.1, 0.4, tools=False),
)


def text_of(client: str, number: int = 0) -> str:
    return client_setup(client, OFFERS, URL, KEY).files[number].text


def merged(text: str, client: str, offers: Offers = OFFERS, key: str = KEY) -> str:
    """`text` with what is ours in its client's file."""
    (file,) = client_setup(client, offers, URL, key).files
    assert file.merge is not None
    return file.merge(text)


def document(text: str) -> Any:
    node = parse(text)
    assert node is not None
    return node.value


def test_kilo_gets_the_whole_configuration() -> None:
    assert document(text_of("kilo")) == {
        "$schema": "https://app.kilo.ai/config.json",
        "model": "openai-compat/claude-4-sonnet",
        "small_model": "openai-compat/small",
        "provider": {
            "openai-compat": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "openai-compat",
                "options": {"baseURL": URL, "apiKey": KEY, "timeout": 3_600_000, "chunkTimeout": 120_000},
                "models": {
                    "claude-4-sonnet": {
                        "name": 'Claude "4"',
                        "tool_call": True,
                        "attachment": True,
                        "reasoning": True,
                        "temperature": True,
                        "limit": {"context": 200_000, "output": 64_000},
                        "cost": {"input": 3.0, "output": 15.0, "cache_read": 0.3, "cache_write": 3.75},
                        "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]},
                    },
                    "small": {
                        "name": "Small",
                        "tool_call": False,
                        "attachment": False,
                        "reasoning": False,
                        "temperature": True,
                        "limit": {"context": 32_000, "output": 4096},
                        "cost": {"input": 0.1, "output": 0.4, "cache_read": 0.0, "cache_write": 0.0},
                        "modalities": {"input": ["text"], "output": ["text"]},
                    },
                },
            }
        },
    }


def test_opencode_gets_the_same_under_its_own_schema() -> None:
    kilo, opencode = document(text_of("kilo")), document(text_of("opencode"))
    assert opencode == {**kilo, "$schema": "https://opencode.ai/config.json"}


def test_kilo_gets_the_same_by_anthropics_protocol_under_a_name_of_its_own() -> None:
    kilo, own = document(text_of("kilo")), document(text_of("kilo-anthropic"))
    [(name, block)] = own["provider"].items()
    assert (name, block["npm"]) == ("openai-compat-anthropic", "@ai-sdk/anthropic")
    theirs = kilo["provider"]["openai-compat"]
    assert (block["options"], block["models"]) == (theirs["options"], theirs["models"])
    assert own["model"] == kilo["model"].replace("openai-compat/", "openai-compat-anthropic/")


def test_both_of_kilos_providers_fit_into_one_file() -> None:
    both = merged(text_of("kilo"), "kilo-anthropic")
    assert document(both)["provider"].keys() == {"openai-compat", "openai-compat-anthropic"}
    assert document(both)["model"].startswith("openai-compat-anthropic/")


def test_qwen_code_gets_a_provider_its_key_and_what_it_starts_with() -> None:
    told = document(text_of("qwen"))
    models = told["modelProviders"].pop("openai-compat")
    assert told == {
        "modelProviders": {},
        "providerProtocol": {"openai-compat": "openai"},
        "env": {"OPENAI_COMPAT_API_KEY": KEY},
        "security": {"auth": {"selectedType": "openai"}},
        "model": {"name": "claude-4-sonnet"},
        "$version": 4,
    }
    assert [(model["id"], model["baseUrl"], model["envKey"]) for model in models] == [
        ("claude-4-sonnet", URL, "OPENAI_COMPAT_API_KEY"),
        ("small", URL, "OPENAI_COMPAT_API_KEY"),
    ]
    assert models[0]["generationConfig"]["contextWindowSize"] == 200_000
    assert models[0]["generationConfig"]["modalities"] == {"image": True, "pdf": True}


def test_crush_gets_a_provider_and_its_two_models() -> None:
    told = document(text_of("crush"))
    provider = told["providers"]["openai-compat"]
    assert (provider["type"], provider["base_url"], provider["api_key"]) == ("openai-compat", URL, KEY)
    assert {size: (model["provider"], model["model"]) for size, model in told["models"].items()} == {
        "large": ("openai-compat", "claude-4-sonnet"),
        "small": ("openai-compat", "small"),
    }
    model = provider["models"][0]
    assert (model["context_window"], model["default_max_tokens"], model["supports_attachments"]) == (200_000, 64_000, True)
    assert [model[f"cost_per_1m_{kind}"] for kind in ("in", "out", "in_cached", "out_cached")] == [3.0, 15.0, 3.75, 0.3]


def test_zed_gets_a_provider_without_a_key() -> None:
    text = text_of("zed")
    told = document(text)
    assert told["agent"] == {"default_model": {"provider": "openai-compat", "model": "claude-4-sonnet"}}
    provider = told["language_models"]["openai_compatible"]["openai-compat"]
    assert provider["api_url"] == URL
    assert [(model["name"], model["max_tokens"], model["capabilities"]["images"]) for model in provider["available_models"]] == [
        ("claude-4-sonnet", 200_000, True),
        ("small", 32_000, False),
    ]
    assert KEY not in text
    assert f"enter the key `{KEY}`" in " ".join(client_setup("zed", OFFERS, URL, KEY).steps["en"])


@pytest.mark.parametrize("client", list(FILES))
def test_what_is_ours_is_put_into_a_file_that_is_there_once_and_the_rest_stays(client: str) -> None:
    for file in client_setup(client, OFFERS, URL, KEY).files:
        if file.merge is None:
            assert not file.ours
            continue
        theirs = "# mine\n[tui]\nx = 1\n" if file.path.endswith(".toml") else '{\n  // mine\n  "theirs": {"x": 1}\n}\n'
        once = file.merge(theirs)
        assert "mine" in once
        assert "x" in once
        assert file.merge(once) == once
        assert file.merge("") == file.text
        assert all(name.rpartition(".")[2].strip("[]") in once for name in file.ours)


@pytest.mark.parametrize(
    ("client", "environment", "path"),
    [
        ("qwen", {}, ".qwen/settings.json"),
        ("qwen", {"QWEN_HOME": "{home}/q"}, "q/settings.json"),
        ("crush", {}, ".config/crush/crush.json"),
        ("crush", {"XDG_CONFIG_HOME": "{home}/x"}, "x/crush/crush.json"),
        ("crush", {"CRUSH_GLOBAL_CONFIG": "{home}/c"}, "c/crush.json"),
        ("zed", {}, ".config/zed/settings.json"),
        ("zed", {"XDG_CONFIG_HOME": "{home}/x"}, "x/zed/settings.json"),
    ],
)
def test_each_client_is_looked_for_where_it_looks(tmp_path: Path, client: str, environment: dict[str, str], path: str) -> None:
    (file,) = client_setup(client, OFFERS, URL, KEY).files
    assert file.place is not None
    filled = {name: value.format(home=tmp_path) for name, value in environment.items()}
    assert file.place(filled, tmp_path) == tmp_path / path


def test_windows_has_places_of_its_own(tmp_path: Path) -> None:
    assert crush.config_path({}, tmp_path, "nt") == tmp_path / "AppData/Local/crush/crush.json"
    assert crush.config_path({"LOCALAPPDATA": str(tmp_path / "l")}, tmp_path, "nt") == tmp_path / "l/crush/crush.json"
    assert zed.config_path({}, tmp_path, "nt") == tmp_path / "AppData/Roaming/Zed/settings.json"
    assert zed.config_path({"APPDATA": str(tmp_path / "a")}, tmp_path, "nt") == tmp_path / "a/Zed/settings.json"


def test_roo_gets_a_file_to_import() -> None:
    told = json.loads(text_of("roo"))
    assert told["globalSettings"] == {}
    assert told["providerProfiles"]["currentApiConfigName"] in told["providerProfiles"]["apiConfigs"]
    profile = told["providerProfiles"]["apiConfigs"]["openai-compat"]
    info = profile.pop("openAiCustomModelInfo")
    assert profile == {
        "id": "openaicompat",
        "apiProvider": "openai",
        "openAiBaseUrl": URL,
        "openAiApiKey": KEY,
        "openAiModelId": "claude-4-sonnet",
        "openAiStreamingEnabled": True,
        "includeMaxTokens": True,
    }
    assert (info["maxTokens"], info["contextWindow"], info["supportsImages"], info["supportsPromptCache"]) == (64_000, 200_000, True, True)
    assert [info[f"{kind}Price"] for kind in ("input", "output", "cacheReads", "cacheWrites")] == [3.0, 15.0, 0.3, 3.75]
    assert "base URL http://127.0.0.1:28889," in " ".join(client_setup("roo", OFFERS, URL, KEY).steps["en"])


def test_continue_gets_a_model_per_offer() -> None:
    lines = text_of("continue").splitlines()
    assert lines[:4] == ["name: openai-compat", "version: 1.0.0", "schema: v1", "models:"]
    assert lines[4:14] == [
        '  - name: "Claude \\"4\\""',
        "    provider: openai",
        '    model: "claude-4-sonnet"',
        f'    apiBase: "{URL}"',
        '    apiKey: "sk-any"',
        "    roles: [chat, edit, apply]",
        "    capabilities: [tool_use, image_input]",
        "    defaultCompletionOptions:",
        "      contextLength: 200000",
        "      maxTokens: 64000",
    ]
    assert lines[20] == "    capabilities: []"


def test_aider_gets_its_settings_and_the_models_facts() -> None:
    assert text_of("aider").splitlines() == [f'openai-api-base: "{URL}"', 'openai-api-key: "sk-any"', 'model: "openai/claude-4-sonnet"']
    facts = json.loads(text_of("aider", 1))["openai/claude-4-sonnet"]
    assert (facts["max_input_tokens"], facts["max_output_tokens"], facts["input_cost_per_token"]) == (200_000, 64_000, 3e-06)
    assert (facts["litellm_provider"], facts["mode"]) == ("openai", "chat")


def test_clients_without_a_file_get_commands() -> None:
    assert client_setup("cline", OFFERS, URL, KEY).commands == (f"cline auth -p openai -k sk-any -b {URL} -m claude-4-sonnet",)
    setup = client_setup("openai", OFFERS, URL, KEY)
    assert setup.commands == (f"export OPENAI_BASE_URL={URL}", "export OPENAI_API_KEY=sk-any")
    assert any("client's shell only" in step for step in setup.steps["en"])  # the gateway reads the same variables
    assert len(setup.steps["en"]) == len(setup.steps["zh"])


@pytest.mark.parametrize("client", list(clients()))
def test_every_client_has_steps_in_both_languages_also_without_a_model(client: str) -> None:
    for offers in (OFFERS, ()):
        setup = client_setup(client, offers, URL, KEY)
        assert setup.client == client
        assert len(setup.steps["en"]) == len(setup.steps["zh"]) > 0
        assert setup.files or setup.commands


def test_a_block_that_is_ours_is_renewed_and_the_rest_is_kept() -> None:
    before = '{\n  // mine\n  "model": "other/x", // a favourite\n  "provider": { "other": {} }\n}\n'
    once = merged(before, "kilo")
    assert once.startswith('{\n  // mine\n  "model": "openai-compat/claude-4-sonnet", // a favourite\n  "provider": { "other": {}')
    assert set(document(once)["provider"]) == {"other", "openai-compat"}
    assert merged(once, "kilo") == once
    again = merged(once, "kilo", OFFERS[:1], "sk-new")
    assert list(document(again)["provider"]["openai-compat"]["models"]) == ["claude-4-sonnet"]
    assert again.startswith(once[: once.index('"openai-compat": {')])


@pytest.mark.parametrize("empty", ["", "  \n", "\ufeff"])
def test_an_empty_file_becomes_the_whole_document(empty: str) -> None:
    assert merged(empty, "kilo") == text_of("kilo")


@pytest.mark.parametrize("broken", ["{", "[]", '{"provider": 1}'])
def test_a_file_that_is_something_else_is_refused(broken: str) -> None:
    with pytest.raises(JsoncError):
        merged(broken, "kilo")


def test_the_file_is_looked_for_where_the_client_does(tmp_path: Path) -> None:
    assert config_path({}, tmp_path, "kilo") == tmp_path / ".config/kilo/kilo.jsonc"
    other = tmp_path / "other"
    assert config_path({"XDG_CONFIG_HOME": str(other)}, tmp_path, "opencode") == other / "opencode/opencode.jsonc"
    (other / "opencode").mkdir(parents=True)
    (other / "opencode/opencode.json").write_text("{}")
    assert config_path({"XDG_CONFIG_HOME": str(other)}, tmp_path, "opencode") == other / "opencode/opencode.json"
    (other / "opencode/opencode.jsonc").write_text("{}")
    assert config_path({"XDG_CONFIG_HOME": str(other)}, tmp_path, "opencode") == other / "opencode/opencode.jsonc"


def test_claude_code_gets_names_of_the_gateway_for_every_size_of_work_and_the_real_window() -> None:
    env = json.loads(text_of("claude"))["env"]
    assert env == {
        "ANTHROPIC_BASE_URL": URL.removesuffix("/v1"),
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_MODEL": "claude-4-sonnet",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "claude-4-sonnet",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "claude-4-sonnet",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "claude-4-sonnet",  # the small model calls no tools
        "CLAUDE_CODE_SUBAGENT_MODEL": "claude-4-sonnet",
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000",
    }
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS" not in claude.claude_config((), URL, KEY)["env"]


def test_claude_codes_settings_are_merged_into_what_is_there() -> None:
    config = claude.claude_config(OFFERS, URL, KEY)
    text = '{\n  "model": "opus",\n  "env": {\n    "MINE": "1",\n    "ANTHROPIC_MODEL": "old"\n  }\n}\n'
    found = json.loads(merged(text, "claude"))
    assert found == {"model": "opus", "env": {"MINE": "1", **config["env"]}}
    assert merged(" \n", "claude") == merged(json_text(config), "claude") == json_text(config)
    with pytest.raises(JsoncError):
        merged('{"env": 5}', "claude")


def test_claude_codes_settings_are_where_it_looks(tmp_path: Path) -> None:
    assert claude.config_path({}, tmp_path) == tmp_path / ".claude/settings.json"
    assert claude.config_path({"CLAUDE_CONFIG_DIR": "/x"}, tmp_path) == Path("/x/settings.json")


def test_codex_gets_the_provider_and_its_models_from_the_gateway() -> None:
    assert tomllib.loads(text_of("codex")) == {
        "model": "claude-4-sonnet",
        "model_provider": "openai-compat",
        "model_providers": {
            "openai-compat": {
                "name": "openai-compat",
                "base_url": URL,
                "experimental_bearer_token": KEY,
                "wire_api": "responses",
                "supports_websockets": True,
                "model_catalog_url": f"{URL}/models",
            }
        },
    }


CODEX = codex.codex_config(OFFERS, URL, KEY)
OLD = '[model_providers.openai-compat]\nname = "old"\n[model_providers.openai-compat.http_headers]\nx = "1"\n'


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("\ufeff# mine\nmodel = 'gpt-5.5' # a favourite\napproval_policy = \"never\"", '# mine\napproval_policy = "never"\n'),
        ('"model_provider" = "x"\n\n[tui]\ntheme = "dark"\n', '\n[tui]\ntheme = "dark"\n'),
        (OLD + '[model_providers.other]\nname = "o"\n', '[model_providers.other]\nname = "o"\n'),
        ('[profiles.x]\nmodel = "theirs"\n' + OLD, '[profiles.x]\nmodel = "theirs"\n'),
    ],
)
def test_codex_configuration_is_merged_into_what_is_there(text: str, kept: str) -> None:
    once = codex.merged(text, CODEX)
    assert (
        once == f'model = "claude-4-sonnet"\nmodel_provider = "openai-compat"\n{kept}\n{codex.codex_text(CODEX).partition(chr(10) * 2)[2]}'
    )
    assert codex.merged(once, CODEX) == once


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = ", "not TOML"),
        ('notes = """\nmodel = 1\n"""\n', "without loss"),
        ('[model_providers]\nopenai-compat = { name = "old" }\n', "without loss"),
        ("model_providers = 5\n", "without loss"),
    ],
)
def test_a_configuration_of_codex_that_cannot_be_followed_stays_as_it_is(text: str, words: str) -> None:
    with pytest.raises(codex.TomlError, match=words):
        codex.merged(text, CODEX)


def test_codex_configuration_is_where_it_looks(tmp_path: Path) -> None:
    assert codex.config_path({}, tmp_path) == tmp_path / ".codex/config.toml"
    assert codex.config_path({"CODEX_HOME": "/x"}, tmp_path) == Path("/x/config.toml")
