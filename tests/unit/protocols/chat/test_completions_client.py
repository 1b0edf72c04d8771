"""Plain completions and embeddings on the client's side."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compat.errors import BadRequest
from compat.protocols.chat.completions_client import COMPLETIONS
from compat.protocols.chat.embeddings import EMBEDDINGS
from compat.protocols.client_protocol import Ask, Identity, Said
from compat.wire.envelope import Envelope


def envelope(**body: Any) -> Envelope:
    return Envelope(json.dumps(body).encode())


def test_a_completion_is_read() -> None:
    asked = envelope(model=" m ", prompt="a", stream=True, stream_options={"include_usage": True}, max_tokens=9)
    assert COMPLETIONS.read(asked, {}) == Ask("m", is_stream=True, wants_usage=True, output_limit=9)
    assert COMPLETIONS.read(envelope(model="m", prompt="a"), {}) == Ask("m")


def test_completions_of_one_text_are_one_conversation() -> None:
    start = "x" * 2000
    assert COMPLETIONS.opening(envelope(prompt=start + "a")) == COMPLETIONS.opening(envelope(prompt=start + "b"))
    assert COMPLETIONS.opening(envelope(prompt="a")) != COMPLETIONS.opening(envelope(prompt="b"))


def test_a_completion_is_given_again_at_no_cost() -> None:
    given = json.loads(COMPLETIONS.again([Said(0, "Hi")], Identity(COMPLETIONS.answer_id("1"), 5, "alias")))
    assert (given["id"], given["object"], given["choices"][0]["text"]) == ("cmpl-1", "text_completion", "Hi")
    assert given["usage"]["total_tokens"] == 0


def test_embeddings_have_a_model_and_no_tokens() -> None:
    assert EMBEDDINGS.read(envelope(model="m", input="a"), {}) == Ask("m", output_limit=0)
    assert EMBEDDINGS.opening(envelope(model="m")) == EMBEDDINGS.opening(envelope(model="m", input="a"))
    with pytest.raises(BadRequest, match="'model' must"):
        EMBEDDINGS.read(envelope(input="a"), {})
