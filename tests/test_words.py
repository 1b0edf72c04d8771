"""Code and documents are written in the field's terms: a few turns of phrase that nobody uses there are kept out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    [
        *(path for folder in ("compat", "docs") for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md", ".html", ".js"}),
        *(ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md", "config.example.toml")),
    ]
)
_ODD = re.compile(
    r"\b(?:(?:that|which|what) (?:is|are) (?:none|no (?!longer|more)[a-z]+)|(?:is|are|was|were) told|hears? of|told of|tells? of"
    r"|something is at fault|wants? (?:another protocol|\{))",
    re.IGNORECASE,
)
SAY_INSTEAD = {
    "JSON that is none": "invalid JSON",
    "a part that is no text": "a part other than text",
    "it is told once": "it is reported once",
    "a worker hears of it": "it is notified",
    "Something is at fault.": "Something is wrong: see the lines marked FAULT.",
    "it wants {size} GB": "it needs {size} GB",
}


def oddities_in(text: str) -> list[str]:
    return [match[0] for match in _ODD.finditer(" ".join(text.split())) if "None" not in match[0]]


@pytest.mark.parametrize("phrase", SAY_INSTEAD)
def test_an_odd_phrase_is_found(phrase: str) -> None:
    assert oddities_in(phrase)
    assert not oddities_in(SAY_INSTEAD[phrase])


def test_code_and_documents_have_no_odd_phrases() -> None:
    found = {str(path.relative_to(ROOT)): odd for path in FILES if (odd := oddities_in(path.read_text()))}
    assert not found


def files_named_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w/-])(?:compat|tests|bench)/[\w/]+\.(?:py|toml|json)|(?<=`)\w+\.py(?=`)", text)


def test_files_that_are_named_exist() -> None:
    names = {
        path.name for folder in ("compat", "tests", "bench", ".") for path in (ROOT / folder).glob("*.py" if folder == "." else "**/*.py")
    }
    named = {(path, name) for path in FILES if path.name != "CHANGELOG.md" for name in files_named_in(path.read_text())}
    gone = [f"{path.relative_to(ROOT)}: {name}" for path, name in named if name not in names and not (ROOT / name).exists()]
    assert not gone
