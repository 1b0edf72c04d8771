"""Promise 13: few dependencies, every one pinned, with hashes; nothing that runs unasked, and nothing that calls home."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import compat
from tests.fakes import openai_answers as openai
from tests.fakes.upstream import FakeUpstream
from tests.security.test_promises import CALLS, fair
from tests.unit.service.command_line import CommandLine, Started

ROOT = Path(compat.__file__).parents[1]
MOST_DIRECT = 25
MOST_IN_ALL = 45


def load(path: Path) -> Any:
    """A program as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SBOM = load(ROOT / "scripts/sbom.py")
DIRECT = SBOM.direct((ROOT / "requirements.txt").read_text())
INSTALLED = SBOM.closure(DIRECT)


def every_line(name: str) -> list[Requirement]:
    lines = (line.split("#")[0].split("\\")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements.lock"])
def test_promise_13_every_requirement_is_pinned_to_one_version(name: str) -> None:
    for requirement in every_line(name):
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert requirement.url is None


def test_promise_13_there_are_few_dependencies() -> None:
    assert len(DIRECT) <= MOST_DIRECT
    assert len(INSTALLED) <= MOST_IN_ALL


def test_promise_13_the_lock_has_what_is_required_and_a_hash_of_every_file() -> None:
    """After a change of requirements.txt, run scripts/lock."""
    text = (ROOT / "requirements.lock").read_text()
    locked: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)):
        if not entry.strip():
            continue
        requirement = Requirement(entry.split("\\")[0])
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)) >= 1, requirement
        locked.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier).removeprefix("=="))
    for requirement in every_line("requirements.txt"):
        assert locked[canonicalize_name(requirement.name)] == {str(requirement.specifier).removeprefix("==")}
    assert set(INSTALLED) <= set(locked)


def test_promise_13_no_dependency_ran_a_program_at_its_installation_or_runs_one_with_every_python() -> None:
    """Wheels are unpacked, never run; a `.pth` file with code in it would run whenever Python starts."""
    for name, (installed, _) in INSTALLED.items():
        assert "Root-Is-Purelib" in (installed.read_text("WHEEL") or ""), f"{name} did not come as a wheel"
        for file in installed.files or ():
            if file.suffix == ".pth":
                lines = Path(str(file.locate())).read_text().splitlines()
                assert not [line for line in lines if line.startswith("import")], file


