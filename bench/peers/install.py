"""Peers are installed into environments of their own, in a cache folder outside the tree, from PyPI and npm.

Strategy: an environment is data (`Pip`, `Npm`). Its folder is named by what is in it, and gets a mark when it is complete: what was
interrupted is made anew, what is there is used again without asking a registry.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_LIMIT_S = 900
_MARK = "complete"


class NotInstalled(Exception):
    """An environment that can't be made here; the message says why."""


_REQUIREMENTS = """
import importlib.metadata, sys
from pip._vendor.packaging.requirements import Requirement
wanted = Requirement(sys.argv[1])
for row in map(Requirement, importlib.metadata.requires(wanted.name)):
    if row.marker is None or any(row.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
        extras = f"[{','.join(sorted(row.extras))}]" if row.extras else ""
        print(f"{row.name}{extras}{'' if '==' in str(row.specifier) else row.specifier}")
"""


@dataclass(frozen=True, slots=True)
class Pip:
    """A package in a virtual environment of Python.

    `is_loose`: the versions that it pins exactly are not insisted on. A registry's mirror may have a package and not yet the packages of
    the same day that it pins.
    """

    package: str
    is_loose: bool = False

    @property
    def words(self) -> str:
        """What makes this environment another one."""
        return json.dumps([self.package, self.is_loose, sys.version_info[:2]])

    def make(self, folder: Path) -> None:
        """Install. Errors: `NotInstalled`."""
        _run([sys.executable, "-m", "venv", str(folder)])
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if not self.is_loose:
            _run([*pip, self.package])
            return
        _run([*pip, "--no-deps", self.package])
        _run([*pip, *_run([python, "-c", _REQUIREMENTS, self.package]).split()])

    def version(self, folder: Path, package: str) -> str:
        """The version of `package` that is there."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        return subprocess.run([str(folder / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True, slots=True)
class Npm:
    """Packages of npm in a folder; each version is pinned for dependencies of dependencies, too."""

    packages: Mapping[str, str]

    @property
    def words(self) -> str:
        """What makes this environment another one."""
        return json.dumps(dict(self.packages))

    def make(self, folder: Path) -> None:
        """Install. Errors: `NotInstalled`."""
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise NotInstalled("there is no npm and node on this machine")
        folder.mkdir(parents=True)
        document = {"name": "peer", "private": True, "dependencies": dict(self.packages), "overrides": dict(self.packages)}
        (folder / "package.json").write_text(json.dumps(document))
        _run([npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder)])

    def version(self, folder: Path, package: str) -> str:
        """The version of `package` that is there."""
        version: str = json.loads((folder / "node_modules" / package / "package.json").read_text())["version"]
        return version


class Environment(Protocol):
    """What can be installed: `Pip`, `Npm`."""

    @property
    def words(self) -> str:
        """What makes this environment another one."""

    def make(self, folder: Path) -> None:
        """Install. Errors: `NotInstalled`."""

    def version(self, folder: Path, package: str) -> str:
        """The version of `package` that is there."""


def install(name: str, environment: Environment, cache: Path) -> Path:
    """The folder of that environment, made if need be. Errors: `NotInstalled`."""
    folder = cache / f"{name}-{hashlib.sha256(environment.words.encode()).hexdigest()[:8]}"
    if not (folder / _MARK).exists():
        shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        environment.make(folder)
        (folder / _MARK).touch()
    return folder


def _run(command: Sequence[str]) -> str:
    """What the command prints. Errors: `NotInstalled`."""
    try:
        done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stdout + error.stderr).splitlines() if line and not line.startswith("WARNING")]
        raise NotInstalled(f"{Path(command[0]).name} failed: {' '.join(lines[-2:])[-300:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    return done.stdout
