"""Patches of Codex' `apply_patch` by their grammar."""

from __future__ import annotations

import pytest

from compat.protocols.responses.patch import is_patch
from tests.growth import check_growth

ADD, DELETE = "*** Add File: a.py\n+x\n+\n", "*** Delete File: b.py\n"
UPDATE = "*** Update File: c.py\n*** Move to: d.py\n@@ def f():\n same\n-old\n+new\n@@\n+more\n*** End of File\n"


def whole(*hunks: str) -> str:
    return f"*** Begin Patch\n{''.join(hunks)}*** End Patch\n"


@pytest.mark.parametrize(
    "text", [whole(ADD), whole(DELETE), whole(UPDATE), whole(ADD, UPDATE, DELETE), whole("*** Update File: a\n"), whole(ADD).rstrip("\n")]
)
def test_what_the_grammar_allows_is_a_patch(text: str) -> None:
    assert is_patch(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        whole(),
        whole(ADD)[1:],
        whole("*** Add File: a.py\n"),
        whole("*** Add File: \n+x\n"),
        whole("*** Add File: a.py\nx\n"),
        whole("*** Update File: c.py\nunmarked\n"),
        whole("*** Update File: c.py\n*** End of File\n"),
        whole("@@\n+x\n"),
        whole(ADD) + "and more",
        "*** Begin Patch\n" + ADD,
        f"```\n{whole(ADD)}```",
    ],
)
def test_what_it_does_not_allow_is_none(text: str) -> None:
    assert not is_patch(text)


@pytest.mark.parametrize("line", ["+x\n", "@@ a\n", "*** Add File: a\n+\n", "*** Update File: a\n", "@@", "+"])
def test_a_long_patch_is_checked_in_line_with_its_size(line: str) -> None:
    check_growth(is_patch, lambda n: "*** Begin Patch\n*** Update File: c\n" + line * (n // len(line)), 20_000)
