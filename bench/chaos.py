"""The chaos run: `python -m bench.chaos [--part defaults] [--calls 2000] [--seconds 240] [--seed 1]`.

2,000 calls, 64 at a time, through the gateway to upstreams of which 30 % of the attempts meet a random fault of `bench/chaos_upstream.py`.
Every answer follows from its prompt, so that each is checked to the last character: whole and streamed, texts and tool calls. Two parts:

- `outage`: three upstreams, two of OpenAI's wire API, one of Anthropic's; one dies after a third of the calls and comes back after two
  thirds. Times are shorter than the gateway's own, and nothing is learnt from 429s (`OUTAGE`).
- `defaults`: two upstreams that speak TLS, and the settings that everybody has, but for the times after which silence is a fault.

Strategy: everything runs in one process on gevent, as the gateway itself does, so that greenlets, threads and open files can be counted
before and after.

Exit codes: 0 all is as it should be; 1 a call hung, an answer was wrong, fewer than 99.5 % succeeded, or something was left open.
"""

import bench.monkey  # noqa: F401  # before anything else is imported

# isort: split

import argparse
import gc
import http.client
import json
import random
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import greenlet
from gevent.pool import Pool

from bench.chaos_answers import TOOL, Wire, arguments_of, prompt_of, text_of
from bench.chaos_upstream import FAULTS, LASTING, ChaosUpstream, faults_of
from bench.peers.certificates import Certificates, make_certificates
from compat.calls.gateway import Gateway
from compat.config.settings import load_settings, merge
from compat.factory import build_gateway, create_app
from compat.serve.gevent_server import Server
from compat.service.listener import open_listener

AT_ONCE = 64
FAULT_SHARE = 0.3
LEAST_SUCCESS = 0.995
GAP_S = 0.04
HANG_S = 60.0
_SETTLE_S = 10.0
_SHOWN = 10
_ALIAS = "chaos"
_TOOLS = [{"type": "function", "function": {"name": TOOL, "description": "Writes.", "parameters": {"type": "object", "properties": {}}}}]

QUIET: dict[str, Any] = {
    "server": {"port": 0},
    "discovery": {"enabled": False},
    "embedded": {"enabled": False},
    "vault": {"enabled": False},
    "log": {"terminal": False},
}
DEFAULTS: dict[str, Any] = {"timeouts": {"first_byte_s": 1.5, "silence_s": 1.5}}
OUTAGE: dict[str, Any] = {
    "server": {"heartbeat_s": 0.5},
    "timeouts": {"connect_s": 1, "first_byte_s": 1.5, "silence_s": 1.5, "total_s": 50},
    "retry": {"first_wait_s": 0.05, "max_wait_s": 0.5, "max_retry_after_s": 2},
    "circuit": {"cooldown_s": 1},
    "concurrency": {"min_limit": 16},  # 429s are drawn by lot: they tell nothing of the upstreams' load ...
    "pacing": {"enabled": False},  # ... nor that calls should stay away for an hour
}


@dataclass(frozen=True, slots=True)
class Part:
    """One run: the gateway's settings; the upstreams' wire APIs, faults to draw from, whether they speak TLS and the first one dies."""

    settings: dict[str, Any]
    wires: Sequence[Wire]
    kinds: Sequence[str]
    has_tls: bool
    has_outage: bool


PARTS = {
    "outage": Part(OUTAGE, ("openai", "openai", "anthropic"), tuple(FAULTS), has_tls=False, has_outage=True),
    "defaults": Part(
        DEFAULTS, ("openai", "anthropic"), tuple(name for name in FAULTS if name not in LASTING), has_tls=True, has_outage=False
    ),
}
_NAMES = ("one", "two", "three")


@dataclass(slots=True)
class Outcome:
    """What came of a call. `problem` is empty for the right answer; `is_wrong` tells that a wrong one was passed off as right."""

    number: int
    seconds: float
    attempts: int = 0
    is_carried_on: bool = False
    problem: str = ""
    is_wrong: bool = False


