"""Runs the tests of Anthropic's own SDK against a gateway in front of the imitation of its service, and prints how many passed.

    .venv/bin/python scripts/judge_anthropic.py [FOLDER]     # FOLDER keeps what is fetched from PyPI; nothing of it belongs here

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
from tests.fakes import anthropic_answers as answers
from tests.fakes.anthropic_settings import KEY, origin_of
from tests.fakes.upstream import Answer, FakeUpstream, Request

ANTHROPIC = Sdk(
    "anthropic",
    "0.121.0",
    (
        *("pytest", "pytest-asyncio", "pytest-xdist", "respx", "time-machine", "dirty-equals", "inline-snapshot", "http-snapshot"),
        *("aiohttp", "httpx-aiohttp", "boto3", "google-auth"),
    ),
)
FILES = [f"tests/api_resources/{name}" for name in ("test_messages.py", "test_models.py", "beta/test_messages.py")]


def respond(request: Request) -> Answer:
    """Whatever is asked, an answer of the right form."""
    if request.method == "GET":
        return answers.json_answer(answers.model_list())
    if request.path.partition("?")[0].endswith("count_tokens"):
        return answers.json_answer({"input_tokens": 5})
    said = [answers.text("Hi")]
    is_stream = request.json.get("stream")
    return answers.stream_answer(answers.stream_events(said)) if is_stream else answers.json_answer(answers.message(said))


def judged(folder: Path) -> int:
    """The exit code of the SDK's tests."""
    sources = ANTHROPIC.fetched(folder)
    texts = [(sources.root / name).read_text() for name in FILES]
    names = {name for text in texts for name in re.findall(r'model(?:_id)?="([^"]+)"', text)}
    names |= set(
        re.findall(r'^    "(claude[^"]+)":', (sources.root / "src/anthropic/resources/messages/messages.py").read_text(), re.MULTILINE)
    )
    with FakeUpstream(default=respond) as upstream, tempfile.TemporaryDirectory() as base:
        row = {"kind": "anthropic", "base_url": origin_of(upstream), "api_keys": [KEY]}
        models = {name: {"route": ["up/claude-sonnet-4-6"]} for name in names}
        gateway = RunningGateway({"upstreams": {"up": row}, "models": models}, Path(base))
        code = sources.run(gateway.root, *FILES)
        gateway.close()
    return code


if __name__ == "__main__":
    sys.exit(main(judged))
