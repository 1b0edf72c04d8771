"""The package as it is installed: what is in it, and where it keeps its state. `.ci/run` builds it, and installs it where nothing is."""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import compat
from compat.__main__ import home
from tests.unit.service.command_line import Started

ROOT = Path(compat.__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in a folder where nothing else of the checkout is."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "compat", folder / "compat", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def started(environment: dict[str, str], tmp_path: Path) -> Iterator[Started]:
    data = tmp_path / ".local/share/openai_compat"
    data.mkdir(parents=True)
    (data / "config.toml").write_text("server.port = 0\ndiscovery.enabled = false\nembedded.enabled = false\n")
    running = Started([sys.executable, "-m", "compat"], tmp_path, environment)
    yield running
    running.close()


def test_every_file_beside_the_code_is_in_the_package() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["compat"]
    listed = subprocess.run(["git", "ls-files", "compat"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    files = [path.removeprefix("compat/") for path in listed if not path.endswith(".py")]
    assert files
    assert [path for path in files if not any(fnmatch.fnmatch(path, one) for one in patterns)] == []
    folders = {str(Path(path).parent) for path in listed if path.endswith(".py")}
    assert [folder for folder in folders if f"{folder}/__init__.py" not in listed] == []


def test_what_is_optional_is_what_the_tests_run_with() -> None:
    written = [line.split("#")[0].strip() for line in (ROOT / "requirements-dev.txt").read_text().splitlines()]
    assert set(PROJECT["project"]["optional-dependencies"]["traces"]) <= set(written)
    assert PROJECT["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    assert PROJECT["project"]["scripts"] == {"openai-compat": "compat.__main__:main"}


def test_a_checkout_keeps_everything_beside_app_py() -> None:
    assert home() == ROOT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the folder of the user's data has another name there")
def test_an_installed_package_serves_from_a_folder_of_the_users(started: Started, installed: Path, tmp_path: Path) -> None:
    assert requests.get(f"{started.root}/healthz", timeout=30).json()["configuration"]["source"].endswith("openai_compat/config.toml")
    assert requests.get(f"{started.root}/openapi.json", timeout=30).status_code == 200
    assert requests.get(f"{started.root}/", timeout=30).status_code == 200
    page = requests.get(f"{started.root}/setup", timeout=30).text
    assert ("openai-compat setup kilo" in page, "python app.py" in page) == (True, False)
    started.process.terminate()
    started.end()
    assert (tmp_path / ".local/share/openai_compat/logs/openai_compat.log").exists()
    assert [path.name for path in installed.iterdir()] == ["compat"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the folder of the user's data has another name there")
def test_a_home_that_can_not_be_written_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    environment["XDG_DATA_HOME"] = str(tmp_path / "a file")
    command = [sys.executable, "-m", "compat", "--check"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("XDG_DATA_HOME names another place.\n")
