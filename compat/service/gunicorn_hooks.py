"""What gunicorn's master does besides gunicorn's own: its values from our configuration, and a reload that can't end in ruins.

For `gunicorn app:app` without restart_services.py. gunicorn itself takes a reload (SIGHUP) at its word: with a broken configuration the
new workers fail, and it stops the whole service. Here the configuration is checked first.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from compat.accounting.key_store import keys_path, read_keys
from compat.config.settings import SettingsError, is_loopback
from compat.service.configuration import read_configuration, worker_count
from compat.service.probe import CheckFailed, check_configuration
from compat.service.state import Identity, RunFolder, identity_of, is_alive, read_json, run_folder, write_json

GENERATION = "OPENAI_COMPAT_GENERATION"
LOCAL_PROXIES = frozenset({"127.0.0.1", "::1"})
"""gunicorn's own choice of the proxies that it trusts."""
METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"
METRICS_MASTER = "OPENAI_COMPAT_METRICS_MASTER"
MASTER = "master"
WORKER_CLASS = "compat.serve.gunicorn_worker.GatewayWorker"


@dataclass(frozen=True, slots=True)
class GunicornValues:
    """The values of gunicorn.conf.py that come from the configuration."""

    bind: str
    workers: int
    worker_connections: int
    drain_s: int


def gunicorn_values(base_dir: Path) -> GunicornValues:
    """Read them. A configuration that can't be used ends the process with one line."""
    try:
        settings, environment = read_configuration(base_dir, {})
        workers = worker_count(settings, environment)
    except SettingsError as error:
        _refuse(str(error))
    run = run_folder(base_dir, os.environ)
    if fault := run.fault():
        _refuse(f"{run.root}: {fault}")
    server = settings.server
    listener = environment.get("OPENAI_COMPAT_LISTEN_FD")
    host = f"[{server.host}]" if ":" in server.host else server.host
    bind = f"fd://{listener}" if listener else f"{host}:{server.port}"
    return GunicornValues(bind, workers, server.max_connections, max(1, round(max(server.drain_s, server.shutdown_s))) + 5)


def _refuse(words: str) -> NoReturn:
    sys.stderr.write(f"openai-compat: {words}\n")
    sys.exit(2)


def share_metrics(base_dir: Path, workers: int) -> None:
    """Let several workers count into files that each of them can read: in a folder of this master, which is gone with it.

    To be called before the metrics' package is imported anywhere. What a master that was killed has left is removed by the next one; a
    folder that the environment names is some other master's.
    """
    if os.environ.get(METRICS_MASTER) == str(os.getpid()):
        return  # a reload
    os.environ.pop(METRICS_DIR, None)
    if workers == 1:
        return
    try:
        folder = _metrics_folder(run_folder(base_dir, os.environ))
    except OSError:  # a folder that can't be written
        folder = Path(tempfile.mkdtemp(prefix="openai_compat-metrics-"))
    os.environ |= {METRICS_DIR: str(folder), METRICS_MASTER: str(os.getpid())}
    atexit.register(_remove_own, folder, os.getpid())


def _metrics_folder(run: RunFolder) -> Path:
    """A folder for this master's metrics; it is there with the master's name in it, or not at all."""
    run.make()
    for old in run.root.glob("metrics-*"):
        if not is_alive((read_json(old / MASTER, dict[str, Identity]) or {}).get("master")):
            shutil.rmtree(old, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=".metrics-", dir=run.root))
    write_json(made / MASTER, {"master": identity_of(os.getpid())})
    return made.rename(run.root / f"metrics-{os.getpid()}")


def forget_worker(pid: int) -> None:
    """Called by `child_exit`: a worker that is gone has nothing under way any more."""
    if METRICS_DIR in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # prometheus-client has no types there


def _remove_own(folder: Path, pid: int) -> None:
    """The master's exit removes the folder; its children, which inherit this, leave it alone."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_open_addresses(server: Any, base_dir: Path) -> None:
    """Called by `on_starting`: an address that gunicorn was given itself needs client keys as one of the configuration does.

    So do proxies that it trusts by its settings: behind them every client looks local.
    """
    settings, environment = read_configuration(base_dir, {})
    if settings.keys or read_keys(keys_path(base_dir, environment)):
        return
    keys = f"so client keys are required: {settings.command} keys add NAME"
    for address in server.cfg.address:
        if isinstance(address, tuple) and not is_loopback(address[0]):
            _refuse(f"{address[0]} can be reached from other machines, {keys}")
    if proxies := sorted(set(server.cfg.forwarded_allow_ips) - LOCAL_PROXIES):
        _refuse(f"forwarded_allow_ips names a proxy ({', '.join(proxies)}), {keys}")


def use_own_worker(server: Any) -> None:
    """Called by `on_starting` and `on_reload`: no worker but ours, whatever gunicorn was given (`-k gevent`).

    The others' servers lack the bounds for slow clients and the rules for requests of two readings, and those without gevent hang.
    """
    asked = server.cfg.worker_class_str
    if asked != WORKER_CLASS:
        sys.stderr.write(f"openai-compat: the gateway's own gevent worker serves, not '{asked}'.\n")
        server.cfg.set("worker_class", WORKER_CLASS)
        server.worker_class = server.cfg.worker_class


def guard_reload(server: Any, base_dir: Path) -> None:
    """Called by `on_starting`: from now on the master checks a configuration before it reloads."""
    reload = server.handle_hup

    def handle_hup() -> None:
        run = run_folder(base_dir, os.environ)
        copies = run.root / f"check-{os.getpid()}"
        try:
            run.make()
            check_configuration(base_dir, copies, os.environ)
        except (CheckFailed, OSError) as error:
            server.log.error("Not reloaded, the workers go on as they are: %s", error)  # noqa: TRY400  # one line, no traceback
            return
        shutil.rmtree(copies, ignore_errors=True)
        reload()

    server.handle_hup = handle_hup


def number_reload(base_dir: Path) -> None:
    """Called by `on_reload`: workers to come have a new generation's number, and those there are can read that they are replaced."""
    number = int(os.environ.get(GENERATION) or 0) + 1
    os.environ[GENERATION] = str(number)
    run = run_folder(base_dir, os.environ)
    run.make()
    write_json(_reload_file(base_dir), {"generation": number})


def forget_reloads(base_dir: Path) -> None:
    """Called by `on_exit`."""
    _reload_file(base_dir).unlink(missing_ok=True)


def _reload_file(base_dir: Path) -> Path:
    return run_folder(base_dir, os.environ).root / f"gunicorn-{os.getpid()}.json"