@dataclass(slots=True)
class Level:
    """What is open: greenlets, threads, files (sockets among them)."""

    greenlets: int
    threads: int
    files: int

    @classmethod
    def now(cls) -> "Level":
        """The present level."""
        gc.collect()
        running = sum(isinstance(one, greenlet.greenlet) and not one.dead for one in gc.get_objects())
        return cls(running, _count("task"), _count("fd"))

    def is_above(self, other: "Level") -> bool:
        """Whether anything is more than in `other`."""
        return self.greenlets > other.greenlets or self.threads > other.threads or self.files > other.files


def _count(folder: str) -> int:
    return sum(1 for _ in Path("/proc/self", folder).iterdir())


class Wrong(Exception):
    """An answer that was given as a good one, and is not."""


class Failed(Exception):
    """A call that failed, with an error that says so."""


@dataclass(slots=True)
class Chaos:
    """The run: a gateway, its upstreams, and the calls. Mutable: the outcomes."""

    port: int
    upstreams: list[ChaosUpstream]
    calls: int
    has_outage: bool
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, limit_s: float) -> None:
        """Make the calls, as many of them as there is time for."""
        until_s = time.monotonic() + limit_s
        pool = Pool(AT_ONCE)
        dying = self.upstreams[0]
        for number in range(self.calls):
            if self.has_outage and number == self.calls // 3:
                dying.die()
                _tell(f"after {number} calls: {dying.name} dies")
            elif self.has_outage and number == 2 * self.calls // 3:
                dying.come_back()
                _tell(f"after {number} calls: {dying.name} is back")
            if time.monotonic() > until_s:
                _tell(f"the time is up after {number} calls")
                break
            pool.spawn(self._call, number)
        pool.join()

    def _call(self, number: int) -> None:
        begun_s = time.monotonic()
        dice = random.Random(number)
        is_stream, has_tools = dice.random() < 0.7, dice.random() < 0.2
        outcome = Outcome(number, 0.0)
        try:
            with gevent.Timeout(HANG_S):
                status, headers, body = self._ask(number, is_stream, has_tools)
            outcome.attempts = int(headers.get("x-compat-attempts") or 0)
            outcome.is_carried_on = b"\n: carried on after a fault: " in body
            (check_stream if is_stream and status == 200 else check_whole)(number, status, body, has_tools=has_tools)
        except gevent.Timeout:
            outcome.problem = f"hung for {HANG_S:g} s"
        except Failed as failed:
            outcome.problem = str(failed)
        except (Wrong, OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as wrong:
            outcome.problem, outcome.is_wrong = f"{type(wrong).__name__}: {wrong}", True
        outcome.seconds = time.monotonic() - begun_s
        self.outcomes.append(outcome)

    def _ask(self, number: int, is_stream: bool, has_tools: bool) -> tuple[int, Any, bytes]:
        document: dict[str, Any] = {"model": _ALIAS, "messages": [{"role": "user", "content": prompt_of(number)}], "stream": is_stream}
        if is_stream:
            document["stream_options"] = {"include_usage": True}
        if has_tools:
            document["tools"] = _TOOLS
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_S)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(document), {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


def check_whole(number: int, status: int, body: bytes, *, has_tools: bool) -> None:
    """Errors: `Failed`, `Wrong`."""
    document = json.loads(body)
    if status != 200:
        raise Failed(f"status {status}: {document['error']['message'][:150]}")
    choice = document["choices"][0]
    calls = choice["message"].get("tool_calls") or []
    _check(number, choice["message"].get("content") or "", [(call["id"], call["function"]) for call in calls], has_tools=has_tools)
    _check_reason(choice["finish_reason"], has_tools=has_tools)


def check_stream(number: int, _status: int, body: bytes, *, has_tools: bool) -> None:
    """Errors: `Failed`, `Wrong`."""
    if not body.endswith(b"\n\n"):
        raise Wrong("the stream ends within an event")
    events = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        last = json.loads(events[-1]) if events else {}
        raise Failed(f"error event: {last['error']['message'][:150]}") if "error" in last else Wrong("the stream has no end")
    chunks = [json.loads(event) for event in events[:-1]]
    if len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) != 1:
        raise Wrong("the stream has more than one identity")
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    if sum("role" in choice["delta"] for choice in choices) != 1:
        raise Wrong("the stream has not one role")
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    if len(reasons) != 1 or not choices[-1]["finish_reason"]:
        raise Wrong(f"the stream has {len(reasons)} finish_reasons")
    _check_reason(reasons[0], has_tools=has_tools)
    _check(number, "".join(choice["delta"].get("content") or "" for choice in choices), list(_calls(choices)), has_tools=has_tools)


