"""The vendors' SDKs' own tests, from their source packages, against a server. Nothing of them belongs here."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NOT_FETCHED = 3


@dataclass(frozen=True)
class Sdk:
    """An SDK on PyPI, and what its tests need besides."""

    name: str
    version: str
    needs: Sequence[str]

    def fetched(self, folder: Path) -> Sources:
        """Its sources, and an interpreter that has it. Errors: `CalledProcessError`."""
        root, python = folder / f"{self.name}-{self.version}", folder / f"venv-{self.name}/bin/python"
        if not root.exists():
            venv.create(python.parents[1], with_pip=True)
            pip = [str(python), "-m", "pip", "-q", "--disable-pip-version-check"]
            one = f"{self.name}=={self.version}"
            subprocess.run([*pip, "install", one, *self.needs], check=True)  # noqa: S603  # words of our own
            subprocess.run([*pip, "download", "--no-deps", "--no-binary", ":all:", one, "-d", str(folder)], check=True)  # noqa: S603  # the same
            with tarfile.open(f"{root}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
        return Sources(root, python)


@dataclass(frozen=True)
class Sources:
    """An SDK's sources, and the interpreter for them."""

    root: Path
    python: Path

    def run(self, base_url: str, *chosen: str) -> int:
        """The exit code of the tests that are chosen, with pytest's words, against a server."""
        command = [str(self.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "--tb=line", *chosen]
        return subprocess.run(command, cwd=self.root, env={**os.environ, "TEST_API_BASE_URL": base_url}, check=False).returncode  # noqa: S603  # too


def main(judged: Callable[[Path], int]) -> int:
    """The exit code of a script: 0: all passed; 1: some did not; 3: the SDK could not be fetched."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return int(judged(folder) != 0)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"The SDK could not be fetched: {error}\n")
            return NOT_FETCHED
