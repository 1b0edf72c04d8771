"""`python app.py` as it would be on Windows, as far as Unix can tell: without the modules, signals and flags that are not there.

What is not our own is imported before, for it would take the word of `sys.platform`.
"""

# ruff: noqa: E402  # what gevent replaces comes before all that is imported
from gevent import monkey

monkey.patch_all()  # before anything else is imported

import importlib
import os
import runpy
import signal
import sys
from typing import Any

NOT_OURS = (
    *("asyncio", "concurrent.futures", "ctypes", "multiprocessing", "sqlite3", "subprocess", "tempfile"),
    *("dotenv", "flask_compress", "flask_limiter", "gevent.pywsgi", "httptools", "platformdirs", "prometheus_client", "pybreaker"),
    *("redis", "requests", "setproctitle"),
)
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "gunicorn"}
OF_OS = ("O_CLOEXEC", "O_NOFOLLOW", "geteuid", "getuid", "fchmod", "chown", "pidfd_open", "killpg", "setsid", "getpgid", "WNOHANG")
OF_SIGNAL = ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGQUIT", "pidfd_send_signal")

for module in NOT_OURS:
    importlib.import_module(module)


class Missing:
    """Finds nothing where Windows has nothing."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
for module in MODULES:
    sys.modules.pop(module, None)
for place, names in ((os, OF_OS), (signal, OF_SIGNAL)):
    for name in names:
        if hasattr(place, name):
            delattr(place, name)
sys.platform = "win32"
sys.path.insert(0, os.getcwd())  # noqa: PTH109  # a `Path` made now would be one of Windows
sys.argv = ["app.py", *sys.argv[1:]]
runpy.run_path("app.py", run_name="__main__")
