"""Fields of a call's record that rooms agree on by name. They are read by people and their programs, and stay as they are."""

from __future__ import annotations

STOP_REASON = "finish_reason"
"""Why the answer ended, in the words of the client's protocol."""

USUAL_ENDPOINT = "chat"
"""Of a record that names none."""
