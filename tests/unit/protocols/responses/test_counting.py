"""`input_tokens` of the Responses API: asked upstream as it is, or estimated."""

from __future__ import annotations

import pytest

from compat import jsonio
from compat.config.catalog import Model
from compat.errors import UpstreamBroken
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext
from compat.protocols.responses.counting import tokens_of, written
from compat.wire.envelope import Envelope

CTX = TranslationContext("mine", "theirs", Model(), "resp_1", 5, is_stream=False)
COUNT = TRANSLATORS["openai.count", "openai.responses"]


def test_a_count_is_asked_for_under_the_upstreams_name_of_the_model() -> None:
    request = COUNT.request(Envelope(b'{"model":"mine", "input":"Hi"}'), CTX)
    assert request.body == b'{"model":"theirs", "input":"Hi"}'
    body = b'{"object":"response.input_tokens","input_tokens":7}'
    assert COUNT.response(body, CTX).body == body
    assert jsonio.decode(written(7)) == jsonio.decode(body)
    with pytest.raises(UpstreamBroken):
        COUNT.response(b"{}", CTX)


def test_an_estimate_counts_all_that_the_model_reads() -> None:
    plain = tokens_of(Envelope(b'{"input":"%s"}' % (b"word " * 100)))
    assert 80 < plain < 200
    assert tokens_of(Envelope(b'{"input":"%s","instructions":"%s"}' % (b"word " * 100, b"word " * 100))) > 1.8 * plain
