"""What the processes of the service know of each other: files in one folder of the machine, `data/run` beside `app.py`.

    service.json        the watcher's: who it is, its generations, how the last operation ended
    request.json        a command's wish, taken away by the watcher as it is read
    watcher.lock        held by the watcher for as long as it lives; command.lock likewise by a command
    workers/PID.json    each worker's own
    generation-N/       the configuration that generation N runs with
    health.json         a key for `/healthz`, for commands on this machine
    doctor.lock         held by the worker that reports what the doctor finds
    engine-*            the embedded engine that the workers share
    metrics-PID/        what the workers of a gunicorn master count

The folder is 0700; files are written whole, as a new file of mode 0600 that takes the old one's place. A folder that belongs to somebody
else, or that others can write to, is not used: what it holds could be anybody's.

A process is known by its id, the time of its start and its command line: an id alone is given to another process sooner or later. What a
file says is not enough for a signal: the process itself has to look like one of ours, and be this user's.

What may be in a file is its type here. Whatever else is in one counts as no file: it is read by whatever version comes next, and decides
what is signalled.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from compat.storage.whole_file import replace_file

if sys.platform != "win32":
    import fcntl

NAMES = ("openai_compat", "restart_services.py")
"""What command lines of ours have in them: the names that processes give themselves, and the watcher's while it begins."""

_OURS = re.compile(
    r"openai_compat: (watcher|engine|engine keeper)( .*)?|gunicorn: (master|worker) \[openai_compat\]"
    r"|.+ -m gunicorn -c .*gunicorn\.conf\.py app:app|.+ -m compat\.engine\.keeper"
    r"|\S+ .*restart_services\.py run( .*)?",
    re.DOTALL,
)
"""Command lines of the processes that the service starts, before they name themselves and after."""

VARIABLE = "OPENAI_COMPAT_RUN_DIR"
"""The environment variable that names another folder."""

_PS = "/bin/ps"


@dataclass(frozen=True, slots=True)
class Identity:
    """A process. `started` is when, as the system writes it, good for comparison only; `command` what it was started as."""

    pid: Annotated[int, msgspec.Meta(gt=0, lt=2**31)]
    started: str
    command: str


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_Address = tuple[str, Annotated[int, msgspec.Meta(ge=0, le=65535)]]


class Facts(msgspec.Struct, frozen=True):
    """What the check of a configuration found, as far as a watcher has to know it."""

    shutdown_s: _Seconds
    workers: _Count = 0
    host: str = ""
    port: int = 0
    log_file: str = ""
    warnings: tuple[str, ...] = ()


class Generation(msgspec.Struct):
    """A gunicorn that was started. Mutable: `state`, which is `starting`, `serving` or `retiring`.

    `configuration` is the number its copy is kept under; `log_since` is where its words begin in the service log, `begun_s` a monotonic
    time.
    """

    number: _Count
    state: str
    facts: Facts
    configuration: _Count = 0
    identity: Identity | None = None
    log_since: int = 0
    begun_s: float = 0.0

    @property
    def pid(self) -> int:
        """Its gunicorn's, 0 where that is not known."""
        return self.identity.pid if self.identity is not None else 0


class Operation(msgspec.Struct, frozen=True):
    """What was asked for last, and how it ended: `id` is the wish, `fault` is empty when it was done."""

    id: str = ""
    is_done: bool = False
    fault: str = ""


class Service(msgspec.Struct, frozen=True):
    """`service.json`: `address` is where it is to listen, `bound` where it does; `latest` and `current` are numbers of generations."""

    watcher: Identity | None = None
    mode: str = ""
    state: str = ""
    address: _Address | None = None
    bound: _Address | None = None
    latest: _Count = 0
    current: _Count | None = None
    generations: list[Generation] = []
    operation: Operation = Operation()


class Keeper(msgspec.Struct, frozen=True):
    """What a keeper of the embedded engine writes (`compat/engine/keeper.py`)."""

    keeper: Identity | None
    state: str
    detail: str
    model: str
    pid: _Count | None
    context_tokens: _Count
    restarts: _Count
    base_url: str = ""
    api_key: str = ""
    better: str = ""
    better_detail: str = ""
    answers: str = ""
    prompt_tokens_s: float = 0.0


class Wish(msgspec.Struct, frozen=True):
    """`request.json`: who waits for the outcome, and the variables of its shell."""

    id: str = ""
    environment: dict[str, str] = {}


K = TypeVar("K")


def identity_of(pid: int) -> Identity | None:
    """The process that has `pid` just now; `None` when there is none, or only its exit code is left."""
    if Path("/proc/self/stat").exists():
        return _from_proc(pid)
    return _from_ps(pid)


def is_alive(known: Identity | None) -> bool:
    """Whether that very process runs: the same id and start, and a command line that is the same, or one of ours."""
    if known is None:
        return False
    now = identity_of(known.pid)
    if now is None or now.started != known.started:
        return False
    is_ours = not now.command or any(name in now.command for name in NAMES)  # the system shows none while a program is being loaded
    return is_ours or now.command == known.command


def is_of_the_service(known: Identity | None) -> bool:
    """Whether that very process runs, is one of those that the service starts, and this user's."""
    if known is None or not is_alive(known):
        return False
    now = identity_of(known.pid)
    command = now.command or known.command if now is not None else ""  # see `is_alive`
    return _OURS.fullmatch(command) is not None and _is_own(known.pid)


