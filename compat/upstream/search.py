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
from compat.upstream.carrier import Carrier

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
        carrier = Carrier("", settings.timeout_s)
        try:
            with requests.Session() as session:
                session.trust_env = False
                session.mount("http://", carrier)
                session.mount("https://", carrier)
                answer = session.get(settings.url, params={"q": query, "format": "json"}, allow_redirects=False)
        except (UpstreamTimeout, TimeoutError) as error:
            raise UpstreamTimeout(f"The search endpoint did not answer within {settings.timeout_s:g} s.") from error
        except (requests.RequestException, ValueError) as error:
            raise UpstreamUnreachable(f"The search endpoint can't be called: {type(error).__name__}.") from None
        if answer.status_code != 200:
            raise UpstreamBroken(f"The search endpoint answered with status {answer.status_code}.{_hint(answer.status_code)}")
        return tuple(_results(answer.content))[: settings.max_results]


def _hint(status: int) -> str:
    return " SearXNG needs 'json' among 'search.formats' of its settings." if status == 403 else ""


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
