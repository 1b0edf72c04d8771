#!/usr/bin/env python3
"""Start the services when they are down, restart them when they are up: `python3 restart_services.py`.

Also `start`, `stop`, `restart`, `reload`, `status`, `logs`; `--help` tells more, docs/deployment.md tells all. Any Python 3 will do: the one
in `.venv` beside this file is used when the one that was called lacks the packages.
"""

import importlib.util
import os
import sys

BASE_DIR = os.path.dirname(os.path.abspath(__file__))
NEEDED = ("flask", "gevent", "gunicorn", "msgspec", "dotenv")


def interpreter():
    """The Python to go on with; None when this one will do, an empty text when there is none."""
    is_complete = all(importlib.util.find_spec(name) for name in NEEDED)
    if is_complete and sys.version_info >= (3, 11):
        return None
    own = os.path.join(BASE_DIR, ".venv", "bin", "python")
    return own if os.path.exists(own) and os.path.realpath(sys.prefix) != os.path.realpath(os.path.join(BASE_DIR, ".venv")) else ""


def start():
    """Hand over to compat/process/services.py."""
    if os.name == "nt":
        sys.exit("restart_services.py needs Unix; on Windows run 'python app.py'.")
    python = interpreter()
    if python is None:
        sys.path.insert(0, BASE_DIR)
        from compat.process.services import main

        sys.exit(main(sys.argv[1:], BASE_DIR))
    if not python:
        missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
        lacks = "lacks " + ", ".join(missing) if missing else "is older than 3.11"
        sys.stderr.write(
            f"openai-compat: {sys.executable} {lacks}, and there is no other in {os.path.join(BASE_DIR, '.venv')}. Make one:\n"
            f"  python3 -m venv .venv && .venv/bin/pip install -r requirements.txt\n"
        )
        sys.exit(1)
    os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


if __name__ == "__main__":
    start()
