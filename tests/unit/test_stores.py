"""Where the secret comes from that signs thoughts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compat.protocols.sealed import Sealed, Sealer
from tests.unit.builders import make_gateway

STATE = Sealed("u", "m", "openai.chat", "Hm.")
SECRET = "0123456789abcdef"


def sealer_of(base_dir: Path, **settings: Any) -> Sealer:
    found = make_gateway(base_dir, settings, {"SEAL": SECRET}).sealer()
    assert found is not None
    return found


def test_it_is_the_configurations_and_never_shown(tmp_path: Path) -> None:
    token = sealer_of(tmp_path, sealing={"secrets": ["env:SEAL", "another secret of ours".replace(" ", "-")]}).seal(STATE)
    assert Sealer([SECRET.encode()]).open(token) == STATE
    assert not (tmp_path / "data/sealing.secret").exists()
    assert SECRET not in repr(make_gateway(tmp_path, {"sealing": {"secrets": [SECRET]}}).settings)


def test_else_it_is_made_once_beside_the_other_data(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path)
    assert not (tmp_path / "data/sealing.secret").exists(), "not before it is needed"
    first = gateway.sealer()
    assert first is not None
    assert gateway.sealer() is first
    assert sealer_of(tmp_path).open(first.seal(STATE)) == STATE


def test_without_any_thoughts_are_only_marked_and_that_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sealing.secret").write_text("short")
    gateway = make_gateway(tmp_path)
    assert gateway.sealer() is None
    gateway.log.flush()
    assert "sealing.failed" in (tmp_path / "logs/openai_compat.log").read_text()


def test_a_redis_that_is_gone_leaves_the_file(tmp_path: Path) -> None:
    sealer_of(tmp_path, storage={"redis_url": "redis://127.0.0.1:1/0"})
    assert (tmp_path / "data/sealing.secret").exists()
