"""What the usage store is given of a call besides its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import cast

from compat.accounting.usage_rows import CallFacts
from compat.accounting.usage_views import FailedAttempt
from compat.calls.call import Call
from compat.calls.record import Outcome
from compat.errors import GatewayError
from compat.protocols.client_protocol import ClientProtocol
from compat.protocols.events import BlockStart, Event
from compat.telemetry.traces import Moment
from compat.wire.sse import EventSplitter

MAX_KEPT_BYTES = 64 * 1024
"""Of an answer's tool calls: those that begin after so much of them are not counted."""

FAILED = frozenset({"attempt.failed", "answer.carried_on"})
"""The moments at which an attempt was over before the call was."""

_NAME = b'"name"'


class ToolFrames:
    """Counts the tool calls of an answer, in the background: frames in which one may begin are kept as they are. Mutable: those."""

    def __init__(self, protocol: ClientProtocol) -> None:
        self._protocol = protocol
        self._frames: list[bytes] = []
        self._body = b""
        self.kept_bytes = 0

    def feed(self, frames: bytes) -> None:
        """Take frames of a stream. A name of a tool stands in the frame that begins its call, and never in its arguments, where quotes
        are escaped."""
        is_call = self._protocol.call_key in frames and _NAME in frames and self._protocol.begins_call(frames)
        if is_call and self.kept_bytes + len(frames) <= MAX_KEPT_BYTES:
            self._frames.append(frames)
            self.kept_bytes += len(frames)

    def whole(self, body: bytes) -> None:
        """Take a whole answer."""
        if len(body) <= MAX_KEPT_BYTES and self._protocol.call_key in body:
            self._body = body
            self.kept_bytes = len(body)

    def counted(self) -> Mapping[str, int]:
        """How often each tool is called, as far as that can be read."""
        names: Counter[str] = Counter()
        reader = self._protocol.reader()
        blocks = [reader.read(block) for block in EventSplitter().feed(b"".join(self._frames))]
        for events in (*blocks, *([self._protocol.whole_events(self._body)] if self._body else [])):
            names.update(_names_in(events))
        return names


def _names_in(events: Iterable[Event]) -> Iterable[str]:
    """The tools that are called in one frame; what an upstream wrote that is not of its protocol is passed over."""
    found: list[str] = []
    try:
        found.extend(event.name for event in events if isinstance(event, BlockStart) and event.kind == "tool_call")
    except (GatewayError, LookupError, TypeError, ValueError, AttributeError):
        return found
    return found


def facts_of(call: Call, outcome: Outcome, moments: Sequence[Moment], tools: ToolFrames) -> CallFacts:
    """Those of a call that is over."""
    session, parent = _place_of(call)
    failed = [moment.fields for moment in moments if moment.name in FAILED]
    return CallFacts(
        call.protocol.api,
        outcome.upstream_api,
        session,
        parent,
        outcome.queued_s * 1000,
        tuple(
            FailedAttempt(
                str(one["deployment"]), str(one["error"]), str(one["code"] or ""), str(one["then"]), cast("float", one["wait_ms"])
            )
            for one in failed
        ),
        outcome.priced,
        partial(tools.counted),
        1 + tools.kept_bytes // 4096,
    )


def _place_of(call: Call) -> tuple[str, str]:
    """The session of a call, and the one that began it: a sub-agent is a session of its own, named after the agent's."""
    if call.agent_id and call.session_id:
        above = f"{call.session_id}/{call.parent_id}" if call.parent_id else call.session_id
        return f"{call.session_id}/{call.agent_id}", above
    return call.session_id, call.parent_id if call.session_id else ""
