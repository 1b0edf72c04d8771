"""The clients' protocols, as the core finds them."""

from __future__ import annotations

import pytest

from compat.errors import BadRequest
from compat.protocols import CLIENT_PROTOCOLS, listing_for, protocol_at
from compat.protocols.client_protocol import ClientProtocol

PROTOCOLS = pytest.mark.parametrize("protocol", CLIENT_PROTOCOLS.values(), ids=lambda one: one.api)


@PROTOCOLS
def test_a_protocol_is_found_by_its_urls_and_others_have_the_usual_one(protocol: ClientProtocol) -> None:
    assert all(protocol_at(path) is protocol for path in protocol.paths)
    assert protocol_at("/elsewhere").api == "openai.chat"


def test_no_two_protocols_share_a_url_or_a_name() -> None:
    paths = [path for one in CLIENT_PROTOCOLS.values() for path in one.paths]
    assert len(set(paths)) == len(paths)
    assert len({one.endpoint for one in CLIENT_PROTOCOLS.values()}) == len(CLIENT_PROTOCOLS)


@PROTOCOLS
def test_errors_and_heartbeats_are_whole_events_without_content(protocol: ClientProtocol) -> None:
    error = BadRequest("No.", param="a")
    assert b"No." in protocol.error_body(error)
    frame = protocol.error_frame(error)
    assert b"No." in frame
    assert all(one.endswith(b"\n\n") and one.count(b"\n\n") == 1 for one in (frame, protocol.heartbeat))
    assert list(protocol.reader().read(protocol.heartbeat.rstrip(b"\n"))) == []


@PROTOCOLS
def test_header_fields_are_named_in_lower_case(protocol: ClientProtocol) -> None:
    assert all(name == name.lower() for name in protocol.headers)


@pytest.mark.parametrize(
    ("path", "environ", "api"),
    [
        ("/v1/messages/batches", {}, "anthropic.messages"),
        ("/v1/models", {}, "openai.chat"),
        ("/v1/models/x", {"HTTP_ANTHROPIC_VERSION": "2023-06-01"}, "anthropic.messages"),
        ("/v1/messagesx", {}, "openai.chat"),
        ("/v1/responses/resp_1", {}, "openai.responses"),
        ("/v1/models", {"HTTP_USER_AGENT": "codex_exec/0.171.0"}, "openai.responses"),
    ],
)
def test_below_a_url_and_at_a_shared_one_it_is_known_as_well(path: str, environ: dict[str, str], api: str) -> None:
    assert protocol_at(path, environ).api == api
    assert listing_for(environ) is (protocol_at("/v1/models", environ).listing)
