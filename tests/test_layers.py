"""The architecture as a table: which layer may import which, and which third-party packages belong where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import compat
from compat.translate import TRANSLATORS
from compat.upstream.kinds import UPSTREAM_KINDS

ROOT = Path(compat.__file__).parent
MAX_LINES = 400

# Layer -> (modules of compat that belong to it, what it may import of compat besides itself and lower layers, third-party packages).
# Ordered from the bottom to the top; a layer may import every layer above it in this list.
LAYERS: list[tuple[str, tuple[str, ...], frozenset[str]]] = [
    ("vocabulary", ("wire", "errors", "sections", "settings", "jsonio", "catalog", "clock"), frozenset({"msgspec"})),
    ("key store", ("key_store",), frozenset({"msgspec"})),
    (
        "service",  # light enough for the watcher and gunicorn's master, which load nothing of the gateway
        (
            *(
                "process.service_files",
                "process.service_state",
                "process.service_log",
                "process.service_logs",
                "process.service_fleet",
                "process.service_health",
                "process.open_files",
            ),
            *("process.service_plan", "process.service_generation", "process.service_configuration", "process.service_probe"),
            *("process.service_launch", "process.service_watcher", "process.services", "process.gunicorn_hooks"),
        ),
        frozenset({"dotenv", "msgspec", "setproctitle", "prometheus_client"}),
    ),
    ("pure", ("translate", "protocols"), frozenset({"msgspec"})),
    ("http out", ("upstream",), frozenset({"requests", "httptools", "msgspec"})),
    ("setup", ("setup",), frozenset({"requests"})),
    (
        "engine",
        (
            *("process.embedded", "process.supervisor", "process.child", "process.model_file", "process.progress", "process.engine"),
            *("process.presets", "process.service_engine"),
        ),
        frozenset({"platformdirs", "tqdm", "xllamacpp", "setproctitle", "gevent", "msgspec"}),
    ),
    (
        "policy",
        (
            *("routing", "doctor", "keys", "calllog", "vault", "vault_buffer", "vault_sqlite", "vault_redis"),
            *("limits", "limit_counts", "limit_rules", "redis_link", "pacing", "answer_cache", "whole_answer", "sqlite_file"),
            *("usage_store", "usage_report", "gathering", "metrics", "metrics_files", "metrics_shared", "traces", "background", "commons"),
            "offload",
        ),
        frozenset({"msgspec", "gevent", "pybreaker", "limits", "redis", "prometheus_client", "flask_limiter", "opentelemetry"}),
    ),
    ("keeper", ("process.service_keeper",), frozenset({"msgspec"})),
    ("gateway", ("gateway",), frozenset({"gevent"})),
    (
        "use case",
        ("pipeline", "account", "attempt", "record", "rescue", "splice", "call", "relay", "outflow", "pulse"),
        frozenset({"gevent"}),
    ),
    (
        "http in",
        ("endpoints",),
        frozenset({"flask", "werkzeug", "gevent", "flask_limiter", "flask_compress", "backports", "compression", "limits"}),
    ),
    ("server", ("process.server", "process.request_guard"), frozenset({"gevent"})),
    ("root", ("factory", "stores", "banner", "check", "dot_env", "writable"), frozenset({"flask", "gevent"})),
    (
        "entry",
        ("cli", "key_commands", "process.service_check", "process.service_gateway", "process.gunicorn_worker", "process.gunicorn_server"),
        frozenset({"gevent", "msgspec", "setproctitle", "gunicorn"}),
    ),
]
STANDARD = frozenset(__import__("sys").stdlib_module_names)
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).as_posix() not in {"__init__.py", "process/__init__.py"})


def module_name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


def layer_of(module: str) -> int:
    for number, (_, names, _) in enumerate(LAYERS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return number
    raise AssertionError(f"compat.{module} belongs to no layer")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if node.module == "compat" else (node.module or "",)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_downwards_only(path: Path) -> None:
    own = layer_of(module_name(path))
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        if package in STANDARD or rest == "__version__":
            continue
        if package == "compat":
            assert layer_of(rest) <= own, f"{module_name(path)} imports {name}, which is above it"
        else:
            assert package in LAYERS[own][2], f"{package} does not belong into the layer '{LAYERS[own][0]}'"


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
    assert {kind.wire_api for kind in UPSTREAM_KINDS.values()} <= {upstream for _, upstream in TRANSLATORS}


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


def test_every_translator_module_is_registered() -> None:
    pairs = {f"{client.split('.')[0]}_{upstream.split('.')[0]}" for client, upstream in TRANSLATORS}
    modules = {path.stem for path in (ROOT / "translate").glob("*_*.py")} & {"openai_openai", "openai_anthropic", "openai_llama"}
    assert pairs == modules
