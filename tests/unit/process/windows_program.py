"""`python app.py` as it would be on Windows, as far as Unix can tell: without the modules, signals and flags that are not there.

What is not our own is imported before, for it would take the word of `sys.platform`.
"""

from gevent import monkey

monkey.patch_all()

import asyncio  # noqa: E402, F401
import concurrent.futures  # noqa: E402, F401
import ctypes  # noqa: E402, F401
import multiprocessing  # noqa: E402, F401
import os  # noqa: E402
import runpy  # noqa: E402
import signal  # noqa: E402
import sqlite3  # noqa: E402, F401
import subprocess  # noqa: E402, F401
import sys  # noqa: E402
import tempfile  # noqa: E402, F401
from typing import Any  # noqa: E402

import dotenv  # noqa: E402, F401
import flask_compress  # noqa: E402, F401
import flask_limiter  # noqa: E402, F401
import gevent.pywsgi  # noqa: E402, F401
import httptools  # noqa: E402, F401
import platformdirs  # noqa: E402, F401
import prometheus_client  # noqa: E402, F401
import pybreaker  # noqa: E402, F401
import redis  # noqa: E402, F401
import requests  # noqa: E402, F401
import setproctitle  # noqa: E402, F401

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "gunicorn"}
OF_OS = ("O_CLOEXEC", "O_NOFOLLOW", "geteuid", "getuid", "fchmod", "chown", "pidfd_open", "killpg", "setsid", "getpgid", "WNOHANG")
OF_SIGNAL = ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGQUIT", "pidfd_send_signal")


class Missing:
    """Finds nothing where Windows has nothing."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())  # type: ignore[arg-type]
for module in MODULES:
    sys.modules.pop(module, None)
for place, names in ((os, OF_OS), (signal, OF_SIGNAL)):
    for name in names:
        if hasattr(place, name):
            delattr(place, name)
sys.platform = "win32"
sys.path.insert(0, os.getcwd())  # noqa: PTH109
sys.argv = ["app.py", *sys.argv[1:]]
runpy.run_path("app.py", run_name="__main__")
