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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compat.service.fleet import generations, keepers, workers
from compat.service.health import ask_health
from compat.service.launch import service_log, spawn_watcher
from compat.service.listener import local_url
from compat.service.logs import show_logs
from compat.service.state import (
    FileLock,
    Identity,
    Operation,
    RunFolder,
    Service,
    Wish,
    is_alive,
    is_of_the_service,
    run_folder,
    send_signal,
    write_json,
)
from compat.storage.shared_log_file import give_up, last_lines, printable

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_DOWN, EXIT_UNWELL, EXIT_REFUSED, EXIT_BUSY = range(7)
_POLL_S = 0.05
_HEALTHY_S = 10.0
_LOCK_S = 90.0
_OPERATION_S = 120.0
_STOP_MARGIN_S = 15.0
_REVIVED_S = 4.0
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

    def __init__(self, base_dir: Path, run: RunFolder, timeout_s: float) -> None:
        self._base_dir = base_dir
        self._run = run
        self._timeout_s = timeout_s

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
            return Report(command, "another command is running: wait until it has ended", EXIT_BUSY)
        try:
            match command:
                case "start":
                    report = self._start(report)
                case "stop":
                    report = self._stop(report)
                case "reload":
                    report = self._change(report, signal.SIGHUP, "reloaded")
                case _:
                    report = self._change(report, signal.SIGUSR2, "restarted")
        finally:
            lock.release()
        report.took_s = round(time.monotonic() - begun_s, 2)
        return report

    def _start(self, report: Report) -> Report:
        if self._watcher() is not None:
            report.outcome = "already up"
            return self._status(report)
        return self._start_watcher(report)

    def _stop(self, report: Report) -> Report:
        watcher, service = self._watcher_to_ask(), self._run.read_service()
        left = self._left_over(service)
        if watcher is None and not left:
            report.outcome = "was down"
            self._clean(report, service)
            return report
        shutdown_s = max([30.0, *(row.facts.shutdown_s for row in service.generations)])
        for process in [watcher] if watcher else left:
            send_signal(process, signal.SIGTERM)
        ends = _within(shutdown_s + _STOP_MARGIN_S, lambda: not is_alive(watcher) and not self._left_over(service))
        for process in [] if ends else [*filter(None, [watcher]), *self._left_over(service)]:
            send_signal(process, signal.SIGKILL)
            report.notes.append(f"ended by force: pid {process.pid}")
        for row in keepers(self._run) if watcher is None else ():
            send_signal(row.keeper, signal.SIGTERM)
        report.outcome = "stopped"
        report.pid = watcher.pid if watcher else None
        return report

    def _change(self, report: Report, number: int, done: str) -> Report:
        watcher = self._watcher_to_ask()
        if watcher is None:
            return self._start_watcher(report)
        wish = Wish(secrets.token_hex(8), dict(os.environ))
        write_json(self._run.request, wish)
        send_signal(watcher, number)
        return self._await(report, wish.id, done, lambda: self._watcher() is not None)

    def _start_watcher(self, report: Report) -> Report:
        self._clean(report, self._run.read_service())
        wish, log = secrets.token_hex(8), service_log(self._base_dir)
        since = log.stat().st_size if log.exists() else 0
        pid = spawn_watcher(self._base_dir, ["--request", wish], os.environ)
        report = self._await(report, wish, "started", lambda: os.waitpid(pid, os.WNOHANG)[0] == 0)
        if report.exit_code == EXIT_FAILED and not report.detail:
            report.detail = "\n".join(["the watcher ended", *last_lines(log, _SHOWN_LINES, since)])
        return report

    def _await(self, report: Report, wish: str, done: str, is_there: Callable[[], bool]) -> Report:
        """Wait for the outcome of the operation `wish`."""

        def outcome() -> Operation | None:
            operation = self._run.read_service().operation
            return operation if operation.id == wish and operation.is_done else None

        deadline_s, is_gone = time.monotonic() + self._timeout_s, False
        while (ended := outcome()) is None and not is_gone and time.monotonic() < deadline_s:
            is_gone = not is_there() and outcome() is None
            time.sleep(_POLL_S)
        if ended is not None and not ended.fault:
            report.outcome = done
            return self._status(report)
        report.detail = ended.fault if ended is not None else "" if is_gone else f"it did not finish within {self._timeout_s:g} s"
        if self._run.read_service().current is None or self._watcher() is None:
            report.outcome, report.exit_code = f"not {done}: the service is down", EXIT_FAILED
            return report
        report.outcome = f"not {done}: the service goes on as it was"
        report = self._status(report)
        report.exit_code = EXIT_REFUSED
        return report

    def _status(self, report: Report) -> Report:
        service, watcher = self._run.read_service(), self._watcher()
        report.pid = watcher.pid if watcher else None
        report.generations = generations(workers(self._run), service)
        report.engine = [{"state": row.state, "detail": row.detail, "model": row.model, "pid": row.pid} for row in keepers(self._run)]
        if watcher is None and not self._left_over(service):
            report.outcome, report.exit_code = "down", EXIT_DOWN
            self._clean(report, service)
            return report
        report.url, key = _url(service), self._run.health_key()
        health = ask_health(report.url, key)
        deadline_s = time.monotonic() + (_HEALTHY_S if report.outcome else 0.0)  # after a start it may need a moment
        while not health.is_well and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
            health = ask_health(report.url, key)
        report.health = health.words
        report.outcome = report.outcome or "up"
        if watcher is None:
            report.notes.append("The watcher is gone; a worker starts a new one. If that does not help: restart_services.py restart.")
        if service.current is None:
            report.notes.append("No generation is serving; the watcher tries again.")
        report.notes += configuration_warnings(service)
        if watcher is None or service.current is None or not health.is_well:
            report.exit_code = EXIT_UNWELL
        return report

    def _watcher(self) -> Identity | None:
        """The watcher that wrote the file, if it lives."""
        known = self._run.read_service().watcher
        return known if is_of_the_service(known) else None

    def _watcher_to_ask(self) -> Identity | None:
        """The watcher; where one in the background is gone, a worker is about to start the next one, which is waited for."""
        service = self._run.read_service()
        if (service.mode, service.state) == ("background", "running") and self._left_over(service):
            _within(_REVIVED_S, lambda: self._watcher() is not None)
        return self._watcher()

    def _left_over(self, service: Service) -> list[Identity]:
        """What runs of the generations: masters, and workers with or without one."""
        masters = [row.identity for row in service.generations]
        members = [worker.identity for worker in workers(self._run) if worker.generation > 0]
        return [known for known in [*masters, *members] if known is not None and is_of_the_service(known)]

    def _clean(self, report: Report, service: Service) -> None:
        """Say that the pid file named a process that is gone; the watcher to come writes a new one."""
        known = service.watcher
        if known is not None and service.state == "running" and not is_of_the_service(known):
            report.notes.append(f"Removed a stale pid file: process {known.pid} is gone, or is another one by now.")
            if not self._left_over(service):
                self._run.service.unlink(missing_ok=True)


