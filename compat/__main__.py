"""The entry of an installed package: `openai-compat`, and `python -m compat`.

In a checkout all is beside `app.py`, as with `python app.py`. An installed package has no such place: the configuration, `.env`, `data`
and `logs` are in a folder of the user's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder of the configuration and all state: the checkout, else the user's, made where it is missing. Errors: `OSError`."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "app.py").is_file() and (checkout / "restart_services.py").is_file():
        return checkout
    folder = platformdirs.user_data_path("openai_compat", appauthor=False)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def main() -> int:
    """Run the command line; the exit code."""
    from gevent import monkey

    monkey.patch_all()  # before all that is imported below: sockets, locks and threads become cooperative

    from compat.cli import main as run

    try:
        folder = home()
    except OSError as error:
        sys.stderr.write(f"openai-compat: {error.filename}: {error.strerror}. XDG_DATA_HOME names another place.\n")
        return 2
    return run(sys.argv[1:], folder, "openai-compat")


if __name__ == "__main__":
    sys.exit(main())
