#!/usr/bin/env python3
"""Start the services when they are down, restart them when they are up: `python3 restart_services.py`.

Also `start`, `stop`, `restart`, `reload`, `status`, `logs`; `--help` tells more, docs/deployment.md tells all. Any Python 3 works:
one that lacks the packages starts the one in `.venv` beside this file.
"""

import importlib.util
import os
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
NEEDED = ("flask", "gevent", "gunicorn", "msgspec", "dotenv")
EXIT_FAILED = 1


def start() -> int:
    """Hand over to compat/service/commands.py, with a Python that can run it."""
    if os.name == "nt":
        sys.stderr.write("openai-compat: restart_services.py needs Unix; on Windows run 'python app.py'.\n")
        return EXIT_FAILED
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if not missing and sys.version_info >= (3, 11):  # the system's Python may be older than ours
        sys.path.insert(0, str(BASE_DIR))
        from compat.service.commands import main

        return main(sys.argv[1:], BASE_DIR)
    environment = BASE_DIR / ".venv"
    python = environment / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != environment.resolve() and Path(sys.executable) != python:
        os.execv(str(python), [str(python), str(BASE_DIR / Path(__file__).name), *sys.argv[1:]])  # noqa: S606  # this very program
    lacks = "lacks " + ", ".join(missing) if missing else "is older than 3.11"
    sys.stderr.write(
        f"openai-compat: {sys.executable} {lacks}, and there is no other Python in {environment}. Make one:\n"
        "  python3 -m venv .venv && .venv/bin/pip install -r requirements.txt\n"
    )
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(start())
