"""The fourteen optimisations, each with and without, in one run: `python -m bench.optimisations [--only WORDS]`.

Every row is one short measurement against scripted upstreams on 127.0.0.1: once with the setting that switches the optimisation off
("without"), once with the optimisation, at its default but for a heartbeat of 1 s. Where there is no such setting, each measurement says
what stands for "without": a part made to behave as if there were none, or what follows from the case. Times are wall-clock times of one
process, so compare only figures of one run.

Exit codes: 0 every optimisation shows; 1 one does not.
"""

import bench.monkey  # noqa: F401  # before anything else is imported

# isort: split

import argparse
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent

from bench.optimisation_parts import Client, Reply, Request, Upstream, gateway
from compat.config.sections import LogSettings
from compat.telemetry.calllog import CallLog

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One optimisation: `measure` gives the figure without and with it; `setting` switches it off, "-" where nothing does."""

    name: str
    setting: str
    figure: str
    measure: Callable[[], Pair]
    lower_is_better: bool = True


def pooling() -> Pair:
    """Connections that 200 calls in a row open; without: an upstream that closes each."""

    def opened(closes: bool) -> float:
        with Upstream(closes=closes) as upstream, gateway(upstream) as client:
            upstream.handler = lambda request: request.answer(headers="connection: close\r\n" if closes else "")
            for _ in range(200):
                _right(client.call())
            return upstream.connections

    return opened(True), opened(False)


def caching() -> Pair:
    """Median time of the same question asked again, of an upstream that takes 100 ms."""

    def median_ms(enabled: bool) -> float:
        with Upstream(_after(0.1)) as upstream, gateway(upstream, {"cache": {"enabled": enabled}}) as client:
            client.call()
            return _median_ms([client.call() for _ in range(20)])

    return median_ms(False), median_ms(True)


def compression() -> Pair:
    """Bytes of an answer of 20 kB."""
    text = "".join(f"{number}: def compute(line): return line\n" for number in range(500))
    with Upstream(lambda request: request.answer(text)) as upstream, gateway(upstream) as client:
        plain, packed = (len(_right(client.call({"accept-encoding": name})).body) for name in ("identity", "zstd"))
    return plain, packed


def logging() -> Pair:
    """What a call waits for its log line, on average; without: the line is written before the call goes on."""
    fields = {"request_id": "x" * 32, "model": "bench", "duration_ms": 1.5, "prompt_tokens": 10, "outcome": "ok"}

    def mean_us(waits: bool) -> float:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            log = CallLog(LogSettings(terminal=False), Path(folder), time.time)
            begun_s = time.perf_counter()
            for _ in range(2000):
                log.write("call", fields)
                if waits:
                    log.flush()
            taken_s = time.perf_counter() - begun_s
            log.close()
            return taken_s / 2000 * 1e6

    return mean_us(True), mean_us(False)


def rate_limiting() -> Pair:
    """Calls that end with a 429, of 12, at an upstream that takes 4 a second and tells so in its headers."""

    def refused(enabled: bool) -> float:
        window: list[float] = [0.0, 0]

        def answer(request: Request) -> None:
            now_s = time.monotonic()
            if now_s >= window[0]:
                window[:] = [now_s + 1, 0]
            window[1] += 1
            left_ms = max(round((window[0] - now_s) * 1000), 1)
            told = f"x-ratelimit-remaining-requests: {max(4 - round(window[1]), 0)}\r\nx-ratelimit-reset-requests: {left_ms}ms\r\n"
            request.answer(status=200 if window[1] <= 4 else 429, headers=told)

        with Upstream(answer) as upstream, gateway(upstream, {"pacing": {"enabled": enabled}}) as client:
            return sum(client.call().status == 429 for _ in range(12))

    return refused(False), refused(True)


def circuit() -> Pair:
    """Median time until a call learns that its upstream is dead: one that takes calls and never answers, 200 ms bound."""

    def median_ms(failures: int) -> float:
        settings = {"circuit": {"failures": failures, "unreachable": failures, "min_calls": failures}, "timeouts": {"first_byte_s": 0.2}}
        with Upstream(_after(2)) as upstream, gateway(upstream, settings) as client:
            for _ in range(5):
                client.call()
            return _median_ms([client.call() for _ in range(9)], status=0)

    return median_ms(1_000_000), median_ms(5)


def reading_json() -> Pair:
    """What the gateway adds to a call with a body of 5 MB; without: it decodes and encodes the body, by the standard library."""
    body = {"messages": [{"role": "user", "content": 'line \\ of "code"\n' * 40} for _ in range(6000)]}
    with Upstream() as upstream, gateway(upstream) as client:
        direct = Client(int(upstream.url.rpartition(":")[2]), None)
        times = [_right(one.call(**body)).total_s * 1000 for _ in range(9) for one in (direct, client)]
    added_ms = statistics.median(through - straight for straight, through in zip(times[::2], times[1::2], strict=True))
    sent = json.dumps({"model": "bench", **body}).encode()
    begun_s = time.perf_counter()
    json.dumps(json.loads(sent))
    return added_ms + (time.perf_counter() - begun_s) * 1000, added_ms


def memory() -> Pair:
    """Megabytes of a stream of 20 MB that are taken from the upstream for a client that reads nothing; without: all of it."""
    sent = [0]

    def flood(request: Request) -> None:
        request.begin_stream()
        for _ in range(2000):
            request.send("x" * 10_000)
            sent[0] += 10_000

    with Upstream(flood) as upstream, gateway(upstream) as client, socket.create_connection(("127.0.0.1", client.port)) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        document = json.dumps({"model": "bench", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(document)}"
        reader.sendall(head.encode() + b"\r\n\r\n" + document)
        before = -1
        while sent[0] != before or not before:
            before = sent[0]
            gevent.sleep(0.5)
        return 20.0, sent[0] / 1e6


def prompt_cache() -> Pair:
    """Blocks of an agent's request that are marked for Anthropic's prompt cache; a client of OpenAI's API marks none."""

    def answer(request: Request) -> None:
        message = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "text", "text": "Hi"}]}
        rest = {"stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        body = json.dumps({**message, **rest}).encode()
        request.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    words = "Read before you write. " * 2000
    messages = [{"role": "system", "content": words}, {"role": "user", "content": "a"}]
    messages += [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    with Upstream(answer) as upstream, gateway(upstream, kind="anthropic") as client:
        _right(client.call(messages=messages))
        return json.dumps(messages).count("cache_control"), upstream.bodies[-1].count(b'"cache_control"')


def heartbeat() -> Pair:
    """Seconds until a client hears something of an upstream that thinks for 3 s, with a heartbeat each second."""

    def think(request: Request) -> None:
        gevent.sleep(3)
        request.begin_stream()
        request.send("Hi", "stop")

    def first_s(heartbeat_s: float) -> float:
        with Upstream(think) as upstream, gateway(upstream, {"server": {"heartbeat_s": heartbeat_s}}) as client:
            return _right(client.call(stream=True)).first_s

    return first_s(600), first_s(1)


def cancellation() -> Pair:
    """Milliseconds that an upstream works on for a client that left; without: until the end of its answer, 3 s."""
    ended: list[float] = []

    def slow(request: Request) -> None:
        request.begin_stream()
        try:
            for _ in range(60):
                request.send("word ")
                gevent.sleep(0.05)
        except OSError:
            ended.append(time.monotonic())
            raise

    with Upstream(slow) as upstream, gateway(upstream) as client:
        document = json.dumps({"model": "bench", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(document)}"
        with socket.create_connection(("127.0.0.1", client.port)) as reader:
            reader.sendall(head.encode() + b"\r\n\r\n" + document)
            reader.recv(4096)
        left_s = time.monotonic()
        with gevent.Timeout(5):
            while not ended:
                gevent.sleep(0.01)
    return 3000.0, (ended[0] - left_s) * 1000


def retries() -> Pair:
    """Calls that fail, of 100, when every tenth attempt gets a 500."""

    def failed(attempts: int) -> float:
        with Upstream() as upstream:
            upstream.handler = lambda request: request.answer(status=500 if upstream.calls % 10 == 0 else 200)
            with gateway(upstream, {"retry": {"attempts": attempts}}) as client:
                return sum(client.call().status != 200 for _ in range(100))

    return failed(1), failed(3)


def concurrency() -> Pair:
    """Calls that end with a 529, of 96, 24 at once, at an upstream that stands 8 at a time."""

    def refused(settings: dict[str, Any]) -> float:
        working = [0]

        def answer(request: Request) -> None:
            working[0] += 1
            try:
                gevent.sleep(0.02)
                request.answer(status=200 if working[0] <= 8 else 529)
            finally:
                working[0] -= 1

        with (
            Upstream(answer) as upstream,
            gateway(
                upstream, {"concurrency": settings, "circuit": {"failures": 10_000, "unreachable": 10_000, "min_calls": 10_000}}
            ) as client,
        ):
            return sum(reply.status != 200 for _ in range(4) for reply in client.many(24))

    return refused({"first_limit": 512, "min_limit": 512}), refused({})


def single_flight() -> Pair:
    """Upstream calls for ten identical ones in flight that carry the same idempotency key."""

    def asked(**headers: str) -> float:
        with Upstream(_after(0.2)) as upstream, gateway(upstream) as client:
            for reply in client.many(10, headers={"idempotency-key": "one", **headers}):
                _right(reply)
            return upstream.calls

    return asked(**{"x-compat-single-flight": "off"}), asked()


ROWS: Sequence[Row] = (
    Row("connection pooling", "-", "connections for 200 calls", pooling),
    Row("smart caching", "cache.enabled", "ms, repeated question", caching),
    Row("response compression", "accept-encoding", "bytes of a 20 kB answer", compression),
    Row("asynchronous logging", "-", "us per line in a call's way", logging),
    Row("smart rate limiting", "pacing.enabled", "429s of 12 calls", rate_limiting),
    Row("circuit breaker", "circuit.failures", "ms to fail, dead upstream", circuit),
    Row("JSON", "-", "ms added to a 5 MB call", reading_json),
    Row("memory", "-", "MB taken for a client that reads nothing", memory),
    Row("prompt-cache planner", "-", "blocks marked for the cache", prompt_cache, lower_is_better=False),
    Row("stream fast path, heartbeat", "server.heartbeat_s", "s to the first sign of life", heartbeat),
    Row("cancellation", "-", "ms of work for a client that left", cancellation),
    Row("retries and failover", "retry.attempts", "failures of 100 calls", retries),
    Row("adaptive concurrency", "concurrency.min_limit", "529s of 96 calls", concurrency),
    Row("single-flight", "x-compat-single-flight", "upstream calls for 10", single_flight),
)


def _after(seconds: float) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        gevent.sleep(seconds)
        request.answer()

    return answer


def _right(reply: Reply) -> Reply:
    assert reply.status == 200, reply.body
    return reply


def _median_ms(replies: Sequence[Reply], status: int = 200) -> float:
    assert all(reply.status == status or not status for reply in replies)
    return statistics.median(reply.total_s for reply in replies) * 1000


def main() -> int:
    """Measure and print a table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.optimisations", description="Each optimisation, with and without.")
    parser.add_argument("--only", default="", metavar="WORDS", help="only rows whose name holds these words")
    wanted = parser.parse_args().only
    is_shown = True
    print("| # | optimisation | setting | figure | without | with |\n|--:|---|---|---|--:|--:|")
    for number, row in enumerate(ROWS, 1):
        if wanted in row.name:
            without, with_it = row.measure()
            is_shown = is_shown and (with_it < without if row.lower_is_better else with_it > without)
            print(f"| {number} | {row.name} | {row.setting} | {row.figure} | {_shown(without)} | {_shown(with_it)} |", flush=True)
    return 0 if is_shown else 1


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
