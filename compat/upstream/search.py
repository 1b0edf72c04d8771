"""The search endpoint of the user's own choice: SearXNG's JSON API (https://docs.searxng.org/dev/search_api.html).

It is the one URL that is called for a search: redirects are not followed, and no page that was found is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import requests

from compat.config.sections import SearchSettings
from compat.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from compat.protocols.events import Result
from compat.upstream.client import USER_AGENT
from compat.upstream.fetch import fetch

_HEADERS = {"user-agent": USER_AGENT, "accept": "application/json", "accept-encoding": "identity"}
_MAX_TITLE = 500
_MAX_TEXT = 2000
_MAX_URL = 2000


class SearchEndpoint:
    """See above."""

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings

    def __call__(self, query: str) -> Sequence[Result]:
        """The pages for a query, the best first. Errors: `UpstreamTimeout`, `UpstreamUnreachable`, `UpstreamBroken`."""
        settings = self._settings
        try:
            head, body = fetch(settings.url, timeout_s=settings.timeout_s, headers=_HEADERS, query={"q": query, "format": "json"})
        except UpstreamTimeout as error:
            raise UpstreamTimeout(f"The search endpoint did not answer within {settings.timeout_s:g} s.") from error
        except (requests.RequestException, ValueError) as error:
            raise UpstreamUnreachable(f"The search endpoint can't be called: {type(error).__name__}.") from None
        if head.status != 200:
            hint = " SearXNG needs 'json' among 'search.formats' of its settings." if head.status == 403 else ""
            raise UpstreamBroken(f"The search endpoint answered with status {head.status}.{hint}")
        return tuple(_results(body))[: settings.max_results]


def _results(body: bytes) -> Iterator[Result]:
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken("The search endpoint sent something that is not JSON.") from error
    rows = document.get("results") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise UpstreamBroken("The search endpoint sent no results.")
    for row in rows:
        url = row.get("url") if isinstance(row, dict) else None
        if isinstance(url, str) and url.startswith(("http://", "https://")) and len(url) <= _MAX_URL:
            yield Result(url, _text(row, "title", _MAX_TITLE) or url, _text(row, "content", _MAX_TEXT))


def _text(row: dict[str, Any], key: str, most: int) -> str:
    value = row.get(key)
    return value[:most] if isinstance(value, str) else ""
