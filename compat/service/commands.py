"""`restart_services.py`: the commands that start, restart and stop the service, and show its state.

Exit codes, for scripts: 0 done, or `status`: it is up and well; 1 it failed, and the service is down; 2 a wrong argument; 3 `status`: it is
down; 4 `status`: it is up, but something of it is missing or does not answer; 5 a restart or reload was refused, and the service goes on
as it was; 6 another command is running.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from compat.service.fleet import generations, keepers, workers
from compat.service.health import Health, ask_health
from compat.service.launch import service_log, spawn_watcher
from compat.service.logs import show_logs
from compat.service.state import FileLock, Identity, RunFolder, is_alive, is_of_the_service, run_folder, send_signal, write_json
from compat.storage.shared_log_file import give_up, last_lines, printable

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_DOWN, EXIT_UNWELL, EXIT_REFUSED, EXIT_BUSY = range(7)
_POLL_S = 0.05
_LOCK_S = 90.0
_OPERATION_S = 120.0
_STOP_MARGIN_S = 15.0
_SHOWN_LINES = 12


@dataclass(slots=True)
class Report:
    """What a command prints. Mutable: filled in as it goes."""

    command: str
    outcome: str = ""
    exit_code: int = EXIT_DONE
    detail: str = ""
    pid: int | None = None
    url: str = ""
    health: str = ""
    took_s: float = 0.0
    generations: list[dict[str, Any]] = field(default_factory=list)
    engine: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def main(argv: Sequence[str], base_dir: Path) -> int:
    """Run a command; the exit code."""
    try:
        code = _run(argv, base_dir)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        give_up(sys.stdout)
        return EXIT_DONE
    return code


def _run(argv: Sequence[str], base_dir: Path) -> int:
    arguments = _parser().parse_args(argv)
    run = run_folder(base_dir, os.environ)
    try:
        run.make()
        if arguments.command == "run":
            return _watch(base_dir, run, arguments)
        if arguments.command == "logs":
            return show_logs(base_dir, run, arguments.lines, arguments.follow, sys.stdout)
        report = Services(base_dir, run, arguments.timeout).carry_out(arguments.command)
    except BrokenPipeError:
        raise
    except OSError as error:
        report = _failed(arguments.command, run, error)
    sys.stdout.write(json.dumps(asdict(report)) + "\n" if arguments.json else readable(report))
    return report.exit_code


class Services:
    """The commands. Errors of all: `OSError`."""

    def __init__(self, base_dir: Path, run: RunFolder, timeout_s: float | None) -> None:
        self._base_dir = base_dir
        self._run = run
        self._timeout_s = timeout_s or _OPERATION_S

    def carry_out(self, command: str) -> Report:
        """Do what is asked; one command at a time."""
        begun_s = time.monotonic()
        report = Report(command)
        if self._run.is_damaged:
            report.notes.append(f"{self._run.service} is damaged, or of another version, and was ignored.")
        if command == "status":
            return self._status(report)
        lock = FileLock(self._run.command_lock)
        if not _within(_LOCK_S, lock.acquire):
            return Report(command, "another command is running", EXIT_BUSY)
        try:
            report = getattr(self, f"_{command}")(report)
        finally:
            lock.release()
        assert isinstance(report, Report)
        report.took_s = round(time.monotonic() - begun_s, 2)
        return report

    def _default(self, report: Report) -> Report:
        """Start when down, restart when up."""
        return self._restart(report)

    def _start(self, report: Report) -> Report:
        service = self._run.read_service()
        if _watcher(service) is not None:
            report.outcome = "already up"
            return self._status(report)
        return self._start_watcher(report, service)

    def _restart(self, report: Report) -> Report:
        return self._change(report, signal.SIGUSR2, "restarted")

    def _reload(self, report: Report) -> Report:
        return self._change(report, signal.SIGHUP, "reloaded")

    def _stop(self, report: Report) -> Report:
        service = self._run.read_service()
        watcher = _watcher(service)
        left = self._left_over(service)
        if watcher is None and not left:
            report.outcome = "was down"
            self._clean(report, service)
            return report
        shutdown_s = max([30.0, *(row["facts"]["shutdown_s"] for row in service.get("generations", ()))])
        for process in [watcher] if watcher else left:
            send_signal(process, signal.SIGTERM)
        ends = _within(shutdown_s + _STOP_MARGIN_S, lambda: not is_alive(watcher) and not self._left_over(service))
        for process in [] if ends else [*filter(None, [watcher]), *self._left_over(service)]:
            send_signal(process, signal.SIGKILL)
            report.notes.append(f"ended by force: pid {process.pid}")
        if watcher is None:
            for row in keepers(self._run):
                send_signal(_identity(row["keeper"]), signal.SIGTERM)
        report.outcome = "stopped"
        report.pid = watcher.pid if watcher else None
        return report

    def _change(self, report: Report, number: int, done: str) -> Report:
        service = self._run.read_service()
        watcher = _watcher(service)
        if watcher is None and service.get("mode") == "background" and service.get("state") == "running" and self._left_over(service):
            _within(4.0, lambda: _watcher(self._run.read_service()) is not None)  # a worker is about to start a new one
            watcher = _watcher(self._run.read_service())
        if watcher is None:
            return self._start_watcher(report, service)
        wish = secrets.token_hex(8)
        write_json(self._run.request, {"id": wish, "environment": dict(os.environ)})
        send_signal(watcher, number)
        return self._await(report, wish, done, lambda: _watcher(self._run.read_service()) is not None)

    def _start_watcher(self, report: Report, service: Mapping[str, Any]) -> Report:
        self._clean(report, service)
        wish = secrets.token_hex(8)
        log = service_log(self._base_dir)
        since = log.stat().st_size if log.exists() else 0
        pid = spawn_watcher(self._base_dir, ["--request", wish], os.environ)

        def is_there() -> bool:
            return os.waitpid(pid, os.WNOHANG)[0] == 0

        report = self._await(report, wish, "started", is_there)
        if report.exit_code == EXIT_FAILED and not report.detail:
            report.detail = "\n".join(["the watcher ended", *last_lines(log, _SHOWN_LINES, since)])
        return report

    def _await(self, report: Report, wish: str, done: str, is_there: Callable[[], bool]) -> Report:
        """Wait for the outcome of the operation `wish`."""
        outcome: dict[str, Any] = {}

        def has_come() -> bool:
            operation = self._run.read_service().get("operation") or {}
            if operation.get("id") == wish and operation.get("is_done"):
                outcome.update(operation)
            return bool(outcome)

        is_gone = False
        deadline_s = time.monotonic() + self._timeout_s
        while not has_come() and not is_gone and time.monotonic() < deadline_s:
            is_gone = not is_there() and not has_come()
            time.sleep(_POLL_S)
        service = self._run.read_service()
        is_up = service.get("current") is not None and _watcher(service) is not None
        if outcome and not outcome["fault"]:
            report.outcome = done
            return self._status(report)
        report.detail = outcome.get("fault", "" if is_gone else f"it did not finish within {self._timeout_s:g} s")
        report.exit_code = EXIT_REFUSED if is_up else EXIT_FAILED
        report.outcome = f"not {done}: the service goes on as it was" if is_up else f"not {done}: the service is down"
        if is_up:
            code = report.exit_code
            report = self._status(report)
            report.exit_code = code
        return report

    def _status(self, report: Report) -> Report:
        service = self._run.read_service()
        watcher = _watcher(service)
        alive = workers(self._run)
        report.pid = watcher.pid if watcher else None
        report.url = _url(service)
        report.generations = generations(alive, service)
        report.engine = [{key: row[key] for key in ("state", "detail", "model", "pid")} for row in keepers(self._run)]
        if watcher is None and not self._left_over(service):
            report.outcome, report.exit_code, report.url = "down", EXIT_DOWN, ""
            self._clean(report, service)
            return report
        key = self._run.health_key()
        health = _healthy(report.url, key) if report.outcome else ask_health(report.url, key)
        report.health = health.words
        report.outcome = report.outcome or "up"
        if watcher is None:
            report.notes.append("The watcher is gone; a worker starts a new one. If that does not help: restart_services.py restart.")
        if service.get("current") is None:
            report.notes.append("No generation is serving; the watcher tries again.")
        report.notes += configuration_warnings(service)
        if watcher is None or service.get("current") is None or not health.is_well:
            report.exit_code = EXIT_UNWELL
        return report

    def _left_over(self, service: Mapping[str, Any]) -> list[Identity]:
        """What runs of the generations: masters, and workers with or without one."""
        masters = [Identity.read(row.get("identity")) for row in service.get("generations", ())]
        members = [worker.identity for worker in workers(self._run) if worker.generation > 0]
        return [known for known in [*masters, *members] if known is not None and is_of_the_service(known)]

    def _clean(self, report: Report, service: Mapping[str, Any]) -> None:
        """Say that the pid file named a process that is gone; the watcher to come writes a new one."""
        known = Identity.read(service.get("watcher"))
        if known is not None and service.get("state") == "running" and not is_of_the_service(known):
            report.notes.append(f"Removed a stale pid file: process {known.pid} is gone, or is another one by now.")
            if not self._left_over(service):
                self._run.service.unlink(missing_ok=True)


def configuration_warnings(service: Mapping[str, Any]) -> list[str]:
    """What the check found odd in the configuration that is served with."""
    current = [row for row in service.get("generations", ()) if row["number"] == service.get("current")]
    return [f"warning: {printable(words)}" for row in current for words in row["facts"].get("warnings", ())]


_DONE = frozenset({"started", "stopped", "restarted", "reloaded"})


def _failed(command: str, run: RunFolder, error: OSError) -> Report:
    """What the system refused, a full disk for instance, and what that means for the service."""
    is_up = _watcher(run.read_service()) is not None
    outcome = "failed: the service goes on as it was" if is_up else "failed"
    detail = f"{error.filename or 'the system'}: {error.strerror or error}"
    return Report(command, outcome, EXIT_REFUSED if is_up else EXIT_FAILED, detail)


def readable(report: Report) -> str:
    """The report for people."""
    words = " in" if report.outcome in _DONE else ", after"
    lines = [f"openai-compat  {report.outcome}" + (f"{words} {report.took_s:.1f} s" if report.took_s else "")]
    if report.detail:
        lines += ["  " + line for line in report.detail.splitlines()]
    rows = [("pid", str(report.pid or "")), ("URL", f"{report.url}/v1" if report.url else ""), ("health", report.health)]
    lines += [f"  {name:<8} {value}" for name, value in rows if value]
    for row in report.generations:
        pids = " ".join(str(worker["pid"]) for worker in row["workers"])
        lines.append(
            f"  workers  generation {row['generation']} {row['state']} since {row['started']}, {row['in_flight']} in flight, pid {pids}"
        )
    lines += [f"  engine   {row['model']}: {row['detail']}" + (f", pid {row['pid']}" if row["pid"] else "") for row in report.engine]
    return "\n".join([*lines, *(f"  {note}" for note in report.notes)]) + "\n"


def _watch(base_dir: Path, run: RunFolder, arguments: argparse.Namespace) -> int:
    """Be the watcher."""
    import setproctitle

    from compat.service.watcher import Order, Watcher

    lock = FileLock(run.watcher_lock)
    if not _within(2.0, lock.acquire):
        sys.stderr.write("openai-compat: another watcher is running in this folder.\n")
        return EXIT_FAILED
    setproctitle.setproctitle("openai_compat: watcher")

    def become(more: list[str], descriptor: int) -> NoReturn:
        mode = ["--background"] if arguments.background else []
        os.set_inheritable(descriptor, True)
        os.execve(sys.executable, [sys.executable, str(base_dir / "restart_services.py"), "run", *mode, *more], os.environ)  # noqa: S606  # this very program

    order = Order(base_dir, run, arguments.background, arguments.adopt, arguments.request)
    return Watcher(order, dict(os.environ), become).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="restart_services.py", description="Start the services when they are down, restart them when they are up.", epilog=__doc__
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--timeout", type=float, help="seconds to wait for the outcome (default 120)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parser.set_defaults(command="default", lines=40, follow=False)
    for name, words in _COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object instead of text")
        command.add_argument("--timeout", type=float, default=argparse.SUPPRESS, help="seconds to wait for the outcome (default 120)")
        if name == "logs":
            command.add_argument("-n", "--lines", type=int, default=40, help="how many lines of each log (default 40)")
            command.add_argument("-f", "--follow", action="store_true", help="follow what is written from now on")
        if name == "run":
            command.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
            command.add_argument("--adopt", type=int, help=argparse.SUPPRESS)
            command.add_argument("--request", default="", help=argparse.SUPPRESS)
    return parser


def _within(bound_s: float, is_so: Callable[[], bool]) -> bool:
    """Whether something becomes so within the bound."""
    deadline_s = time.monotonic() + bound_s
    while not is_so():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def _healthy(url: str, key: str) -> Health:
    """How it does after a start; it may need a moment."""
    health = ask_health(url, key)
    deadline_s = time.monotonic() + 10.0
    while not health.is_well and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        health = ask_health(url, key)
    return health


def _watcher(service: Mapping[str, Any]) -> Identity | None:
    """The watcher that wrote the file, if it lives."""
    known = Identity.read(service.get("watcher"))
    return known if is_of_the_service(known) else None


def _identity(value: object) -> Identity:
    identity = Identity.read(value)
    assert identity is not None
    return identity


def _url(service: Mapping[str, Any]) -> str:
    """Where this machine reaches the gateway."""
    bound = service.get("bound")
    if not bound:
        return ""
    host, port = bound
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


_COMMANDS = {
    "start": "start the services, unless they are up",
    "stop": "stop the services; running answers may finish for [server] shutdown_s",
    "restart": "replace everything with the present code and configuration, without dropping a call; start when down",
    "reload": "replace the workers with the present configuration, without dropping a call; start when down",
    "status": "show the state of the services",
    "logs": "show the end of the logs",
    "run": "stay in the foreground, for systemd and containers",
}
