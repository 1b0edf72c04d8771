"""The documents say what the program does: links, settings, commands and codes are those of the code, and the same in both languages."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import click
import msgspec
import pytest

import compat
from compat.cli import Line, app
from compat.config.sections import ConfigurationFile
from compat.factory import create_app
from compat.setup.clients import clients
from tests.cases.wrong_input import BEGIN, END
from tests.unit.builders import make_gateway

ROOT = Path(compat.__file__).parent.parent
DOCUMENTS = sorted(path for folder in (ROOT, ROOT / "docs", ROOT / "deploy") for path in folder.glob("*.md"))
CURRENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
PAIRS = [(path, path.with_name(f"{path.stem}.zh-CN.md")) for path in CURRENT if path.with_name(f"{path.stem}.zh-CN.md").exists()]
SECTIONS = {field.name: field.type for field in msgspec.structs.fields(ConfigurationFile)}
CODE = "".join(path.read_text() for path in (ROOT / "compat").rglob("*.py"))

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
ABOUT_STATE = re.compile(r"/healthz|\bthe log\b|日志")

SETTING = re.compile(r"`\[?([a-z_]+)(?:\]`? `?|\.)([a-z_]+)`")
IN_SECTION = re.compile(r"`\[([a-z_]+)\] ([a-z_]+)\b")
STATUS_AND_CODE = re.compile(r"\b[45]\d\d `([a-z_]+)`|\b[45]\d\d \*([a-z]+_[a-z_]+)\*")
PROGRAM = re.compile(r"(?:^|[\s/])app\.py(?= |$)|^(?:uvx --from \S+ )?openai-compat(?= \S|$)")
PLACEHOLDERS = {"CLIENT": "kilo", "客户端": "kilo", "NAME": "laptop", "名称": "laptop", "KEY": "sk-x", "FILE": "config.toml"}
ENDPOINT = re.compile(r"`(?:(GET|POST) )?(/[^`\s]*)`")
PATH = re.compile(r"`((?:compat|tests|scripts|deploy|docs|bench)/[\w./-]+)(?:::\w+)?`")
RELEASE = re.compile(r"^## \[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d$", re.MULTILINE)
MODULE = re.compile(r"-m (bench\.[a-z_]+)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors_of(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def keys_of(section: str) -> set[str] | None:
    """The keys of a table of the configuration; `None` for one of named entries, and where there is no such table."""
    kind = SECTIONS.get(section)
    return set(kind.__struct_fields__) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def unknown_settings(text: str) -> set[str]:
    """Names of settings that do not exist. Lines about the log or about the health name events and fields, which look alike."""
    lines = [line for line in text.splitlines() if not ABOUT_STATE.search(line)]
    named = [one for line in lines for one in SETTING.findall(line) + IN_SECTION.findall(line)]
    return {f"{section}.{key}" for section, key in named if (keys := keys_of(section)) is not None and key not in keys}


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def shape_of(text: str) -> list[str]:
    """Headings by their depth, rows of tables, items of lists and blocks, in the order in which they stand there."""
    shape = [
        re.match(r"#+ |\||- |\d+\. |```", line.strip())
        for line in re.sub(r"(?s)^ *```.*?^ *```", "```", text, flags=re.MULTILINE).splitlines()
    ]
    return [match[0] for match in shape if match]


def commands_of(text: str) -> list[str]:
    """The commands of a document in the order in which they stand there, less what is said about them."""
    lines = [line.partition(" #")[0].strip() for block in code_blocks(text) for line in block.splitlines()]
    return [line for line in lines if re.match(r"(?:\.venv/bin/|python3? |curl |docker |sudo |systemctl )", line)]


def arguments_of(text: str) -> list[list[str]]:
    """What the documents give to the program, in their blocks and sentences; less the outlines, which have brackets or bars."""
    text = text.partition(BEGIN)[0] + text.partition(END)[2]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.partition(" #")[0].strip() for line in [*(line for block in code_blocks(text) for line in block.splitlines()), *inline]]
    found = [line[match.end() :] for line in lines if (match := PROGRAM.search(line))]
    tails = [re.split(r"[;&>|]", tail)[0] for tail in found if not re.search(r"\[--|\w\|\w|…|\.\.\.", tail)]
    return [[PLACEHOLDERS.get(word, word) for word in shlex.split(tail)] for tail in tails]


def parse(argv: list[str], folder: Path) -> None:
    """Let the real command line read `argv`, and do nothing. Errors: `click.UsageError`."""
    try:
        context: click.Context = app.make_context("app.py", argv, obj=Line(folder))
        command: click.Command = app
        while isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
            name, command, rest = command.resolve_command(context, rest)
            assert name is not None
            context = command.make_context(name, rest, parent=context)
    except click.exceptions.Exit:  # --help, --version
        return


def test_settings_that_do_not_exist_are_found() -> None:
    assert unknown_settings("`retry.tries`, `[retry] often`, `retry.attempts`, `[log]`") == {"retry.tries", "retry.often"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target, anchor in LINK.findall(text):
        there = (path.parent / target) if target else path
        assert there.exists(), target
        assert not anchor or there.suffix != ".md" or anchor in anchors_of(there.read_text(encoding="utf-8")), f"{target}#{anchor}"


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_settings_are_those_of_the_configuration(path: Path) -> None:
    assert not unknown_settings(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_examples_of_the_configuration_can_be_read(path: Path) -> None:
    blocks = re.findall(r"^ *```toml\n(.*?)^ *```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        msgspec.toml.decode(block, type=ConfigurationFile)


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_codes_of_errors_are_those_of_the_code(path: Path) -> None:
    for found in STATUS_AND_CODE.findall(path.read_text(encoding="utf-8")):
        code = found[0] or found[1]
        assert f'"{code}"' in CODE, code


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_modules_that_are_run_exist(path: Path) -> None:
    for module in MODULE.findall(path.read_text(encoding="utf-8")):
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        is_folder = spec.submodule_search_locations is not None
        assert importlib.util.find_spec(f"{module}.__main__") if is_folder else "__main__" in Path(str(spec.origin)).read_text()


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[name_of(english) for english, _ in PAIRS])
def test_both_languages_have_the_same_commands_and_settings(english: Path, chinese: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in (english, chinese)]
    ours, theirs = (set(SETTING.findall(text)) | set(IN_SECTION.findall(text)) for text in texts)
    assert {one for one in ours if one[0] in SECTIONS} == {one for one in theirs if one[0] in SECTIONS}
    ours_run, theirs_run = ([command for command in commands_of(text) if not re.search(r"[^\x00-\x7f]", command)] for text in texts)
    placeholders = [command for command in commands_of(texts[1]) if re.search(r"[^\x00-\x7f]", command)]
    assert len(ours_run) == len(theirs_run) + len(placeholders)
    assert set(theirs_run) <= set(ours_run)


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    for name in PATH.findall(path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


def test_the_changelog_has_a_section_for_each_version_the_newest_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## .*$", text, re.MULTILINE)
    versions = [tuple(map(int, found)) for found in RELEASE.findall(text)]
    assert headings[0] == "## [Unreleased]"
    assert len(headings) == len(versions) + 1
    assert versions == sorted(versions, reverse=True)


@pytest.mark.parametrize("path", CURRENT, ids=name_of)
def test_commands_are_those_of_the_command_line(path: Path, tmp_path: Path) -> None:
    for argv in arguments_of(path.read_text(encoding="utf-8")):
        parse(argv, tmp_path)


def test_commands_that_do_not_exist_are_found(tmp_path: Path) -> None:
    text = (
        "`python app.py setup CLIENT`, `app.py --prot 1`:\n```\n.venv/bin/python app.py keys ad laptop   # no\nopenai-compat doctor\n```\n"
    )
    good, bad = [], []
    for argv in arguments_of(text):
        try:
            parse([*argv], tmp_path)
            good.append(argv)
        except click.UsageError:
            bad.append(argv)
    assert good == [["doctor"], ["setup", "kilo"]]
    assert bad == [["keys", "ad", "laptop"], ["--prot", "1"]]


@pytest.mark.parametrize(("name", "heading"), [("README.md", "## Endpoints"), ("README.zh-CN.md", "## 接口")])
def test_endpoints_of_the_readme_are_served(name: str, heading: str, tmp_path: Path) -> None:
    section = (ROOT / name).read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    served = create_app(make_gateway(tmp_path))._app.url_map.bind("localhost")
    found = [(method or "GET", path) for row in rows for method, path in ENDPOINT.findall(row.split("|")[1])]
    assert len(found) > 15
    for method, path in found:
        served.match(path.replace("{id}", "claude-4-sonnet"), method=method)


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[name_of(english) for english, _ in PAIRS])
def test_both_languages_have_the_same_sections_tables_and_blocks(english: Path, chinese: Path) -> None:
    ours, theirs = (shape_of(path.read_text(encoding="utf-8")) for path in (english, chinese))
    assert ours == theirs


@pytest.mark.parametrize("name", ["clients.md", "clients.zh-CN.md"])
def test_the_page_of_clients_has_a_row_for_each(name: str) -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(clients())