def send_signal(known: Identity | None, number: int) -> bool:
    """Send a signal to that very process of the service; false when it is gone, or none of it.

    Where the system can, nothing comes between the look and the signal.
    """
    if known is None:
        return False
    try:
        handle = os.pidfd_open(known.pid) if hasattr(os, "pidfd_open") else None
    except OSError:
        return False
    try:
        if not is_of_the_service(known):
            return False
        if handle is None:
            os.kill(known.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        if handle is not None:
            os.close(handle)
    return True


def _is_own(pid: int) -> bool:
    """Whether the process is this user's. The system sees to it by itself for everybody but root."""
    try:
        return not Path("/proc/self/stat").exists() or Path(f"/proc/{pid}").stat().st_uid == os.geteuid()
    except OSError:
        return False


def _from_proc(pid: int) -> Identity | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, UnicodeDecodeError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name in front may hold spaces and brackets
    if fields[0] in {"Z", "X"}:
        return None
    return Identity(pid, fields[19], " ".join(command.decode("utf-8", "replace").split("\0")).strip())


def _from_ps(pid: int) -> Identity | None:
    arguments = [_PS, "-o", "state=,lstart=,command=", "-p", str(pid)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env={"LC_ALL": "C"})  # noqa: S603  # ps
    words = done.stdout.split()
    if len(words) < 7 or words[0].startswith("Z"):
        return None
    return Identity(pid, " ".join(words[1:6]), " ".join(words[6:]))


class RunFolder:
    """The folder and the names in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.service = root / "service.json"
        self.request = root / "request.json"
        self.watcher_lock = root / "watcher.lock"
        self.command_lock = root / "command.lock"
        self.workers = root / "workers"
        self.health = root / "health.json"

    def make(self) -> None:
        """Create what is missing. Errors: `OSError`, also for a folder that is not to be used."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if fault := self.fault():
            raise PermissionError(errno.EACCES, fault, str(self.root))
        self.workers.mkdir(mode=0o700, exist_ok=True)

    def generation(self, number: int) -> Path:
        """Where the configuration of a generation is kept."""
        return self.root / f"generation-{number}"

    def fault(self) -> str:
        """Why the folder is not to be used; empty when it can be, or is not there."""
        try:
            status = self.root.stat()
        except OSError:
            return ""
        if sys.platform == "win32":
            return ""
        if status.st_uid != os.geteuid():
            return f"belongs to another user (uid {status.st_uid}): run this as that user, or set {VARIABLE} to a folder of your own"
        if status.st_mode & 0o022:
            mode = stat.S_IMODE(status.st_mode)
            return f"others can write to it (mode {mode:04o}): remove it, or set {VARIABLE} to a folder of your own"
        return ""

    @property
    def is_damaged(self) -> bool:
        """Whether the watcher's file is there, and can't be what a watcher wrote."""
        return self.service.exists() and self._believed() is None

    def health_key(self) -> str:
        """What shows a worker that a request comes from who may read this folder; empty where no worker has made it."""
        return (read_json(self.health, dict[str, str]) or {}).get("key", "")

    def make_health_key(self) -> None:
        """Have one; the one that is there stays. Errors: `OSError`."""
        if not self.health_key():
            write_json(self.health, {"key": secrets.token_hex(32)})

    def read_service(self) -> Service:
        """The watcher's file; the defaults when there is none, or none that can be believed."""
        return self._believed() or Service()

    def take_wish(self) -> Wish:
        """What a command wants; it is there once. Variables that can't be in an environment are left out."""
        wish = read_json(self.request, Wish) or Wish()
        self.request.unlink(missing_ok=True)
        sound = {name: text for name, text in wish.environment.items() if name and "=" not in name and "\0" not in name + text}
        return Wish(wish.id, sound)

    def _believed(self) -> Service | None:
        return None if self.fault() else read_json(self.service, Service)


def run_folder(base_dir: Path, environment: Mapping[str, str]) -> RunFolder:
    """`OPENAI_COMPAT_RUN_DIR`, else `data/run` beside `app.py`."""
    return RunFolder(Path(environment.get(VARIABLE) or base_dir / "data" / "run"))


def read_json(path: Path, kind: type[K]) -> K | None:
    """What a file holds, as `kind`; `None` when there is no such file, or it holds something else."""
    try:
        return msgspec.convert(json.loads(path.read_bytes()), kind)
    except (OSError, ValueError, RecursionError, msgspec.ValidationError):
        return None


def write_json(path: Path, value: object) -> None:
    """Replace what the file holds by `value`, whole or not at all. Errors: `OSError`."""
    text = json.dumps(msgspec.to_builtins(value))  # its escapes hold whatever a variable of the environment may
    replace_file(path, text.encode())


class FileLock:
    """A lock that the system releases when its holder ends, however that happens. Mutable: the descriptor while it is held."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, is_shared: bool = False, waits: bool = False) -> bool:
        """Take the lock; false when others have it and `waits` is not set. Errors: `OSError` where there can be no such file."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0), 0o600)
        if sys.platform != "win32":
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Release it; does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_free(self) -> bool:
        """Whether nobody has it just now; it is not kept."""
        if self._descriptor is not None:
            return False
        if not self.acquire():
            return False
        self.release()
        return True
