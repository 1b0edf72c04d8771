"""Signing in and out: a form for the key, bounded in its tries, and a cookie (see `access`)."""

from __future__ import annotations

import functools

import flask
import limits

from compat.calls.gateway import Gateway
from compat.console.access import COOKIE, SESSION_S, Access, Visitor
from compat.console.page import Page, Visit, asked_language, render
from compat.endpoints.limiter import LazyLimiter
from compat.errors import InvalidKey

TRIES = "10/minute"
"""Of wrong keys, from one address."""
NEXT_MAX_CHARS = 500


def sign_in_page(gateway: Gateway, status: int, *, after: str, fault: str = "") -> flask.Response:
    """The form. `after` is the path that the visitor wanted, `fault` a word of the page's texts for what was wrong with a try."""
    request = flask.request
    visit = Visit(gateway, Visitor(sees_all=False), request, asked_language(request))
    response = render("sign_in", visit, (), {"after": after, "fault": fault}, status)
    if status == 401:
        response.headers["www-authenticate"] = 'Bearer realm="openai-compat"'
    return response


def add_sign_in(blueprint: flask.Blueprint, gateway: Gateway, access: Access, pages: tuple[Page, ...]) -> None:
    """The URLs of the form; it needs no script."""
    limiter, rate = LazyLimiter(), limits.parse(TRIES)
    own = functools.partial(own_path, {page.path for page in pages if "<" not in page.path})

    def sign_in() -> flask.Response:
        after = own(flask.request.form.get("after", ""))
        address = flask.request.remote_addr or ""
        if not limiter.limiter.test(rate, "sign-in", address):
            response = sign_in_page(gateway, 429, after=after, fault="too_many")
            response.headers["retry-after"] = str(rate.get_expiry())
            return response
        try:
            cookie = access.sign_in(flask.request.form.get("key", "").strip())
        except InvalidKey:
            limiter.limiter.hit(rate, "sign-in", address)
            return sign_in_page(gateway, 401, after=after, fault="wrong_key")
        response = flask.Response(status=303, headers={"location": after})
        response.set_cookie(COOKIE, cookie, max_age=SESSION_S, secure=_is_secure(), httponly=True, samesite="Strict")
        return response

    def sign_out() -> flask.Response:
        response = flask.Response(status=303, headers={"location": "/"})
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict", secure=_is_secure())
        return response

    blueprint.add_url_rule("/sign-in", "sign_in", sign_in, methods=["POST"])
    blueprint.add_url_rule("/sign-out", "sign_out", sign_out, methods=["POST"])


def own_path(paths: set[str], wanted: str) -> str:
    """Where to go after signing in: a page of ours, never another site."""
    path, _, query = wanted[:NEXT_MAX_CHARS].partition("?")
    return f"{path}?{query}" if path in paths and query else path if path in paths else "/"


def _is_secure() -> bool:
    """Whether the browser speaks https: to us, or to a proxy, whose word counts for nothing but this."""
    return flask.request.is_secure or flask.request.headers.get("x-forwarded-proto", "").lower() == "https"
