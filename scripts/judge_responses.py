"""Runs Open Responses' compliance tests, and those of responses of OpenAI's own SDK, against a gateway in front of each kind of upstream.

    .venv/bin/python scripts/judge_responses.py [FOLDER]     # FOLDER keeps what is fetched; nothing of it belongs here

Open Responses (github.com/openresponses/openresponses) is cloned into `FOLDER/openresponses`, unless it is there, and run by npm's tsx; the
SDK comes from PyPI. Answers are stored; the SDK's tests name some that nobody made, and are right to be told that these are not found. It
prints passed of total for each upstream, and what failed. What can't be fetched is left out with the reason.

Exit code 0: all passed; 1: some did not; 3: nothing could be fetched.
"""

# ruff: noqa: E402  # the path, and what gevent replaces, come before all that is imported
from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gevent import monkey

monkey.patch_all()

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

from compat.protocols.client_protocol import DEFAULT_MODEL
from scripts.judge_openai import OPENAI, respond
from scripts.sdk_tests import NOT_FETCHED
from tests.conftest import RunningGateway
from tests.fakes.ruled import UPSTREAMS
from tests.fakes.upstream import FakeUpstream

SUITE = "https://github.com/openresponses/openresponses"
PACKAGES = ("zod@3.25.76", "tsx@4.23.15", "typescript@5.9.3")
TESTS = "tests/api_resources/test_responses.py"
MODEL = "gpt-5.4"
NEVER_MADE = re.compile(r"esponse with id '(resp_677efb5139a88190b512bc3fef8e535d|resp_123|previous_response_id)' not found\.")
"""What is said of the answers that the SDK's tests name."""
_LIMIT_S = 300


def gateways(names: set[str]) -> Iterator[tuple[str, RunningGateway]]:
    """A gateway in front of each kind of upstream, with that kind's name; `names` are its models."""
    for name, kind in UPSTREAMS.items():
        model = respond if name == "responses" else kind.model()
        with FakeUpstream(default=model) as upstream, tempfile.TemporaryDirectory() as base:
            models = {one: {"route": [f"up/{kind.target}"]} for one in names}
            settings = {"upstreams": {"up": kind.row(upstream)}, "models": models, "responses": {"store": True}}
            gateway = RunningGateway(settings, Path(base))
            try:
                yield name, gateway
            finally:
                gateway.close()


def compliance(folder: Path) -> int:
    """How many of Open Responses' tests failed. Errors: `CalledProcessError`, `OSError`."""
    suite = folder / "openresponses"
    if not suite.exists():
        subprocess.run(["git", "clone", "-q", "--depth", "1", SUITE, str(suite)], check=True)  # noqa: S603, S607  # words of our own, as on the path
    if not (suite / "node_modules/tsx").exists():
        (suite / "package.json").write_text('{"private": true, "type": "module"}')
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *PACKAGES], cwd=suite, check=True)  # noqa: S603, S607  # the same
    failed = 0
    for name, gateway in gateways({MODEL}):
        command = ["npx", "tsx", "bin/compliance-test.ts", "-u", gateway.url, "-k", "sk-any", "-m", MODEL, "--json"]
        environment = {**os.environ, "NODE_OPTIONS": "--experimental-websocket", "NO_PROXY": "*"}
        with tempfile.TemporaryFile() as output:  # a pipe would lose what Node has not written when it exits
            subprocess.run(command, cwd=suite, env=environment, stdout=output, timeout=_LIMIT_S, check=False)  # noqa: S603  # too
            output.seek(0)
            results = json.loads(output.read())["results"]
        bad = [row for row in results if row["status"] == "failed"]
        passed = sum(row["status"] == "passed" for row in results)
        sys.stdout.write(f"Open Responses over {name}: {passed} of {len(results)} passed\n")
        sys.stdout.writelines(f"  {row['name']}: {'; '.join(map(str, row.get('errors') or ()))[:500]}\n" for row in bad)
        failed += len(bad)
    return failed


def sdk(folder: Path) -> int:
    """How many of the SDK's tests did not pass. Errors: `CalledProcessError`."""
    sources = OPENAI.fetched(folder)
    names = set(re.findall(r'model="([^"]+)"', (sources.root / TESTS).read_text())) | {MODEL, DEFAULT_MODEL}
    bad = 0
    for name, gateway in gateways(names):
        report = folder / "sdk.xml"
        sources.run(gateway.url, TESTS, "-qq", "--no-summary", "--show-capture=no", f"--junitxml={report}")
        cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314  # written just now
        failed = {
            f"{case.get('classname')}.{case.get('name')}": fault.get("message", "")
            for case in cases
            for fault in (*case.iter("failure"), *case.iter("error"))
        }
        wrong = {test: words for test, words in failed.items() if NEVER_MADE.search(words) is None}
        passed, absent = len(cases) - len(failed), len(failed) - len(wrong)
        sys.stdout.write(f"{TESTS} over {name}: {passed} of {len(cases)} passed, {absent} asked for what nobody made and were told so\n")
        sys.stdout.writelines(f"  {test}: {words[:300]}\n" for test, words in wrong.items())
        bad += len(wrong)
    return bad


def main() -> int:
    """The exit code."""
    suites: list[Callable[[Path], int]] = [compliance, sdk]
    bad, fetched = 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for suite in suites:
            try:
                bad += suite(folder)
                fetched += 1
            except (subprocess.SubprocessError, OSError) as error:
                sys.stderr.write(f"Left out, {suite.__name__}: {error}\n")
    return NOT_FETCHED if not fetched else int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
