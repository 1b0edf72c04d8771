"""Answers of the Responses API that are made while no client waits: begun, gone through to their end, cancelled.

The store alone says how such an answer stands, so that any worker may be asked for it: it is queued until the upstream begins, then
in progress, and each second its maker says that it is still at it and looks whether anybody wants it.
"""

from __future__ import annotations

import gevent

from compat.calls.call import Call
from compat.calls.gateway import Gateway
from compat.calls.kept import Kept
from compat.calls.run import CallRun
from compat.endpoints.boundary import fault_of
from compat.errors import ClientGone, GatewayError, TooManyRequests
from compat.protocols.client_protocol import Identity
from compat.protocols.responses.client_errors import error_end
from compat.protocols.responses.state import Wish, changed, queued
from compat.stored.base import Record, StoreUnavailable

BEAT_S = 1.0
FLUSH_S = 0.2
"""How long frames wait before they go to the store together."""
MOST = 256
"""How many answers a worker makes at a time that no client waits for."""


class BackgroundAnswer:
    """One of them. Mutable: its object, its end, and the frames that the store has not yet."""

    def __init__(self, gateway: Gateway, call: Call, wish: Wish) -> None:
        """Errors: `TooManyRequests`, `StoreUnavailable` where it can't be kept."""
        if gateway.gauges.background >= MOST:
            raise TooManyRequests("Too many responses are made in the background already.", retry_after_s=5)
        self.answer_id = call.protocol.answer_id(gateway.clock.new_id())
        self._gateway, self._call, self._wish = gateway, call, wish
        self._created_s = int(gateway.clock.now())
        self._kept = Kept(wish, self._note_end, gateway.clock.now, self.answer_id)
        self._end: Record | None = None
        self._waiting: list[bytes] = []
        self._number = 0
        self._flushed_s = gateway.clock.monotonic()
        self._is_begun = False
        self.body = self._kept.tell("queued", queued(self.answer_id, self._created_s, call.model, call.envelope))
        if not self._save("queued"):
            raise StoreUnavailable("The response can't be stored just now.", retry_after_s=5)

    def start(self) -> None:
        """Let it be made."""
        self._gateway.gauges.background += 1
        gevent.spawn(self._run)

    def _run(self) -> None:
        gateway = self._gateway
        run = CallRun(gateway, self._call)
        watcher = gevent.spawn(self._watch, gevent.getcurrent())
        frames = run.frames()
        try:
            for frame in frames:
                self._take(frame)
        except GatewayError as error:
            self._fail(error)
        except ClientGone:  # cancelled, or deleted
            self._save("cancelled")
        except Exception as error:  # noqa: BLE001  # the error boundary, as in `attach_boundary`
            self._fail(fault_of(gateway, self._call.request_id, error))
        finally:
            watcher.kill()
            frames.close()
            gateway.gauges.background -= 1
            self._finish()

    def _take(self, frame: bytes) -> None:
        if frame == self._call.protocol.heartbeat:
            return
        shown = self._kept.frames(frame)
        if not self._is_begun:
            self._is_begun = True
            self._save("in_progress")
        if self._wish.is_stream:
            self._waiting.append(shown)
            if self._gateway.clock.monotonic() - self._flushed_s >= FLUSH_S:
                self._flush()

    def _fail(self, error: GatewayError) -> None:
        error.forget_frames()
        self._take(error_end(error, Identity(self.answer_id, self._created_s, self._call.model)))

    def _note_end(self, record: Record) -> bool:
        """The end, which is stored once all frames are."""
        self._end = record
        return True

    def _finish(self) -> None:
        self._flush()
        if self._end is not None:
            self._gateway.responses.save(self._call.client, self._end)

    def _flush(self) -> None:
        self._flushed_s = self._gateway.clock.monotonic()
        if self._waiting:
            frames, self._waiting = b"".join(self._waiting), []
            self._gateway.responses.add_frames(self._call.client, self.answer_id, self._number, frames)
            self._number += 1

    def _save(self, status: str) -> bool:
        """Store the answer without what it says; not where its client has deleted it."""
        store, client = self._gateway.responses, self._call.client
        self.body = changed(self.body, {"status": status})
        if status == "cancelled" and store.find(client, self.answer_id) is None:
            return False
        return store.save(client, self._kept.record(status, self.body))

    def _watch(self, maker: gevent.Greenlet) -> None:
        while self._gateway.responses.is_wanted(self._call.client, self.answer_id, self._gateway.clock.now()):
            gevent.sleep(BEAT_S)
            self._flush()
        maker.kill(ClientGone, block=False)
