"""When the loop waits for more: with many streams and little to do, and never else."""

from __future__ import annotations

import socket

import gevent
import pytest

from compat.streaming.coalesce import LEAST_STREAMS, MOST_PIECES, Gathering


class Slept(list[float]):
    """Stands in for `time.sleep`."""

    def __call__(self, wait_s: float) -> None:
        self.append(wait_s)


@pytest.mark.parametrize(("pieces", "waits"), [(0, 0), (1, 1), (MOST_PIECES - 1, 1), (MOST_PIECES, 0)])
def test_a_wake_up_with_few_pieces_is_followed_by_a_moment_of_waiting(pieces: int, waits: int) -> None:
    slept = Slept()
    gathering = Gathering(0.001, slept)
    for _ in range(pieces):
        gathering.note()
    gathering.wait()
    assert slept == [0.001] * waits
    gathering.wait()
    assert slept == [0.001] * waits, "what was handled before counts once"


@pytest.mark.parametrize(
    ("streams", "wait_s", "is_waiting"), [(LEAST_STREAMS, 0.001, True), (LEAST_STREAMS - 1, 0.001, False), (LEAST_STREAMS, 0, False)]
)
def test_the_loop_waits_while_many_streams_flow(streams: int, wait_s: float, is_waiting: bool) -> None:
    slept = Slept()
    gathering = Gathering(wait_s, slept)
    for _ in range(streams):
        gathering.begin()
    one, other = socket.socketpair()
    for _ in range(3):
        gathering.note()
        other.send(b"x")
        one.recv(1)
        gevent.sleep(0.001)
    assert bool(slept) is is_waiting
    for _ in range(streams):
        gathering.end()
    slept.clear()
    gathering.note()
    gevent.sleep(0.002)
    assert slept == []
    one.close()
    other.close()
