"""The model list of an upstream, off the hot path."""

from __future__ import annotations

from typing import Any

import msgspec
import requests

from compat.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from compat.protocols.upstream_errors import refusal_of
from compat.upstream.client import Upstream, request_headers
from compat.upstream.fetch import fetch
from compat.upstream.listing import Listing, read_listing


def list_models(upstream: Upstream, timeout_s: float) -> Listing:
    """What `upstream` lists. Errors: any `GatewayError`; a refused key is an `UpstreamKeyRefused`."""
    url = upstream.base_url + upstream.kind.paths["models"]
    headers = request_headers(upstream, upstream.keys[0] if upstream.keys else None)
    try:
        head, body = fetch(url, timeout_s=timeout_s, headers=headers, ca_file=upstream.ca_file)
    except UpstreamTimeout as error:
        raise UpstreamTimeout(f"{upstream.name} did not list its models within {timeout_s:g} s.") from error
    except UpstreamUnreachable as error:
        raise UpstreamUnreachable(f"{upstream.name} can't be reached at {upstream.base_url}: {error.message}") from error
    except UpstreamBroken as error:
        raise UpstreamBroken(f"{upstream.name} did not list its models: {error.message}") from error
    except (requests.RequestException, ValueError) as error:  # it could not be written down; what they say may quote the key
        raise UpstreamUnreachable(f"{upstream.name} can't be called at {upstream.base_url}: {type(error).__name__}.") from None
    if head.status != 200:
        refusal = refusal_of(head.status, head.headers, body, upstream.name)
        upstream.explain(refusal)
        raise refusal
    return _listing(upstream, body)


def _listing(upstream: Upstream, body: bytes) -> Listing:
    try:
        rows: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"{upstream.name} sent a model list that is not JSON.") from error
    rows = rows.get("data", rows.get("models")) if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise UpstreamBroken(f"{upstream.name} sent a model list that is not a list.")
    return read_listing(rows)
