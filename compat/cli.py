"""`python app.py`: arguments, start, stop, exit codes.

Exit codes: 0 served and stopped as asked, or `--check` found no fault; 1 `--check` found a fault, or `--usage` can't be read; 2 the start
failed: a wrong argument, a bad configuration, a taken port.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import msgspec
import setproctitle

from compat import __version__
from compat.accounting.key_store import HASH_MARK, exposed_files, keys_path
from compat.accounting.keys import new_key
from compat.accounting.usage_report import DAYS, print_usage, since_of
from compat.banner import banner
from compat.calls.gateway import Gateway
from compat.check import check
from compat.config.settings import SettingsError
from compat.dot_env import env_warnings
from compat.endpoints.health import route_text
from compat.endpoints.models import model_rows
from compat.factory import build_gateway
from compat.follow import Live, Place
from compat.key_commands import add_arguments, run_keys
from compat.routing.own_address import OwnAddress
from compat.serve.gevent_server import Server
from compat.serve.open_files import raise_file_limit
from compat.service.configuration import find_sources, read_configuration
from compat.service.listener import open_listener
from compat.setup.clients import clients
from compat.setup.command import ANY_KEY, SetupOrder, gateway_url, run_setup
from compat.storage.shared_log_file import give_up
from compat.upstream.client import MIN_SECRET_CHARS
from compat.upstream.models_list import list_models
from compat.writable import written_places

EXIT_FAULT = 1
EXIT_START = 2
_LISTS_S = 1.0
"""How long the banner waits for the upstreams' lists, on which the routes that it shows depend."""


def main(argv: Sequence[str], base_dir: Path) -> int:
    """Run the command line `argv`; `base_dir` is the folder of `app.py`. Returns the exit code."""
    try:
        code = _run(argv, base_dir)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        give_up(sys.stdout)
        return 0
    return code


def _run(argv: Sequence[str], base_dir: Path) -> int:
    arguments = _arguments(argv)
    if arguments.new_key:
        key, digest = new_key()
        print(f'Give this key to the client; it is shown only once:\n  {key}\nAdd this to config.toml:\n  [keys.NAME]\n  hash = "{digest}"')
        return 0
    if arguments.command == "keys":
        return client_keys(arguments, base_dir)
    try:
        warn(env_warnings(find_sources(base_dir, arguments.config)))
        settings, environment = read_configuration(base_dir, _overrides(arguments), arguments.config)
        gateway = build_gateway(settings, environment, base_dir)
    except (SettingsError, msgspec.ValidationError) as error:
        print(f"openai-compat: {error}", file=sys.stderr)
        return EXIT_START
    if arguments.usage:
        try:
            since_s = since_of(arguments.since, gateway.clock.now())
        except ValueError as error:
            print(f"openai-compat: {error}", file=sys.stderr)
            return EXIT_START
        print_usage(gateway.usage, print, since_s=since_s, client=arguments.of_key, is_json=arguments.json)
        return EXIT_FAULT if gateway.usage.fault else 0
    warn(exposed_keys(gateway, base_dir, environment, arguments.config))
    if arguments.command == "setup":
        return setup(arguments, gateway, environment)
    if arguments.command == "doctor":
        return doctor(gateway, print)
    if arguments.check:
        places = written_places(settings, base_dir, environment)
        return 0 if check(gateway, list_models, print, places) else EXIT_FAULT
    return serve(gateway, Place(base_dir, _overrides(arguments), arguments.config))


def warn(warnings: Iterable[str]) -> None:
    """A line for each, in the terminal."""
    for warning in warnings:
        print(f"openai-compat: warning: {warning}", file=sys.stderr)


