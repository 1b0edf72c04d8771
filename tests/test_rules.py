"""The rules of translation that code, tests and documents refer to by number are written down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "translation.md"
_REFERENCE = re.compile(r"\brules?[ \n]+(\d+(?:(?:, | and | to |, and )\d+)*)", re.IGNORECASE)
_CASE = re.compile(r"(?:Row|forced|shown)\(\s*\(((?:\d+, ?)+\d*)\)")
FILES = sorted(
    path for folder in ("compat", "tests", "docs") for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md"} and path != PAGE
)


def written_rules() -> list[int]:
    return [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)]


def rules_in(text: str) -> Iterator[int]:
    for match in (*_REFERENCE.finditer(text), *_CASE.finditer(text)):
        yield from (int(number) for number in re.findall(r"\d+", match[1]))


def test_every_rule_has_one_number_and_no_number_is_missing() -> None:
    assert sorted(written_rules()) == list(range(1, len(written_rules()) + 1))


@pytest.mark.parametrize(
    "text", ["translation rules 5 and 6", "Rule 17. A", "(rules 2 to 6)", "rule\n15", "RequestRow(\n        (3,),", "(rules 1, 2, 29)"]
)
def test_references_are_found(text: str) -> None:
    assert list(rules_in(text))


def test_code_refers_to_rules_that_exist() -> None:
    missing = [
        (str(path.relative_to(ROOT)), number) for path in FILES for number in rules_in(path.read_text()) if number not in written_rules()
    ]
    assert not missing


def test_each_rule_has_a_source() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert all(len(row) == 4 and row[3].strip(" |") for row in rows)
