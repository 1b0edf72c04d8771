"""The engine's program: its parameters, its first words, and what it says when it can't serve."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest

import compat
from compat.engine.child import Child, child_environment
from compat.engine.presets import PRESETS, SMALL, Preset
from compat.engine.program import answers_within, has_hash, is_busy, opened, path_of, reading_speed, server_parameters
from tests.fakes.upstream import Answer, FakeUpstream

ROOT = Path(compat.__file__).parents[1]
BOUND_S = 30
PARAMETERS = {
    "path": "/models/tiny.gguf",
    "sha256": "",
    "name": "tiny",
    "context_tokens": 512,
    "default_max_tokens": 128,
    "sampling": {"temp": 0.5, "penalty_freq": 0.25},
    "template": "",
    "parallel": 4,
    "threads": 0,
    "api_key": "canary-0123456789",
}
needs_engine = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="there is no engine for this platform")


# Parameters.


def common() -> SimpleNamespace:
    return SimpleNamespace(model=SimpleNamespace(path=""), cpuparams=SimpleNamespace(n_threads=-1), sampling=SimpleNamespace(temp=0.8))


@pytest.mark.parametrize(("threads", "n_threads"), [(0, -1), (3, 3)])
def test_the_parameters_become_llama_cpps(threads: int, n_threads: int) -> None:
    given = {**PARAMETERS, "threads": threads}
    made = server_parameters(common(), given)
    assert vars(made.model) == {"path": "/models/tiny.gguf"}
    assert made.cpuparams.n_threads == n_threads
    assert (made.model_alias, made.api_keys) == (["tiny"], ["canary-0123456789"])
    assert (made.n_ctx, made.n_predict, made.n_parallel) == (512, 128, 4)
    assert vars(made.sampling) == {"temp": 0.5, "penalty_freq": 0.25}
    assert given == {**PARAMETERS, "threads": threads}


def test_the_engine_serves_this_machine_only_at_a_free_port_and_shows_nothing() -> None:
    made = server_parameters(common(), PARAMETERS)
    assert (made.hostnames, made.port) == (["127.0.0.1"], 0)
    assert (made.ui, made.endpoint_slots) == (False, False)


@pytest.mark.parametrize("preset", [preset for preset in PRESETS.values() if preset.calls_tools], ids=lambda preset: preset.name)
def test_a_preset_may_have_a_chat_template_of_its_own(preset: Preset) -> None:
    assert not hasattr(server_parameters(common(), PARAMETERS), "chat_template")
    made = server_parameters(common(), {**PARAMETERS, "template": preset.template})
    assert "```tool_call" in made.chat_template


@needs_engine
def test_llama_cpp_has_all_the_parameters_that_are_set() -> None:
    import xllamacpp

    made = server_parameters(xllamacpp.CommonParams(), {**PARAMETERS, "threads": 2})
    assert (made.model.path, made.n_ctx, made.port, made.cpuparams.n_threads) == ("/models/tiny.gguf", 512, 0, 2)
    assert (made.sampling.temp, made.sampling.penalty_freq) == (0.5, 0.25)
    assert (list(made.api_keys), list(made.hostnames), made.ui) == (["canary-0123456789"], ["127.0.0.1"], False)


# The file and the health.


@pytest.mark.parametrize(
    ("content", "is_model"),
    [(b"GGUF\x03\x00", True), (b"GGUF", True), (b"GGU", False), (b"", False), (b"<html>GGUF", False), (None, False)],
)
def test_a_model_file_begins_with_its_magic(tmp_path: Path, content: bytes | None, is_model: bool) -> None:
    path = tmp_path / "m.gguf"
    if content is not None:
        path.write_bytes(content)
    file = opened(str(path))
    assert (file is not None) == is_model
    if file is not None:
        file.close()
    assert opened(str(tmp_path)) is None


def test_what_is_loaded_is_the_very_file_that_was_hashed(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF, the right one")
    file = opened(str(path))
    assert file is not None
    with file:
        assert has_hash(file, hashlib.sha256(b"GGUF, the right one").hexdigest())
        assert has_hash(file, "")
        assert not has_hash(file, hashlib.sha256(b"GGUF, another").hexdigest())
        (tmp_path / "other").write_bytes(b"GGUF, another one")
        (tmp_path / "other").replace(path)
        is_followed = Path("/proc/self/fd").exists()
        assert Path(path_of(file, str(path))).read_bytes() == (b"GGUF, the right one" if is_followed else b"GGUF, another one")


def health(status: int) -> Answer:
    return Answer((b"{}",), status, framing="length")


def test_health_is_asked_for_until_it_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with FakeUpstream() as server:
        server.script(Answer(raw=(b"garbage\r\n\r\n",), keeps_alive=False), health(503), health(503), health(200))
        assert answers_within(f"http://127.0.0.1:{server.port}", 5)
        assert [(request.method, request.path) for request in server.requests] == [("GET", "/health")] * 4


def test_health_that_never_comes_is_bounded_in_time() -> None:
    with FakeUpstream(default=health(503)) as server:
        begun_s = time.monotonic()
        assert not answers_within(f"http://127.0.0.1:{server.port}", 0.2)
        assert 0.2 <= time.monotonic() - begun_s < 2


def told(body: str) -> Answer:
    return Answer((body.encode(),), framing="length")


def read(tokens: int) -> Answer:
    return told(f'{{"timings": {{"prompt_n": {tokens}, "prompt_per_second": 3.0}}}}')


@pytest.mark.parametrize(
    ("answers", "speed"),
    [
        ([read(11), read(51)], 34.0),
        ([read(11), health(500)], 0.0),
        ([told("{}")], 0.0),
        ([told("[]")], 0.0),
        ([health(500)], 0.0),
    ],
    ids=["both", "one of two", "no timings", "no object", "an error"],
)
def test_how_fast_it_reads_is_measured_by_the_processors_time(answers: list[Answer], speed: float) -> None:
    cpu_s = iter((0.0, 9.0, 10.0, 13.0))  # two threads computed for one and a half second each
    with FakeUpstream() as server:
        server.script(*answers)
        assert reading_speed(f"http://127.0.0.1:{server.port}", "canary", 2, lambda: next(cpu_s)) == speed
        requests = list(server.requests)
    assert {(request.method, request.path, request.headers["authorization"]) for request in requests} == {
        ("POST", "/completion", "Bearer canary")
    }


@pytest.mark.parametrize(
    ("processing", "deferred", "busy"), [("0", "0", False), ("1", "0", True), ("0", "2", True)], ids=["idle", "answering", "waiting"]
)
def test_whether_it_is_busy_is_asked(processing: str, deferred: str, busy: bool) -> None:
    body = f"# HELP x\nllamacpp:requests_processing {processing}\nllamacpp:requests_deferred {deferred}\nllamacpp:n_decode_total 9\n"
    with FakeUpstream(default=told(body)) as server:
        assert is_busy(f"http://127.0.0.1:{server.port}", "canary") is busy


def test_a_server_that_is_not_there_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not answers_within(f"http://127.0.0.1:{port}", 0.1)
    assert not is_busy(f"http://127.0.0.1:{port}", "canary")
    assert reading_speed(f"http://127.0.0.1:{port}", "canary") == 0


# The program.


def test_nothing_else_can_garble_the_programs_lines_or_take_its_input() -> None:
    program = (
        "import os; from compat.engine.program import own_standard_output, read_line; "
        "own = own_standard_output(); line = read_line(); os.write(1, b'noise'); print('more noise'); "
        "os.write(own, b'[' + line.strip() + b'|' + os.read(0, 100) + b']')"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"first\nrest", capture_output=True, cwd=ROOT, timeout=BOUND_S, check=True)
    assert done.stdout == b"[first|rest]"
    assert b"noise" in done.stderr
    assert b"more noise" in done.stderr


@pytest.mark.parametrize("given", [b"first\nrest", b"first"], ids=["a line", "no line end"])
def test_the_first_line_is_read_and_not_a_byte_more(given: bytes) -> None:
    program = "import os; from compat.engine.program import read_line; line = read_line(); os.write(1, line + b'|' + os.read(0, 100))"
    done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, cwd=ROOT, timeout=BOUND_S, check=True)
    first, newline, rest = given.partition(b"\n")
    assert done.stdout == first + newline + b"|" + rest


def ended(path: Path, sha256: str = "") -> tuple[dict[str, Any] | None, dict[str, Any] | None, int]:
    child = Child("compat.engine.program", [], child_environment(os.environ), {**PARAMETERS, "path": str(path), "sha256": sha256})
    try:
        said = child.read(BOUND_S), child.read(BOUND_S)
        return *said, child.wait()
    finally:
        child.stop(0)


@pytest.mark.parametrize("content", [None, b"", b"<html>not found</html>"], ids=["no file", "an empty file", "a web page"])
def test_a_file_that_is_no_model_is_refused_for_good(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.gguf"
    if content is not None:
        path.write_bytes(content)
    first, second, code = ended(path)
    assert first == {"error": f"{path} can't be read, or is not a GGUF file", "permanent": True}
    assert (second, code) == (None, 1)


def test_promise_17_a_file_with_another_hash_than_the_presets_is_not_loaded(tmp_path: Path) -> None:
    """Also one whose size and time are those of the right file, with a forged stamp beside it."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    first, second, code = ended(path, sha256="0" * 64)
    assert first == {"error": f"{path} does not have the expected SHA-256", "permanent": False}
    assert (second, code) == (None, 1)


@needs_engine
def test_a_model_that_does_not_load_is_refused_for_now(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(4096))
    first, second, code = ended(path)
    assert first == {"error": f"llama.cpp can't load {path}", "permanent": False}
    assert (second, code) == (None, 1)


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([("user", "Hello")], "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"),
        ([("system", "Be brief."), ("user", "Hi")], "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"),
        ([("system", "s"), ("assistant", None)], "<|im_start|>system\ns<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"),
    ],
)
def test_the_small_model_has_a_plain_prompt_where_the_client_has_none(messages: list[tuple[str, str | None]], prompt: str) -> None:
    template = jinja2.Template((ROOT / "compat" / "engine" / SMALL.template).read_text())
    rendered = template.render(messages=[{"role": role, "content": content} for role, content in messages], add_generation_prompt=True)
    assert rendered == prompt + "<|im_start|>assistant\n"
