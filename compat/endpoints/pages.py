"""`GET /`: a short page for people, in English and Chinese."""

from __future__ import annotations

import flask

from compat import __version__
from compat.calls.gateway import Gateway
from compat.endpoints.health import health_report, is_admitted, route_text
from compat.setup.clients import Language
from compat.setup.texts import page_texts

KEY_PLACEHOLDER = "YOUR-CLIENT-KEY"
"""Stands for the key where there are client keys; no page knows one."""
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Of every page: nothing is loaded from elsewhere, no script stands in a page, no other page shows it in a frame."""


def pages_blueprint(gateway: Gateway) -> flask.Blueprint:
    """The pages over `gateway`; Jinja escapes whatever they show."""
    blueprint = flask.Blueprint("pages", __name__)
    texts = page_texts("start")

    @blueprint.get("/")
    def index() -> flask.Response:
        base_url = f"{flask.request.scheme}://{flask.request.host}/v1"
        is_open = is_admitted(gateway, flask.request.environ)
        routes = {name: route_text(gateway, name) for name in gateway.catalog.aliases} if is_open else {}
        language = asked_language(flask.request)
        page = flask.render_template(
            "index.html",
            language=language,
            other=other_language(language),
            text=texts[language],
            base_url=base_url,
            is_open=is_open,
            routes=routes,
            health=health_report(gateway),
            fetched=gateway.engine.presets if gateway.engine is not None else (),
            key=KEY_PLACEHOLDER if gateway.keys.are_required else "",
            version=__version__,
        )
        response = flask.Response(page)
        response.headers.update(PAGE_HEADERS)
        response.headers["vary"] = "accept-language"
        return response

    return blueprint


def asked_language(request: flask.Request) -> Language:
    """The language of a page: what the switch says, else what the browser prefers."""
    asked = request.args.get("lang", "")
    language = asked if asked in {"en", "zh"} else request.accept_languages.best_match(["en", "zh"], "en")
    return "zh" if language == "zh" else "en"


def other_language(language: Language) -> Language:
    """Where the switch leads to."""
    return "en" if language == "zh" else "zh"
