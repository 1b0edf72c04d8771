"""Single-flight: one upstream call for those who ask for the same, and no client at the mercy of another."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import gevent
import pytest
from gevent.queue import SimpleQueue

from compat.config.sections import SingleFlightSettings
from compat.errors import ClientGone, GatewayError, UpstreamFailure
from compat.reuse.single_flight import Reader, SingleFlight, flight_key

BODY = b'{"model":"m"}'


class Source:
    """Frames that come when the test says so; `is_closed` once the work on them has ended."""

    def __init__(self) -> None:
        self.given: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self.pulled = 0
        self.is_begun = False
        self.is_closed = False

    def give(self, *items: bytes | BaseException | None) -> None:
        """Frames, an error, or nothing for the end; then let everyone run as far as they get."""
        for item in items:
            self.given.put(item)
        settle()

    def frames(self) -> Generator[bytes, None, None]:
        self.is_begun = True
        try:
            while (item := self.given.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                self.pulled += 1
                yield item
        finally:
            self.is_closed = True


class Client:
    """A client that reads all it can get, in a greenlet of its own."""

    def __init__(self, reader: Reader[str]) -> None:
        self.reader = reader
        self.got: list[bytes] = []
        self.greenlet = gevent.spawn(self._read)
        settle()

    def _read(self) -> str:
        try:
            for frame in self.reader:
                self.got.append(frame)
        except GatewayError as error:
            return f"error {error.status}"
        except ClientGone:
            return "gone"
        return "end"

    @property
    def end(self) -> str:
        return self.greenlet.get(timeout=5)

    def hang_up(self) -> None:
        self.greenlet.kill(ClientGone())
        settle()


def settle() -> None:
    """Let every greenlet run until it waits for something that only the test can give."""
    for _ in range(20):
        gevent.idle()


class Run:
    """A call, which writes errors in the shape of its own protocol."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id

    def headers(self) -> list[tuple[str, str]]:
        return []

    def error_frame(self, error: GatewayError) -> bytes:
        return b"failed: %s\n\n" % error.message.encode()


class Setting:
    def __init__(self, **settings: Any) -> None:
        self.flights: SingleFlight = SingleFlight(SingleFlightSettings(**settings))
        self.sources: list[Source] = []

    def join(self, key: str = "key") -> Reader:
        source = Source()
        self.sources.append(source)
        return self.flights.join(key, Run(f"run {len(self.sources)}"), source.frames())

    @property
    def source(self) -> Source:
        return self.sources[0]


@pytest.fixture
def setting() -> Setting:
    return Setting()


# Which calls share.


@pytest.mark.parametrize(
    ("idempotency_key", "retry_count", "is_shared"),
    [
        ("", "", False),
        ("", "0", False),
        ("", "00", False),
        ("", "1", True),
        ("", "12", True),
        ("", "-1", False),
        ("", "one", False),
        ("", "²", False),
        ("", "9" * 10_000, True),
        ("abc", "", True),
        ("abc", "0", True),
    ],
)
def test_a_call_is_shared_with_an_idempotency_key_or_a_retry_marker(idempotency_key: str, retry_count: str, is_shared: bool) -> None:
    assert (flight_key("ada", "openai.chat", BODY, idempotency_key=idempotency_key, retry_count=retry_count) is not None) is is_shared


def test_only_identical_calls_of_one_client_share() -> None:
    keys = [
        flight_key("ada", "openai.chat", BODY, idempotency_key="k"),
        flight_key("eve", "openai.chat", BODY, idempotency_key="k"),
        flight_key("ada", "openai.chat", b"{}", idempotency_key="k"),
        flight_key("ada", "openai.chat", BODY, idempotency_key="other"),
        flight_key("ada", "openai.completions", BODY, idempotency_key="k"),
        flight_key("adak", "openai.chat", BODY, retry_count="1"),
        flight_key("ada", "openai.chat", BODY, retry_count="1"),
        flight_key("\udcff", "openai.chat", BODY, retry_count="1"),
    ]
    assert len(set(keys)) == len(keys)


def test_two_retries_share_and_so_do_two_calls_with_the_same_key() -> None:
    assert flight_key("ada", "openai.chat", BODY, retry_count="1") == flight_key("ada", "openai.chat", BODY, retry_count="2")
    assert flight_key("ada", "openai.chat", BODY, idempotency_key="k", retry_count="0") == flight_key(
        "ada", "openai.chat", BODY, idempotency_key="k", retry_count="1"
    )


# Reading together.


