"""Carrying a stream from its upstream to its client in callbacks of the event loop, while the call's greenlet sleeps.

A piece of a slow stream costs a wake-up, whoever handles it. A generator adds the switch into its greenlet, the server's way of writing,
and every iterator between the two: more work than the piece itself is. So once the head and the first content have gone out by the
generator, and as long as the stream simply flows, a callback reads what the upstream sent, lets the source make frames of it, and sends
them to the client's socket. Whatever is out of the ordinary (the end, a failure, silence that lasts too long) wakes the greenlet, and the
generator goes on from there: it is the reference, and it alone knows what to do.

    relay = Relay(exchange, outlet, source, on_frames, clock, bounds, gathering)
    has_ended = relay.run()              # returns when the generator is to go on; errors of the exchange, `ClientGone`

A client that reads slowly stops the reading: what it has not taken yet is at most what one turn of reading gave. A heartbeat is sent only
when nothing is left unsent, so it never stands within a frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gevent import GreenletExit, get_hub
from gevent.hub import Waiter

from compat.errors import ClientGone, GatewayError
from compat.streaming.coalesce import Gathering

_READ = 1
_WRITE = 2
_READS_A_TURN = 4
_NOTED_TOGETHER = 64
_LONG_BYTES = 4096
_LEAST_WAIT_S = 0.001


class Exchange(Protocol):
    """What is needed of `compat.upstream.http1.Exchange`."""

    @property
    def watchable(self) -> int | None:
        """The descriptor that turns readable with whatever comes; `None` where it would not show everything."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether a read gives something that the descriptor does not show any more: bytes, or the end."""
        ...

    def receive_now(self) -> bytes | None:
        """The next bytes, `None` when there are none yet, `b""` at the end. Errors: `UpstreamBroken`."""
        ...


class Outlet(Protocol):
    """The client's end of an answer whose head was sent."""

    @property
    def patience_s(self) -> float:
        """A client that takes nothing for so long has left."""
        ...

    def descriptor(self) -> int:
        """Its socket's."""
        ...

    def send_frames(self, frames: bytes) -> bytes:
        """Send `frames` in the framing of the answer's body; what the socket did not take, in that framing. None send nothing.

        Errors: `OSError`.
        """
        ...

    def send(self, data: bytes) -> bytes:
        """Send what the socket takes at once; what it did not take. Errors: `OSError`."""
        ...

    def send_all(self, data: bytes) -> None:
        """Send all of it, waiting for the client. Errors: `OSError`."""
        ...


class Source(Protocol):
    """Who knows what the upstream's bytes mean."""

    def take(self, data: bytes) -> bytes:
        """Take the upstream's bytes; the frames that are to be shown now, which may be none."""
        ...

    @property
    def is_flowing(self) -> bool:
        """Whether there is nothing to do but to go on."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long things may last, in seconds.

    After `heartbeat_s` without a frame `heartbeat` is sent. `silence_s` without bytes of the upstream, and the clock's time `deadline_s`,
    end the relay.
    """

    heartbeat_s: float
    silence_s: float
    heartbeat: bytes
    deadline_s: float = math.inf


