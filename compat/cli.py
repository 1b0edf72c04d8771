"""`python app.py`, and `openai-compat`: the words of the command line, and exit codes.

Exit codes: 0 served and stopped as asked, or no fault was found; 1 `--check`, `doctor` or a set-up found a fault, or `--usage` can't be
read; 2 a wrong argument, a configuration that can't be used, a taken port. What is wrong is one line, with its remedy.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from click.shell_completion import shell_complete

from compat import __version__
from compat.accounting.keys import new_key
from compat.accounting.usage_report import DAYS, print_usage, since_of
from compat.calls.gateway import Gateway
from compat.check import check, exposed_keys
from compat.config.settings import COMMAND, SettingsError
from compat.dot_env import env_warnings
from compat.endpoints.models import model_rows
from compat.examine import Surroundings, doctor
from compat.factory import build_gateway
from compat.follow import Place
from compat.foreground import serve
from compat.key_commands import KeyOrder, run_keys
from compat.service.configuration import find_sources, read_configuration
from compat.service.listener import local_url
from compat.setup.clients import clients
from compat.setup.command import ANY_KEY, SetupOrder, gateway_url, run_setup
from compat.setup.undo import undo
from compat.storage.shared_log_file import give_up
from compat.upstream.models_list import list_models
from compat.writable import written_places

EXIT_FAULT = 1
EXIT_START = 2
_LAST_PORT = 65_535
COMPLETION = "_OPENAI_COMPAT_COMPLETE"
"""The variable by which a shell asks for completions; its value says what is asked for (click, "Shell Completion")."""


def main(argv: Sequence[str], base_dir: Path, program: str = "app.py") -> int:
    """Run the command line `argv`; `base_dir` is the folder of the configuration, of logs and of data. Returns the exit code."""
    if instruction := os.environ.get(COMPLETION):
        return shell_complete(app, {}, program, COMPLETION, instruction)
    command = COMMAND if program == "app.py" else program
    try:
        with app.make_context(program, list(argv), obj=Line(base_dir, command)) as context:
            code: int | None = app.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        words = " ".join(error.format_message().split())
        return fail(f"{words} See `{error.ctx.command_path if error.ctx is not None else program} --help`.")
    except (SettingsError, msgspec.ValidationError, ValueError) as error:
        return fail(str(error))
    except BrokenPipeError:  # `| head` has read enough
        give_up(sys.stdout)
        return 0
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.")
    return code or 0


def fail(words: str) -> int:
    """One line that says why nothing was done. Returns the exit code."""
    print(f"openai-compat: {words}", file=sys.stderr)
    return EXIT_START


def warn(warnings: Iterable[str]) -> None:
    """A line for each, in the terminal."""
    for warning in warnings:
        print(f"openai-compat: warning: {warning}", file=sys.stderr)


@dataclass(slots=True)
class Line:
    """What all commands share: the folder, how the program was called, and where the configuration is.

    Mutable: what stands before the command fills it in."""

    base_dir: Path
    command: str = COMMAND
    config: str | None = None
    host: str | None = None
    port: int | None = None

    @property
    def place(self) -> Place:
        """Where the configuration is, and what goes before it."""
        server = {name: value for name, value in (("host", self.host), ("port", self.port)) if value is not None}
        return Place(self.base_dir, {"server": server} if server else {}, self.config)

    def gateway(self) -> tuple[Gateway, Mapping[str, str]]:
        """A gateway of the configuration, and the environment with `.env`. Errors: `SettingsError`, `msgspec.ValidationError`."""
        warn(env_warnings(find_sources(self.base_dir, self.config)))
        settings, environment = read_configuration(self.base_dir, self.place.overrides, self.config, self.command)
        gateway = build_gateway(settings, environment, self.base_dir)
        return gateway, environment

    def checked_gateway(self) -> tuple[Gateway, Mapping[str, str]]:
        """The same, with a warning where keys are exposed."""
        gateway, environment = self.gateway()
        warn(exposed_keys(gateway, self.base_dir, environment, self.config))
        return gateway, environment


class Port(click.ParamType[int]):
    """The number of a port."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; 0 lets the system choose one."""
        text = str(value)
        if not (text.isdecimal() and int(text) <= _LAST_PORT):
            self.fail(f"'{text[:40]}' is not a port: 0 to {_LAST_PORT}.", param, ctx)
        return int(text)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--host", help="Address to listen on (default 127.0.0.1); any other needs client keys.")
@click.option("--port", type=Port(), help="Port to listen on (default 28889); 0: any that is free.")
@click.option("--config", help="Configuration file (default: OPENAI_COMPAT_CONFIG, else config.toml).")
@click.option("--check", "asks_check", is_flag=True, help="Show the resolved configuration, test each upstream, and exit.")
@click.option("--usage", "asks_usage", is_flag=True, help="Show what calls used and cost, by day, model and key, and exit.")
@click.option("--since", default=DAYS, help="With --usage: a number of days (7d) or a date (2026-11-01); default 30d.")
@click.option("--key", "of_key", default="", help="With --usage: of one client key, by its name.")
@click.option("--json", "is_json", is_flag=True, help="With --usage: as JSON.")
@click.option("--new-key", is_flag=True, help="Make a client key, show it with its hash, and exit.")
@click.version_option(__version__, prog_name="openai-compat", message="%(prog)s %(version)s")
@click.pass_context
def app(
    context: click.Context,
    host: str | None,
    port: int | None,
    config: str | None,
    *,
    asks_check: bool,
    asks_usage: bool,
    since: str,
    of_key: str,
    is_json: bool,
    new_key: bool,
) -> int:
    """A gateway that makes coding agents work with any model. Without a command it serves."""
    line: Line = context.obj
    line.config, line.host, line.port = config, host, port
    if context.invoked_subcommand is not None:
        return 0
    if new_key:
        return show_new_key()
    if asks_usage:
        return show_usage(line, since, of_key, is_json=is_json)
    place = line.place
    gateway, environment = line.checked_gateway()
    if asks_check:
        places = written_places(gateway.settings, line.base_dir, environment)
        return 0 if check(gateway, list_models, print, places) else EXIT_FAULT
    serve(gateway, place)
    return 0