def _calls(choices: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, str]]]:
    pieces = [piece for choice in choices for piece in choice["delta"].get("tool_calls") or ()]
    for opening in [piece for piece in pieces if "id" in piece]:
        same = [piece["function"]["arguments"] for piece in pieces if piece["index"] == opening["index"]]
        yield opening["id"], {"name": opening["function"]["name"], "arguments": "".join(same)}


def _check(number: int, text: str, calls: list[tuple[str, dict[str, str]]], *, has_tools: bool) -> None:
    wanted = "" if has_tools else text_of(number)
    if text != wanted:
        at = next((at for at, pair in enumerate(zip(text, wanted, strict=False)) if pair[0] != pair[1]), min(len(text), len(wanted)))
        raise Wrong(f"the text of {number} differs from character {at} of {len(wanted)} on: {text[at : at + 40]!r}")
    if len(calls) != int(has_tools):
        raise Wrong(f"{len(calls)} tool calls")
    for _, function in calls:
        if function["name"] != TOOL or json.loads(function["arguments"]) != json.loads(arguments_of(number)):
            raise Wrong(f"the tool call of {number} is {function}")


def _check_reason(reason: str, *, has_tools: bool) -> None:
    if reason != ("tool_calls" if has_tools else "stop"):
        raise Wrong(f"finish_reason {reason}")


def settings_for(part: Part, upstreams: list[ChaosUpstream], authority: str) -> dict[str, Any]:
    """The part's settings with a route over the upstreams, equal in rank."""
    rows: dict[str, Any] = {}
    steps = []
    for upstream in upstreams:
        target = "claude-haiku-4-5" if upstream.wire == "anthropic" else "m"
        rows[upstream.name] = {"kind": upstream.wire, "base_url": upstream.base_url, "api_keys": ["k"], "ca_file": authority}
        steps.append({"to": f"{upstream.name}/{target}", "priority": 0})
    return merge(merge(QUIET, part.settings), {"upstreams": rows, "models": {_ALIAS: {"route": steps}}})


def records_of(gateway: Gateway, folder: Path) -> list[dict[str, Any]]:
    """The records of calls in the gateway's log."""
    gateway.log.flush()
    lines = (folder / gateway.settings.log.file).read_text().splitlines()
    return [record for line in lines if (record := json.loads(line))["event"] == "call"]


def report(chaos: Chaos, records: list[dict[str, Any]], seconds: float, before: Level, after: Level) -> bool:
    """Print the figures; whether all is as it should be."""
    outcomes, upstreams = chaos.outcomes, chaos.upstreams
    failed = [outcome for outcome in outcomes if outcome.problem]
    wrong = [outcome for outcome in failed if outcome.is_wrong]
    hung = [outcome for outcome in failed if outcome.problem.startswith("hung")]
    times = sorted(outcome.seconds for outcome in outcomes)
    attempts, faults = sum(upstream.attempts for upstream in upstreams), faults_of(upstreams)
    share = 1 - len(failed) / max(len(outcomes), 1)
    logged = Counter(record["outcome"] for record in records)
    is_logged = len(records) == len(outcomes) and logged["ok"] == len(outcomes) - len(failed)
    rows = [
        ("calls", f"{len(outcomes)}, {AT_ONCE} at a time, in {seconds:.0f} s"),
        ("answered rightly", f"{len(outcomes) - len(failed)} ({share:.2%})"),
        ("failed, and said so", f"{len(failed) - len(wrong) - len(hung)}"),
        ("wrong or doubled text", f"{len(wrong)}"),
        ("hung", f"{len(hung)}"),
        ("attempts at the upstreams", f"{attempts}: " + ", ".join(f"{one.name} {one.attempts}" for one in upstreams)),
        ("attempts that met a fault", f"{faults.total()} ({faults.total() / max(attempts, 1):.1%}), of {len(faults)} kinds"),
        ("answers carried on", f"{sum(outcome.is_carried_on for outcome in outcomes)}"),
        ("false requests to carry on", f"{sum(len(one.wrong) for one in upstreams)}"),
        ("seconds per call", f"median {statistics.median(times):.2f}, p99 {times[len(times) * 99 // 100]:.2f}, most {times[-1]:.2f}"),
        ("records in the log", ", ".join(f"{count} {name}" for name, count in sorted(logged.items()))),
        ("greenlets, threads, files before", f"{before.greenlets}, {before.threads}, {before.files}"),
        ("greenlets, threads, files after", f"{after.greenlets}, {after.threads}, {after.files}"),
    ]
    for name, value in rows:
        print(f"{name:<34}{value}")
    for outcome in failed[:_SHOWN]:
        print(f"  call {outcome.number}: {outcome.problem}")
    for words in [words for one in upstreams for words in one.wrong][:_SHOWN]:
        print(f"  {words}")
    is_sound = not wrong and not hung and not any(one.wrong for one in upstreams) and share >= LEAST_SUCCESS
    return is_sound and is_logged and not after.is_above(before)


