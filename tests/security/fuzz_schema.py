"""Requests that the OpenAPI document allows, and ones that it does not: schemathesis makes them, and judges the answers."""

from __future__ import annotations

from functools import cache
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.security.in_process import shared

CHECKS = (
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
)
"""Whether data are accepted is not judged: what the gateway passes through, the upstream judges, and 5.0 is no whole number to it."""


@cache
def schema() -> Any:
    return schemathesis.openapi.from_wsgi("/openapi.json", shared()._app)


def cases() -> st.SearchStrategy[Any]:
    """A request to any operation, right or wrong."""
    operations = [operation.ok() for operation in schema().get_all_operations()]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    return st.one_of([operation.as_strategy(generation_mode=mode) for operation in operations for mode in modes])


def answer_is_one_of_the_document(case: Any) -> None:
    """Status, content type, headers and body; and nothing that the gateway logs as its own fault."""
    gateway = shared()
    gateway.transport.pieces = []
    answer = case.call(headers={"accept-encoding": "identity"})
    assert gateway.faults() == [], (case.method, case.path, case.path_parameters, case.body, case.headers)
    case.validate_response(answer, checks=CHECKS)


PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Any]] = {"schema": (st.deferred(cases), answer_is_one_of_the_document)}
