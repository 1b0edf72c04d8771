"""What lasts as long as the process is left out of collections."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

_COLLECTED = """
import gc, weakref
from compat.serve.lasting import set_lasting_aside

class Node:
    pass

set_lasting_aside()
assert gc.get_freeze_count() > 1000
assert len(gc.get_objects()) < 1000, "what was there is looked at no more"
node = Node()
node.itself = node
seen = weakref.ref(node)
del node
gc.collect()
assert seen() is None, "what came later is collected"
"""

_FOREGROUND = """
from gevent import monkey
monkey.patch_all()
import gc, os, pathlib, signal, socket, sys
import gevent
from compat.config.settings import load_settings
from compat.factory import build_gateway
from compat.follow import Place
from compat.foreground import serve

folder, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
quiet = {"server": {"port": port}, "discovery": {"enabled": False}, "embedded": {"enabled": False}, "log": {"terminal": False}}

def ask():
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            gevent.sleep(0.01)
    print(gc.get_freeze_count())
    os.kill(os.getpid(), signal.SIGTERM)

gevent.spawn(ask)
serve(build_gateway(load_settings(None, {}, quiet), {}, folder), Place(folder))
"""


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.slow
def test_what_is_there_is_looked_at_no_more_and_what_comes_later_is() -> None:
    run(_COLLECTED)


@pytest.mark.slow
def test_a_gateway_that_serves_has_set_aside_what_it_was_made_of(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert int(run(_FOREGROUND, str(tmp_path), str(port))) > 20_000
