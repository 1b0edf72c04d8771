"""The entry: `python app.py`, and `gunicorn app:app`.

Any Python 3 will do for the first: the one in `.venv` goes on where packages are missing.
"""

import importlib.util
import os
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
NEEDED = ("flask", "gevent", "msgspec", "dotenv")


def find_packages() -> None:
    """Go on with the Python in `.venv` where this one can't run the gateway; without one, end with a line that says what to do."""
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if not missing and sys.version_info >= (3, 11):
        return
    environment = BASE_DIR / ".venv"
    python = environment / "bin" / "python"
    is_other = Path(sys.prefix).resolve() != environment.resolve() and Path(sys.executable) != python
    if os.name != "nt" and python.exists() and is_other:
        os.execv(str(python), [str(python), str(Path(__file__).resolve()), *sys.argv[1:]])  # noqa: S606  # this very program
    lacks = "lacks " + ", ".join(missing) if missing else "is older than 3.11"
    words = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python app.py"
    sys.stderr.write(f"openai-compat: {sys.executable} {lacks}. In {BASE_DIR} run: {words}\n")
    sys.exit(2)


if __name__ == "__main__":
    find_packages()

from gevent import monkey  # noqa: E402  # of the environment that was found

monkey.patch_all()  # before all that follows: sockets, locks and threads become cooperative

from typing import Any  # noqa: E402  # patched, as all that follows


def __getattr__(name: str) -> Any:
    """Make the WSGI application with its gateway when a server asks for it; importing this module makes nothing."""
    if name != "app":
        raise AttributeError(name)
    from compat.service_gateway import start_gateway

    globals()["app"] = start_gateway(BASE_DIR)
    return globals()["app"]


if __name__ == "__main__":
    from compat.cli import main

    sys.exit(main(sys.argv[1:], BASE_DIR))
