"""The file of client keys: what is in it, who may read it, and how a running gateway follows it."""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat.accounting.key_store import (
    LOOK_S,
    KeyRecord,
    KeyStore,
    KeyTerms,
    expiry_of,
    exposed_files,
    read_keys,
    with_key,
    with_revoked,
    write_keys,
)
from compat.accounting.keys import ANONYMOUS, ClientKeys, new_key
from compat.cli import main
from compat.config.sections import KeySettings
from compat.config.settings import SettingsError
from compat.errors import InvalidKey
from compat.key_commands import unwritable
from tests.unit.builders import StillClock

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
pytestmark = pytest.mark.usefixtures("no_variable")


@pytest.fixture
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_COMPAT_KEYS", "OPENAI_COMPAT_CONFIG", "OPENAI_COMPAT_ENV_FILE"):
        monkeypatch.delenv(name, raising=False)


class Line:
    """`python app.py keys ...` in a folder, and a gateway's keys that follow the same file under a clock of the test's."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys, self.clock = folder, capsys, StillClock(now_s=NOW.timestamp())
        self.path = folder / "data" / "keys.json"
        self.events: list[tuple[str, dict[str, Any]]] = []

    def run(self, *arguments: str) -> str:
        assert main(["keys", *arguments], self.folder) == 0
        done = self.capsys.readouterr()
        assert done.err == ""
        return done.out

    def fails(self, *arguments: str) -> str:
        assert main(["keys", *arguments], self.folder) == 2
        done = self.capsys.readouterr()
        assert done.out == ""
        assert done.err.startswith("openai-compat: ")
        assert done.err.count("\n") == 1
        return done.err

    def add(self, name: str, *options: str) -> str:
        return next(line.strip() for line in self.run("add", name, *options).splitlines() if line.startswith("  sk-compat-"))

    def gateway(self, **configured: str) -> ClientKeys:
        rows = {name: KeySettings(hash="sha256:" + hashlib.sha256(key.encode()).hexdigest()) for name, key in configured.items()}
        store = KeyStore(self.path, self.clock.monotonic, lambda event, fields: self.events.append((event, dict(fields))))
        return ClientKeys(rows, store, self.clock.now)

    def later(self, seconds: float = LOOK_S) -> None:
        self.clock.monotonic_s += seconds


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(tmp_path, capsys)


def refuses(keys: ClientKeys, key: str) -> bool:
    try:
        keys.client_of(f"Bearer {key}")
    except InvalidKey as error:
        return key not in error.message
    return False


# The commands.


def test_a_new_key_is_shown_once_and_only_its_hash_is_kept(line: Line) -> None:
    said = line.run("add", "laptop")
    key = next(word for word in said.split() if word.startswith("sk-compat-"))
    assert said.count(key) == 1
    text = line.path.read_text()
    assert key not in text
    assert hashlib.sha256(key.encode()).hexdigest() in text
    assert key not in line.run("list")
    assert line.gateway().client_of(f"Bearer {key}") == "laptop"


@pytest.mark.skipif(os.name != "posix", reason="files have no modes there")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_file_is_the_owners_alone_whatever_the_umask(line: Line, umask: int) -> None:
    before = os.umask(umask)
    try:
        line.run("add", "a")
        line.path.chmod(0o644)
        line.run("add", "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE(line.path.stat().st_mode) == 0o600
    assert {path.name for path in line.path.parent.iterdir()} == {"keys.json", ".keys.json.lock"}
    assert stat.S_IMODE((line.path.parent / ".keys.json.lock").stat().st_mode) == 0o600


def test_keys_are_written_into_the_folder_that_the_services_may_write(line: Line) -> None:
    key = line.add("laptop")
    assert [path.name for path in line.folder.iterdir()] == ["data"]
    assert line.gateway().client_of(f"Bearer {key}") == "laptop"


def test_a_file_of_before_beside_app_py_stays_in_use(line: Line) -> None:
    key = line.add("laptop")
    line.path.rename(line.folder / "keys.json")
    assert "laptop" in line.run("list")
    line.add("desk")
    assert not line.path.exists()
    line.path = line.folder / "keys.json"
    assert line.gateway().client_of(f"Bearer {key}") == "laptop"


def test_a_folder_that_can_not_be_written_is_one_clear_line(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    (line.folder / "data").write_text("a file where the folder should be")
    for arguments in (["add", "laptop"], ["revoke", "laptop"]):
        assert line.fails(*arguments) == f"openai-compat: {line.path}: can't be written: Not a directory.\n"
    if not Path("/proc/self").exists():
        return
    monkeypatch.setenv("OPENAI_COMPAT_KEYS", "/proc/keys.json")  # where nobody may write, root included
    said = line.fails("add", "laptop")
    assert said.startswith("openai-compat: /proc/keys.json: can't be written: ")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_only_others_may_write_is_reported_with_the_way_out(number: int) -> None:
    said = unwritable(Path("/srv/keys.json"), OSError(number, os.strerror(number)))
    assert said.startswith(f"/srv/keys.json: can't be written: {os.strerror(number)}. OPENAI_COMPAT_KEYS names another file")
    assert "OPENAI_COMPAT_KEYS" not in unwritable(Path("/srv/keys.json"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root writes for others")
def test_what_root_writes_for_the_user_of_the_service_is_that_users(line: Line) -> None:
    os.chown(line.folder, 12345, 12345)
    line.add("laptop")
    line.add("desk")
    made = [line.path.parent, line.path, line.path.with_name(".keys.json.lock")]
    assert [(path.stat().st_uid, path.stat().st_gid) for path in made] == [(12345, 12345)] * 3


def test_the_first_key_says_that_keys_are_asked_for_from_now_on(line: Line) -> None:
    assert "from now on" in line.run("add", "a")
    assert "from now on" not in line.run("add", "b")


def test_the_list_tells_names_states_and_terms_of_both_places(line: Line) -> None:
    (line.folder / "config.toml").write_text(f'[keys.desk]\nhash = "sha256:{"0" * 64}"\n[keys."a\\u001b[31mb"]\nhash = "x"\n')
    assert "desk" in line.run("list")
    line.add("laptop", "--limit", "60/minute", "--day-usd", "5", "--month-usd", "50.5", "--expires", "2099-01-31")
    line.add("old")
    line.run("revoke", "old")
    said = line.run("list")
    rows = {row.split()[0]: row for row in said.splitlines()[1:]}
    assert rows["desk"].split()[1:] == ["accepted", "configuration"]
    assert "60/minute; 5 usd/day; 50.5 usd/month; until 2099-01-31 00:00 UTC" in rows["laptop"]
    assert rows["old"].split()[1] == "revoked"
    assert "\x1b" not in said


def test_an_empty_list_says_what_that_means(line: Line) -> None:
    assert "accepts any" in line.run("list")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "a b"], "not a valid name"),
        (["add", ""], "not a valid name"),
        (["add", "../x"], "not a valid name"),
        (["add", "x" * 65], "not a valid name"),
        (["add", "a\x1b[31m"], "not a valid name"),
        (["add", "taken"], "already"),
        (["add", "desk"], "configuration already has a key 'desk'"),
        (["add", "n", "--limit", "lots"], "'lots' is not a limit"),
        (["add", "n", "--day-usd", "-1"], "budget"),
        (["add", "n", "--day-usd", "nan"], "budget"),
        (["add", "n", "--month-usd", "inf"], "budget"),
        (["add", "n", "--month-usd", "0.001"], "budget"),
        (["add", "n", "--expires", "soon"], "neither"),
        (["add", "n", "--expires", "2001-01-01"], "in the past"),
        (["add", "n", "--expires", "0d"], "in the past"),
        (["add", "n", "--group", "nobody"], "no group 'nobody'"),
        (["rotate", "nobody"], "no key 'nobody'"),
        (["rotate", "desk"], "put the hash of `--new-key` there, and the present one in old_hash"),
        (["rotate", "taken", "--overlap", "soon"], "neither"),
        (["revoke", "nobody"], "no key 'nobody'"),
        (["revoke", "desk"], "remove [keys.desk] there"),
    ],
)
def test_what_can_not_be_done_is_told_in_one_line_and_changes_nothing(line: Line, arguments: list[str], words: str) -> None:
    (line.folder / "config.toml").write_text(f'[keys.desk]\nhash = "sha256:{"0" * 64}"\n')
    line.add("taken")
    before = line.path.read_bytes()
    assert words in line.fails(*arguments)
    assert line.path.read_bytes() == before


def test_keys_can_be_made_for_a_configuration_that_can_not_start_without_them(line: Line) -> None:
    (line.folder / "config.toml").write_text('server.host = "0.0.0.0"\n')
    assert line.add("a")


def test_another_place_is_named_by_the_environment(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_COMPAT_KEYS", str(line.folder / "elsewhere" / "k.json"))
    line.add("a")
    assert not line.path.exists()
    assert set(read_keys(line.folder / "elsewhere" / "k.json")) == {"a"}


def test_keys_that_are_made_at_the_same_time_are_all_kept(line: Line) -> None:
    names = [f"k{number}" for number in range(8)]
    threads = [threading.Thread(target=main, args=(["keys", "add", name], line.folder)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(read_keys(line.path)) == set(names)


# A gateway that runs.


def test_a_key_that_is_added_or_revoked_counts_within_a_second(line: Line) -> None:
    keys = line.gateway()
    assert keys.client_of("") == ANONYMOUS
    assert not keys.are_required
    key = line.add("laptop")
    line.later()
    assert keys.are_required
    assert keys.client_of(f"Bearer {key}") == "laptop"
    assert keys.client_of("", key) == "laptop"
    assert refuses(keys, "sk-other")
    line.run("revoke", "laptop")
    line.later()
    assert refuses(keys, key)
    assert [event for event, _ in line.events] == ["keys.read", "keys.read"]


def test_between_two_looks_the_file_is_not_touched(line: Line) -> None:
    keys = line.gateway()
    key = line.add("laptop")
    assert keys.client_of("") == ANONYMOUS
    line.later(LOOK_S / 2)
    assert not keys.are_required
    line.later(LOOK_S / 2)
    assert keys.client_of(f"Bearer {key}") == "laptop"


def test_when_the_last_key_is_revoked_nobody_gets_in(line: Line) -> None:
    key = line.add("laptop")
    assert "every call is refused" in line.run("revoke", "laptop")
    for keys in (line.gateway(), ClientKeys({}, KeyStore(line.path, line.clock.monotonic, print))):
        assert keys.are_required
        assert refuses(keys, key)
        with pytest.raises(InvalidKey):
            keys.client_of("")


def test_a_revoked_name_can_be_given_to_a_new_key(line: Line) -> None:
    old = line.add("laptop")
    line.run("revoke", "laptop")
    assert "revoked already" in line.fails("revoke", "laptop")
    new = line.add("laptop")
    keys = line.gateway()
    assert keys.client_of(f"Bearer {new}") == "laptop"
    assert refuses(keys, old)


def test_a_key_is_over_when_its_time_is(line: Line) -> None:
    key, digest = new_key()
    terms = KeyTerms(expires=NOW + datetime.timedelta(seconds=10))
    write_keys(line.path, with_key({}, "guest", digest, terms, NOW))
    keys = line.gateway()
    line.clock.now_s += 9.9
    assert keys.client_of(f"Bearer {key}") == "guest"
    line.clock.now_s += 0.1
    with pytest.raises(InvalidKey, match="'guest' has expired"):
        keys.client_of(f"Bearer {key}")


def test_a_key_that_is_rotated_has_two_secrets_for_a_time(line: Line) -> None:
    old = line.add("laptop", "--limit", "5/minute")
    said = line.run("rotate", "laptop", "--overlap", "12h")
    new = next(word for word in said.split() if word.startswith("sk-compat-"))
    keys = line.gateway()
    assert [keys.client_of(f"Bearer {key}") for key in (old, new)] == ["laptop", "laptop"]
    assert keys.terms_of("laptop") == KeyTerms(limit="5/minute")
    assert "; old secret until " in line.run("list")
    line.clock.now_s += 10 * 365 * 86_400
    assert keys.client_of(f"Bearer {new}") == "laptop"
    assert refuses(keys, old)
    line.run("revoke", "laptop")
    line.clock.now_s = NOW.timestamp()
    line.later()
    assert refuses(keys, old)
    assert refuses(keys, new)
    assert "no key" not in line.fails("rotate", "laptop")


def test_a_key_has_models_and_a_group_of_the_configuration(line: Line) -> None:
    (line.folder / "config.toml").write_text("[groups.team]\nday_usd = 5\n")
    line.add("laptop", "--models", "claude-*, gpt-5.6", "--group", "team")
    assert "group team; models claude-*, gpt-5.6" in line.run("list")
    keys = line.gateway()
    assert keys.terms_of("laptop") == KeyTerms(models=("claude-*", "gpt-5.6"), group="team")
    line.run("revoke", "laptop")
    line.later()
    assert keys.members_of("team") == ["laptop"], "what it has spent was spent"


def test_what_a_key_may_do_is_there_for_the_limits(line: Line) -> None:
    line.add("laptop", "--limit", "5/minute", "--day-usd", "1")
    keys = line.gateway(desk="sk-desk")
    assert keys.terms_of("laptop") == KeyTerms("5/minute", 1.0)
    assert keys.terms_of("desk") is None
    assert keys.names == ["desk", "laptop"]


def test_keys_of_the_configuration_and_of_the_file_count_together(line: Line) -> None:
    key = line.add("laptop")
    keys = line.gateway(desk="sk-desk")
    assert keys.client_of("Bearer sk-desk") == "desk"
    assert keys.client_of(f"Bearer {key}") == "laptop"


def test_a_name_that_is_in_both_is_the_configurations(line: Line) -> None:
    key, digest = new_key()
    write_keys(line.path, with_key({}, "desk", digest, KeyTerms(), NOW))
    keys = line.gateway(desk="sk-desk")
    assert keys.client_of("Bearer sk-desk") == "desk"
    assert refuses(keys, key)


@pytest.mark.parametrize("damage", ["gone", "garbled", "emptied", "unreadable"])
def test_a_file_that_breaks_while_the_gateway_runs_opens_and_closes_nothing(line: Line, damage: str) -> None:
    key = line.add("laptop")
    keys = line.gateway()
    before = line.path.read_bytes()
    if damage == "gone":
        line.path.unlink()
    elif damage == "unreadable":
        line.path.unlink()
        line.path.mkdir()
    else:
        line.path.write_bytes(b"" if damage == "emptied" else before[:-20])
    for _ in range(3):
        line.later()
        assert keys.client_of(f"Bearer {key}") == "laptop"
        assert refuses(keys, "sk-other")
    assert str(line.path) in keys.fault
    assert [event for event, _ in line.events] == ["keys.failed"]
    assert key not in str(line.events)
    if damage == "unreadable":
        line.path.rmdir()
    write_keys(line.path, with_revoked({"laptop": KeyRecord("sha256:" + "0" * 64, NOW)}, "laptop", NOW))
    line.later()
    assert refuses(keys, key)
    assert keys.fault == ""


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"version": 2, "keys": {}}',
        b'{"version": 1, "keys": {"a": {"hash": "sk-canary", "created": "2026-11-23T12:00:00Z"}}}',
        b'{"version": 1, "keys": {"a b": {"hash": "sha256:' + b"0" * 64 + b'", "created": "2026-11-23T12:00:00Z"}}}',
        b'{"version": 1, "keys": {"a": {"hash": "sha256:' + b"0" * 64 + b'", "created": "2026-11-23T12:00:00"}}}',
        b'{"version": 1, "keys": {}, "more": 1}',
        b"[" * 100_000,
    ],
)
def test_a_gateway_does_not_start_on_a_file_that_is_none(line: Line, text: bytes) -> None:
    line.path.parent.mkdir()
    line.path.write_bytes(text)
    with pytest.raises(SettingsError, match=r"keys\.json") as caught:
        line.gateway()
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "keys.json" in line.fails("list")


names = st.text("abcXYZ019_.-", min_size=1, max_size=64)
terms = st.builds(
    KeyTerms,
    limit=st.sampled_from(["", "60/minute"]),
    day_usd=st.floats(0, 1e6),
    month_usd=st.floats(0, 1e6),
    expires=st.none() | st.datetimes(datetime.datetime(2026, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC)),
)


@given(st.dictionaries(names, terms, max_size=5))
@settings(max_examples=50)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, KeyTerms]) -> None:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    records: dict[str, KeyRecord] = {}
    for name, term in wanted.items():
        records = dict(with_key(records, name, new_key()[1], term, NOW))
    write_keys(path, records)
    assert read_keys(path) == records
    assert json.loads(path.read_bytes())["version"] == 1


@given(st.text(max_size=20))
def test_an_expiry_is_to_come_or_refused(text: str) -> None:
    try:
        moment = expiry_of(text, NOW)
    except ValueError:
        return
    assert moment > NOW
    assert moment.tzinfo is not None


@pytest.mark.skipif(os.name != "posix", reason="files have no modes there")
@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o400, False), (0o640, True), (0o644, True), (0o604, True)])
def test_a_file_with_keys_that_others_can_read_is_told(tmp_path: Path, mode: int, warns: bool) -> None:
    path = tmp_path / ".env"
    path.write_text("OPENAI_API_KEY=sk-canary-0123456789\n")
    path.chmod(mode)
    told = exposed_files([path, tmp_path / "none"], ["sk-canary-0123456789"])
    assert bool(told) is warns
    assert "canary" not in "".join(told)
    assert exposed_files([path], ["sk-another-key", ""]) == []
