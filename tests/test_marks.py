"""Marks that silence a check say why, and none stands where no check would speak.

Ruff finds a `noqa` that silences nothing (RUF100), mypy a `type: ignore` that does; mypy is asked about the package and its program only.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("compat", "tests", "bench", "scripts") for path in (ROOT / folder).rglob("*.py")) + sorted(
    ROOT.glob("*.py")
)
_MARK = re.compile(r"#\s*(?:ruff: )?(?:noqa|type: ignore|pragma: no cover)\b")
_EXPLAINED = re.compile(r"#\s*(?:(?:ruff: )?noqa: [A-Z0-9, ]+|type: ignore\[[a-z, -]+\])  # \S")
_UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
TYPED = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"])


def comments(source: str) -> Iterator[str]:
    """The comments of a file, each from its `#` on."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def faults_in(comment: str, *, is_typed: bool) -> Iterator[str]:
    if _MARK.search(comment) and not _EXPLAINED.search(comment):
        yield "a mark says which check it silences, and why"
    if "type: ignore" in comment and not is_typed:
        yield "nobody checks types here"
    if _UNFINISHED.search(comment):
        yield "what is to be done is done, or stands in no comment"


def skips_without_reason(source: str) -> Iterator[int]:
    """The lines of skips of tests that don't say why: `skipif` and `skip` with a `reason`, `pytest.skip` with words."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in {"skip", "skipif", "xfail"}:
            continue
        named = {keyword.arg for keyword in node.keywords}
        if ast.unparse(node.func) == "pytest.skip" and node.args:
            continue
        if "reason" not in named and ast.unparse(node.func).startswith("pytest."):
            yield node.lineno


@pytest.mark.parametrize(
    ("comment", "is_typed", "count"),
    [
        ("# noqa: S603  # our own words", True, 0),
        ("# ruff: noqa: S608  # names of our own", True, 0),
        ("# type: ignore[misc]  # gevent has no types", True, 0),
        ("# noqa: S603", True, 1),
        ("# noqa", True, 1),
        ("# type: ignore[misc]", True, 1),
        ("# type: ignore  # all of it", True, 1),
        ("# type: ignore[misc]  # gevent has no types", False, 1),
        ("# pragma: no cover", True, 1),
        ("# TODO: later", True, 1),
    ],
)
def test_marks_are_judged(comment: str, is_typed: bool, count: int) -> None:
    assert len(list(faults_in(comment, is_typed=is_typed))) == count


def test_skips_are_judged() -> None:
    good = 'pytest.skip("no openssl")\npytest.mark.skipif(True, reason="no ps")\npool.skip(3)\n'
    assert list(skips_without_reason(good)) == []
    assert list(skips_without_reason("pytest.skip()\npytest.mark.skipif(True)\npytest.mark.xfail\npytest.mark.xfail()\n")) == [1, 2, 4]


@pytest.mark.slow
def test_every_mark_says_why_and_is_needed() -> None:
    found = []
    for path in FILES:
        name = str(path.relative_to(ROOT))
        source = path.read_text()
        is_typed = name.split("/", 1)[0] in TYPED
        found += [f"{name}: {comment}: {fault}" for comment in comments(source) for fault in faults_in(comment, is_typed=is_typed)]
        if name.startswith("tests/"):
            found += [f"{name}:{line}: a skip says why" for line in skips_without_reason(source)]
    assert found == []
