"""The program that runs the embedded model: `python -m compat.process.engine`, started by the gateway only.

It reads its parameters as one JSON line from standard input (the key is never on the command line, where anybody can read it), loads
the model into llama.cpp's own HTTP server, and prints one JSON line with the address when that answers. It ends at SIGTERM, and with
its parent: the end of standard input tells, and on Linux the kernel sees to it even while the model loads.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from typing import Any

_PR_SET_PDEATHSIG = 1
_READY_S = 300.0


def main() -> int:
    """Serve until told to stop. Exit code 1, with the reason on standard error, when the model can't be served."""
    end_with_parent(int(os.environ.get("OPENAI_COMPAT_PARENT", "0")))
    parameters = json.loads(sys.stdin.readline())
    name_process("openai_compat: engine")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which ends us in its own time
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        import xllamacpp
    except ImportError as error:
        print(f"xllamacpp is not installed on this platform: {error}", file=sys.stderr)
        return 1
    try:
        server = xllamacpp.Server(server_parameters(xllamacpp, parameters))
    except RuntimeError as error:
        print(f"llama.cpp can't serve {parameters['path']}: {error}", file=sys.stderr)
        return 1
    address = str(server.listening_address)
    await_health(address, time.monotonic() + _READY_S)
    print(json.dumps({"address": address}), flush=True)
    sys.stdin.read()  # ends when the parent does
    os._exit(0)  # at once: the server's threads have nothing to save


def server_parameters(xllamacpp: Any, parameters: dict[str, Any]) -> Any:
    """llama.cpp's parameters. One context is shared by all slots (`kv_unified`), else each would get a part of it only."""
    common = xllamacpp.CommonParams()
    common.model.path = parameters["path"]
    common.model_alias = [parameters["name"]]
    common.n_ctx = parameters["context_tokens"]
    common.n_parallel = parameters["parallel"]
    common.kv_unified = True
    common.api_keys = [parameters["api_key"]]
    common.hostnames = ["127.0.0.1"]
    common.port = 0
    common.ui = False
    if parameters["threads"]:
        common.cpuparams.n_threads = parameters["threads"]
    return common


def await_health(address: str, deadline_s: float) -> None:
    """Until the server says that the model is loaded."""
    while time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:  # noqa: S310  # our own address
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when the thread that started it ends; leave at once if that happened already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        os._exit(0)


def name_process(name: str) -> None:
    """Let `ps` show what this is."""
    import setproctitle

    setproctitle.setproctitle(name)


if __name__ == "__main__":
    sys.exit(main())
