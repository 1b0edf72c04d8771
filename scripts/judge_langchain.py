"""Runs LangChain's standard tests of chat models through a gateway: each of its clients over each kind of upstream.

    .venv/bin/python scripts/judge_langchain.py [FOLDER] [-k WORDS]   # FOLDER keeps what is installed from PyPI; nothing of it belongs here

The upstreams are strict imitations whose model follows rules: it calls the tool that it may, with what the user's words say, and writes
JSON where that is wanted. It prints passed of total for each client and upstream.

Exit code 0: all passed; 1: some did not; 3: LangChain could not be installed.
"""

# ruff: noqa: E402  # the path, and what gevent replaces, come before all that is imported
from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gevent import monkey

monkey.patch_all()

import argparse
import os
import re
import subprocess
import tempfile
import venv
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.sdk_tests import NOT_FETCHED
from tests.conftest import RunningGateway
from tests.fakes.ruled import UPSTREAMS
from tests.fakes.upstream import FakeUpstream

PACKAGES = ("langchain-tests==1.1.9", "langchain-anthropic==1.7.10", "langchain-openai==1.7.4")
SUITE = Path(__file__).with_name("langchain_suite.py")
CLIENTS = ("TestMessages", "TestChat", "TestResponses")
NAMES = ("claude-sonnet-4-6", "claude-haiku-4-5", "gpt-5.4", "gpt-4.1")
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error|xfailed|xpassed)")


def installed(folder: Path) -> Path:
    """An interpreter that has LangChain. Errors: `CalledProcessError`."""
    python = folder / "venv-langchain/bin/python"
    if not python.exists():
        venv.create(python.parents[1], with_pip=True)
        command = [str(python), "-m", "pip", "-q", "--disable-pip-version-check", "install", *PACKAGES, "pytest"]
        subprocess.run(command, check=True)  # noqa: S603  # words of our own
    return python


def counted(python: Path, url: str, client: str, more: Sequence[str]) -> Mapping[str, int]:
    """How many tests of one client came out how."""
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "-rs",
        "--disable-socket",
        "--allow-hosts=127.0.0.1",
    ]
    command += ["--rootdir", str(SUITE.parent), "-c", os.devnull, "-o", "asyncio_mode=auto"]
    command += ["-o", "asyncio_default_test_loop_scope=session", f"{SUITE}::{client}", *more]
    environment = {**os.environ, "JUDGED_URL": url, "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "*"}
    done = subprocess.run(command, env=environment, cwd=SUITE.parent, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603  # the same
    lines = done.stdout.strip().splitlines()
    found = {name: int(count) for count, name in _COUNT.findall(lines[-1] if lines else "")}
    if done.returncode:
        sys.stdout.write(done.stdout)
    return found if found else {"error": 1}


def judged(python: Path, more: Sequence[str]) -> int:
    """How many tests did not pass, over all clients and upstreams."""
    bad = 0
    rows = []
    for name, kind in UPSTREAMS.items():
        with FakeUpstream(default=kind.model()) as upstream, tempfile.TemporaryDirectory() as base:
            settings: dict[str, Any] = {
                "upstreams": {"up": kind.row(upstream)},
                "models": {one: {"route": [f"up/{kind.target}"]} for one in NAMES},
            }
            gateway = RunningGateway(settings, Path(base))
            for client in CLIENTS:
                found = counted(python, gateway.root, client, more)
                failed = sum(count for outcome, count in found.items() if outcome not in {"passed", "skipped", "xfailed"})
                bad += failed
                rows.append(f"{client} over {name}: {found.get('passed', 0)} of {sum(found.values())} passed, {found}")
            gateway.close()
    sys.stdout.write("\n".join(rows) + "\n")
    return bad


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/judge_langchain.py", description="LangChain's standard tests through a gateway.")
    parser.add_argument("folder", nargs="?", type=Path, help="keeps what is installed")
    parser.add_argument("-k", dest="words", default="", help="only tests whose names hold these words, in pytest's way")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            python = installed(folder)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"LangChain could not be installed: {error}\n")
            return NOT_FETCHED
        return int(judged(python, ["-k", arguments.words] if arguments.words else []) != 0)


if __name__ == "__main__":
    sys.exit(main())
