"""Having a configuration checked by `compat/service_check.py`, in a process of its own: the code may be newer than the caller's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.storage.shared_log_file import printable

CHECK_S = 60.0


class CheckFailed(Exception):
    """The configuration can't be used; the message says why."""


def check_configuration(base_dir: Path, folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Copy the configuration into `folder` and check it; what a watcher has to know of it. `CheckFailed` leaves no copy."""
    try:
        done = subprocess.run(  # noqa: S603  # our own module
            [sys.executable, "-m", "compat.service_check", str(base_dir), str(folder)],
            cwd=base_dir,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHECK_S,
            check=False,
        )
        facts = _facts_of(done.stdout)
        if facts is None:
            last = [printable(line) for line in done.stderr.splitlines() if line.strip()][-5:]
            raise CheckFailed("\n".join(["the configuration could not be checked", *last]))
        if "fault" in facts:
            raise CheckFailed(printable(str(facts["fault"])))
    except (OSError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckFailed(f"the configuration could not be checked: {error}") from error
    except CheckFailed:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return facts


def _facts_of(output: str) -> dict[str, Any] | None:
    try:
        facts = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
