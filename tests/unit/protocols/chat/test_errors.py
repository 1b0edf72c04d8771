"""Errors in OpenAI's shape."""

from __future__ import annotations

import json

from compat.errors import GatewayError
from compat.protocols.chat.errors import error_body, error_frame
from tests.unit.test_errors import CLASSES, TABLE


@CLASSES
def test_a_body_has_openais_shape(error_class: type[GatewayError]) -> None:
    error = error_class('wörds "quoted"\n', param="model")
    _, type_, code, _, _ = TABLE[error_class]
    assert json.loads(error_body(error)) == {"error": {"message": 'wörds "quoted"\n', "type": type_, "param": "model", "code": code}}


@CLASSES
def test_a_frame_is_one_event_that_clients_read_as_an_error(error_class: type[GatewayError]) -> None:
    frame = error_frame(error_class("two\nlines"))
    _, type_, code, _, _ = TABLE[error_class]
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    assert frame.count(b"\n") == 2
    assert json.loads(frame[6:]) == {"type": "error", "error": {"code": code or type_, "message": "two\nlines", "type": type_}}
