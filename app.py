"""The entry: `python app.py`, and `gunicorn app:app`."""

from gevent import monkey

monkey.patch_all()  # before anything else is imported: sockets, locks and threads become cooperative

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

BASE_DIR = Path(__file__).resolve().parent


def __getattr__(name: str) -> Any:
    """Make the WSGI application and its gateway when a server asks for them; importing this module makes nothing."""
    if name not in {"app", "gateway"}:
        raise AttributeError(name)
    from compat.factory import create_app
    from compat.process.service_gateway import start_gateway

    globals()["gateway"] = gateway = start_gateway(BASE_DIR)
    globals()["app"] = create_app(gateway)
    return globals()[name]


if __name__ == "__main__":
    from compat.cli import main

    sys.exit(main(sys.argv[1:], BASE_DIR))
