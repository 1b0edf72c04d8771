"""Gateways behind gateways: a chain that is meant works, a circle ends after a few calls with words that say what it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compat.wire.hops import MAX_HOPS
from tests.conftest import RunningGateway
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import Answer, FakeUpstream, Request

CALLS: dict[str, dict[str, Any]] = {
    "/chat/completions": {},
    "/completions": {"prompt": "Hi", "messages": None},
    "/embeddings": {"input": "Hi", "messages": None},
}


def behind(url: str) -> dict[str, Any]:
    row = {"kind": "openai", "base_url": url, "api_keys": ["sk-canary-0123456789"], "models": ["m"]}
    return {"upstreams": {"next": row}, "models": {"claude-4-sonnet": {"route": ["next/claude-4-sonnet"]}}}


@contextlib.contextmanager
def chain(length: int, folder: Path, last: str) -> Iterator[list[RunningGateway]]:
    """Gateways, each the upstream of the one before it; the last one's is at `last`."""
    with contextlib.ExitStack() as stack:
        found: list[RunningGateway] = []
        for number in range(length):
            (folder / str(number)).mkdir()
            found.append(RunningGateway(behind(found[-1].url if found else last), folder / str(number)))
            stack.callback(found[-1].close)
        yield found[::-1]


def answer(request: Request) -> Answer:
    is_vector = request.path.endswith("embeddings")
    return openai.json_answer({"data": [{"index": 0, "embedding": [0.5]}]}) if is_vector else openai.respond(request)


@pytest.mark.parametrize("path", list(CALLS))
def test_a_chain_of_gateways_that_is_meant_works(tmp_path: Path, path: str) -> None:
    with FakeUpstream(default=answer) as upstream, chain(MAX_HOPS + 1, tmp_path, upstream.url) as gateways:
        got = gateways[0].chat(path=path, **CALLS[path])
        assert got.status_code == 200, got.text
        assert {request.headers["x-compat-hops"] for request in upstream.requests} == {str(MAX_HOPS + 1)}


@pytest.mark.parametrize("path", list(CALLS))
def test_a_gateway_that_calls_itself_says_so_after_a_few_calls(tmp_path: Path, path: str) -> None:
    with chain(1, tmp_path, "http://127.0.0.1:1/v1") as (gateway,):
        router = gateway.gateway.router
        router.learn({name: replace(one, base_url=gateway.url) for name, one in router.upstreams.items()}, {})
        got = gateway.chat(path=path, **CALLS[path])
        assert got.status_code == 400
        assert got.json()["error"]["code"] == "gateway_loop"
        assert "in a loop" in got.json()["error"]["message"]
        assert len(gateway.calls()) <= MAX_HOPS + 1


def test_a_mark_that_is_no_count_gets_a_clear_error(tmp_path: Path) -> None:
    with chain(1, tmp_path, "http://127.0.0.1:1/v1") as (gateway,):
        got = gateway.chat(headers={"x-compat-hops": "many"})
        assert got.status_code == 400
        assert "x-compat-hops" in got.json()["error"]["message"]
