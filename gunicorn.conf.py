"""gunicorn's configuration: for `gunicorn app:app` in this folder, and for the gunicorn that restart_services.py runs.

The address, the number of workers and the bounds come from config.toml (`[server]` host, port, workers, max_connections, drain_s) and from
the environment (OPENAI_COMPAT_WORKERS); what is given to gunicorn itself, as in `gunicorn --bind ... app:app`, goes before.
"""

from pathlib import Path
from typing import Any

from compat.service.gunicorn_hooks import (
    WORKER_CLASS,
    forget_reloads,
    forget_worker,
    guard_reload,
    gunicorn_values,
    number_reload,
    refuse_open_addresses,
    share_metrics,
    use_own_worker,
)

BASE_DIR = Path(__file__).resolve().parent
_values = gunicorn_values(BASE_DIR)
share_metrics(BASE_DIR, _values.workers)

chdir = str(BASE_DIR)
bind = _values.bind
workers = _values.workers
worker_class = WORKER_CLASS
worker_connections = _values.worker_connections
graceful_timeout = _values.drain_s  # the master's patience; the workers know the bound for each occasion
timeout = 60  # a worker that shows no sign of life for so long is replaced
backlog = 2048
proc_name = "openai_compat"  # for `ps aux | grep openai_compat`
preload_app = False  # each worker makes the gateway for itself, after the fork
loglevel = "warning"
errorlog = "-"
accesslog = None  # the call log tells more
control_socket_disable = True
MEMORY = Path("/dev/shm")  # noqa: S108  # gunicorn makes its files there safely
if MEMORY.is_dir():
    worker_tmp_dir = str(MEMORY)  # signs of life must not wait for a disk


def on_starting(server: Any) -> None:
    refuse_open_addresses(server, BASE_DIR)
    use_own_worker(server)
    guard_reload(server, BASE_DIR)


def on_reload(server: Any) -> None:
    use_own_worker(server)
    number_reload(BASE_DIR)


def on_exit(server: Any) -> None:  # noqa: ARG001  # gunicorn's signature
    forget_reloads(BASE_DIR)


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001  # gunicorn's signature
    forget_worker(worker.pid)
