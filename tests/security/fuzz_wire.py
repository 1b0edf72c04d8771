"""Hostile bytes for the parts that read bytes: event streams, answers of upstreams, envelopes, settings, hosts and paths."""

# ruff: noqa: PT017  # either outcome is right, and each has its rules
from __future__ import annotations

import contextlib
import re
import zlib
from typing import Any

from hypothesis import strategies as st

from compat.config.sections import ServerSettings
from compat.config.settings import Settings, SettingsError, load_settings
from compat.endpoints.front import Front, canonical_path, host_name
from compat.errors import BadRequest, UpstreamBroken, UpstreamError
from compat.upstream.http1 import Connection, Exchange
from compat.upstream.inflate import MAX_INFLATED_BYTES, STEP_BYTES
from compat.wire.envelope import Envelope
from compat.wire.sse import EventSplitter, parse_event
from tests.cases import messages_strategies as odd
from tests.cases.settings import REFUSED
from tests.security import fuzz_cases as cases

Cut = tuple[bytes, list[int]]
places = st.lists(st.integers(0, 400), max_size=8)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """`data` in pieces."""
    bounds = sorted({min(place, len(data)) for place in at})
    return [data[start:end] for start, end in zip([0, *bounds], [*bounds, len(data)], strict=True)]


# Event streams.