def configuration_warnings(service: Service) -> list[str]:
    """What the check found odd in the configuration that is served with."""
    current = [row for row in service.generations if row.number == service.current]
    return [f"warning: {printable(words)}" for row in current for words in row.facts.warnings]


_DONE = frozenset({"started", "stopped", "restarted", "reloaded"})


def _failed(command: str, run: RunFolder, error: OSError) -> Report:
    """What the system refused, a full disk for instance, and what that means for the service."""
    detail = f"{error.filename or 'the system'}: {error.strerror or error}"
    if is_of_the_service(run.read_service().watcher):
        return Report(command, "failed: the service goes on as it was", EXIT_REFUSED, detail)
    return Report(command, "failed", EXIT_FAILED, detail)


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

    from compat.service.watcher import Watcher

    lock = FileLock(run.watcher_lock)
    if not _within(2.0, lock.acquire):
        sys.stderr.write("openai-compat: another watcher is running in this folder: end it by `restart_services.py stop` first.\n")
        return EXIT_FAILED
    setproctitle.setproctitle("openai_compat: watcher")
    watcher = Watcher(base_dir, run, dict(os.environ), is_background=arguments.background, request=arguments.request)
    return watcher.run(arguments.adopt)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="restart_services.py", description="Start the services when they are down, restart them when they are up.", epilog=__doc__
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    made = {name: commands.add_parser(name, help=words, description=words) for name, words in _COMMANDS.items()}
    for command in (parser, *made.values()):  # what stands behind a command does not undo what stands before it
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object instead of text")
        command.add_argument("--timeout", type=float, default=argparse.SUPPRESS, help="seconds to wait for the outcome (default 120)")
    made["logs"].add_argument("-n", "--lines", type=int, default=40, help="how many lines of each log (default 40)")
    made["logs"].add_argument("-f", "--follow", action="store_true", help="follow what is written from now on")
    made["run"].add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    made["run"].add_argument("--adopt", type=int, help=argparse.SUPPRESS)
    made["run"].add_argument("--request", default="", help=argparse.SUPPRESS)
    parser.set_defaults(command="default", json=False, timeout=_OPERATION_S)
    return parser


def _within(bound_s: float, is_so: Callable[[], bool]) -> bool:
    """Whether something becomes so within the bound."""
    deadline_s = time.monotonic() + bound_s
    while not is_so():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def _url(service: Service) -> str:
    """Where this machine reaches the gateway."""
    if service.bound is None:
        return ""
    return local_url(*service.bound)


_COMMANDS = {
    "start": "start the services, unless they are up",
    "stop": "stop the services; running answers may finish for [server] shutdown_s",
    "restart": "replace everything with the present code and configuration, without dropping a call; start when down",
    "reload": "replace the workers with the present configuration, without dropping a call; start when down",
    "status": "show the state of the services",
    "logs": "show the end of the logs",
    "run": "stay in the foreground, for systemd and containers",
}