def show_new_key() -> int:
    """A key for `[keys]` of the configuration, and its hash."""
    key, digest = new_key()
    print(f'Give this key to the client; it is shown only once:\n  {key}\nAdd this to config.toml:\n  [keys.NAME]\n  hash = "{digest}"')
    return 0


def show_usage(line: Line, since: str, of_key: str, *, is_json: bool) -> int:
    """What calls used and cost. `ValueError` for a time that can't be read."""
    gateway, _ = line.gateway()
    print_usage(gateway.usage, print, since_s=since_of(since, gateway.clock.now()), client=of_key, is_json=is_json)
    return EXIT_FAULT if gateway.usage.fault else 0


@app.command("doctor")
@click.pass_obj
def doctor_command(line: Line) -> int:
    """Tell everything that is wrong: keys, upstreams, models that retire, disk, port, settings of clients."""
    gateway, environment = line.gateway()
    places = written_places(gateway.settings, line.base_dir, environment)
    around = Surroundings(line.base_dir, environment, Path.home(), places, line.config)
    return 0 if doctor(gateway, around, print) else EXIT_FAULT


@app.command("setup", short_help="Set a client up, and prove that it works.")
@click.argument("client", type=click.Choice(list(clients())), metavar="CLIENT")
@click.option("--print", "prints_only", is_flag=True, help="Print the configuration, and change nothing.")
@click.option("--url", help="Address of the gateway (default: that of this configuration).")
@click.option("--key", default=ANY_KEY, show_default=True, help="Key that the client sends; any works where no client keys are set.")
@click.option("--no-proof", is_flag=True, help="Leave out the test at the end, which costs a few tokens.")
@click.option("--undo", "undoes", is_flag=True, help="Put back what set-up changed; files that were changed since are left alone.")
@click.pass_obj
def setup(line: Line, client: str, url: str | None, key: str, *, prints_only: bool, no_proof: bool, undoes: bool) -> int:
    """Set a client up for this gateway, or the one at --url, and prove that it works."""
    record = line.base_dir / "data" / "setup.json"
    if undoes:
        return 0 if undo(record, client, print) else EXIT_FAULT
    gateway, environment = line.checked_gateway()
    server = gateway.settings.server
    order = SetupOrder(
        client=client,
        command=line.command,
        base_url=gateway_url(url or local_url(server.host, server.port)),
        key=key,
        prints_only=prints_only,
        proves=not no_proof,
        home=Path.home(),
        folder=Path.cwd(),
        record=record,
        environment=environment,
        now=datetime.datetime.now().astimezone(),
        rows=lambda: model_rows(gateway),
    )
    return run_setup(order, print)


@app.group("keys", no_args_is_help=False)
def keys() -> None:
    """Client keys; a running gateway follows at once."""


@keys.command("add")
@click.argument("name")
@click.option("--limit", default="", help="For example '60/minute; 100000 tokens/minute' (default: that of [limits]).")
@click.option("--day-usd", type=float, default=0.0, help="US dollars it may spend in a day (default: that of [limits]).")
@click.option("--month-usd", type=float, default=0.0, help="And in a month.")
@click.option("--console", is_flag=True, help="It may see everybody's calls in the console (without it: its own).")
@click.option("--expires", default="", help="A span (30d, 12h) or a date (2027-01-31).")
@click.option("--models", default="", help="Names it may call, with commas between them: 'claude-*,gpt-5.6' (default: all).")
@click.option("--group", default="", help="One of [groups], whose limits and budget its keys share.")
@click.pass_obj
def add_key(line: Line, /, **terms: Any) -> None:
    """Make a key for a client called NAME, and show it, once."""
    _carry_out(line, KeyOrder("add", **terms))


@keys.command("list")
@click.pass_obj
def list_keys(line: Line) -> None:
    """Show all keys by name."""
    _carry_out(line, KeyOrder("list", command=line.command))


@keys.command("rotate")
@click.argument("name")
@click.option("--overlap", default="1d", show_default=True, help="How long the old one stays valid: a span (30d, 12h) or a date.")
@click.pass_obj
def rotate_key(line: Line, name: str, overlap: str) -> None:
    """Make a new secret for the key NAME; the old one stays valid for a time."""
    _carry_out(line, KeyOrder("rotate", name, overlap=overlap))


@keys.command("revoke")
@click.argument("name")
@click.pass_obj
def revoke_key(line: Line, name: str) -> None:
    """Revoke the key NAME."""
    _carry_out(line, KeyOrder("revoke", name))


def _carry_out(line: Line, order: KeyOrder) -> None:
    """A configuration that can't be used does not matter here."""
    sources = find_sources(line.base_dir, line.config)
    run_keys(order, line.base_dir, sources.environment, sources.config, datetime.datetime.now(datetime.UTC), print)
