"""What the processes of the service know of each other: files in one folder of the machine, `data/run` beside `app.py`.

    service.json        the watcher's: who it is, its generations, how the last operation ended
    request.json        a command's wish, taken away by the watcher as soon as it is read
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
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from compat.service.files import is_service

if sys.platform != "win32":
    import fcntl

NAMES = ("openai_compat", "restart_services.py")
"""What command lines of ours have in them: the names that processes give themselves, and the watcher's while it begins."""

_OURS = re.compile(
    r"openai_compat: (watcher|engine|engine keeper)( .*)?|gunicorn: (master|worker) \[openai_compat\]"
    r"|.+ -m gunicorn -c .*gunicorn\.conf\.py app:app|.+ -m compat\.(?:engine\.keeper|process\.service_keeper)"
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

    @classmethod
    def read(cls, value: object) -> Identity | None:
        """The identity that `as_json` wrote; `None` for anything else."""
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError:
            return None

    def as_json(self) -> dict[str, Any]:
        """For a state file."""
        return asdict(self)


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


def send_signal(known: Identity, number: int) -> bool:
    """Send a signal to that very process of the service; false when it is gone, or none of it.

    Where the system can, nothing comes between the look and the signal.
    """
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
        return self.service.exists() and not self.read_service()

    def health_key(self) -> str:
        """What shows a worker that a request comes from who may read this folder; empty where no worker has made it."""
        key = (read_json(self.health) or {}).get("key")
        return key if isinstance(key, str) else ""

    def make_health_key(self) -> None:
        """Have one; the one that is there stays. Errors: `OSError`."""
        if not self.health_key():
            write_json(self.health, {"key": secrets.token_hex(32)})

    def read_service(self) -> dict[str, Any]:
        """The watcher's file; empty when there is none, or none that can be believed."""
        value = read_json(self.service)
        return value if value is not None and is_service(value) and not self.fault() else {}


def run_folder(base_dir: Path, environment: Mapping[str, str]) -> RunFolder:
    """`OPENAI_COMPAT_RUN_DIR`, else `data/run` beside `app.py`."""
    return RunFolder(Path(environment.get(VARIABLE) or base_dir / "data" / "run"))


def watcher_of(service: Mapping[str, Any]) -> Identity | None:
    """The watcher that wrote the file, if it lives."""
    known = Identity.read(service.get("watcher"))
    return known if is_alive(known) else None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; `None` when there is no such file, or it holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace what the file holds by `value`, whole or not at all. Errors: `OSError`."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


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
