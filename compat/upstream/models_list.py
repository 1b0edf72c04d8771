"""The model list of an upstream, off the hot path, by requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import requests

from compat.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from compat.translate.upstream_errors import refusal_of
from compat.upstream.client import Upstream, request_headers

_MAX_LIST_BYTES = 16 * 1024 * 1024


def list_models(upstream: Upstream, timeout_s: float) -> Sequence[str]:
    """The ids that `upstream` lists. Errors: any `GatewayError`; a refused key is an `UpstreamKeyRefused`."""
    url = upstream.base_url + upstream.kind.paths["models"]
    headers = request_headers(upstream, upstream.keys[0] if upstream.keys else None)
    try:
        with (
            requests.Session() as session,
            session.get(
                url, headers=headers, timeout=timeout_s, allow_redirects=False, verify=upstream.ca_file or True, stream=True
            ) as answer,
        ):
            body = answer.raw.read(_MAX_LIST_BYTES + 1, decode_content=True)
    except requests.Timeout as error:
        raise UpstreamTimeout(f"{upstream.name} did not list its models within {timeout_s:g} s.") from error
    except (requests.RequestException, OSError) as error:
        raise UpstreamUnreachable(f"{upstream.name} can't be reached at {upstream.base_url}: {_reason(error)}.") from error
    if len(body) > _MAX_LIST_BYTES:
        raise UpstreamBroken(f"{upstream.name} lists more models than can be true.")
    if answer.status_code != 200:
        raise refusal_of(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, body, upstream.name)
    return _ids(upstream, body)


def _ids(upstream: Upstream, body: bytes) -> list[str]:
    try:
        rows: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"{upstream.name} answered its model list with something that is not JSON.") from error
    rows = rows.get("data", rows.get("models")) if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise UpstreamBroken(f"{upstream.name} answered its model list with something that is not a list.")
    ids = [row.get("id") or row.get("name") for row in rows if isinstance(row, dict)]
    return [model_id.removeprefix("models/") for model_id in ids if isinstance(model_id, str) and model_id.isprintable() and model_id]


def _reason(error: BaseException) -> str:
    """The innermost reason, without addresses of objects and without the URL, which may hold nothing secret but is said already."""
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    return getattr(inner, "strerror", None) or type(inner).__name__
