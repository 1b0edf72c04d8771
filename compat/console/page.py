"""What every page and feed of the console is made of: whom it is for, in which language, and how it becomes an answer."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import flask

from compat import __version__
from compat.calls.gateway import Gateway
from compat.console.access import Visitor
from compat.console.figures import Figures
from compat.console.texts import page_texts
from compat.setup.clients import Language

LANGUAGE_COOKIE = "compat_language"
_YEAR_S = 365 * 86_400
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "vary": "accept-language, cookie",
}
"""Of every page and feed: nothing is loaded from elsewhere or sent there, no script stands in a page, no other page shows it in a frame.

The policy on referrers is not `no-referrer`, by which browsers send forms without an `Origin` that says whose they are (Fetch, section
3.2)."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request by somebody who may see what it asks for. `is_allowed`: whether that is still so, for answers that last."""

    gateway: Gateway
    visitor: Visitor
    request: flask.Request
    language: Language
    is_allowed: Callable[[], bool] = lambda: True

    @property
    def root_url(self) -> str:
        """The gateway's address, as the visitor's browser has it."""
        return f"{self.request.scheme}://{self.request.host}"

    @property
    def base_url(self) -> str:
        """What clients want for an address."""
        return f"{self.root_url}/v1"


Show = Callable[[Visit], Mapping[str, Any]]
Feed = Callable[[Visit], flask.Response]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the console: `show` makes what its template (`console/NAME.html`) shows. Errors of `show`: any `GatewayError`.

    `menu` is the page that the menu marks for it, itself where it is empty; `scripts` are what it loads besides `console.js`.
    """

    name: str
    path: str
    show: Show
    menu: str = ""
    scripts: tuple[str, ...] = ()


def render(name: str, visit: Visit, menu: tuple[Page, ...], shown: Mapping[str, Any], status: int = 200) -> flask.Response:
    """A page of `name`'s template and words."""
    request, language = visit.request, visit.language
    text = page_texts(name)[language]
    other: Language = "en" if language == "zh" else "zh"
    page = flask.render_template(
        f"console/{name}.html",
        page=name,
        menu=menu,
        language=language,
        other=other,
        switch_url=with_query(visit, lang=other),
        text=text,
        figures=Figures(language),
        visit=visit,
        version=__version__,
        command=visit.gateway.settings.command,
        **{"current": name, "scripts": (), **shown},
    )
    response = flask.Response(page, status)
    response.headers.update(PAGE_HEADERS)
    if request.args.get("lang") == language:
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=_YEAR_S, samesite="Lax", httponly=True)
    return response


def data_answer(body: str | bytes | Iterable[bytes], media_type: str, file_name: str = "") -> flask.Response:
    """What a feed answers; with a name, a file to be kept."""
    response = flask.Response(body, content_type=media_type)
    response.headers.update(PAGE_HEADERS)
    if file_name:
        response.headers["content-disposition"] = f'attachment; filename="{file_name}"'
    return response


def asked_language(request: flask.Request) -> Language:
    """The language of a page: what the switch says or has said, else what the browser prefers."""
    for asked in (request.args.get("lang", ""), request.cookies.get(LANGUAGE_COOKIE, "")):
        if asked in {"en", "zh"}:
            return "zh" if asked == "zh" else "en"
    return "zh" if request.accept_languages.best_match(["en", "zh"], "en") == "zh" else "en"


def with_query(visit: Visit, **changed: object) -> str:
    """The visit's own URL with some parameters changed; those that are `None` are left out."""
    kept = {name: value for name, value in visit.request.args.items() if name != "lang"}
    values = {name: str(value) for name, value in {**kept, **changed}.items() if value is not None}
    return f"{visit.request.path}?{urllib.parse.urlencode(values)}" if values else visit.request.path
