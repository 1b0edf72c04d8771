"""The list of models as Codex reads it: its `models`, with all that it wants to know of each, beside OpenAI's `data`.

Codex 0.171 asks with `client_version`, where its provider has a `model_catalog_url`, and then knows no model but these: a missing field of
one refuses all of them. With `use_responses_lite` false and a type of `apply_patch` it sends plain tools. The instructions are here because
it has none of its own for a model of this list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compat import jsonio
from compat.protocols.listing import Listing, Query, Row

_AGENT = "codex"
"""How the user agents of Codex begin."""
_OUTPUT_TOKENS = 10_000
"""Of a command's output, the rest of which Codex leaves out."""
_EFFORTS = {
    "none": "Answers at once",
    "minimal": "Hardly thinks",
    "low": "Thinks a little, answers fast",
    "medium": "For everyday tasks",
    "high": "Thinks longer, for hard tasks",
    "xhigh": "Thinks much longer, for very hard tasks",
    "max": "Thinks as long as it can",
}
_SAME: Mapping[str, Any] = {
    "shell_type": "unified_exec",
    "visibility": "list",
    "supported_in_api": True,
    "upgrade": None,
    "support_verbosity": False,
    "default_verbosity": None,
    "default_reasoning_summary": "auto",
    "apply_patch_tool_type": "freeform",
    "truncation_policy": {"mode": "tokens", "limit": _OUTPUT_TOKENS},
    "supports_parallel_tool_calls": True,
    "experimental_supported_tools": [],
    "use_responses_lite": False,
}
INSTRUCTIONS = """\
You are a coding agent. You work in the user's workspace, through a command-line program that runs your calls and shows what you write.

# How you work

- Carry a task to its end: look, change, check. Do not stop at a plan, or at a change that you have not tried, unless asked for just that.
- Look before you change: read the files that matter and how their neighbours are written. Never guess what a file or an error says.
- Change what the task needs and nothing else, in the style of the code around it. Mend the cause of a fault, not its symptom.
- Check what you did as the project does: run the tests, the linter or the program that cover it. If something cannot be run, say so.
- The workspace may hold changes that are not yours: leave them alone. Never discard work, rewrite history, commit or push unless asked to.
- Ask only when a choice is the user's and you cannot find the answer yourself; else take the sensible way, and name the assumption.

# Tools

- Run commands to read, search and test. Prefer `rg` for searching. Make independent calls together.
- Change files with the patch tool where there is one. It begins with `*** Begin Patch` and ends with `*** End Patch`. Between them stand
  `*** Add File: PATH`, `*** Delete File: PATH` or `*** Update File: PATH`, this with lines after `@@` that begin with a space, `-` or `+`.
- Commands may be confined or need an approval. When one is refused, go by what the refusal says, and do not look for a way around it.
- Where the workspace has an `AGENTS.md`, what it says holds for the files below it; what the user says goes before it.

# How you write

- Short and plain: before a longer step a sentence on what comes, at the end what was done and what was found.
- Name files as `path:line`. Do not print whole files that the user can open. Do not claim what you have not seen.
"""


def _page(rows: Sequence[Row], _: Query) -> bytes:
    """See `Listing.page`: the whole list at once."""
    models = [_model_info(row, place) for place, row in enumerate(rows, 1)]
    return jsonio.encode({"object": "list", "data": rows, "models": models})


def _model_info(row: Row, place: int) -> dict[str, Any]:
    """A row as Codex has it; `place` orders those that it shows."""
    told = row["capabilities"]
    efforts = [effort for effort in told["efforts"] if effort in _EFFORTS]
    return {
        "slug": row["id"],
        "display_name": row["display_name"],
        "description": " → ".join(row["route"]),
        "priority": place,
        "default_reasoning_level": "medium" if "medium" in efforts else next(iter(efforts), None),
        "supported_reasoning_levels": [{"effort": effort, "description": _EFFORTS[effort]} for effort in efforts],
        "context_window": row["context_length"],
        "max_context_window": row["context_length"],
        "input_modalities": ["text", "image"] if told["images"] else ["text"],
        "base_instructions": INSTRUCTIONS,
        **_SAME,
    }


def _is_codex(environ: Mapping[str, Any]) -> bool:
    """Whether a request for the list is Codex's."""
    is_named = str(environ.get("HTTP_USER_AGENT", "")).lower().startswith(_AGENT)
    return is_named or "client_version=" in str(environ.get("QUERY_STRING", ""))


LISTING = Listing(_is_codex, _page, jsonio.encode)
