"""The OpenAPI document is true: it names every route and no other, and what the gateway answers is what it says."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
import werkzeug.test

from compat import __version__
from compat.endpoints.openapi import openapi_document
from compat.errors import ClientError, GatewayError
from compat.factory import create_app
from tests.fakes import openai_answers as openai
from tests.fakes import responses_answers as responses
from tests.fakes.responses_items import message, text_part
from tests.security.in_process import GOOD, InProcess, http_answer
from tests.unit.builders import make_gateway

DOCUMENT = openapi_document()
METHODS = {"get", "post", "put", "delete", "patch"}
CALL = {"model": "claude-4-sonnet", "messages": [{"role": "user", "content": "Hi"}]}
VECTORS = {"data": [{"embedding": [0.5, 1], "index": 0}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
RESPONSE = responses.response([message(text_part("Hello."))])
RESPONSE_STREAM = responses.event_bytes(responses.events_of(RESPONSE))
STREAM = openai.sse_bytes(openai.text_chunks("Hi"))


COMPACTED = {**RESPONSE, "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}]}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def routes(tmp_path: Path) -> set[tuple[str, str]]:
    """Method and path of every route, written as the document writes them."""
    rules = create_app(make_gateway(tmp_path))._app.url_map.iter_rules()
    return {(method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)) for rule in rules for method in rule.methods - {"HEAD", "OPTIONS"}}


def test_every_route_is_in_the_document_and_nothing_else_is(tmp_path: Path) -> None:
    assert {(method, path) for method, path, _ in operations()} == routes(tmp_path)


def test_it_is_served_with_the_programs_version(tmp_path: Path) -> None:
    answer = werkzeug.test.Client(create_app(make_gateway(tmp_path))).get("/openapi.json")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == DOCUMENT
    assert answer.json["info"]["version"] == __version__


@pytest.mark.slow
def test_it_is_an_openapi_document_whose_every_part_can_be_used() -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    assert len([operation.ok() for operation in schema.get_all_operations()]) == len(list(operations()))
    assert len({operation["operationId"] for _, _, operation in operations()}) == len(list(operations()))


def test_every_reference_leads_somewhere_and_every_part_is_used() -> None:
    parts = {f"#/components/{kind}/{name}" for kind, rows in DOCUMENT["components"].items() for name in rows if kind != "securitySchemes"}
    assert set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(DOCUMENT))) == parts


def test_every_status_of_a_client_error_is_documented() -> None:
    statuses = {str(kind.status) for kind in _tree(ClientError)}
    assert statuses - {"402"} <= set(DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"])


def _tree(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


# Answers.


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    while "$ref" in node:
        found: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def fits(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """Whether an answer is one that the document tells of."""
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    row = resolved(responses.get(str(status)) or responses["default"])
    media = content_type.partition(";")[0]
    assert media in row["content"], (status, media)
    if media == "application/json":
        schema = {**row["content"][media]["schema"], "components": DOCUMENT["components"]}
        jsonschema_rs.validator_for(schema).validate(json.loads(body))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with contextlib.closing(InProcess(tmp_path_factory.mktemp("gateway"))) as running:
        yield running


@pytest.fixture
def storing(tmp_path: Path) -> Iterator[InProcess]:
    """One that stores answers."""
    with contextlib.closing(InProcess(tmp_path, {"responses": {"store": True}})) as running:
        yield running


def post(**changes: Any) -> bytes:
    return json.dumps({key: value for key, value in {**CALL, **changes}.items() if value is not ...}).encode()


CASES: list[tuple[str, str, str, bytes, bytes, int]] = [
    ("POST", "/v1/chat/completions", "/v1/chat/completions", post(), GOOD, 200),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", post(stream=True), http_answer(STREAM, content_type="text/event-stream"), 200),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", post(messages=[]), GOOD, 400),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", post(model="nobody"), GOOD, 404),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", b"{", GOOD, 400),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", post(), http_answer(b'{"error": "no"}', 429), 429),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", post(), http_answer(b"<html>", 502), 502),
    ("POST", "/v1/chat/completions", "/v1/chat/completions", post(), b"", 502),
    ("POST", "/v1/completions", "/v1/completions", post(prompt="Hi", messages=...), GOOD, 200),
    ("POST", "/v1/completions", "/v1/completions", post(prompt=5, messages=...), GOOD, 400),
    ("POST", "/v1/responses", "/v1/responses", post(input="Hi", messages=...), http_answer(json.dumps(RESPONSE).encode()), 200),
    (
        "POST",
        "/v1/responses",
        "/v1/responses",
        post(input="Hi", stream=True),
        http_answer(RESPONSE_STREAM, content_type="text/event-stream"),
        200,
    ),
    ("POST", "/v1/responses", "/v1/responses", post(messages=...), http_answer(json.dumps(RESPONSE).encode()), 200),
    ("POST", "/v1/responses", "/v1/responses", post(input=[], messages=...), GOOD, 400),
    ("POST", "/v1/responses/compact", "/v1/responses/compact", post(input="Hi"), http_answer(json.dumps(COMPACTED).encode()), 200),
    ("POST", "/v1/responses/compact", "/v1/responses/compact", post(input=[]), GOOD, 400),
    ("POST", "/v1/responses/compact", "/v1/responses/compact", post(input="Hi"), http_answer(json.dumps(RESPONSE).encode()), 502),
    ("POST", "/v1/responses/compact", "/v1/responses/compact", post(input="Hi"), http_answer(b"<html>", 502), 502),
    ("POST", "/v1/responses", "/v1/responses", post(input="Hi", model="nobody"), GOOD, 400),
    ("POST", "/v1/responses", "/v1/responses", post(input="Hi"), http_answer(b"<html>", 502), 502),
    ("POST", "/v1/messages", "/v1/messages", post(messages=[]), GOOD, 400),
    ("POST", "/v1/messages", "/v1/messages", post(model="nobody"), GOOD, 404),
    ("POST", "/v1/messages", "/v1/messages", b"{", GOOD, 400),
    ("POST", "/v1/messages/count_tokens", "/v1/messages/count_tokens", post(), http_answer(b'{"input_tokens": 7}'), 200),
    ("POST", "/v1/messages/count_tokens", "/v1/messages/count_tokens", post(messages=[]), GOOD, 400),
    ("POST", "/v1/responses/input_tokens", "/v1/responses/input_tokens", post(input="Hi"), http_answer(b'{"input_tokens": 7}'), 200),
    ("POST", "/v1/responses/input_tokens", "/v1/responses/input_tokens", post(input=[]), GOOD, 400),
    ("GET", "/v1/responses/{response_id}", "/v1/responses/resp_1", b"", b"", 404),
    ("DELETE", "/v1/responses/{response_id}", "/v1/responses/resp_1", b"", b"", 404),
    ("GET", "/v1/responses/{response_id}/input_items", "/v1/responses/resp_1/input_items", b"", b"", 404),
    ("POST", "/v1/responses/{response_id}/cancel", "/v1/responses/resp_1/cancel", b"", b"", 404),
    ("POST", "/v1/embeddings", "/v1/embeddings", post(input="Hi", messages=...), http_answer(json.dumps(VECTORS).encode()), 200),
    ("POST", "/v1/embeddings", "/v1/embeddings", post(input=[], messages=...), GOOD, 400),
    ("GET", "/v1/models", "/v1/models", b"", b"", 200),
    ("GET", "/api/hello", "/api/hello", b"", b"", 200),
    ("POST", "/api/event_logging/batch", "/api/event_logging/batch", b"{}", b"", 200),
    ("GET", "/v1/models/{model_id}", "/v1/models/claude-4-sonnet", b"", b"", 200),
    ("GET", "/v1/models/{model_id}", "/v1/models/a/b", b"", b"", 404),
    ("GET", "/v1/model/info", "/v1/model/info", b"", b"", 200),
    ("GET", "/healthz", "/healthz", b"", b"", 200),
    ("GET", "/readyz", "/readyz", b"", b"", 200),
    ("GET", "/metrics", "/metrics", b"", b"", 200),
    ("GET", "/openapi.json", "/openapi.json", b"", b"", 200),
    ("GET", "/", "/", b"", b"", 200),
    ("GET", "/live", "/live?level=error", b"", b"", 200),
    ("GET", "/live", "/live?level=loud", b"", b"", 400),
    ("GET", "/live/events", "/live/events", b"", b"", 200),
    ("GET", "/live/events", "/live/events?level=loud", b"", b"", 400),
    ("GET", "/calls", "/calls?outcome=error&span=day", b"", b"", 200),
    ("GET", "/calls", "/calls?outcome=bad", b"", b"", 400),
    ("GET", "/calls/{call_id}", "/calls/none", b"", b"", 404),
    ("GET", "/calls.csv", "/calls.csv", b"", b"", 200),
    ("GET", "/calls.csv", "/calls.csv?since=tomorrow", b"", b"", 400),
    ("GET", "/calls.json", "/calls.json", b"", b"", 200),
    ("GET", "/sessions", "/sessions", b"", b"", 200),
    ("GET", "/sessions", "/sessions?before=x", b"", b"", 400),
    ("GET", "/sessions/one", "/sessions/one?key=a&id=b", b"", b"", 404),
    ("GET", "/cost", "/cost?by=key&days=7", b"", b"", 200),
    ("GET", "/cost", "/cost?by=day", b"", b"", 400),
    ("GET", "/cost.csv", "/cost.csv", b"", b"", 200),
    ("GET", "/cost.json", "/cost.json", b"", b"", 200),
    ("GET", "/cost.json", "/cost.json?days=8", b"", b"", 400),
    ("GET", "/catalog", "/catalog", b"", b"", 200),
    ("GET", "/keys", "/keys", b"", b"", 200),
    ("GET", "/try", "/try", b"", b"", 200),
    ("POST", "/try", "/try?api=openai.chat", post(), GOOD, 200),
    ("POST", "/try", "/try?api=anthropic.messages", post(messages=[]), GOOD, 400),
    ("POST", "/try", "/try?api=nothing", post(), GOOD, 400),
    ("GET", "/try/receipt", "/try/receipt?id=none", b"", b"", 200),
    ("POST", "/sign-in", "/sign-in", b"", b"", 303),
    ("POST", "/sign-out", "/sign-out", b"", b"", 303),
    ("GET", "/setup", "/setup", b"", b"", 200),
    ("GET", "/setup/{name}", "/setup/kilo.jsonc", b"", b"", 200),
    ("GET", "/setup/{name}", "/setup/nothing", b"", b"", 404),
    ("GET", "/static/{filename}", "/static/console.css", b"", b"", 200),
    ("GET", "/static/{filename}", "/static/nothing", b"", b"", 404),
]


def test_stored_answers_are_what_the_document_says(storing: InProcess) -> None:
    storing.transport.pieces = [http_answer(json.dumps(RESPONSE).encode())]
    made = json.loads(storing.ask("POST", "/v1/responses", post(input="Hi", messages=...)).body)["id"]
    queued = json.loads(storing.ask("POST", "/v1/responses", post(input="Hi", messages=..., background=True)).body)["id"]
    for method, answer_id, below, query, status in (
        ("GET", made, "", "", 200),
        ("GET", made, "", "stream=true", 200),
        ("GET", made, "", "stream=true&starting_after=x", 400),
        ("GET", made, "/input_items", "", 200),
        ("GET", made, "/input_items", "limit=0", 400),
        ("POST", made, "/cancel", "", 400),
        ("POST", queued, "/cancel", "", 200),
        ("DELETE", made, "", "", 200),
        ("DELETE", made, "", "", 404),
    ):
        answer = storing.ask(method, f"/v1/responses/{answer_id}{below}", QUERY_STRING=query)
        assert answer.status == status, answer.body
        headers = {name.lower(): value for name, value in answer.headers.items()}
        fits(method, f"/v1/responses/{{response_id}}{below}", status, headers["content-type"], answer.body)
    assert storing.faults() == []


@pytest.mark.parametrize(("method", "path", "url", "body", "upstream", "status"), CASES)
def test_an_answer_is_what_the_document_says(
    gateway: InProcess, method: str, path: str, url: str, body: bytes, upstream: bytes, status: int
) -> None:
    gateway.transport.pieces = [upstream]
    location, _, query = url.partition("?")
    answer = gateway.ask(method, location, body, QUERY_STRING=query)
    assert answer.status == status, answer.body
    headers = {name.lower(): value for name, value in answer.headers.items()}
    fits(method, path, status, headers["content-type"], answer.body)
    assert gateway.faults() == []


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in operations()])
def test_a_request_of_another_site_or_under_another_host_is_refused_as_the_document_says(
    gateway: InProcess, method: str, path: str
) -> None:
    for environ, status in (({"HTTP_HOST": "evil.example"}, 421), ({"HTTP_ORIGIN": "https://evil.example"}, 403)):
        answer = gateway.ask(method, path.replace("{", "").replace("}", ""), post(), **environ)
        assert answer.status == status
        fits(method, path, status, "application/json", answer.body)


def test_every_operation_was_tried() -> None:
    assert {(method, path) for method, path, *_ in CASES} == {(method, path) for method, path, _ in operations()}
