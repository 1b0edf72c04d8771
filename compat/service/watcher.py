"""The watcher: the process that owns the listening socket and keeps a generation of workers behind it.

It carries out what `compat/service/decisions.py` decides. It serves nothing itself and imports little, so that there is hardly anything
that could bring it down; if something does, its generations go on, a worker starts a new watcher, and that takes them over.

    SIGHUP              reload: new workers with the configuration as it is now
    SIGUSR2             restart: the same, and this process becomes the watcher of the present code first
    SIGTERM, SIGINT     stop
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import compat.service.decisions as do
from compat.service.files import wish_of
from compat.service.fleet import keepers, sweep, workers
from compat.service.generation import Generation, reason_of_end, tell_systemd
from compat.service.launch import generation_environment, open_listener, service_log, spawn_generation
from compat.service.probe import CheckFailed, check_configuration
from compat.service.state import Identity, RunFolder, identity_of, is_alive, read_json, send_signal, write_json
from compat.storage.shared_log_file import last_lines

READY_S = 60.0
"""A generation that does not serve by then never will."""

BIND_S = 5.0
KEEPER_S = 4.0
KILL_MARGIN_S = 5.0
_BUSY_S, _IDLE_S = 0.05, 1.0
_SHOWN_LINES, _SEARCHED_LINES = 12, 400


@dataclass(frozen=True, slots=True)
class Order:
    """How a watcher is started: `adopt` is the descriptor of a listening socket that is taken over, `request` who waits for the outcome."""

    base_dir: Path
    run: RunFolder
    is_background: bool
    adopt: int | None = None
    request: str = ""


class Watcher:
    """Mutable: everything but the order."""

    def __init__(self, order: Order, environment: dict[str, str], become: Callable[[list[str], int], NoReturn]) -> None:
        self._order = order
        self._run = order.run
        self._environment = environment
        self._become = become
        self._history = do.History()
        self._events: collections.deque[do.Event] = collections.deque()
        self._generations: dict[int, Generation] = {}
        self._facts: dict[int, dict[str, Any]] = {}
        self._exits: dict[int, int] = {}
        self._listener: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        self._old_listeners: list[socket.socket] = []
        self._operation: dict[str, Any] = {"id": order.request, "is_done": False, "fault": ""}
        self._asked_id = order.request
        self._rest_until_s: float | None = None
        self._stop_until_s = 0.0
        self._told: dict[str, Any] = {}
        self._signals: collections.deque[int] = collections.deque()
        self._woken, self._wake = socket.socketpair()
        self._since_s = time.time()

    def run(self) -> int:
        """Watch until asked to stop; the exit code."""
        self._listen_to_signals()
        self._take_over()
        while True:
            while self._events:
                self._history, actions = do.decide(self._history, self._events.popleft(), time.monotonic())
                for action in actions:
                    if isinstance(action, do.Exit):
                        self._finish(action.code)
                        return action.code
                    self._carry_out(action)
            self._publish()
            self._sleep()
            self._look()

    # Begin and end.

    def _listen_to_signals(self) -> None:
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _take_over(self) -> None:
        """Go on with the generations of the watcher before this one, or start afresh."""
        service = self._run.read_service()
        swept = sweep(self._run)
        if swept:
            self._say(f"removed the files of {swept} workers that are gone")
        for generation in filter(None, map(Generation.read, service.get("generations", ()))):
            self._generations[generation.number] = generation
            self._facts[generation.configuration] = generation.facts
        latest = max([int(service.get("latest", 0)), *self._generations])
        current = [one.number for one in self._generations.values() if one.state == "serving"]
        if self._order.adopt is not None:
            self._listener = socket.socket(fileno=self._order.adopt)
            self._address = tuple(service["address"]) if service.get("address") else None
        is_served = bool(current) and self._listener is not None
        number = max(current) if is_served else None
        good = self._generations[number].configuration if number is not None else None
        self._history = do.History(latest=latest, current=number, good=good, serves_since_s=time.monotonic() if is_served else None)
        for one in list(self._generations.values()):
            if one.state != "serving":
                self._retire(one)
        if not is_served or self._order.request:
            self._events.append(do.Asked("reload" if is_served else "start"))
        else:
            self._say(f"took over generation {number}")

    def _finish(self, code: int) -> None:
        self._history = do.History(latest=self._history.latest, is_stopping=True)
        self._end_keepers()
        self._publish("stopped" if code == do.EXIT_STOPPED else "failed")
        for path in self._run.root.glob("generation-*"):
            shutil.rmtree(path, ignore_errors=True)
        if code == do.EXIT_STOPPED:
            self._say("stopped")

    def _end_keepers(self) -> None:
        told = [Identity.read(row.get("keeper")) for row in keepers(self._run)]
        ended = [keeper for keeper in told if keeper is not None and send_signal(keeper, signal.SIGTERM)]
        deadline_s = time.monotonic() + KEEPER_S
        for keeper in ended:
            while is_alive(keeper) and time.monotonic() < deadline_s:
                time.sleep(_BUSY_S)
            self._say(f"ended the keeper of the embedded engine (pid {keeper.pid})")

    # Actions.

    def _carry_out(self, action: do.Action) -> None:
        match action:
            case do.Check(number):
                self._check(number)
            case do.Become():
                self._become_new()
            case do.Launch(number, configuration):
                self._launch(number, configuration)
            case do.Retire(number):
                if number in self._generations:
                    self._retire(self._generations[number])
            case do.Kill(number):
                self._generations[number].end(self._run, signal.SIGKILL)
            case do.Tell(fault):
                self._operation = {**self._operation, "is_done": True, "fault": fault, "took_s": self._took_s()}
                self._say(f"failed: {fault}" if fault else "all workers serve")
            case do.Pause(delay_s):
                self._rest_until_s = time.monotonic() + delay_s
                self._say(f"the workers are gone; next try in {delay_s:g} s")
            case do.Stop():
                self._stop()
            case do.Exit():
                raise AssertionError

    def _check(self, number: int) -> None:
        self._operation = {"id": self._asked_id, "is_done": False, "fault": "", "since_s": time.time()}
        self._asked_id = ""
        try:
            facts = check_configuration(self._order.base_dir, self._run.generation(number), self._environment)
            self._bind(facts["host"], facts["port"])
        except CheckFailed as error:
            self._events.append(do.Refused(str(error)))
            return
        self._facts[number] = facts
        self._events.append(do.Passed(number))

    def _bind(self, host: str, port: int) -> None:
        """Have a socket for the address; the one there is stays if the address stays. Raises `CheckFailed`.

        Generations of a watcher that was killed together with the means to take its socket over have to release it first.
        """
        if self._listener is not None and self._address == (host, port):
            return
        orphans = [one for one in self._generations.values() if self._listener is None]
        deadline_s = time.monotonic() + (BIND_S if orphans else 0.0)
        while True:
            try:
                listener = open_listener(host, port)
                break
            except OSError as error:
                if time.monotonic() >= deadline_s:
                    is_taken = error.errno == errno.EADDRINUSE
                    hint = " Another program uses the port: stop it, or choose another port in config.toml." if is_taken else ""
                    raise CheckFailed(f"can't listen on {host}:{port}: {error.strerror}.{hint}") from error
                self._retire_all(orphans)
                time.sleep(_BUSY_S)
        self._retire_all(orphans)
        if self._listener is not None:
            self._old_listeners.append(self._listener)
        self._listener, self._address = listener, (host, port)

    def _retire_all(self, orphans: list[Generation]) -> None:
        for generation in orphans:
            if generation.state != "retiring":
                self._retire(generation)

    def _launch(self, number: int, configuration: int) -> None:
        assert self._listener is not None
        facts = self._facts[configuration]
        folder = self._run.generation(configuration)
        environment = generation_environment(self._environment, folder, number, self._listener.fileno(), facts["workers"])
        try:
            identity, since = spawn_generation(
                self._order.base_dir, environment, self._listener.fileno(), is_background=self._order.is_background
            )
        except OSError as error:
            self._events.append(do.Ended(number, f"gunicorn could not be started: {error.strerror}"))
            return
        self._generations[number] = Generation(number, identity, "starting", configuration, time.time(), facts, since)
        self._say(f"generation {number} begins (pid {identity.pid}, {facts['workers']} workers)")

    def _retire(self, generation: Generation) -> None:
        """Written to the file first: from it its workers know that others have taken their place."""
        generation.state = "retiring"
        self._publish()
        generation.end(self._run, signal.SIGTERM)
        self._say(f"generation {generation.number} retires (pid {generation.identity.pid})")

    def _stop(self) -> None:
        shutdown_s = max([30.0, *(one.facts["shutdown_s"] for one in self._generations.values())])
        self._stop_until_s = time.monotonic() + shutdown_s + KILL_MARGIN_S
        self._publish("stopping")
        for listener in (self._listener, *self._old_listeners):
            if listener is not None:
                listener.close()
        self._listener, self._old_listeners = None, []
        for generation in self._generations.values():
            send_signal(generation.identity, signal.SIGTERM)
        for worker in workers(self._run):  # also those whose master was killed
            send_signal(worker.identity, signal.SIGTERM)
        self._say("stopping")

    def _become_new(self) -> None:
        assert self._listener is not None
        self._publish()
        self._say("becoming the watcher of the present code")
        descriptor = self._listener.fileno()
        os.set_inheritable(descriptor, True)
        arguments = ["--adopt", str(descriptor), "--request", self._asked_id or "-"]
        self._become(arguments, descriptor)

    # Events.

    def _sleep(self) -> None:
        is_busy = self._history.is_busy or self._history.is_stopping or self._rest_until_s is not None
        with contextlib.suppress(InterruptedError):
            select.select([self._woken], [], [], _BUSY_S if is_busy else _IDLE_S)
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    def _look(self) -> None:
        self._reap()
        while self._signals:
            self._on_signal(self._signals.popleft())
        if self._rest_until_s is not None and time.monotonic() >= self._rest_until_s:
            self._rest_until_s = None
            self._events.append(do.Rested())
        for generation in list(self._generations.values()):
            self._look_at(generation)
        if self._history.is_stopping:
            self._look_for_the_end()

    def _on_signal(self, number: int) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._events.append(do.StopAsked())
            return
        wish, variables = wish_of(read_json(self._run.request))
        self._run.request.unlink(missing_ok=True)
        self._asked_id = wish or self._asked_id
        self._environment.update(variables)
        os.environ.update(self._environment)
        self._events.append(do.Asked("restart" if number == signal.SIGUSR2 else "reload"))

    def _look_at(self, generation: Generation) -> None:
        if not is_alive(generation.identity):
            del self._generations[generation.number]
            reason = self._reason_of(generation)
            if generation.state in {"starting", "serving"}:
                self._say(f"generation {generation.number} ended: {reason.splitlines()[0]}")
            self._events.append(do.Ended(generation.number, reason))
            self._tidy()
        elif generation.state == "starting":
            ready = [worker for worker in generation.workers(self._run) if worker.state == "serving"]
            if len(ready) >= generation.facts["workers"]:
                generation.state = "serving"
                self._events.append(do.Serves(generation.number))
                for listener in self._old_listeners:
                    listener.close()
                self._old_listeners = []
            elif time.monotonic() - generation.begun_s > READY_S:
                self._events.append(do.Overdue(generation.number))

    def _look_for_the_end(self) -> None:
        left = workers(self._run)
        if not self._generations and not left:
            self._events.append(do.AllGone())
        elif time.monotonic() > self._stop_until_s:
            self._say("what is left is ended by force")
            for generation in self._generations.values():
                generation.end(self._run, signal.SIGKILL)
            for worker in left:
                send_signal(worker.identity, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if any(one.identity.pid == pid for one in self._generations.values()):  # as process 1 it reaps others, too
                    self._exits[pid] = os.waitstatus_to_exitcode(status)

    def _reason_of(self, generation: Generation) -> str:
        words = reason_of_end(self._exits.pop(generation.identity.pid, None))
        if generation.state != "starting":
            return words
        if time.monotonic() - generation.begun_s > READY_S:
            words = f"its workers did not serve within {READY_S:g} s"
        said = last_lines(service_log(self._order.base_dir), _SEARCHED_LINES, generation.log_since) if self._order.is_background else []
        ours = list(dict.fromkeys(line for line in said if line.startswith("openai-compat: ")))
        return "\n".join([words, *(ours or said[-_SHOWN_LINES:])])

    # What others can see.

    def _tidy(self) -> None:
        """Remove the files of workers that are gone, and copies of configurations that nobody runs with."""
        sweep(self._run)
        kept = {one.configuration for one in self._generations.values()} | {self._history.good, self._history.incoming_configuration}
        for number in set(self._facts) - kept:
            if number <= self._history.latest and not self._history.is_checking:
                del self._facts[number]
                shutil.rmtree(self._run.generation(number), ignore_errors=True)

    def _publish(self, state: str = "") -> None:
        identity = identity_of(os.getpid())
        value = {
            "watcher": identity.as_json() if identity else None,
            "mode": "background" if self._order.is_background else "foreground",
            "state": state or ("stopping" if self._history.is_stopping else "running"),
            "since_s": self._since_s,
            "address": list(self._address) if self._address else None,
            "bound": list(self._listener.getsockname()[:2]) if self._listener else None,
            "latest": self._history.latest,
            "current": self._history.current,
            "generations": [one.as_json() for one in self._generations.values()],
            "operation": self._operation,
        }
        if value != self._told or not self._run.service.exists():
            try:
                self._run.make()
                write_json(self._run.service, value)
            except OSError as error:
                self._say(f"{self._run.service} can't be written: {error.strerror}")
            else:
                self._told = value
                self._tell_systemd()

    def _tell_systemd(self) -> None:
        words = {"STATUS": f"{len(self._generations)} generations, current {self._history.current}"}
        if self._history.is_stopping:
            words["STOPPING"] = "1"
        elif self._history.current is not None:
            words["READY"] = "1"
        tell_systemd(self._environment, **words)

    def _took_s(self) -> float:
        return max(round(time.time() - float(self._operation.get("since_s", self._since_s)), 2), 0.0)

    def _say(self, words: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{stamp} watcher {os.getpid()}: {words}\n")
            sys.stderr.flush()