def test_a_call_alone_gets_its_frames_as_they_come(setting: Setting) -> None:
    client = Client(setting.join())
    setting.source.give(b"one")
    assert client.got == [b"one"]
    setting.source.give(b"two", None)
    assert (client.got, client.end) == ([b"one", b"two"], "end")
    assert setting.source.is_closed
    assert len(setting.flights) == 0


def test_a_second_call_gets_all_from_the_start_and_then_what_comes(setting: Setting) -> None:
    first = Client(setting.join())
    setting.source.give(b"one", b"two")
    second = Client(setting.join())
    assert second.got == [b"one", b"two"]
    setting.source.give(b"three", None)
    assert first.got == second.got == [b"one", b"two", b"three"]
    assert (first.end, second.end) == ("end", "end")
    assert not setting.sources[1].is_begun


def test_a_reader_knows_whose_frames_it_reads(setting: Setting) -> None:
    leaders = [setting.join().leader, setting.join().leader, setting.join("other").leader]
    assert [leader.request_id for leader in leaders] == ["run 1", "run 1", "run 3"]


def test_different_keys_do_not_share(setting: Setting) -> None:
    Client(setting.join("one"))
    Client(setting.join("two"))
    assert [source.is_begun for source in setting.sources] == [True, True]


def test_a_call_after_the_end_is_a_call_of_its_own(setting: Setting) -> None:
    Client(setting.join())
    setting.source.give(b"one", None)
    Client(setting.join())
    assert setting.sources[1].is_begun


def test_an_answer_without_frames_ends(setting: Setting) -> None:
    client = Client(setting.join())
    setting.source.give(None)
    assert (client.got, client.end) == ([], "end")


def test_a_reader_that_has_ended_stays_so(setting: Setting) -> None:
    reader = setting.join()
    client = Client(reader)
    setting.source.give(b"one", None)
    assert client.end == "end"
    assert list(reader) == []


# Leaving.


def test_the_first_clients_hang_up_does_not_end_the_second_ones_answer(setting: Setting) -> None:
    first = Client(setting.join())
    setting.source.give(b"one")
    second = Client(setting.join())
    first.hang_up()
    assert first.end == "gone"
    setting.source.give(b"two", None)
    assert (second.got, second.end) == ([b"one", b"two"], "end")


def test_the_second_clients_hang_up_does_not_end_the_first_ones_answer(setting: Setting) -> None:
    first, second = Client(setting.join()), Client(setting.join())
    second.hang_up()
    setting.source.give(b"one", None)
    assert (first.got, first.end) == ([b"one"], "end")


def test_when_the_last_client_has_left_the_work_ends_at_once(setting: Setting) -> None:
    clients = [Client(setting.join()), Client(setting.join())]
    setting.source.give(b"one")
    clients[0].hang_up()
    assert not setting.source.is_closed
    clients[1].hang_up()
    assert setting.source.is_closed
    assert len(setting.flights) == 0


def test_a_call_does_not_join_one_that_is_being_ended(setting: Setting) -> None:
    reader = setting.join()
    Client(reader)
    reader.close()
    fresh = Client(setting.join())
    setting.sources[1].give(b"fresh", None)
    assert (fresh.got, fresh.end) == ([b"fresh"], "end")


def test_a_client_that_leaves_before_the_work_has_begun_leaves_nothing_behind(setting: Setting) -> None:
    setting.join().close()
    settle()
    assert not setting.source.is_begun
    assert len(setting.flights) == 0


def test_leaving_twice_is_leaving_once(setting: Setting) -> None:
    reader, other = setting.join(), Client(setting.join())
    reader.close()
    reader.close()
    setting.source.give(b"one", None)
    assert other.end == "end"


def test_a_client_that_leaves_while_the_work_waits_for_readers_ends_it() -> None:
    setting = Setting(ahead_bytes=1)
    reader = setting.join()
    setting.source.give(b"one", b"two")
    assert setting.source.pulled == 1
    reader.close()
    settle()
    assert setting.source.is_closed


# Errors.


def test_an_error_before_the_first_frame_is_raised_in_every_reader(setting: Setting) -> None:
    clients = [Client(setting.join()), Client(setting.join())]
    setting.source.give(UpstreamFailure("fire", status=500))
    assert [client.end for client in clients] == ["error 500", "error 500"]
    assert len(setting.flights) == 0


def test_a_later_error_is_the_last_frame(setting: Setting) -> None:
    error = UpstreamFailure("fire")
    clients = [Client(setting.join()), Client(setting.join())]
    setting.source.give(b"one", error)
    for client in clients:
        assert (client.got, client.end) == ([b"one", b"failed: fire\n\n"], "end")


