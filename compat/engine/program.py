"""The program that runs the embedded model: `python -m compat.engine.program`, started by the gateway only.

It reads its parameters as one JSON line from standard input (the key is never on the command line, where anybody can read it), loads
the model into llama.cpp's own HTTP server, and prints one JSON line: `{"address": "http://..."}` when that answers, or `{"error": ...,
"permanent": bool}`; then `{"prompt_tokens_s": speed}`, whenever it was idle and read faster than before. It ends at SIGTERM,
even while the model loads, and with its parent.

A file whose SHA-256 is known is hashed before each start (0.06 s for 98 MB, 0.3 s on a slow machine), and it is that very file which is
loaded: nothing that is kept beside it could prove as much, for who can change the file can change its neighbour.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from compat.engine.child import end_with_parent

_HEALTHY_S = 60.0
_MAGIC = b"GGUF"
_ERRORS_ONLY = 1
_SENTENCE = "The quick brown fox jumps over the lazy dog. "
_SAMPLES = (_SENTENCE, _SENTENCE * 5)
_ASKED_S, _HEALTH_S = 60.0, 5.0
_MEASURED_AFTER_S = (0.0, 5.0, 5.0, 30.0, 60.0, 300.0, 900.0)
_BUSY = re.compile(rb"^llamacpp:requests_(?:processing|deferred) ([0-9.]+)", re.MULTILINE)


def main() -> int:
    """Serve until asked to stop. Exit code 1, with the reason as the last line, when the model can't be served."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which ends us in its own time
    answers = own_standard_output()
    parameters = json.loads(read_line())
    end_with_parent()
    name_process("openai_compat: engine")

    def say(**fields: object) -> None:
        os.write(answers, json.dumps(fields).encode() + b"\n")

    file = opened(parameters["path"])
    if file is None:
        say(error=f"{parameters['path']} can't be read, or is not a GGUF file", permanent=True)
        return 1
    if not has_hash(file, parameters["sha256"]):
        say(error=f"{parameters['path']} does not have the expected SHA-256", permanent=False)
        return 1
    try:
        import xllamacpp
    except ImportError as error:
        say(error=f"xllamacpp can't be loaded on this machine: {error}", permanent=True)
        return 1
    try:
        server = xllamacpp.Server(server_parameters(xllamacpp.CommonParams(), {**parameters, "path": path_of(file, parameters["path"])}))
    except RuntimeError:
        # llama.cpp has put its reason on standard error; it may be the file's fault or a lack of memory.
        say(error=f"llama.cpp can't load {parameters['path']}", permanent=False)
        return 1
    address, api_key = str(server.listening_address), parameters["api_key"]
    if not answers_within(address, _HEALTHY_S):
        say(error="the engine's own HTTP server does not answer", permanent=False)
        return 1
    say(address=address)
    best = 0.0
    for pause_s in _MEASURED_AFTER_S:  # what else the machine does makes it slower, never faster
        time.sleep(pause_s)
        speed = 0.0 if is_busy(address, api_key) else reading_speed(address, api_key, parameters["threads"])
        if speed > best and not is_busy(address, api_key):  # else a call took a part of the processor's time
            best = speed
            say(prompt_tokens_s=speed)
    threading.Event().wait()
    return 0


def own_standard_output() -> int:
    """The descriptor for our lines. Whatever else is written to standard output goes to standard error, and can't garble them."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return descriptor


def read_line() -> bytes:
    """The first line of standard input, and not a byte more: the rest is watched for its end."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return bytes(line)


def server_parameters(common: Any, parameters: dict[str, Any]) -> Any:
    """llama.cpp's `CommonParams`, filled in."""
    common.model.path = parameters["path"]
    common.model_alias = [parameters["name"]]
    common.n_ctx = parameters["context_tokens"]
    common.n_predict = parameters["default_max_tokens"]  # for calls that name no limit: a small model may never come to an end
    for name, value in parameters["sampling"].items():  # for calls that name nothing themselves
        setattr(common.sampling, name, value)
    if parameters["template"]:
        common.chat_template = Path(__file__).with_name(parameters["template"]).read_text()
    common.n_parallel = parameters["parallel"]
    common.kv_unified = True  # one context for all slots; else each would get a part of it only
    common.cache_ram_mib = 0  # its cache of old prompts takes up to 8 GiB otherwise; what the slots hold is still used again
    common.api_keys = [parameters["api_key"]]
    common.hostnames = ["127.0.0.1"]
    common.port = 0
    common.ui = False
    common.endpoint_slots = False
    common.endpoint_metrics = True  # whether it is busy; no text of anybody's
    common.verbosity = _ERRORS_ONLY
    if parameters["threads"]:
        common.cpuparams.n_threads = parameters["threads"]
    return common


def opened(path: str) -> BufferedReader | None:
    """The file, where it begins as a model file does: what does not will never load."""
    try:
        file = Path(path).open("rb")  # noqa: SIM115  # the caller's, for as long as it serves
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if file.read(len(_MAGIC)) == _MAGIC:
            return file
    file.close()
    return None


def has_hash(file: BufferedReader, sha256: str) -> bool:
    """Whether the file is the one that is expected; empty where any is."""
    if not sha256:
        return True
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def path_of(file: BufferedReader, path: str) -> str:
    """A path that leads to the open file, where the system has such, whatever becomes of its name meanwhile."""
    by_descriptor = Path(f"/proc/self/fd/{file.fileno()}")
    return str(by_descriptor) if by_descriptor.exists() else path


def answers_within(address: str, bound_s: float) -> bool:
    """Whether `/health` says 200 within the bound; it says 503 while the model loads."""
    deadline_s = time.monotonic() + bound_s
    while time.monotonic() < deadline_s:
        if asked(address, "GET", "/health", timeout_s=_HEALTH_S)[0] == http.client.OK:
            return True
        time.sleep(0.05)
    return False


def reading_speed(address: str, api_key: str, threads: int = 0, cpu_s: Callable[[], float] = time.process_time) -> float:
    """Tokens of a prompt that the engine in this process reads in a second, 0 where that can't be measured.

    By the time of the processor: others may want the machine just now, and time on the wall says little about later. The first of two
    prompts brings the file into memory.
    """
    tokens, took_s = 0, 0.0
    for text in _SAMPLES:
        begun_s = cpu_s()
        _, answer = asked(address, "POST", "/completion", {"prompt": text, "n_predict": 1, "cache_prompt": False}, api_key=api_key)
        took_s = (cpu_s() - begun_s) / (threads or os.cpu_count() or 1)
        try:
            tokens = int(json.loads(answer)["timings"]["prompt_n"])
        except (ValueError, KeyError, TypeError):
            return 0.0
    return round(tokens / max(took_s, 1e-3), 1)


def is_busy(address: str, api_key: str) -> bool:
    """Whether it answers anybody just now."""
    _, answer = asked(address, "GET", "/metrics", api_key=api_key)
    return any(float(count) > 0 for count in _BUSY.findall(answer))


def asked(
    address: str, method: str, path: str, body: Mapping[str, Any] | None = None, *, api_key: str = "", timeout_s: float = _ASKED_S
) -> tuple[int, bytes]:
    """The status and the bytes that the engine's server answers, `(0, b"")` where it does not. Never through a proxy."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout_s)
    try:
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {api_key}"} if api_key else {})}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def name_process(name: str) -> None:
    """Let `ps` show what this is."""
    try:
        import setproctitle
    except ImportError:  # a comfort only
        return
    setproctitle.setproctitle(name)


if __name__ == "__main__":
    sys.exit(main())
