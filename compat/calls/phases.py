"""Where a call stands, and where an attempt of it does: each may go on only as these tables say.

call      new -> placing -> trying -> answered -> over
                    ^         |
                    +- failed-+        any of them may end: its client left, or nothing can serve it

attempt   asking -> shown -> complete
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

CallPhase = Literal["new", "placing", "trying", "failed", "answered", "over"]
"""`placing`: it looks for a place; `trying`: it is at one, whose outcome is not reported yet; `failed`: the attempt there has failed, and
that was reported; `answered`: the whole answer came; `over`: all is released, and the record is written."""

AttemptPhase = Literal["asking", "shown", "complete"]
"""`shown`: past the commit point; `complete`: all of the answer came, whatever happens to its frames."""

CALL: Mapping[CallPhase, frozenset[CallPhase]] = MappingProxyType(
    {
        "new": frozenset({"placing", "over"}),
        "placing": frozenset({"trying", "over"}),
        "trying": frozenset({"failed", "answered", "over"}),
        "failed": frozenset({"placing", "over"}),
        "answered": frozenset({"over"}),
        "over": frozenset(),
    }
)

ATTEMPT: Mapping[AttemptPhase, frozenset[AttemptPhase]] = MappingProxyType(
    {
        "asking": frozenset({"shown"}),
        "shown": frozenset({"complete"}),
        "complete": frozenset(),
    }
)