def doctor(gateway: Gateway, say: Callable[[str], None]) -> int:
    """Ask every upstream for its list, and say what is to be said of the aliases. Returns the exit code."""
    if gateway.settings.discovery.enabled:
        gateway.discovery.refresh_local()
        gateway.discovery.refresh_configured()
    diagnosis = gateway.doctor.examine()
    for name in dict.fromkeys([*gateway.settings.models, *gateway.catalog.aliases]):
        say(f"{name} -> {route_text(gateway, name)}")
    for finding in diagnosis.findings:
        say(f"{finding.severity.upper():<8} {finding.message}")
    for upstream, state in gateway.discovery.states.items():
        if state.state == "failing":
            say(f"{'NOTE':<8} {upstream} did not list its models: {state.detail}")
    is_good = not any(finding.severity == "error" for finding in diagnosis.findings)
    say("All is well." if is_good and not diagnosis.findings else "No action is needed." if is_good else "Action is needed.")
    return 0 if is_good else EXIT_FAULT


def setup(arguments: argparse.Namespace, gateway: Gateway, environment: Mapping[str, str]) -> int:
    """Set a client up for this gateway, or the one at `--url`. Returns the exit code."""
    server = gateway.settings.server
    host = "127.0.0.1" if server.host in {"0.0.0.0", "::"} else server.host  # noqa: S104  # compared, not bound
    try:
        base_url = gateway_url(arguments.url or f"http://{f'[{host}]' if ':' in host else host}:{server.port}")
    except ValueError as error:
        print(f"openai-compat: {error}", file=sys.stderr)
        return EXIT_START
    order = SetupOrder(
        client=arguments.client,
        base_url=base_url,
        key=arguments.key,
        prints_only=arguments.print,
        proves=not arguments.no_proof,
        home=Path.home(),
        folder=Path.cwd(),
        environment=environment,
        now=datetime.datetime.now().astimezone(),
        rows=lambda: model_rows(gateway),
    )
    return run_setup(order, print)


def client_keys(arguments: argparse.Namespace, base_dir: Path) -> int:
    """Add, list or revoke client keys. A configuration that can't be used does not matter here. Returns the exit code."""
    try:
        sources = find_sources(base_dir, arguments.config)
        run_keys(arguments, base_dir, sources.environment, sources.config, datetime.datetime.now(datetime.UTC), print)
    except (SettingsError, ValueError, OSError) as error:
        print(f"openai-compat: {error}", file=sys.stderr)
        return EXIT_START
    return 0


def exposed_keys(gateway: Gateway, base_dir: Path, environment: Mapping[str, str], config: str | None = None) -> list[str]:
    """A warning for each file with keys, of upstreams or of clients, that others on this machine can read."""
    sources = find_sources(base_dir, config)
    upstreams = gateway.router.upstreams.values()
    secrets = [key.reveal() for upstream in upstreams for key in upstream.keys]
    secrets += [value for upstream in upstreams for value in upstream.headers.values() if len(value) >= MIN_SECRET_CHARS]
    files = {sources.config, sources.env_file, base_dir / "config.toml", base_dir / ".env"}  # services run with copies of the two
    return exposed_files(sorted(path for path in files if path is not None), secrets) + exposed_files(
        [keys_path(base_dir, environment)], [HASH_MARK]
    )


