"""The software bill of materials of an installation: CycloneDX 1.6, as JSON, on standard output.

What stands in `requirements.txt`, and all that it needs on this machine, from the metadata of what is installed (PEP 566, PEP 508). The
same installation gives the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def needed(requirement: Requirement, extra: str = "") -> bool:
    """Whether a requirement counts on this machine."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def direct(text: str) -> list[Requirement]:
    """The requirements of a file; comments and options are none."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return [requirement for requirement in found if needed(requirement)]


def closure(requirements: list[Requirement]) -> dict[str, tuple[importlib.metadata.Distribution, list[str]]]:
    """Name -> what is installed, and the names that it needs itself. `PackageNotFoundError` for what is missing."""
    found: dict[str, tuple[importlib.metadata.Distribution, list[str]]] = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        installed = importlib.metadata.distribution(requirement.name)
        own = [Requirement(line) for line in installed.requires or ()]
        own = [other for other in own if any(needed(other, extra) for extra in (requirement.extras or {""}))]
        found[name] = (installed, sorted({canonicalize_name(other.name) for other in own}))
        waiting += own
    return found


def component(installed: importlib.metadata.Distribution, name: str) -> dict[str, Any]:
    """One row of the bill."""
    purl = f"pkg:pypi/{name}@{installed.version}"
    row: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": installed.version, "purl": purl}
    licence = installed.metadata.get("License-Expression") or installed.metadata.get("License") or ""
    if licence and "\n" not in licence and len(licence) < 100:
        row["licenses"] = [{"license": {"name": licence}}]
    return row


def bill(requirements: list[Requirement], version: str) -> dict[str, Any]:
    """The whole document."""
    found = closure(requirements)
    refs = {name: f"pkg:pypi/{name}@{installed.version}" for name, (installed, _) in found.items()}
    ours = {"type": "application", "bom-ref": "openai-compat", "name": "openai-compat", "version": version}
    dependencies = [{"ref": "openai-compat", "dependsOn": sorted(refs[canonicalize_name(item.name)] for item in requirements)}]
    dependencies += [{"ref": refs[name], "dependsOn": [refs[other] for other in others]} for name, (_, others) in sorted(found.items())]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours},
        "components": [component(installed, name) for name, (installed, _) in sorted(found.items())],
        "dependencies": dependencies,
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from compat import __version__

    json.dump(bill(direct((ROOT / "requirements.txt").read_text()), __version__), sys.stdout, indent=1)
    sys.stdout.write("\n")