class Relay:
    """One stream's way through the event loop. One use only. Mutable: what is unsent, the times, the watchers.

    `last_data_s` and `last_sent_s` are the clock's times of the upstream's last bytes and the client's last frame, `left` are frames that
    the generator is to show next. `on_frames` gets all that is handed to the client.
    """

    def __init__(
        self,
        exchange: Exchange,
        outlet: Outlet,
        source: Source,
        on_frames: Callable[[bytes], None],
        clock: Callable[[], float],
        bounds: Bounds,
        gathering: Gathering,
    ) -> None:
        self.left = b""
        self._exchange = exchange
        self._receive = exchange.receive_now
        self._outlet = outlet
        self._source = source
        self._take = source.take
        self._on_frames = on_frames
        self._clock = clock
        self._bounds = bounds
        self._gathering = gathering
        self._waiter: Any = Waiter()
        self._watchers: dict[str, Any] = {}
        self._unsent = b""
        self._noted: list[bytes] = []
        self.last_sent_s = self.last_data_s = clock()
        self._has_ended = False
        self._is_over = False

    def run(self) -> bool:
        """Carry the stream as long as it flows; whether the upstream's body is at its end. Errors: those of `receive_now`, `ClientGone`."""
        loop = get_hub().loop
        self._watchers = {
            "read": loop.io(self._exchange.watchable, _READ),
            "write": loop.io(self._outlet.descriptor(), _WRITE),
        }
        self._gathering.begin()
        try:
            self._watchers["read"].start(self._on_readable)
            self._set_timer()
            if self._exchange.has_more:
                loop.run_callback(self._on_readable)
            self._waiter.get()
        except (ClientGone, GreenletExit):
            self._unsent = b""
            raise
        finally:
            self._gathering.end()
            self._close()
            self._note()
            self._send_rest()  # what follows is written by the generator, and must not stand within a frame
        return self._has_ended

    # Callbacks. They can't wait, and what goes wrong in them is raised in the greenlet.

    def _on_readable(self) -> None:
        if self._is_over or self._unsent:
            return
        try:
            goes_on = self._carry()
        except BaseException as error:  # noqa: BLE001  # nothing is swallowed: the greenlet raises it
            self._wake(error)
        else:
            if not goes_on:
                self._wake()

    def _on_writable(self) -> None:
        self._guarded(self._go_on_sending)

    def _on_time(self) -> None:
        self._guarded(self._look_at_the_time)

    def _guarded(self, step: Callable[[], bool]) -> None:
        try:
            goes_on = step()
        except BaseException as error:  # noqa: BLE001  # as above
            self._wake(error)
        else:
            if not goes_on:
                self._wake()

    def _wake(self, error: BaseException | None = None) -> None:
        if self._is_over:
            return
        self._close()
        if error is None:
            self._waiter.switch(None)
        else:
            self._waiter.throw(error)

    def _carry(self) -> bool:
        """Read what is there, and hand it over in one piece; whether the stream goes on."""
        data = self._receive()
        if data is None:
            return True
        self._gathering.note()
        now_s = self.last_data_s = self._clock()
        if not data:
            self._has_ended = True
            return False
        frames = self._take(data)
        if self._exchange.has_more:
            frames = self._with_more(frames, now_s)
        if self._has_ended or not self._source.is_flowing:
            self.left = frames
            return False
        if frames:
            self._hand_over(frames, now_s)
        return True

    def _with_more(self, frames: bytes, now_s: float) -> bytes:
        """`frames`, and those of bytes that are at hand already; what is left of these gets another turn."""
        parts = [frames]
        for _ in range(_READS_A_TURN):
            try:
                data = self._receive() if self._source.is_flowing else None
            except GatewayError:
                if whole := b"".join(parts):
                    self._hand_over(whole, now_s)
                raise
            if not data:
                self._has_ended = data == b""
                return b"".join(parts)
            parts.append(self._take(data))
        get_hub().loop.run_callback(self._on_readable)
        return b"".join(parts)

    def _hand_over(self, frames: bytes, now_s: float) -> None:
        self.last_sent_s = now_s
        self._noted.append(frames)
        if len(self._noted) >= _NOTED_TOGETHER or len(frames) > _LONG_BYTES:
            self._note()
        try:
            rest = self._outlet.send_frames(frames)
        except OSError as error:
            raise ClientGone from error
        if rest:
            self._unsent = rest
            self._watchers["read"].stop()
            self._watchers["write"].start(self._on_writable)
            self._set_timer()  # the time that the client has may be the shorter one

    def _note(self) -> None:
        """Report what was handed over; not with every piece, because nobody needs to know at once."""
        noted, self._noted = self._noted, []
        if noted:
            self._on_frames(b"".join(noted))

    def _go_on_sending(self) -> bool:
        """The client takes more: the rest of what it was sent, then the upstream's next bytes."""
        before = len(self._unsent)
        try:
            self._unsent = self._outlet.send(self._unsent)
        except OSError as error:
            raise ClientGone from error
        if len(self._unsent) < before:
            self.last_sent_s = self._clock()
        if not self._unsent:
            self.last_data_s = self._clock()  # while nobody read, the upstream was not silent
            self._watchers["write"].stop()
            self._watchers["read"].start(self._on_readable)
            self._set_timer()
            if self._exchange.has_more:
                return self._carry()
        return True

    def _look_at_the_time(self) -> bool:
        """What is due now. Times move on with every frame, but the timer is not reset with each: it looks, and sets itself."""
        now_s, bounds = self._clock(), self._bounds
        if now_s >= bounds.deadline_s or (not self._unsent and now_s - self.last_data_s >= bounds.silence_s):
            return False
        idle_s = now_s - self.last_sent_s
        if self._unsent:
            if idle_s >= self._outlet.patience_s:
                raise ClientGone
        elif idle_s >= bounds.heartbeat_s:
            self._hand_over(bounds.heartbeat, now_s)
        self._set_timer()
        return True

    def _set_timer(self) -> None:
        bounds = self._bounds
        if self._unsent:
            next_s = self.last_sent_s + self._outlet.patience_s
        else:
            next_s = min(self.last_sent_s + bounds.heartbeat_s, self.last_data_s + bounds.silence_s)
        wait_s = min(next_s, bounds.deadline_s) - self._clock()
        old = self._watchers.pop("timer", None)
        if old is not None:
            old.close()
        timer = self._watchers["timer"] = get_hub().loop.timer(max(wait_s, _LEAST_WAIT_S))
        timer.start(self._on_time)

    def _close(self) -> None:
        """Watch nothing any more; the second call does nothing."""
        self._is_over = True
        for watcher in self._watchers.values():
            watcher.stop()
            watcher.close()
        self._watchers = {}

    def _send_rest(self) -> None:
        rest, self._unsent = self._unsent, b""
        if rest:
            try:
                self._outlet.send_all(rest)
            except OSError as error:
                raise ClientGone from error
