"""Searches of the web that the service runs itself, for clients that want to see them.

A search is an item of its own (`web_search_call`). What it found is in the item where the request asks for its sources, which have no
titles; else in the annotations of the words that follow, and comes with these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from compat.protocols.base import SearchTool
from compat.protocols.events import BlockStart, BlockStop, Event, Found, Result
from compat.protocols.responses.content import Part

SEARCH_CALL = "web_search_call"
SOURCES = "web_search_call.action.sources"
"""What a request includes to be given the addresses that a search found."""


def hosted_search(tool: SearchTool, value: Mapping[str, Any]) -> Part:
    """The client's search as the service's own tool, `value` in Anthropic's words: both name a user's place alike."""
    domains = {f"{kind}_domains": list(names) for kind, names in (("allowed", tool.allowed), ("blocked", tool.blocked)) if names}
    place = value.get("user_location")
    return {
        "type": "web_search",
        **({"filters": domains} if domains else {}),
        **({"user_location": place} if isinstance(place, dict) else {}),
    }


class HostedSearches:
    """The searches of an answer. Mutable: those whose results are still to come. Blocks get their numbers from `next_number`."""

    def __init__(self, tool: SearchTool, next_number: Callable[[], int]) -> None:
        self._name = tool.name
        self._next_number = next_number
        self._waiting: list[str] = []

    def done(self, item: Mapping[str, Any]) -> Iterator[Event]:
        """An item that is complete. To open a page and to look for words in it are no searches."""
        action = item.get("action")
        action = action if isinstance(action, dict) else {}
        if action.get("type", "search") != "search":
            return
        queries = action.get("queries")
        words = action.get("query") or "; ".join(str(one) for one in (queries if isinstance(queries, list) else ()))
        call_id, number = str(item.get("id") or "search"), self._next_number()
        yield BlockStart(number, "search", call_id, self._name, more=str(words))
        yield BlockStop(number)
        if found := _results(action.get("sources")):
            yield from self._found(call_id, found)
        else:
            self._waiting.append(call_id)

    def cited(self, citations: Sequence[Any]) -> Iterator[Event]:
        """The sources of words, which are what the searches found that wait."""
        if self._waiting and (found := _results(citations)):
            yield from self._found(self._waiting.pop(0), found)
            yield from self.rest()

    def rest(self) -> Iterator[Event]:
        """Searches of which nothing was reported."""
        while self._waiting:
            yield from self._found(self._waiting.pop(0), ())

    def _found(self, call_id: str, results: Sequence[Result]) -> Iterator[Event]:
        number = self._next_number()
        yield BlockStart(number, "found", call_id, more=Found(tuple(results)))
        yield BlockStop(number)


def _results(rows: Any) -> list[Result]:
    """The pages in a list of sources or annotations, each once."""
    found: dict[str, Result] = {}
    for row in rows if isinstance(rows, list | tuple) else ():
        url = row.get("url") if isinstance(row, dict) else None
        if isinstance(url, str) and url:
            found.setdefault(url, Result(url, str(row.get("title") or url)))
    return list(found.values())
