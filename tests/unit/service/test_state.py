"""The files of the service, and how processes are told apart."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compat.service import state as service_state
from compat.service.state import (
    FileLock,
    Identity,
    Keeper,
    RunFolder,
    Service,
    Wish,
    identity_of,
    is_alive,
    is_of_the_service,
    read_json,
    run_folder,
    send_signal,
    write_json,
)


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its input to end, and is called as ours are."""
    with started("openai_compat: watcher") as process:
        yield process
        process.kill()


def started(name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([name, "-c", "input()"], executable=sys.executable, stdin=subprocess.PIPE)


@pytest.mark.parametrize("name", ["vim", "/work/openai_compat/tool", "tail -f logs/openai_compat.log", "openai_compat: gateway"])
def test_a_process_that_is_none_of_the_service_is_never_signalled_whatever_a_file_says(name: str) -> None:
    with started(name) as stranger:
        known = identity_of(stranger.pid)
        assert is_alive(known)
        assert known is not None
        assert not is_of_the_service(known)
        for claimed in (known, replace(known, command="openai_compat: watcher"), replace(known, command="")):
            assert not send_signal(claimed, signal.SIGKILL)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "openai_compat: watcher",
            "openai_compat: engine keeper",
            "openai_compat: engine",
            "gunicorn: master [openai_compat]",
            "gunicorn: worker [openai_compat]",
        ),
        *("/a b/python -m gunicorn -c /a b/gunicorn.conf.py app:app", "python -m compat.engine.keeper"),
        "python /a b/restart_services.py run --background --request 7",
    ],
)
def test_the_commands_of_the_service_are_known_before_they_name_themselves_and_after(name: str) -> None:
    assert service_state._OURS.fullmatch(name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can have processes of two users")
def test_root_signals_no_process_of_another_user() -> None:
    with subprocess.Popen(["openai_compat: watcher", "60"], executable="/bin/sleep", user=65534) as stranger:
        known = identity_of(stranger.pid)
        assert known is not None
        assert is_alive(known)
        assert not send_signal(known, signal.SIGKILL)
        stranger.kill()


def test_a_process_is_known_by_its_start_and_its_command(other: subprocess.Popen[bytes], tmp_path: Path) -> None:
    known = identity_of(other.pid)
    assert known is not None
    assert known.pid == other.pid
    assert "input()" in known.command
    assert is_alive(known)
    assert read_json(written(tmp_path, known), Identity) == known


def written(folder: Path, value: object) -> Path:
    """A file that holds `value`."""
    write_json(folder / "x.json", value)
    return folder / "x.json"


@pytest.mark.parametrize("change", [{"started": "1"}, {"command": "another program"}], ids=["another start", "another command"])
def test_a_process_that_only_has_the_same_id_is_never_signalled(change: dict[str, str]) -> None:
    with started("another") as other:
        known = identity_of(other.pid)
        assert known is not None
        stranger = replace(known, **change)
        assert not is_alive(stranger)
        assert not send_signal(stranger, signal.SIGKILL)
        assert other.poll() is None
        other.kill()


def test_a_process_that_has_ended_is_gone_even_before_its_exit_code_is_read(other: subprocess.Popen[bytes]) -> None:
    known = identity_of(other.pid)
    assert known is not None
    assert is_of_the_service(known)
    assert send_signal(known, signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert identity_of(other.pid) is None
    assert not send_signal(known, signal.SIGTERM)
    other.wait()
    assert not is_alive(known)


def test_a_name_that_a_process_gave_itself_is_taken_for_ours() -> None:
    own = identity_of(os.getpid())
    assert own is not None
    assert not is_alive(replace(own, command="gone"))
    named = replace(own, command="python -m gunicorn app:app")
    assert is_alive(named) is ("openai_compat" in own.command)


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="this machine has no ps")
def test_ps_tells_the_same_where_there_is_no_proc(other: subprocess.Popen[bytes]) -> None:
    known = service_state._from_ps(other.pid)
    assert known is not None
    assert known == service_state._from_ps(other.pid)
    assert "input()" in known.command
    other.kill()
    other.wait()
    assert service_state._from_ps(other.pid) is None


@pytest.mark.parametrize("value", [None, 7, {}, *({"pid": pid, "started": "1", "command": "x"} for pid in ("7", -1, 0, True, 2**31, 7.0))])
def test_what_is_no_identity_is_read_as_none(value: object, tmp_path: Path) -> None:
    assert read_json(written(tmp_path, value), Identity) is None
    run = RunFolder(tmp_path / "run")
    run.make()
    write_json(run.service, {"watcher": value})
    assert not is_alive(run.read_service().watcher)


def test_files_are_private_and_replaced_whole(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "data" / "run")
    run.make()
    assert stat.S_IMODE(run.root.stat().st_mode) == 0o700
    write_json(run.service, {"n": 1})
    write_json(run.service, {"n": 2})
    assert read_json(run.service, dict) == {"n": 2}
    assert stat.S_IMODE(run.service.stat().st_mode) == 0o600
    with pytest.raises(TypeError):
        write_json(run.service, {"n": object()})
    assert read_json(run.service, dict) == {"n": 2}
    assert [path.name for path in run.root.iterdir() if path.is_file()] == ["service.json"]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_can_write_to_is_refused_and_nothing_in_it_is_believed(tmp_path: Path, mode: int) -> None:
    run = RunFolder(tmp_path / "run")
    run.make()
    write_json(run.service, {"state": "stopping"})
    assert run.read_service() == Service(state="stopping")
    run.root.chmod(mode)
    with pytest.raises(PermissionError, match="others can write to it") as caught:
        run.make()
    assert caught.value.filename == str(run.root)
    assert run.read_service() == Service()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.make()
    os.chown(run.root, 65534, 65534)
    with pytest.raises(PermissionError, match="belongs to another user"):
        run.make()


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        FileLock(tmp_path / "lock").acquire()
    assert not (tmp_path / "elsewhere").exists()


GENERATION = {"number": 1, "state": "serving", "configuration": 1, "facts": {"workers": 2, "shutdown_s": 30.0}}


@pytest.mark.parametrize(
    "value",
    [
        *({"generations": rows} for rows in ("x", {}, 7, ["x"], [{}], [{**GENERATION, "facts": {}}], [{**GENERATION, "number": "1"}])),
        *({"latest": latest} for latest in ("x", -1, 1e300, None)),
        *({"bound": bound} for bound in ("x", [], ["127.0.0.1"], ["127.0.0.1", "80"], ["127.0.0.1", 70000])),
        *({"operation": "x"}, {"operation": {"id": 1}}, {"watcher": [1]}, {"watcher": {"pid": {}}}, {"state": 1}, {"current": "1"}),
        {"generations": [{**GENERATION, "facts": {"workers": 2, "shutdown_s": float("nan")}}]},
    ],
    ids=str,
)
def test_a_file_of_the_watcher_that_is_damaged_counts_as_none(tmp_path: Path, value: dict[str, object]) -> None:
    run = RunFolder(tmp_path / "run")
    run.make()
    assert not run.is_damaged
    run.service.write_text(json.dumps(value))
    assert run.read_service() == Service()
    assert run.is_damaged
    write_json(run.service, {"generations": [GENERATION], "new": 1})
    (row,) = run.read_service().generations
    assert (row.number, row.state, row.configuration, row.facts.workers, row.facts.shutdown_s) == (1, "serving", 1, 2, 30.0)
    assert not run.is_damaged


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_file_that_is_damaged_is_read_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert read_json(tmp_path / "x.json", dict) is None
    assert read_json(tmp_path / "none.json", dict) is None


KEEPER = {"keeper": None, "state": "ready", "detail": "", "model": "m", "pid": 7, "context_tokens": 1, "restarts": 0}


def test_what_a_keeper_tells_has_every_field_of_its_kind(tmp_path: Path) -> None:
    assert read_json(written(tmp_path, KEEPER), Keeper) is not None
    for name in KEEPER:
        assert read_json(written(tmp_path, {key: value for key, value in KEEPER.items() if key != name}), Keeper) is None
        assert read_json(written(tmp_path, {**KEEPER, name: [1]}), Keeper) is None


@pytest.mark.parametrize(
    ("value", "wish"),
    [
        ({"id": "a", "environment": {"A": "b", "PATH": ""}}, Wish("a", {"A": "b", "PATH": ""})),
        ({"id": "a", "environment": {"A": "b", "": "x", "a=b": "c", "n\0": "x", "m": "\0"}}, Wish("a", {"A": "b"})),
        ({"id": "a", "environment": {"A": "\udcff"}}, Wish("a", {"A": "\udcff"})),  # a byte that is not UTF-8, as Python has it
        (None, Wish()),
        ({}, Wish()),
        ({"id": "a", "environment": "x"}, Wish()),
        ({"id": "a", "environment": {"A": 1}}, Wish()),
        ({"id": 7, "environment": {"A": "1"}}, Wish()),
    ],
)
def test_a_wish_is_taken_whole_or_not_at_all_but_for_what_can_be_no_variable(value: object, wish: Wish, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.make()
    write_json(run.request, value)
    assert run.take_wish() == wish
    assert not run.request.exists(), "it holds the environment"
    assert run.take_wish() == Wish()


def test_the_folder_can_be_named_by_a_variable(tmp_path: Path) -> None:
    assert run_folder(tmp_path, {}).root == tmp_path / "data" / "run"
    assert run_folder(tmp_path, {"OPENAI_COMPAT_RUN_DIR": "/somewhere"}).root == Path("/somewhere")


def test_a_lock_has_one_holder_or_several_who_share_it(tmp_path: Path) -> None:
    first, second, third = (FileLock(tmp_path / "lock") for _ in range(3))
    assert first.acquire()
    assert first.acquire(), "once more by the same holder"
    assert not second.acquire()
    assert not second.is_free()
    first.release()
    assert second.is_free()
    assert second.acquire(is_shared=True)
    assert third.acquire(is_shared=True)
    assert not first.acquire()
    second.release()
    third.release()
    assert first.acquire()
    first.release()
    first.release()


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from compat.service.state import FileLock\n"
        "lock = FileLock(pathlib.Path(sys.argv[1])); assert lock.acquire(); print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = FileLock(tmp_path / "lock")
        assert not lock.acquire()
        holder.kill()
        holder.wait()
    assert lock.acquire()
    lock.release()
