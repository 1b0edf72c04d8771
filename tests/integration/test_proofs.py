"""Proofs that the house can be built onto: a kind of upstream is a row, an endpoint and a wire API are a file and a row each.

Each is added to a copy of the package, and works whole, streamed, with errors, and with a rescue in the middle of an answer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import compat
from tests.fakes import anthropic_answers as anthropic
from tests.fakes import nova_protocol as nova
from tests.fakes import openai_answers as openai
from tests.fakes.openai_answers import event

PACKAGE = Path(compat.__file__).parent
ROOT = PACKAGE.parent
FAKES = ROOT / "tests/fakes"
KEY = "sk-canary-0123456789"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TWO = {"rescue": {"times": 1}, "retry": {"attempts": 2}}

pytestmark = pytest.mark.slow  # each starts a process


@dataclass(frozen=True)
class House:
    """A copy of the package that was changed."""

    folder: Path

    def run(self, calls: list[Any], answers: Mapping[str, Any], settings: Mapping[str, Any], **environment: str) -> Any:
        asked = {"calls": calls, "answers": answers, "settings": settings, "environment": environment}
        path = os.pathsep.join((str(self.folder), str(ROOT)))
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.proof_program"],
            input=json.dumps(asked),
            env={**os.environ, "PYTHONPATH": path},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


Build = Callable[..., House]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    def build(rows: Mapping[str, Mapping[str, str]], files: Mapping[str, Path]) -> House:
        """`rows`: path -> a line that is there -> what it becomes; `files`: path -> the file that is put there."""
        folder = tmp_path_factory.mktemp("house")
        shutil.copytree(PACKAGE, folder / "compat", ignore=shutil.ignore_patterns("__pycache__"))
        for path, source in files.items():
            assert not (folder / path).exists()
            shutil.copy(source, folder / path)
        for path, changes in rows.items():
            text = (folder / path).read_text()
            for before, after in changes.items():
                assert text.count(before) == 1, f"{before!r} is not in {path} once"
                text = text.replace(before, after)
            (folder / path).write_text(text)
        return House(folder)

    return build


def whole(document: Any, status: int = 200) -> dict[str, Any]:
    return {"status": status, "type": "application/json", "pieces": [json.dumps(document)]}


def stream(*pieces: bytes | None) -> dict[str, Any]:
    return {"pieces": [None if piece is None else piece.decode() for piece in pieces]}


def chat_stream(*words: str, ends: bool = True) -> dict[str, Any]:
    texts = [event(openai.chunk({"content": word})) for word in words]
    end = [event(openai.chunk({}, "stop")), event(openai.usage_chunk()), event("[DONE]")] if ends else [None]
    return stream(event(openai.chunk({"role": "assistant", "content": ""})), *texts, *end)


def chat_text(frames: str) -> str:
    chunks = [json.loads(block[6:]) for block in frames.split("\n\n") if block.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for one in chunks for choice in one.get("choices", ()))


SORRY = "That is not for you."
REFUSAL = {"error": {"message": SORRY, "type": "invalid_request_error", "code": "no"}}
BEGUN, REST = ("Once upon a time ", "there was a "), ("house with ", "three doors.")
STORY = "".join((*BEGUN, *REST))


def chat_upstream(url: str) -> dict[str, Any]:
    return {"kind": "openai", "base_url": url, "api_keys": [KEY]}


# A kind of upstream.


@pytest.fixture(scope="module")
def with_kind(build: Build) -> House:
    row = (
        '    UpstreamKind("nova", {"openai.chat": "/talk"}, "https://nova.invalid/v1", "NOVA_API_KEY", "NOVA_BASE_URL",\n'
        '        auth_header="x-nova-key", auth_prefix="", headers={"x-nova": "1"}, default_model="nova-1"),\n'
    )
    return build({"compat/upstream/kinds.py": {"_ROWS = (\n": "_ROWS = (\n" + row}}, {})


def test_a_kind_of_upstream_is_a_row(with_kind: House) -> None:
    answers = {"nova": [whole(openai.completion("Hello.")), chat_stream("Hel", "lo."), whole(REFUSAL, 400)]}
    settings = {"models": {"m": {"route": ["nova/nova-1"]}}, "retry": {"attempts": 1}}
    calls = [{"path": "/v1/chat/completions", "body": {**CHAT, "stream": is_stream}} for is_stream in (False, True, False)]
    found = with_kind.run(calls, answers, settings, NOVA_API_KEY=KEY, NOVA_BASE_URL="URL:nova")
    once, streamed, refused = found["given"]
    assert json.loads(once["text"])["choices"][0]["message"]["content"] == "Hello."
    assert (chat_text(streamed["text"]), streamed["text"].endswith("data: [DONE]\n\n")) == ("Hello.", True)
    assert (refused["status"], SORRY in refused["text"]) == (400, True)
    assert {sent["path"] for sent in found["sent"]["nova"]} == {"/v1/talk"}
    assert {(sent["headers"]["x-nova-key"], sent["headers"]["x-nova"], sent["body"]["model"]) for sent in found["sent"]["nova"]} == {
        (KEY, "1", "nova-1")
    }


def test_an_answer_of_a_new_kind_is_carried_on(with_kind: House) -> None:
    answers = {"nova": [chat_stream(*BEGUN, ends=False)], "spare": [chat_stream(*REST)]}
    settings = {**TWO, "models": {"m": {"route": ["nova/nova-1", "spare/x"]}}, "upstreams": {"spare": chat_upstream("URL:spare")}}
    calls = [{"path": "/v1/chat/completions", "body": {**CHAT, "stream": True}}]
    [told] = with_kind.run(calls, answers, settings, NOVA_API_KEY=KEY, NOVA_BASE_URL="URL:nova")["given"]
    assert (chat_text(told["text"]), "carried on after a fault" in told["text"]) == (STORY, True)


# An endpoint.


@pytest.fixture(scope="module")
def with_endpoint(build: Build) -> House:
    import_ = "from compat.endpoints.responses_socket import PATH, SocketDoor\n"
    rows = {
        import_: import_ + "from compat.endpoints.summaries import summaries_blueprint\n",
        "        quiet_blueprint,\n": "        quiet_blueprint,\n        summaries_blueprint,\n",
    }
    return build({"compat/factory.py": rows}, {"compat/endpoints/summaries.py": FAKES / "summaries_endpoint.py"})


def test_an_endpoint_is_a_file_and_a_row(with_endpoint: House) -> None:
    answers = {
        "up": [whole(openai.completion("Short.")), chat_stream("Sho", "rt."), whole(REFUSAL, 400), chat_stream(*BEGUN, ends=False)],
        "spare": [chat_stream(*REST)],
    }
    settings = {
        **TWO,
        "models": {"m": {"route": ["up/x", "spare/x"]}},
        "upstreams": {"up": chat_upstream("URL:up"), "spare": chat_upstream("URL:spare")},
    }
    calls = [{"path": "/v1/summaries", "body": {"model": "m", "text": "Long.", "stream": flag}} for flag in (False, True, False, True)]
    calls.append({"path": "/v1/summaries", "body": {"model": "", "text": "Long."}})
    found = with_endpoint.run(calls, answers, settings)
    once, streamed, refused, carried_on, unnamed = found["given"]
    assert json.loads(once["text"])["choices"][0]["message"]["content"] == "Short."
    assert chat_text(streamed["text"]) == "Short."
    assert (refused["status"], SORRY in refused["text"]) == (400, True)
    assert (chat_text(carried_on["text"]), "carried on after a fault" in carried_on["text"]) == (STORY, True)
    assert (unnamed["status"], json.loads(unnamed["text"])["error"]["param"]) == (400, "model")
    assert found["sent"]["up"][0]["body"]["messages"] == [{"role": "user", "content": "Sum up: Long."}]


# A wire API, on both sides.


@pytest.fixture(scope="module")
def with_protocol(build: Build) -> House:
    rows = {
        "compat/protocols/__init__.py": {
            "from compat.protocols.upstream_protocol import": (
                "from compat.protocols.nova import NOVA, NOVA_UPSTREAM\nfrom compat.protocols.upstream_protocol import"
            ),
            "COUNT, INPUT_COUNT)": "COUNT, INPUT_COUNT, NOVA)",
            "RESPONSES_UPSTREAM)}": "RESPONSES_UPSTREAM, NOVA_UPSTREAM)}",
        },
        "compat/upstream/kinds.py": {
            "_ROWS = (\n": ('_ROWS = (\n    UpstreamKind("nova", {"nova.say": "/say"}, "https://nova.invalid", "NOVA_API_KEY"),\n')
        },
    }
    return build(rows, {"compat/protocols/nova.py": FAKES / "nova_protocol.py"})


def nova_whole(words: str) -> dict[str, Any]:
    return whole({"nova": "theirs", "words": words, "why": "done", "spent": [5, 2]})


def nova_stream(*words: str, ends: bool = True) -> dict[str, Any]:
    end = [nova.frame(why="done", spent=[5, 2]), nova.OVER] if ends else [None]
    return stream(nova.frame(nova="theirs"), *(nova.frame(w=word) for word in words), *end)


def claude_stream(words: str, *, ends: bool = True) -> dict[str, Any]:
    events = [anthropic.one_event(one) for one in anthropic.stream_events([{"type": "text", "text": words}])]
    return stream(*events) if ends else stream(*events[:-3], None)


def claude_whole(words: str) -> dict[str, Any]:
    return whole(anthropic.message([{"type": "text", "text": words}]))


SAY = {"model": "m", "say": [{"who": "user", "words": "Hi"}], "most": 50}
ROWS = {
    "nova": {"kind": "nova", "api_keys": [KEY]},
    "claude": {"kind": "anthropic", "api_keys": [KEY]},
    "chat": {"kind": "openai", "api_keys": [KEY]},
}
ANSWERS = {
    "nova": [nova_whole("Hello."), nova_stream("Hel", "lo."), whole(REFUSAL, 400)],
    "claude": [claude_whole("Hello."), claude_stream("Hello."), whole(anthropic.error_document("invalid_request_error", SORRY), 400)],
}
DIES = {
    "nova": nova_stream(*BEGUN, ends=False),
    "claude": claude_stream("".join(BEGUN), ends=False),
    "chat": chat_stream(*BEGUN, ends=False),
}
GOES_ON = {"nova": nova_stream(*REST), "claude": claude_stream("".join(REST)), "chat": chat_stream(*REST)}


def test_whatever_goes_wrong_has_the_shape_of_the_protocol_at_its_url(with_protocol: House) -> None:
    calls = [
        {"path": "/v1/nova", "method": "GET"},
        {"path": "/v1/v1/nova/", "body": SAY, "origin": "https://elsewhere.example"},
        {"path": "/nova", "body": {**SAY, "model": "unheard-of"}},
    ]
    refused, foreign, unknown = with_protocol.run(calls, {}, {})["given"]
    assert [told["status"] for told in (refused, foreign, unknown)] == [405, 403, 404]
    assert [json.loads(told["text"])["kind"] for told in (refused, foreign, unknown)] == [
        "method_not_allowed",
        "origin_not_allowed",
        "model_not_found",
    ]


def test_a_silent_stream_is_kept_alive_in_the_words_of_its_protocol(with_protocol: House) -> None:
    first, *rest = nova_stream(*BEGUN, *REST)["pieces"]
    settings = {
        "models": {"m": {"route": ["nova/x"]}},
        "server": {"heartbeat_s": 1},
        "upstreams": {"nova": {**ROWS["nova"], "base_url": "URL:nova"}},
    }
    answers = {"nova": [{"pieces": [first, rest[0], 2.5, *rest[1:]]}]}
    [told] = with_protocol.run([{"path": "/v1/nova", "body": {**SAY, "flows": True}}], answers, settings)["given"]
    assert nova.text_of(told["text"].encode()) == STORY
    assert told["text"].count(nova.BEAT.decode()) == 2


@pytest.mark.parametrize(("client", "upstream"), [("nova", "nova"), ("nova", "claude"), ("chat", "nova")])
def test_a_wire_api_is_a_file_and_its_rows(with_protocol: House, client: str, upstream: str) -> None:
    settings = {
        "models": {"m": {"route": [f"{upstream}/x"]}},
        "retry": {"attempts": 1},
        "upstreams": {upstream: {**ROWS[upstream], "base_url": f"URL:{upstream}"}},
    }
    path, asked, flag = ("/v1/nova", SAY, "flows") if client == "nova" else ("/v1/chat/completions", CHAT, "stream")
    bodies = [*({**asked, flag: is_stream} for is_stream in (False, True, False)), {"model": "m"}]
    found = with_protocol.run([{"path": path, "body": body} for body in bodies], {upstream: ANSWERS[upstream]}, settings)
    once, streamed, refused, malformed = found["given"]
    document = json.loads(once["text"])
    if client == "nova":
        assert (document["words"], document["why"], document["nova"].startswith("nova-")) == ("Hello.", "done", True)
        assert (nova.text_of(streamed["text"].encode()), streamed["text"].endswith("data: over\n\n")) == ("Hello.", True)
        assert SORRY in json.loads(refused["text"])["fault"]
        assert json.loads(malformed["text"]) == {"fault": "'say' must be a list.", "kind": None}
    else:
        assert document["choices"][0]["message"]["content"] == "Hello."
        assert (chat_text(streamed["text"]), streamed["text"].endswith("data: [DONE]\n\n")) == ("Hello.", True)
        assert SORRY in json.loads(refused["text"])["error"]["message"]
        assert json.loads(malformed["text"])["error"]["param"] == "messages"
    assert (refused["status"], malformed["status"]) == (400, 400)
    if upstream == "nova":
        assert found["sent"]["nova"][0]["body"]["say"] == [{"who": "user", "words": "Hi"}]


CARRIED_ON = [
    ("nova", "nova", "claude"),
    ("nova", "claude", "nova"),
    ("chat", "nova", "chat"),
    ("chat", "chat", "nova"),
    ("chat", "nova", "nova"),
]


@pytest.mark.parametrize(("client", "first", "second"), CARRIED_ON)
def test_an_answer_is_carried_on_from_and_to_a_new_wire_api(with_protocol: House, client: str, first: str, second: str) -> None:
    settings = {
        **TWO,
        "models": {"m": {"route": ["one/x", "two/x"]}},
        "upstreams": {"one": {**ROWS[first], "base_url": "URL:one"}, "two": {**ROWS[second], "base_url": "URL:two"}},
    }
    path, body = ("/v1/nova", {**SAY, "flows": True}) if client == "nova" else ("/v1/chat/completions", {**CHAT, "stream": True})
    found = with_protocol.run([{"path": path, "body": body}], {"one": [DIES[first]], "two": [GOES_ON[second]]}, settings)
    text = found["given"][0]["text"]
    assert (nova.text_of(text.encode()) if client == "nova" else chat_text(text)) == STORY
    assert "carried on after a fault" in text
