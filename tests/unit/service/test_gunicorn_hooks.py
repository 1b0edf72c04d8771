"""What gunicorn's master refuses to start with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compat.service.gunicorn_hooks import gunicorn_values, refuse_open_addresses

KEYS = '[keys.ada]\nhash = "sha256:' + hashlib.sha256(b"x").hexdigest() + '"\n'
LOCAL: dict[str, Any] = {"address": [("127.0.0.1", 80)], "forwarded_allow_ips": ["127.0.0.1", "::1"]}


def server(**given: Any) -> Any:
    return SimpleNamespace(cfg=SimpleNamespace(**{**LOCAL, **given}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"address": [("127.0.0.1", 80), ("0.0.0.0", 80)]}, "0.0.0.0 can be reached from other machines"),
        ({"forwarded_allow_ips": ["*"]}, "forwarded_allow_ips names a proxy (*)"),
        ({"forwarded_allow_ips": ["127.0.0.1", "10.0.0.1"]}, "forwarded_allow_ips names a proxy (10.0.0.1)"),
    ],
)
def test_what_opens_the_gateway_to_other_machines_needs_client_keys(
    given: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        refuse_open_addresses(server(**given), tmp_path)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    (tmp_path / "config.toml").write_text(KEYS)
    refuse_open_addresses(server(**given), tmp_path)


def test_what_only_this_machine_reaches_needs_no_client_keys(tmp_path: Path) -> None:
    refuse_open_addresses(server(), tmp_path)
    refuse_open_addresses(server(address=["/run/socket", ("::1", 80)], forwarded_allow_ips=[]), tmp_path)


def test_a_folder_of_state_that_others_can_write_to_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o777)
    monkeypatch.setenv("OPENAI_COMPAT_RUN_DIR", str(run))
    with pytest.raises(SystemExit) as ended:
        gunicorn_values(tmp_path)
    assert ended.value.code == 2
    words = capsys.readouterr().err
    assert words.startswith(f"openai-compat: {run}: others can write to it (mode 0777)")
    assert words.count("\n") == 1
    run.chmod(0o755)
    assert gunicorn_values(tmp_path).workers == 2
