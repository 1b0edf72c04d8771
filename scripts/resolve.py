"""Whether each Python that we support can install the pinned set: `python scripts/resolve.py [VERSION...]`.

pip takes the tags of wheels from `--python-version`, but markers, and what packages themselves require, from the Python it runs in. So both
are looked at here: the markers of `requirements.lock`, which has the whole set, and pip's report. Exit code 1: one of them can't.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def pinned_for(lock: str, version: str) -> list[str]:
    """What of the text of a lock the Python `version` (`3.14`) installs on this machine, as `name==number`."""
    lines = (line.split("\\")[0].strip() for line in lock.splitlines() if line and line[0] not in "# ")
    environment = {"python_version": version, "python_full_version": f"{version}.0"}
    found = [Requirement(line) for line in lines]
    return [f"{one.name}{one.specifier}" for one in found if one.marker is None or one.marker.evaluate(environment)]


def fault_of(version: str) -> str:
    """Why that Python can't install the set, in pip's words or by what packages say of themselves; empty when it can."""
    pins = pinned_for((ROOT / "requirements.lock").read_text(), version)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--dry-run", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--python-version", version]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
        command += ["--target", folder, "--report", str(report), *pins]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # pip
        if done.returncode != 0:
            return "\n".join(line for line in done.stderr.splitlines() if line.startswith("ERROR"))
        return "\n".join(unfit(json.loads(report.read_text()), version))


def unfit(report: Mapping[str, Any], version: str) -> list[str]:
    """The packages of a report of pip's that are not for that Python."""
    rows = [row["metadata"] for row in report["install"]]
    asked = [(row["name"], row["version"], row.get("requires_python", "")) for row in rows]
    return [f"{name} {number} needs Python {wanted}" for name, number, wanted in asked if f"{version}.0" not in SpecifierSet(wanted)]


def main(versions: Sequence[str]) -> int:
    """Say it of each; the exit code."""
    faults = {version: fault_of(version) for version in versions or VERSIONS}
    for version, fault in faults.items():
        sys.stdout.write(f"Python {version}: {fault or 'every pin has a wheel'}\n")
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
