"""The search endpoint: what is asked, what is read of its answer, and which error comes of every fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from compat.config.sections import SearchSettings
from compat.errors import GatewayError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from compat.protocols.events import Result
from compat.upstream.search import SearchEndpoint
from tests.fakes.openai_answers import json_answer
from tests.fakes.upstream import Answer, Cut, FakeUpstream, Stall
from tests.unit.upstream.proxy import unused_port

ROW = {"url": "https://a.example", "title": "A", "content": "Tall."}


@pytest.fixture
def searx() -> Iterator[FakeUpstream]:
    with FakeUpstream(default=json_answer({"results": [ROW]})) as running:
        yield running


def at(searx: FakeUpstream, path: str = "/search", **more: Any) -> SearchEndpoint:
    return SearchEndpoint(SearchSettings(url=f"http://127.0.0.1:{searx.port}{path}", **more))


@pytest.mark.parametrize("path", ["/search", "/search?engines=wiki"])
def test_the_query_is_asked_for_as_json(searx: FakeUpstream, path: str) -> None:
    assert at(searx, path)("light & house é") == (Result("https://a.example", "A", "Tall."),)
    [request] = searx.requests
    query = "q=light+%26+house+%C3%A9&format=json"
    assert (request.method, request.path) == ("GET", f"{path}{'&' if '?' in path else '?'}{query}")
    assert not {"authorization", "cookie", "x-api-key"} & request.headers.keys()


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], []),
        ([{**ROW, "title": ""}], [("https://a.example", "https://a.example", "Tall.")]),
        ([{**ROW, "content": None}], [("https://a.example", "A", "")]),
        ([None, 5, {}, {"url": 5}, {"url": "ftp://a"}, {"url": "https://" + "a" * 2000}, ROW], [("https://a.example", "A", "Tall.")]),
        ([{**ROW, "title": "t" * 900, "content": "c" * 9000}], [("https://a.example", "t" * 500, "c" * 2000)]),
        ([ROW] * 60, [("https://a.example", "A", "Tall.")] * 8),
    ],
)
def test_odd_rows_are_passed_over_and_all_is_bounded(searx: FakeUpstream, rows: Any, found: Any) -> None:
    searx.default = json_answer({"results": rows})
    assert [(one.url, one.title, one.text) for one in at(searx)("q")] == found


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (json_answer({}), UpstreamBroken, "no results"),
        (json_answer([]), UpstreamBroken, "no results"),
        (Answer([b"<html>"]), UpstreamBroken, "not JSON"),
        (json_answer({}, 403), UpstreamBroken, "status 403. SearXNG needs 'json' among 'search.formats'"),
        (json_answer({}, 500), UpstreamBroken, "status 500.$"),
        (Answer([Stall()]), UpstreamTimeout, "within 0.3 s"),
        (Answer(before_head=[Cut()]), GatewayError, "."),
    ],
)
def test_faults_are_errors(searx: FakeUpstream, answer: Answer, error: type[GatewayError], words: str) -> None:
    searx.default = answer
    with pytest.raises(error, match=words):
        at(searx, timeout_s=0.3)("q")


def test_a_redirect_is_not_followed(searx: FakeUpstream) -> None:
    with FakeUpstream(default=json_answer({"results": [ROW]})) as other:
        searx.default = Answer(status=302, headers=[("location", f"http://127.0.0.1:{other.port}/search")])
        with pytest.raises(UpstreamBroken, match="status 302"):
            at(searx)("q")
        assert other.requests == []


def test_an_endpoint_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UpstreamUnreachable):
        SearchEndpoint(SearchSettings(url=f"http://127.0.0.1:{unused_port()}/search"))("q")


def test_an_address_that_is_none_is_an_error() -> None:
    with pytest.raises(UpstreamUnreachable):
        SearchEndpoint(SearchSettings(url="http://[bad/search"))("q")
