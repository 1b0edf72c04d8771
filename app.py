"""The entry: `python app.py`, and `gunicorn app:app`."""

from gevent import monkey

monkey.patch_all()  # before anything else is imported: sockets, locks and threads become cooperative

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

BASE_DIR = Path(__file__).resolve().parent


def __getattr__(name: str) -> Any:
    """Make the WSGI application when a server asks for `app`; importing this module makes nothing."""
    if name != "app":
        raise AttributeError(name)
    from compat.cli import read_configuration, start_background
    from compat.factory import build_gateway, create_app

    settings, environment = read_configuration(BASE_DIR, {})
    gateway = build_gateway(settings, environment, BASE_DIR)
    start_background(gateway)
    globals()["app"] = create_app(gateway)
    return globals()["app"]


if __name__ == "__main__":
    from compat.cli import main

    sys.exit(main(sys.argv[1:], BASE_DIR))
