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
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

import compat.service.decisions as do
from compat.service.fleet import Worker, keepers, sweep, workers
from compat.service.launch import generation_environment, service_log, spawn_generation
from compat.service.listener import Listener
from compat.service.probe import CheckFailed, check_configuration
from compat.service.state import (
    Facts,
    Generation,
    Operation,
    RunFolder,
    Service,
    identity_of,
    is_alive,
    is_of_the_service,
    send_signal,
    write_json,
)
from compat.storage.shared_log_file import last_lines

READY_S = 60.0
"""A generation that does not serve by then never will."""

BIND_S = 5.0
KEEPER_S = 4.0
KILL_MARGIN_S = 5.0
_BUSY_S, _IDLE_S = 0.05, 1.0
_SHOWN_LINES, _SEARCHED_LINES = 12, 400


class Watcher:
    """`request` is who waits for the outcome of the start. Mutable: all but the places."""

    def __init__(self, base_dir: Path, run: RunFolder, environment: dict[str, str], *, is_background: bool, request: str = "") -> None:
        self._base_dir = base_dir
        self._run = run
        self._is_background = is_background
        self._environment = environment
        self._identity = identity_of(os.getpid())
        self._history = do.History()
        self._events: collections.deque[do.Event] = collections.deque()
        self._generations: dict[int, Generation] = {}
        self._facts: dict[int, Facts] = {}
        self._exits: dict[int, int] = {}
        self._listener = Listener()
        self._operation = Operation(request)
        self._asked_id = request
        self._rest_until_s: float | None = None
        self._stop_until_s = 0.0
        self._told: Any = None
        self._woken, self._wake = socket.socketpair()

    def run(self, adopted: int | None = None) -> int:
        """Watch until asked to stop; the exit code. `adopted` is the descriptor of a listening socket that is taken over."""
        self._listen_to_signals()
        self._take_over(adopted)
        while True:
            while self._events:
                self._history, actions = do.decide(self._history, self._events.popleft())
                for action in actions:
                    if isinstance(action, do.Exit):
                        self._finish(action.code)
                        return action.code
                    self._carry_out(action)
            self._publish()
            self._look(self._sleep())

    # Begin and end.

    def _listen_to_signals(self) -> None:
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)

    def _take_over(self, adopted: int | None) -> None:
        """Go on with the generations of the watcher before this one, or start afresh."""
        service = self._run.read_service()
        if swept := sweep(self._run):
            self._say(f"removed the files of {swept} workers that are gone")
        for generation in service.generations:
            if is_of_the_service(generation.identity):
                self._generations[generation.number] = generation
                self._facts[generation.configuration] = generation.facts
        latest = max([service.latest, *self._generations])
        current = [one.number for one in self._generations.values() if one.state == "serving"]
        if adopted is not None and service.address is not None:
            self._listener.adopt(adopted, service.address)
        is_served = bool(current) and self._listener.address is not None
        number = max(current) if is_served else None
        good = self._generations[number].configuration if number is not None else None
        self._history = do.History(latest=latest, current=number, good=good, serves_since_s=time.monotonic() if is_served else None)
        self._retire(one for one in self._generations.values() if one.state != "serving")
        if not is_served or self._asked_id:
            self._events.append(partial(do.asked, kind="reload" if is_served else "start"))
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
        ended = [row.keeper for row in keepers(self._run) if row.keeper is not None and send_signal(row.keeper, signal.SIGTERM)]
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
                self._retire(one for one in self._generations.values() if one.number == number)
            case do.Kill(number):
                self._kill(self._generations[number])
            case do.Tell(fault):
                self._operation = Operation(self._operation.id, is_done=True, fault=fault)
                if fault and self._history.good is not None:
                    good = self._facts[self._history.good]
                    self._listener.keep(good.host, good.port)
                self._say(f"failed: {fault}" if fault else "all workers serve")
            case do.Pause(delay_s):
                self._rest_until_s = time.monotonic() + delay_s
                self._say(f"the workers are gone; next try in {delay_s:g} s")
            case do.Stop():
                self._stop()
            case do.Exit():
                raise AssertionError

    def _check(self, number: int) -> None:
        self._operation = Operation(self._asked_id)
        self._asked_id = ""
        try:
            facts = check_configuration(self._base_dir, self._run.generation(number), self._environment)
            self._bind(facts.host, facts.port)
        except CheckFailed as error:
            self._events.append(partial(do.refused, reason=str(error)))
            return
        self._facts[number] = facts
        self._events.append(partial(do.passed, number=number))

    def _bind(self, host: str, port: int) -> None:
        """Have a socket for the address. Raises `CheckFailed`.

        Generations of a watcher that was killed together with the means to take its socket over have to release it first.
        """
        orphans = [] if self._listener.address is not None else list(self._generations.values())
        self._retire(orphans)
        try:
            self._listener.bind(host, port, BIND_S if orphans else 0.0)
        except OSError as error:
            is_taken = error.errno == errno.EADDRINUSE
            hint = " Another program uses the port: stop it, or choose another port in config.toml." if is_taken else ""
            raise CheckFailed(f"can't listen on {host}:{port}: {error.strerror}.{hint}") from error

    def _launch(self, number: int, configuration: int) -> None:
        facts, listener = self._facts[configuration], self._listener.fileno()
        environment = generation_environment(self._environment, self._run.generation(configuration), number, listener, facts.workers)
        try:
            identity, since = spawn_generation(self._base_dir, environment, listener, is_background=self._is_background)
        except OSError as error:
            reason = f"gunicorn could not be started: {error.strerror}"
            self._events.append(partial(do.ended, number=number, reason=reason, now_s=time.monotonic()))
            return
        self._generations[number] = Generation(
            number, "starting", facts, configuration, identity, log_since=since, begun_s=time.monotonic()
        )
        self._say(f"generation {number} begins (pid {identity.pid}, {facts.workers} workers)")

    def _retire(self, generations: Iterable[Generation]) -> None:
        """Written to the file first: from it their workers know that others have taken their place."""
        for generation in list(generations):
            generation.state = "retiring"
            self._publish()
            send_signal(generation.identity, signal.SIGTERM)
            self._say(f"generation {generation.number} retires (pid {generation.pid})")

    def _kill(self, generation: Generation) -> None:
        """gunicorn can't pass this on to its workers."""
        members = self._workers_of(generation)
        for identity in (generation.identity, *(worker.identity for worker in members)):
            send_signal(identity, signal.SIGKILL)

    def _workers_of(self, generation: Generation) -> list[Worker]:
        return [worker for worker in workers(self._run) if worker.generation == generation.number]

    def _stop(self) -> None:
        shutdown_s = max([30.0, *(one.facts.shutdown_s for one in self._generations.values())])
        self._stop_until_s = time.monotonic() + shutdown_s + KILL_MARGIN_S
        self._publish("stopping")
        self._listener.close()
        for generation in self._generations.values():
            send_signal(generation.identity, signal.SIGTERM)
        for worker in workers(self._run):  # also those whose master was killed
            send_signal(worker.identity, signal.SIGTERM)
        self._say("stopping")

    def _become_new(self) -> None:
        self._publish()
        self._say("becoming the watcher of the present code")
        descriptor = self._listener.fileno()
        os.set_inheritable(descriptor, True)
        mode = ["--background"] if self._is_background else []
        program = [sys.executable, str(self._base_dir / "restart_services.py"), "run", *mode]
        adopting = ["--adopt", str(descriptor), "--request", self._asked_id or "-"]
        os.execve(sys.executable, [*program, *adopting], os.environ)  # noqa: S606  # this very program

    # Events.

    def _sleep(self) -> bytes:
        """Until something may have happened; the numbers of the signals that came."""
        is_busy = self._history.is_busy or self._history.is_stopping or self._rest_until_s is not None
        with contextlib.suppress(InterruptedError):
            select.select([self._woken], [], [], _BUSY_S if is_busy else _IDLE_S)
        with contextlib.suppress(BlockingIOError):
            return self._woken.recv(4096)
        return b""

    def _look(self, signals: bytes) -> None:
        self._reap()
        for number in signals:
            self._on_signal(number)
        if self._rest_until_s is not None and time.monotonic() >= self._rest_until_s:
            self._rest_until_s = None
            self._events.append(do.rested)
        for generation in list(self._generations.values()):
            self._look_at(generation)
        if self._history.is_stopping:
            self._look_for_the_end()

    def _on_signal(self, number: int) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._events.append(do.stop_asked)
        elif number != signal.SIGCHLD:
            wish = self._run.take_wish()
            self._asked_id = wish.id or self._asked_id
            self._environment.update(wish.environment)
            os.environ.update(self._environment)
            self._events.append(partial(do.asked, kind="restart" if number == signal.SIGUSR2 else "reload"))

    def _look_at(self, generation: Generation) -> None:
        if not is_alive(generation.identity):
            del self._generations[generation.number]
            reason = self._reason_of(generation)
            if generation.state in {"starting", "serving"}:
                self._say(f"generation {generation.number} ended: {reason.splitlines()[0]}")
            self._events.append(partial(do.ended, number=generation.number, reason=reason, now_s=time.monotonic()))
            self._tidy()
        elif generation.state == "starting":
            ready = [worker for worker in self._workers_of(generation) if worker.state == "serving"]
            if len(ready) >= generation.facts.workers:
                generation.state = "serving"
                self._events.append(partial(do.serves, number=generation.number, now_s=time.monotonic()))
                self._listener.keep(generation.facts.host, generation.facts.port)
            elif time.monotonic() - generation.begun_s > READY_S:
                self._events.append(partial(do.overdue, number=generation.number))

    def _look_for_the_end(self) -> None:
        left = workers(self._run)
        if not self._generations and not left:
            self._events.append(do.all_gone)
        elif time.monotonic() > self._stop_until_s:
            self._say("what is left is ended by force")
            for identity in [*(one.identity for one in self._generations.values()), *(worker.identity for worker in left)]:
                send_signal(identity, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if any(one.pid == pid for one in self._generations.values()):  # as process 1 it reaps others, too
                    self._exits[pid] = os.waitstatus_to_exitcode(status)

    def _reason_of(self, generation: Generation) -> str:
        words = reason_of_end(self._exits.pop(generation.pid, None))
        if generation.state != "starting":
            return words
        if time.monotonic() - generation.begun_s > READY_S:
            words = f"its workers did not serve within {READY_S:g} s"
        said = last_lines(service_log(self._base_dir), _SEARCHED_LINES, generation.log_since) if self._is_background else []
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
        service = Service(
            watcher=self._identity,
            mode="background" if self._is_background else "foreground",
            state=state or ("stopping" if self._history.is_stopping else "running"),
            address=self._listener.address,
            bound=self._listener.bound,
            latest=self._history.latest,
            current=self._history.current,
            generations=list(self._generations.values()),
            operation=self._operation,
        )
        value = msgspec.to_builtins(service)
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
        """`sd_notify(3)`, where somebody listens."""
        address = self._environment.get("NOTIFY_SOCKET", "")
        state = "STOPPING=1\n" if self._history.is_stopping else "READY=1\n" if self._history.current is not None else ""
        words = f"STATUS={len(self._generations)} generations, current {self._history.current}\n{state}"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall(words.encode())

    def _say(self, words: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{stamp} watcher {os.getpid()}: {words}\n")
            sys.stderr.flush()


def reason_of_end(code: int | None) -> str:
    """A gunicorn's exit code in words."""
    if code is None:
        return "gunicorn is gone"
    return f"gunicorn ended with status {code}" if code >= 0 else f"gunicorn was ended by {signal.Signals(-code).name}"
