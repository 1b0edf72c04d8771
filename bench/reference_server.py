"""What the gateway's cost is compared with in CI: `python -m bench.reference_server PORT`.

A bare WSGI application behind gevent's server that gives the mock upstream's answers itself: no framework, no upstream, nothing of ours.
Its cost swings with the machine as the gateway's does, so that the ratio of the two holds where microseconds don't.
"""

import bench.monkey  # noqa: F401  # before anything else is imported

# isort: split

import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
from gevent.pywsgi import WSGIServer

from bench.answers import Answers, prepare, shape_of
from bench.mock_upstream import read_body

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
_prepared = functools.cache(lambda model: prepare("openai", shape_of(model)))


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """WSGI: any path but the one for health is a chat completion."""
    if environ["PATH_INFO"] == "/healthz":
        start_response("200 OK", [("content-length", "0")])
        return []
    asked = read_body(environ["wsgi.input"].read())
    answers = _prepared(asked.model)
    if not asked.is_stream:
        body = answers.whole.partition(b"\r\n\r\n")[2]
        start_response("200 OK", [("content-type", "application/json"), ("content-length", str(len(body)))])
        return [body]
    start_response("200 OK", [("content-type", "text/event-stream")])
    return _stream(answers)


def _stream(answers: Answers) -> Iterator[bytes]:
    begun_s = time.monotonic()
    yield bare(answers.opening.partition(b"\r\n\r\n")[2])
    for number, frame in enumerate(answers.frames):
        if answers.gap_s:
            due_s = begun_s + number * answers.gap_s
            gevent.sleep(max(due_s - time.monotonic(), 0))
            yield bare(answers.slow_frame(number, due_s))
        else:
            yield bare(frame)
    finish, done, _ = answers.closing.split(b"\n\n\r\n", 2)
    yield bare(finish + b"\n\n\r\n") + bare(done + b"\n\n\r\n")


def bare(chunk: bytes) -> bytes:
    """A chunk without its framing."""
    return chunk.partition(b"\r\n")[2][:-2]


if __name__ == "__main__":
    WSGIServer(("127.0.0.1", int(sys.argv[1])), application, log=None).serve_forever()