def chaos_run(part: Part, calls: int, limit_s: float, seed: int, folder: Path) -> bool:
    """Start everything, run, end everything, and tell."""
    certificates = make_certificates(folder) if part.has_tls else None
    if part.has_tls and certificates is None:
        raise SystemExit("There is no openssl, which makes the certificates.")
    tls = server_context(certificates) if certificates is not None else None
    upstreams = [
        ChaosUpstream(name, wire, seed + number, FAULT_SHARE, GAP_S, kinds=part.kinds, tls=tls)
        for number, (name, wire) in enumerate(zip(_NAMES, part.wires, strict=False))
    ]
    authority = str(certificates.authority) if certificates is not None else ""
    gateway = build_gateway(load_settings(None, {}, settings_for(part, upstreams, authority)), {}, folder)
    gateway.log.start()
    listener = open_listener("127.0.0.1", 0)
    server = Server(listener, create_app(gateway), gateway)
    server.start()
    gateway.log.event("chaos.begins", {"calls": calls})
    gateway.log.flush()  # its file and the resolver's threads belong to the level before
    gevent.joinall([gevent.spawn(socket.getaddrinfo, "127.0.0.1", 0) for _ in range(AT_ONCE)])
    gevent.sleep(0.1)
    before = Level.now()
    begun_s = time.monotonic()
    chaos = Chaos(listener.getsockname()[1], upstreams, calls, part.has_outage)
    chaos.run(limit_s)
    seconds = time.monotonic() - begun_s
    gateway.transport.close()  # idle connections, kept for calls to come
    until_s = time.monotonic() + _SETTLE_S
    while (after := Level.now()).is_above(before) and time.monotonic() < until_s:
        gevent.sleep(0.1)
    is_sound = report(chaos, records_of(gateway, folder), seconds, before, after)
    is_idle = gateway.gauges.in_flight == 0 and not any(
        row["in_flight"] or row["waiting"] for row in gateway.policies.gates.report().values()
    )
    print("as it should be" if is_sound and is_idle else "NOT as it should be")
    server.stop(0)
    for upstream in upstreams:
        upstream.die()
    gateway.log.close()
    return is_sound and is_idle


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """TLS as the upstreams speak it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    return context


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="The gateway in front of upstreams that fail.")
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all", help="which (default: all, one after the other)")
    parser.add_argument("--calls", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--seconds", type=float, default=240.0, help="no new calls after so long (default: 240)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (default: 1)")
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="keep the gateway's log there")
    arguments = parser.parse_args()
    results = []
    for name in PARTS if arguments.part == "all" else (arguments.part,):
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            place = arguments.log / name if arguments.log is not None else Path(folder)
            place.mkdir(parents=True, exist_ok=True)
            print(f"{name}:", flush=True)
            results.append(chaos_run(PARTS[name], arguments.calls, arguments.seconds, arguments.seed, place))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
