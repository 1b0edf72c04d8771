"""Asks pip-audit about requirements.lock, and tells apart what it says: nothing known, something known, or nothing asked.

pip-audit passes over a package that its database does not know, and still ends with 0: where the database can't be reached through
a mirror of PyPI, that is all of them, and must not be taken for good news.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLEAN, KNOWN, UNKNOWN = 0, 1, 3
BOUND_S = 300


def verdict(report: dict[str, Any], say: Callable[[str], object]) -> int:
    """The exit code for pip-audit's report as JSON."""
    rows = report["dependencies"]
    weak = [row for row in rows if row.get("vulns")]
    skipped = [row["name"] for row in rows if row.get("skip_reason")]
    for row in weak:
        for found in row["vulns"]:
            say(f"{row['name']} {row['version']}: {found['id']}, mended in {', '.join(found.get('fix_versions') or ()) or 'no version'}")
    if weak:
        return KNOWN
    if skipped or not rows:
        say(f"NOT AUDITED: {len(skipped)} of {len(rows)} packages are not in a database that can be reached from here.")
        return UNKNOWN
    say(f"No weakness is known of the {len(rows)} packages.")
    return CLEAN


def main(audit: str) -> int:
    """Run pip-audit, the program `audit`; the exit code."""
    command = [audit, "--requirement", "requirements.lock", "--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S, check=False)  # noqa: S603  # the caller's
        report = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        sys.stdout.write("NOT AUDITED: pip-audit can't be had here, or did not answer.\n")
        return UNKNOWN
    return verdict(report, lambda line: sys.stdout.write(line + "\n"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
