"""Having a configuration checked by `compat/service_check.py`, in a process of its own: the code may be newer than the caller's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from compat.service.state import Facts
from compat.storage.shared_log_file import printable

CHECK_S = 60.0


class CheckFailed(Exception):
    """The configuration can't be used; the message says why."""


def check_configuration(base_dir: Path, folder: Path, environment: Mapping[str, str]) -> Facts:
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
        report = msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, Any])
        if "fault" not in report:
            return msgspec.convert(report, Facts)
        fault = printable(str(report["fault"]))
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = f"the configuration could not be checked: {error}"
    except (IndexError, msgspec.DecodeError):
        last = [printable(line) for line in done.stderr.splitlines() if line.strip()][-5:]
        fault = "\n".join(["the configuration could not be checked", *last])
    shutil.rmtree(folder, ignore_errors=True)
    raise CheckFailed(fault)
