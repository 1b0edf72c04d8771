"""The architecture as a table: which room may import which, and which third-party packages belong where."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import compat
from compat.protocols import CLIENT_PROTOCOLS, TRANSLATORS
from compat.upstream.kinds import UPSTREAM_KINDS

ROOT = Path(compat.__file__).parent
MAX_LINES = 400

# Room -> the third-party packages that belong there; a room is a folder of compat, or a module at its top. A room may import every room
# that stands above it in this list, and itself.
ROOMS: dict[str, frozenset[str]] = {
    "clock": frozenset(),
    "errors": frozenset(),
    "config": frozenset({"msgspec"}),
    "storage": frozenset({"gevent", "limits", "redis"}),
    "jsonio": frozenset({"msgspec"}),
    "telemetry": frozenset({"gevent", "msgspec", "opentelemetry", "prometheus_client"}),
    "wire": frozenset({"msgspec"}),
    "accounting": frozenset({"gevent", "limits", "msgspec"}),
    "protocols": frozenset({"itsdangerous", "msgspec"}),
    "setup": frozenset({"msgspec", "requests"}),
    "service": frozenset(
        {"dotenv", "msgspec", "prometheus_client", "setproctitle"}
    ),  # the watcher and gunicorn's master load nothing heavy
    "streaming": frozenset({"gevent"}),
    "upstream": frozenset({"httptools", "msgspec", "requests"}),
    "vault": frozenset({"gevent", "msgspec"}),
    "stored": frozenset({"gevent", "msgspec"}),
    "engine": frozenset({"gevent", "msgspec", "platformdirs", "requests", "setproctitle", "tqdm", "xllamacpp"}),
    "routing": frozenset({"gevent", "msgspec", "pybreaker"}),
    "reuse": frozenset({"gevent", "msgspec"}),
    "cluster": frozenset({"gevent", "msgspec", "prometheus_client"}),
    "calls": frozenset({"gevent"}),
    "endpoints": frozenset(
        {"backports", "compression", "flask", "flask_compress", "flask_limiter", "gevent", "limits", "websockets", "werkzeug"}
    ),
    "console": frozenset({"flask", "itsdangerous", "limits", "markupsafe", "msgspec", "pygal"}),
    "stores": frozenset({"gevent"}),
    "factory": frozenset({"flask", "gevent", "werkzeug"}),
    "dot_env": frozenset(),
    "follow": frozenset({"gevent", "msgspec"}),
    "banner": frozenset(),
    "writable": frozenset(),
    "key_commands": frozenset({"msgspec"}),
    "serve": frozenset({"gevent", "gunicorn"}),
    "check": frozenset({"gevent"}),
    "examine": frozenset(),
    "foreground": frozenset({"gevent", "setproctitle"}),
    "cli": frozenset({"click", "msgspec"}),
    "__main__": frozenset({"gevent", "platformdirs"}),
    "service_check": frozenset({"msgspec"}),
    "service_gateway": frozenset({"gevent", "msgspec", "setproctitle"}),
}
ORDER = list(ROOMS)
STANDARD = frozenset(__import__("sys").stdlib_module_names)
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).as_posix() != "__init__.py")


def module_name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_is_in_the_table() -> None:
    found = {path.stem for path in ROOT.glob("*.py")} | {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(ROOMS)


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if node.module == "compat" else (node.module or "",)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_downwards_only(path: Path) -> None:
    own = room_of(module_name(path))
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        if package in STANDARD or rest == "__version__":
            continue
        if package == "compat":
            assert ORDER.index(room_of(rest)) <= ORDER.index(own), f"{module_name(path)} imports {name}, which is above it"
        else:
            assert package in ROOMS[own], f"{package} does not belong into the room '{own}'"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_stays_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_importing_a_module_starts_nothing(path: Path) -> None:
    """Top-level code defines things: calls are assignments of constants only, and there is no `global`."""
    tree = ast.parse(path.read_text())
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree))
    loose = [node for node in tree.body if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)]
    assert not loose


def test_every_wire_api_of_an_upstream_kind_has_a_translator() -> None:
    assert {api for kind in UPSTREAM_KINDS.values() for api in kind.apis} <= {upstream for _, upstream in TRANSLATORS}


def test_every_endpoint_is_attached_by_the_factory() -> None:
    blueprints = {
        node.name
        for path in (ROOT / "endpoints").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_blueprint")
    }
    assert blueprints
    factory = (ROOT / "factory.py").read_text()
    assert all(name in factory for name in blueprints)


def made_by(maker: str) -> set[str]:
    """The names that are given to what `maker` makes, in any module of the protocols."""
    return {
        node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else ""
        for path in (ROOT / "protocols").rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == maker
    }


@pytest.mark.parametrize("maker", ["Translator", "ClientProtocol", "UpstreamProtocol"])
def test_every_half_and_every_translator_is_registered(maker: str) -> None:
    made = made_by(maker)
    registry = ast.walk(ast.parse((ROOT / "protocols/__init__.py").read_text()))
    assert made
    assert made <= {node.id for node in registry if isinstance(node, ast.Name)}, "what is imported only is in no table"


def test_every_client_protocol_has_a_door_or_a_view_of_its_own() -> None:
    views = "".join(path.read_text() for path in (ROOT / "endpoints").glob("*.py"))
    alone = [one for one in CLIENT_PROTOCOLS.values() if not one.is_served]
    assert all(f'"{path}"' in views for one in alone for path in one.paths)


CHAT_WORDS = re.compile(r"\bchoices\b|\bfinish_reason\b|\[DONE\]|chatcmpl-")
"""Words of OpenAI's chat protocol, which no other room speaks."""

OTHER_MEANINGS = {
    ("cli.py", "choices"): "argparse has a parameter of this name",
    ("telemetry/fields.py", "finish_reason"): "a field of the log's records, which people and their programs read",
    ("protocols/responses/reader.py", "[DONE]"): "servers that imitate the Responses API end their streams as they do a chat's",
    ("protocols/responses/shown.py", "[DONE]"): "the same servers, whose bytes are handed on",
}


def words_of_chat(path: Path) -> set[tuple[str, str]]:
    return {(path.relative_to(ROOT).as_posix(), word) for word in CHAT_WORDS.findall(path.read_text())}


def test_only_the_room_of_chat_speaks_its_words() -> None:
    elsewhere = [path for path in MODULES if ROOT / "protocols/chat" not in path.parents]
    assert set().union(*map(words_of_chat, elsewhere)) <= set(OTHER_MEANINGS)
    assert any(map(words_of_chat, set(MODULES) - set(elsewhere))), "the words are found where they are"
