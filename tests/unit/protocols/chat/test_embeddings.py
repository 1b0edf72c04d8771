"""Embeddings: the name of the model is changed, and the counts are read."""

from __future__ import annotations

import json

import pytest

from compat.config.catalog import Model
from compat.errors import UpstreamBroken, UpstreamKeyRefused, UpstreamRefusal
from compat.protocols.base import TranslationContext
from compat.protocols.chat.embeddings import OPENAI_EMBEDDINGS
from compat.wire.envelope import Envelope
from compat.wire.usage import Usage

CTX = TranslationContext("embedder", "their-model", Model(), "id", 17, is_stream=False, upstream_name="fake")


def test_only_the_models_name_is_changed() -> None:
    asked = Envelope(b'{"model": "embedder", "input": ["a", "b"], "x": 1.50}')
    assert json.loads(OPENAI_EMBEDDINGS.request(asked, CTX).body) == {"model": "their-model", "input": ["a", "b"], "x": 1.5}


def test_the_answer_stays_as_it_is() -> None:
    body = b'{"data": [], "usage": {"prompt_tokens": 3}}'
    answer = OPENAI_EMBEDDINGS.response(body, CTX)
    assert (answer.body, answer.usage, answer.stop_reason) == (body, Usage(3), None)
    assert OPENAI_EMBEDDINGS.response(b"{}", CTX).usage is None


@pytest.mark.parametrize(("body", "words"), [(b"<html>", "not JSON"), (b"[]", "not an object")])
def test_what_is_no_answer_is_the_upstreams_fault(body: bytes, words: str) -> None:
    with pytest.raises(UpstreamBroken, match=f"fake sent an answer that is {words}"):
        OPENAI_EMBEDDINGS.response(body, CTX)


def test_a_refusal_keeps_its_words_and_is_of_no_parameter() -> None:
    error = OPENAI_EMBEDDINGS.error(401, {}, b'{"error": {"message": "No"}}', CTX)
    assert isinstance(error, UpstreamKeyRefused)
    assert OPENAI_EMBEDDINGS.refused(UpstreamRefusal("`dimensions` is not supported", status=400)) is None


def test_they_are_not_streamed() -> None:
    with pytest.raises(TypeError):
        OPENAI_EMBEDDINGS.stream(CTX)
