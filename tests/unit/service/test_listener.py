"""The listening socket, and how the watcher changes it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from compat.service.listener import Listener, open_listener


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:
        open_listener("127.0.0.1", taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no such host"])
def test_an_address_that_is_not_ours_is_an_error(host: str) -> None:
    with pytest.raises(OSError):
        open_listener(host, 0)


def test_a_port_is_free_again_once_its_listener_is_closed() -> None:
    first = open_listener("127.0.0.1", 0)
    port = first.getsockname()[1]
    first.close()
    with open_listener("127.0.0.1", port) as second:
        assert second.getsockname() == ("127.0.0.1", port)
        assert second.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_listener_is_for_everybody_who_inherits_it() -> None:
    with open_listener("127.0.0.1", 0) as listener, pytest.raises(OSError):
        open_listener("127.0.0.1", listener.getsockname()[1])


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


def is_served(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def test_a_listener_keeps_its_socket_while_its_address_stays(listener: Listener) -> None:
    assert (listener.address, listener.bound) == (None, None)
    listener.bind("127.0.0.1", 0, 0.0)
    bound = listener.bound
    listener.bind("127.0.0.1", 0, 0.0)
    assert listener.bound == bound
    assert listener.address == ("127.0.0.1", 0)


@pytest.mark.parametrize("is_good", [True, False], ids=["the next one serves", "the next one fails"])
def test_the_socket_before_is_open_until_it_is_known_which_one_counts(listener: Listener, is_good: bool) -> None:
    first, second = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    listener.bind(*first, 0.0)
    listener.bind(*second, 0.0)
    assert listener.bound == second
    assert is_served(first)
    kept, other = (second, first) if is_good else (first, second)
    listener.keep(*kept)
    assert listener.bound == listener.address == kept
    assert (is_served(kept), is_served(other)) == (True, False)
    listener.bind(*other, 0.0)
    listener.close()
    listener.keep(*kept)
    assert (listener.address, listener.bound, is_served(kept)) == (None, None, False)


def test_an_address_that_is_taken_for_longer_than_one_waits_leaves_what_there_is(listener: Listener) -> None:
    listener.bind("127.0.0.1", 0, 0.0)
    bound = listener.bound
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        listener.bind("127.0.0.1", taken.getsockname()[1], 0.1)
    assert (listener.bound, listener.address) == (bound, ("127.0.0.1", 0))


def test_a_socket_is_taken_over_with_the_address_it_was_asked_for_at(listener: Listener) -> None:
    inherited = open_listener("127.0.0.1", 0)
    bound = inherited.getsockname()
    listener.adopt(inherited.detach(), ("127.0.0.1", 0))
    listener.bind("127.0.0.1", 0, 0.0)
    assert listener.bound == bound