def events_by_the_standard(text: bytes) -> list[tuple[bytes, bytes]]:
    """The events of a stream by the WHATWG text, done the slow way; one that lacks its last blank line counts (our liberty)."""
    found: list[tuple[bytes, bytes]] = []
    name, data = b"", []
    for line in [*re.split(rb"\r\n|\r|\n", text.removeprefix(b"\xef\xbb\xbf")), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if line == b"":
            if b"\n".join(data):
                found.append((name, b"\n".join(data)))
            name, data = b"", []
        elif field == b"event":
            name = value
        elif field == b"data":
            data.append(value)
    return found


def event_stream_is_read_by_the_standard(sent: Cut) -> None:
    """However it is cut."""
    splitter = EventSplitter()
    blocks = [block for piece in cut(*sent) for block in splitter.feed(piece)] + splitter.finish()
    assert [tuple(event) for block in blocks if (event := parse_event(block)).data] == events_by_the_standard(sent[0])


def event_stream_is_bounded(sent: Cut) -> None:
    """Never more is held than one event of the limit and one piece."""
    splitter, longest = EventSplitter(max_event_bytes=50), 0
    with contextlib.suppress(UpstreamBroken):
        for piece in cut(*sent) * 3:
            splitter.feed(piece)
            longest = max(longest, len(piece))
            assert len(splitter._rest) <= 50 + longest


# Answers of upstreams.


class Pieces:
    """A socket that gives what it was made with, then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def settimeout(self, timeout_s: float) -> None:
        """Nothing waits here."""

    def recv(self, _size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        """Nothing is open."""


def exchange_of(pieces: list[bytes]) -> Exchange:
    return Exchange(Connection(Pieces(pieces)), lambda _connection, _is_reusable: None)


def read(pieces: list[bytes]) -> tuple[Any, bytes, str]:
    """Head, body, and the name of the error that ended it."""
    exchange, head, body, total = exchange_of(pieces), None, b"", len(pieces)
    try:
        for _ in range(total + 4):
            head = exchange.receive_head(1)
            if head is not None:
                break
        while head is not None and (data := exchange.receive(1)) != b"":
            assert len(data or b"") <= max(STEP_BYTES, *map(len, pieces), 1)
            body += data or b""
            assert len(body) <= MAX_INFLATED_BYTES + sum(map(len, pieces))
    except UpstreamError as error:
        assert error.message.isprintable()
        return head, body, type(error).__name__
    finally:
        exchange.close()
    return head, body, ""


def answer_is_read_or_refused_however_it_is_cut(sent: Cut) -> None:
    """The same head and end; of a broken body the same beginning."""
    whole, parts = read([sent[0]]), read(cut(*sent))
    assert parts[0] is None or parts[0].status >= 200
    if whole[0] is not None:  # bytes that follow in the same read may spoil a head that alone would have been taken
        assert parts[0] == whole[0]
        assert parts[1].startswith(whole[1][:0] if whole[2] else whole[1])
        assert parts[2] == whole[2]


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers with heads that are nearly right, chunked, compressed, of a length, or something of all."""
    body = draw(cases.noise | st.just(b"Hello"))
    if draw(st.booleans()):
        body = zlib.compress(body)
    framings = [b"content-length: %d" % len(body), b"transfer-encoding: chunked", b"content-encoding: deflate", b"content-encoding: gzip"]
    framings += [
        b"connection: close",
        b"content-length: 99999999999999999999",
        b"transfer-encoding: gzip, chunked",
        b"x: \xff\x00",
        b": x",
        b"\x00: x",
    ]
    lines = [
        draw(st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 99 X", b"HTTP/1.1 204 No", b"HTTP/2 200", b"ICY 200 OK"]))
    ]
    lines += draw(st.lists(st.sampled_from(framings), max_size=4))
    if b"transfer-encoding: chunked" in lines:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return draw(cases.damaged(st.just(b"\r\n".join([*lines, b"", body]))))


# Envelopes.


def envelope_is_read_or_refused(body: bytes) -> None:
    """What is read is what stands there: changes touch nothing else, and two readers agree."""
    try:
        envelope = Envelope(body)
    except BadRequest as error:
        assert error.status == 400
        return
    for key in envelope:
        with contextlib.suppress(BadRequest):
            envelope.value(key)
    again = Envelope(envelope.replaced({"model": b'"other"'}))
    assert again.value("model") == "other"
    assert {key: again[key] for key in again if key != "model"} == {key: envelope[key] for key in envelope if key != "model"}
    assert "model" not in Envelope(envelope.replaced({})).without({"model"})


# Settings.

TABLES = (
    "server",
    "timeouts",
    "upstreams.a",
    "models.x",
    "retry",
    "log",
    "keys.me",
    "vault",
    "concurrency",
    "circuit",
    "embedded",
    "rescue",
)
FIELDS = (
    *("host", "port", "kind", "base_url", "api_keys", "headers", "route", "facts", "attempts", "file", "hash", "path", "enabled", "max_mb"),
    *("timeouts", "first_byte_s", "allowed_hosts", "level", "model", "ca_file", "shrink_to", "cooldown_s", "times", "models"),
)
TOML_VALUES = (
    *(
        '"127.0.0.1"',
        '"0.0.0.0"',
        '"openai"',
        '"env:NONE"',
        '"env:KEY"',
        '["env:KEY"]',
        '["a/b"]',
        "[]",
        "{}",
        "0",
        "-1",
        "1e400",
        "nan",
        "inf",
    ),
    *(
        "true",
        "99999999999999999999",
        "1979-05-27T07:32:00Z",
        '"\\u0000"',
        '"\\r\\nx: y"',
        '{to="a/b", weight=0}',
        '["a/b", {to="c"}]',
        '""',
    ),
    *(
        '"http://a b"',
        '"http://[::1"',
        '"http://u:p@h/"',
        '"file:///etc/passwd"',
        '"http://é.example"',
        '"sha256:00"',
        "{context=-1}",
        '{a="env:KEY"}',
    ),
)
toml_lines = st.one_of(
    st.builds("[{}]".format, st.sampled_from(TABLES)),
    st.builds("{}={}".format, st.sampled_from(FIELDS), st.sampled_from(TOML_VALUES)),
    st.builds("{}.{}={}".format, st.sampled_from(TABLES), st.sampled_from(FIELDS), st.sampled_from(TOML_VALUES)),
    st.sampled_from([text for text, _ in REFUSED]),
)
toml_texts = st.one_of(
    st.lists(toml_lines, max_size=8).map(lambda lines: "\n".join(lines).encode()),
    cases.damaged(st.lists(toml_lines, max_size=8).map(lambda lines: "\n".join(lines).encode())),
    cases.noise,
)


class Text:
    """A file that needs no disk."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_bytes(self) -> bytes:
        return self._data

    def __str__(self) -> str:
        return "config.toml"


def settings_are_read_or_refused_in_one_line(text: bytes) -> None:
    """And a refusal holds no key of the environment."""
    try:
        settings = load_settings(Text(text), {"KEY": "sk-canary-0123456789"})
    except SettingsError as error:
        assert str(error).startswith("config.toml: ")
        assert "\n" not in str(error)
        assert "canary" not in str(error)
        return
    assert isinstance(settings, Settings)
    assert "canary" not in repr(settings)
    assert settings.keys or settings.server.host in {"localhost", "::1"} or settings.server.host.startswith("127.")


# Hosts, origins, paths.

header_text = st.sampled_from(
    ["", "localhost", "127.0.0.1", "[::1]", "evil.example", "127.0.0.1.evil.example", "null", "http://127.0.0.1:1"]
)
header_text |= st.text("abc.:/[]@ \t0127localhost\x00\xe9", max_size=20)
paths = st.lists(
    st.sampled_from(["/v1", "/chat", "/completions", "/models", "/", "//", "/..", "/%2e", "\x00", "http:", "é", "/a"]), max_size=6
).map("".join)


def only_loopback_names_and_own_pages_are_served(asked: tuple[str, str, str, str]) -> None:
    """A request passes only with a host of this machine, and with no origin but that of the very same host."""
    host, origin, site, path = asked
    served: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        served.append(environ)
        start_response("200 OK", [])
        return []

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "HTTP_HOST": host, "HTTP_ORIGIN": origin, "HTTP_SEC_FETCH_SITE": site}
    told: list[Any] = []
    list(Front(app, ServerSettings(), lambda: "id")(environ, lambda status, headers, *_: told.append((status, headers))))
    name = host_name(host)
    if served:
        assert name in {"", "localhost", "::1"} or re.fullmatch(r"127(\.\d+){3}|[0:]+1|::ffff:.*", name), host
        assert origin == "" or origin.lower() == f"http://{host}".lower()
        assert site != "cross-site"
        assert canonical_path(environ["PATH_INFO"]) == environ["PATH_INFO"]
    else:
        assert told[0][0].startswith(("403", "421"))
    assert not [header for header, _ in told[0][1] if header.startswith("access-control")]


PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "sse": (st.tuples(cases.noise, places), event_stream_is_read_by_the_standard),
    "sse-bound": (st.tuples(cases.noise, places), event_stream_is_bounded),
    "http1": (st.tuples(answers() | cases.noise, places), answer_is_read_or_refused_however_it_is_cut),
    "envelope": (cases.bodies | odd.junk.map(cases.encoded), envelope_is_read_or_refused),
    "settings": (toml_texts, settings_are_read_or_refused_in_one_line),
    "front": (
        st.tuples(header_text, header_text, st.sampled_from(["", "cross-site", "same-origin", "none"]), paths),
        only_loopback_names_and_own_pages_are_served,
    ),
}
