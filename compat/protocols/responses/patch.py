"""The grammar of Codex' `apply_patch`, which is checked when the model has written a patch: a function's arguments know no grammar.

It is the one that Codex sends with the tool (openai/codex, `core/src/tools/handlers/tool_apply_patch.lark`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

PATCH = "apply_patch"
_ADD = r"\*\*\* Add File: [^\n]+\n(?:\+[^\n]*\n)++"
_DELETE = r"\*\*\* Delete File: [^\n]+\n"
_CHANGE = r"(?:(?:@@(?: [^\n]+)?|[-+ ][^\n]*)\n)++(?:\*\*\* End of File\n)?+"
_UPDATE = rf"\*\*\* Update File: [^\n]+\n(?:\*\*\* Move to: [^\n]+\n)?+(?:{_CHANGE})?+"
_PATCH = re.compile(rf"\*\*\* Begin Patch\n(?:{_ADD}|{_DELETE}|{_UPDATE})++\*\*\* End Patch\n?")


def is_patch(text: str) -> bool:
    """Whether a text is a patch."""
    return _PATCH.fullmatch(text) is not None


def is_broken(call: Mapping[str, Any]) -> bool:
    """Whether a call, with its `input` as JSON text, is one of this tool whose text is no patch."""
    return call["type"] == "custom_tool_call" and call["name"] == PATCH and not is_patch(msgspec.json.decode(call["input"]))