def test_promise_13_the_bill_of_materials_is_whole_and_always_the_same() -> None:
    bill = SBOM.bill(DIRECT, compat.__version__)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    rows = {row["name"]: row for row in bill["components"]}
    assert len(rows) == len(bill["components"]) >= len(DIRECT)
    for requirement in DIRECT:
        assert rows[canonicalize_name(requirement.name)]["version"] == str(requirement.specifier).removeprefix("==")
    for row in rows.values():
        assert row["purl"] == f"pkg:pypi/{row['name']}@{row['version']}"
        assert row["version"] == importlib.metadata.version(row["name"])
    refs = {row["bom-ref"] for row in rows.values()} | {"openai-compat"}
    assert {row["ref"] for row in bill["dependencies"]} == refs
    assert {other for row in bill["dependencies"] for other in row["dependsOn"]} <= refs
    done = subprocess.run([sys.executable, "scripts/sbom.py"], cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == bill


RESOLVE = load(ROOT / "scripts/resolve.py")


@pytest.mark.parametrize(("version", "is_there"), [("3.11", True), ("3.12", True), ("3.13", True), ("3.14", False)])
def test_promise_13_a_python_with_zstd_of_its_own_needs_no_package_for_it(version: str, is_there: bool) -> None:
    """The package has no version for Python 3.14: a pin without a condition can't be installed there."""
    names = {pin.partition("==")[0] for pin in RESOLVE.pinned_for((ROOT / "requirements.lock").read_text(), version)}
    assert ("backports-zstd" in names) is is_there
    assert {"flask", "gevent", "deprecated"} <= names
    required = [one for one in every_line("requirements.txt") if one.name == "backports.zstd"]
    assert [one.marker.evaluate({"python_version": version}) for one in required if one.marker] == [is_there]


@pytest.mark.parametrize(
    ("wanted", "version", "faults"),
    [(">=3.9", "3.14", []), ("<3.14,>=3.9", "3.13", []), ("<3.14,>=3.9", "3.14", ["one 1.0 needs Python <3.14,>=3.9"]), (None, "3.14", [])],
)
def test_promise_13_a_package_that_is_not_for_a_python_is_found(wanted: str | None, version: str, faults: list[str]) -> None:
    metadata = {"name": "one", "version": "1.0"} | ({"requires_python": wanted} if wanted else {})
    assert RESOLVE.unfit({"install": [{"metadata": metadata}]}, version) == faults


AUDIT = load(ROOT / "scripts/audit.py")
SOUND = {"name": "flask", "version": "3.1.3", "vulns": []}
WEAK = {"name": "flask", "version": "0.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.3"]}]}
SKIPPED = {"name": "flask", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("rows", "code", "words"),
    [
        ([SOUND, SOUND], 0, "No weakness is known of the 2 packages"),
        ([SOUND, WEAK], 1, "flask 0.1: PYSEC-1, mended in 3.1.3"),
        ([SKIPPED, WEAK], 1, "PYSEC-1"),
        ([SOUND, SKIPPED], 3, "NOT AUDITED: 1 of 2"),
        ([], 3, "NOT AUDITED"),
    ],
)
def test_promise_13_an_audit_that_asked_nobody_is_no_good_news(rows: list[Any], code: int, words: str, tmp_path: Path) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nprint({json.dumps({'dependencies': rows})!r})\n")
    program.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PIP_AUDIT": str(program), "BIN": str(Path(sys.executable).parent)}
    done = subprocess.run(["scripts/audit"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert words in done.stdout


def test_promise_13_an_audit_without_its_program_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert AUDIT.main("/no/such/program") == AUDIT.UNKNOWN
    assert "NOT AUDITED" in capsys.readouterr().out


CONFIGURATION = (
    "[server]\nport = 0\n[upstreams.fake]\n"
    'kind = "openai"\nbase_url = "{url}"\napi_keys = ["sk-canary-0123456789"]\n[models."claude-4-sonnet"]\nroute = ["fake/their-model"]\n'
)


@pytest.mark.slow
def test_promise_13_with_the_network_blocked_everything_works_and_nobody_is_called(tmp_path: Path) -> None:
    """Everything at its default, discovery and the embedded model as well: nothing but the upstream is asked for anything."""
    line = CommandLine(tmp_path)
    blocked = str(ROOT / "tests/security/blocked_network.py")

    def answer(request: Any) -> Any:
        return openai.json_answer({"data": [{"id": "their-model"}]}) if request.method == "GET" else fair(request)

    with FakeUpstream(default=answer) as upstream:
        line.configure(CONFIGURATION.format(url=upstream.url))
        started = Started([sys.executable, blocked, "app.py"], tmp_path, line.environment)
        line.running.append(started)
        try:
            for path, body in CALLS.items():
                assert requests.post(started.root + path, json=body, timeout=20).status_code == 200, path
            with requests.post(
                f"{started.root}/v1/chat/completions", json={**CALLS["/v1/chat/completions"], "stream": True}, timeout=20
            ) as streamed:
                assert streamed.text.endswith("data: [DONE]\n\n")
            for path in ("/", "/setup", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/model/info", "/openapi.json"):
                assert requests.get(started.root + path, timeout=20).status_code == 200, path
            started.process.terminate()
            code, said = started.end()
        finally:
            started.close()
    assert code == 0
    assert "BLOCKED" not in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("program", ["socket.create_connection(('192.0.2.1', 80), 1)", "socket.getaddrinfo('example.com', 80)"])
def test_promise_13_is_tested_by_a_block_that_blocks(tmp_path: Path, program: str) -> None:
    (tmp_path / "calls_home.py").write_text(f"from gevent import monkey\nmonkey.patch_all()\nimport socket\n{program}\n")
    command = [sys.executable, str(ROOT / "tests/security/blocked_network.py"), str(tmp_path / "calls_home.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "BLOCKED socket." in done.stderr