def serve(gateway: Gateway, place: Place) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP, with the configuration of `place` as it is from time to time. Returns the exit code."""
    server_settings = gateway.settings.server
    raise_file_limit()
    try:
        listener = open_listener(server_settings.host, server_settings.port)
    except OSError as error:
        address = f"{server_settings.host}:{server_settings.port}"
        hint = " Another program uses the port: stop it, or choose another with --port." if error.errno in _TAKEN else ""
        print(f"openai-compat: can't listen on {address}: {error.strerror}.{hint}", file=sys.stderr)
        return EXIT_START
    port = listener.getsockname()[1]
    own = OwnAddress([listener.getsockname()[:2]])
    try:
        own.keep_from(gateway)
    except SettingsError as error:
        listener.close()
        print(f"openai-compat: {error}", file=sys.stderr)
        return EXIT_START
    live = Live(gateway, place)
    follower = live.follow(own.keep_from)
    setproctitle.setproctitle(f"openai_compat: gateway {server_settings.host}:{port}")
    server = Server(listener, live, gateway)
    stopping = watch_signals()
    live.start()
    follower.start()
    server.start()
    gateway.discovery.wait(_LISTS_S)
    print(banner(gateway, port), file=sys.stderr, flush=True)
    gateway.log.event("gateway.started", {"version": __version__, "host": server_settings.host, "port": port, "pid": os.getpid()})
    stopping.wait()
    gateway.log.event("gateway.stopping", {"in_flight": gateway.gauges.in_flight})
    left = server.stop(server_settings.shutdown_s)
    gateway.log.event("gateway.stopped", {"ended_by_force": left})
    live.stop()
    return 0


def watch_signals() -> gevent.event.Event:
    """Set at the first SIGINT, SIGTERM or SIGHUP (the terminal was closed; not under nohup); a second SIGINT ends the process at once."""
    stopping = gevent.event.Event()

    def on_signal(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        stopping.set()

    gevent.signal_handler(signal.SIGTERM, on_signal)
    gevent.signal_handler(signal.SIGINT, on_signal)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
        gevent.signal_handler(signal.SIGHUP, on_signal)
    return stopping


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; a misspelt one ends the process with the name that was probably meant."""
    parser = _parser(argv)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [*sorted(_COMMANDS), *re.findall(r"--[a-z-]+", parser.format_usage())]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        parser.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean '{near[0]}'?" if near else ""))
    return arguments


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The arguments. Commands are left out where none is named, for argparse would take a misspelt option's value for one."""
    parser = argparse.ArgumentParser(prog="app.py", description="An OpenAI-compatible gateway for coding agents.")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1); any other needs client keys")
    parser.add_argument("--port", type=_port, help="port to listen on (default 28889)")
    parser.add_argument("--config", help="configuration file (default: OPENAI_COMPAT_CONFIG, else config.toml beside app.py)")
    parser.add_argument("--check", action="store_true", help="show the resolved configuration, test each upstream, and exit")
    parser.add_argument("--usage", action="store_true", help="show what calls used and cost, by day, model and key, and exit")
    parser.add_argument("--since", default=DAYS, help="with --usage: a number of days (7d) or a date (2026-11-01); default 30d")
    parser.add_argument("--key", dest="of_key", default="", help="with --usage: of one client key, by its name")
    parser.add_argument("--json", action="store_true", help="with --usage: as JSON")
    parser.add_argument("--new-key", action="store_true", help="make a client key, show it with its hash, and exit")
    parser.add_argument("--version", action="version", version=f"openai-compat {__version__}")
    parser.set_defaults(command=None)
    if _COMMANDS.isdisjoint(argv):
        return parser
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands, instead of serving")
    commands.add_parser("doctor", help="check every alias: is its model still offered, and until when?")
    client = commands.add_parser("setup", help="set up a client (kilo, opencode, roo, ...) and prove that it works")
    client.add_argument("client", choices=list(clients()), help="which client")
    client.add_argument("--print", action="store_true", help="print the configuration, and change nothing")
    client.add_argument("--url", help="address of the gateway (default: that of this configuration)")
    client.add_argument(
        "--key", default=ANY_KEY, help=f"key that the client sends (default {ANY_KEY}; any works where no client keys are set)"
    )
    client.add_argument("--no-proof", action="store_true", help="leave out the test at the end, which costs a few tokens")
    add_arguments(commands.add_parser("keys", help="client keys: add, list, revoke; a running gateway follows at once"))
    return parser


def _port(text: str) -> int:
    """The number of a port; 0 lets the system choose one."""
    if not (text.isdecimal() and int(text) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is not a port: 0 to {_LAST_PORT}")
    return int(text)


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    server = {name: value for name in ("host", "port") if (value := getattr(arguments, name)) is not None}
    return {"server": server} if server else {}


_COMMANDS = frozenset({"doctor", "setup", "keys", "-h", "--help"})
_LAST_PORT = 65_535
_TAKEN = {98, 48, 10048}  # EADDRINUSE on Linux, macOS, Windows