@pytest.mark.filterwarnings("ignore")
def test_a_fault_of_our_own_in_the_work_reaches_every_reader(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    client = Client(setting.join())
    setting.source.give(ZeroDivisionError("ours"))
    assert client.end == "error 500"
    assert "ZeroDivisionError: ours" in capsys.readouterr().err


# Bounds.


def read(reader: Reader[str], count: int) -> list[bytes]:
    return [next(reader) for _ in range(count)]


def test_what_is_longer_than_the_record_cannot_be_joined() -> None:
    setting = Setting(record_bytes=5)
    client = Client(setting.join())
    setting.source.give(b"12345")
    assert len(setting.flights) == 1
    setting.source.give(b"6")
    assert len(setting.flights) == 0
    Client(setting.join())
    assert setting.sources[1].is_begun
    setting.source.give(None)
    assert b"".join(client.got) == b"123456"


def test_those_who_joined_in_time_read_on_beyond_the_record() -> None:
    setting = Setting(record_bytes=50)
    first, second = Client(setting.join()), Client(setting.join())
    frames = [b"%d" % number for number in range(200)]
    setting.source.give(*frames[:50])
    setting.source.give(*frames[50:], None)
    assert first.got == second.got == frames
    assert (first.end, second.end) == ("end", "end")


def test_what_all_have_read_is_forgotten_beyond_the_record() -> None:
    setting = Setting(record_bytes=10, ahead_bytes=1000)
    one, two = setting.join(), setting.join()
    setting.source.give(*[b"x"] * 100)
    recorded = one._flight._recorded
    assert len(recorded) == 100
    read(one, 90)
    assert len(recorded) == 100
    read(two, 80)
    assert len(recorded) == 20
    two.close()
    read(one, 1)
    assert len(recorded) == 9


def test_the_work_stays_a_bounded_way_ahead_of_the_quickest_reader() -> None:
    setting = Setting(ahead_bytes=10)
    quick, slow = setting.join(), setting.join()
    setting.source.give(*[b"x"] * 100)
    assert setting.source.pulled == 11
    read(quick, 5)
    settle()
    assert setting.source.pulled == 16
    read(slow, 5)
    settle()
    assert setting.source.pulled == 16


def drain(reader: Reader[str], count: int) -> None:
    """Read as the frames come."""
    done = gevent.spawn(read, reader, count)
    done.get(timeout=5)


def test_a_reader_that_falls_too_far_behind_is_let_go_and_the_other_reads_on() -> None:
    setting = Setting(record_bytes=20, ahead_bytes=10)
    quick, slow, silent = setting.join(), setting.join(), setting.join()
    setting.source.give(*[b"x"] * 100)
    read(slow, 3)
    drain(quick, 40)
    assert next(slow).startswith(b"failed: This client read too slowly")
    assert list(slow) == []
    assert Client(silent).end == "error 408"
    assert len(quick._flight._recorded) <= 12
    drain(quick, 60)


def test_one_long_frame_lets_nobody_go() -> None:
    setting = Setting(record_bytes=10, ahead_bytes=5)
    readers = [setting.join(), setting.join()]
    setting.source.give(b"x" * 1000, None)
    assert [list(reader) for reader in readers] == [[b"x" * 1000]] * 2


def test_the_quickest_reader_is_never_let_go() -> None:
    setting = Setting(record_bytes=1, ahead_bytes=10)
    reader = setting.join()
    setting.source.give(*[b"x"] * 50, None)
    assert list(reader) == [b"x"] * 50


def test_many_who_join_and_leave_at_any_moment_get_the_same_answer_or_leave_nothing_behind() -> None:
    setting = Setting(record_bytes=10_000, ahead_bytes=10)
    frames = [b"%d," % number for number in range(300)]
    complete: list[bytes] = []

    def source() -> Generator[bytes, None, None]:
        for frame in frames:
            gevent.sleep(0)
            yield frame

    def client(number: int) -> None:
        for _ in range(number):
            gevent.sleep(0)
        reader = setting.flights.join("key", "run", source())
        try:
            got = b""
            for frame in reader:
                got += frame
                if number % 3 == 0 and len(got) > number * 10:
                    return
            complete.append(got)
        finally:
            reader.close()

    gevent.joinall([gevent.spawn(client, number) for number in range(60)], raise_error=True, timeout=30)
    assert len(complete) == 40
    assert set(complete) == {b"".join(frames)}
    assert len(setting.flights) == 0
