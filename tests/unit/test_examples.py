"""The examples that come with the program say what the program does: every key, its default, every variable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import compat
from compat.config.sections import ConfigurationFile
from compat.config.settings import Settings, load_settings
from compat.telemetry.traces import ASKING
from compat.upstream.kinds import UPSTREAM_KINDS

ROOT = Path(compat.__file__).parent.parent
TEXT = (ROOT / "config.example.toml").read_text(encoding="utf-8")
VARIABLES = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
EXAMPLE_LINE = re.compile(r"^# (\[.*|[a-z_]+ = .*)$", re.MULTILINE)
"""A line of the file that is commented out, and no prose."""

TABLES = {"upstreams": "claude", "models": "claude-4-sonnet", "keys": "laptop", "groups": "team"}
"""Tables of named entries -> the name of the example's entry."""


WHOLE = EXAMPLE_LINE.sub(r"\1", TEXT).replace("sha256:...", "sha256:" + "0" * 64)
"""The file with its examples switched on."""


def test_the_file_shows_the_defaults() -> None:
    settings = load_settings(ROOT / "config.example.toml", {})
    assert msgspec.structs.replace(settings, source=Settings().source) == Settings()


def test_the_file_with_its_examples_switched_on_can_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(WHOLE, encoding="utf-8")
    settings = load_settings(tmp_path / "config.toml", {"ANTHROPIC_API_KEY": "sk-1"})
    assert settings.upstreams["claude"].api_keys == ("sk-1",)
    assert [getattr(step, "to", step) for step in settings.models["claude-4-sonnet"].route] == [
        "claude/claude-sonnet-4-6",
        "openrouter/anthropic/claude-sonnet-4.6",
    ]


@pytest.mark.parametrize("section", ConfigurationFile.__struct_fields__)
def test_the_file_documents_every_key(section: str) -> None:
    documented = msgspec.toml.decode(WHOLE)[section]
    kind: Any = next(field.type for field in msgspec.structs.fields(ConfigurationFile) if field.name == section)
    if section in TABLES:
        documented, kind = documented[TABLES[section]], kind.__args__[1]
    assert set(documented) == set(kind.__struct_fields__)


@pytest.mark.parametrize("kind", UPSTREAM_KINDS)
def test_the_file_names_every_kind_of_upstream(kind: str) -> None:
    assert re.search(rf"^# (kind = .*#|  +#).*\b{re.escape(kind)}\b", TEXT, re.MULTILINE)


@pytest.mark.parametrize("kind", UPSTREAM_KINDS.values(), ids=lambda kind: kind.name)
def test_the_variables_of_every_kind_are_named(kind: Any) -> None:
    assert (kind.key_variable or kind.base_url_variable) in VARIABLES


def test_no_variable_is_named_that_nothing_reads() -> None:
    known = {name for kind in UPSTREAM_KINDS.values() for name in (kind.key_variable, kind.base_url_variable)}
    assert set(VARIABLES) <= known | {"OPENAI_COMPAT_CONFIG", *ASKING}
    assert len(VARIABLES) == len(set(VARIABLES))
