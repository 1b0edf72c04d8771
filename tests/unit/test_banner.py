"""What `python app.py` says when it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.accounting.keys import new_key
from compat.banner import banner
from tests.unit.builders import make_gateway


@pytest.mark.parametrize(
    ("with_key", "key", "shown"), [(False, "any value", "sk-dummy-key"), (True, "one of your client", "YOUR-CLIENT-KEY")]
)
def test_it_tells_which_key_a_client_needs(tmp_path: Path, with_key: bool, key: str, shown: str) -> None:
    keys = {"ada": {"hash": new_key()[1]}} if with_key else {}
    text = banner(make_gateway(tmp_path, {"keys": keys}), 1234)
    assert f"API key  {key}" in text
    assert f'{{"apiUrl": "http://127.0.0.1:1234/v1/chat/completions", "apiKey": "{shown}", ' in text
