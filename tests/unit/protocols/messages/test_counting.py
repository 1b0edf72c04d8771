"""`count_tokens` to an upstream that has it."""

from __future__ import annotations

import pytest

from compat.config.catalog import Model
from compat.errors import UpstreamBroken
from compat.protocols import TRANSLATORS
from compat.protocols.base import TranslationContext
from compat.protocols.messages.counting import COUNT, COUNT_COUNT, written
from compat.wire.envelope import Envelope

CTX = TranslationContext("alias", "target", Model(), "msg_1", 0, is_stream=False, client_headers={"anthropic-beta": "a"})


def test_the_request_passes_under_the_upstreams_name() -> None:
    request = COUNT_COUNT.request(Envelope(b'{"model":"alias","messages":[],"new":1}'), CTX)
    assert request.body == b'{"model":"target","messages":[],"new":1}'
    assert request.headers == {"anthropic-beta": "a"}


def test_the_count_passes_as_it_came() -> None:
    answer = COUNT_COUNT.response(b'{"input_tokens": 5, "more": 1}', CTX)
    assert (answer.body, answer.usage) == (b'{"input_tokens": 5, "more": 1}', None)
    assert written(5) == b'{"input_tokens":5}'


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"input_tokens":"5"}', b'{"input_tokens":true}'])
def test_what_holds_no_count_is_an_error_of_the_upstream(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        COUNT_COUNT.response(body, CTX)


def test_a_count_is_not_streamed_and_goes_nowhere_else() -> None:
    with pytest.raises(TypeError):
        COUNT_COUNT.stream(CTX)
    assert [upstream for client, upstream in TRANSLATORS if client == COUNT.api] == ["anthropic.messages"]
