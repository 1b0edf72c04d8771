"""Runs the tests of chat create of OpenAI's own SDK against a gateway in front of the imitation of the Responses API.

    .venv/bin/python scripts/judge_openai.py [FOLDER]     # FOLDER keeps what is fetched from PyPI; nothing of it belongs here

Exit code 0: all passed; 1: some did not; 3: the SDK could not be fetched.
"""

# ruff: noqa: E402  # the path, and what gevent replaces, come before all that is imported
from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gevent import monkey

monkey.patch_all()

from scripts.sdk_tests import Sdk, main
from tests.conftest import RunningGateway
from tests.fakes.responses_answers import ResponsesApi
from tests.fakes.responses_items import message, text_part
from tests.fakes.responses_settings import KEY
from tests.fakes.upstream import Answer, FakeUpstream, Request

OPENAI = Sdk(
    "openai",
    "3.3.1",
    (
        *("pytest", "pytest-asyncio", "pytest-xdist", "respx", "time-machine", "dirty-equals", "inline-snapshot", "nest-asyncio"),
        *("aiohttp", "httpx-aiohttp", "rich"),
    ),
)
FILE = "tests/api_resources/chat/test_completions.py"
_PLACEHOLDERS = ("Invalid schema for function 'name'", "'prompt_cache_options' is not supported")
"""What the service refuses of the values that the tests are filled with, whatever way they come."""


def respond(request: Request) -> Answer:
    """The imitation's answer, which takes the placeholders."""
    service = ResponsesApi()
    answer = service(request)
    if not service.refusals or not all(any(one in words for one in _PLACEHOLDERS) for words in service.refusals):
        return answer
    return service.answer(request.json, [message(text_part("Hi"))])


def judged(folder: Path) -> int:
    """The exit code of the SDK's tests."""
    sources = OPENAI.fetched(folder)
    names = set(re.findall(r'model="([^"]+)"', (sources.root / FILE).read_text()))
    with FakeUpstream(default=respond) as upstream, tempfile.TemporaryDirectory() as base:
        row = {"kind": "openai", "base_url": upstream.url, "wire_api": "responses", "api_keys": [KEY]}
        models = {name: {"route": ["up/gpt-5.4"]} for name in names}
        gateway = RunningGateway({"upstreams": {"up": row}, "models": models}, Path(base))
        code = sources.run(gateway.url, FILE, "-k", "create")
        gateway.close()
        paths = {request.path.partition("?")[0] for request in upstream.requests}
        sys.stdout.write(f"{len(upstream.requests)} calls of {', '.join(sorted(paths))}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(judged))
