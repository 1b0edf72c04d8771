"""Figures as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from compat.console.figures import Figures

CASES: list[tuple[str, tuple[Any, ...], str, str]] = [
    ("money", (12.345,), "$12.35", "$12.35"),
    ("money", (1234.5,), "$1,234.50", "$1,234.50"),
    ("money", (0,), "$0.00", "$0.00"),
    ("money", (0.0631,), "$0.063", "$0.063"),
    ("money", (0.0999,), "$0.10", "$0.10"),
    ("money", (0.00421,), "$0.0042", "$0.0042"),
    ("money", (0.00001,), "<$0.0001", "<$0.0001"),
    ("money", (-0.5,), "−$0.50", "−$0.50"),
    ("money", (None,), "–", "–"),
    ("exact_money", (0.00525,), "$0.00525", "$0.00525"),
    ("exact_money", (3,), "$3.00", "$3.00"),
    ("count", (1234567,), "1,234,567", "1,234,567"),
    ("count", (None,), "–", "–"),
    ("short", (9999,), "9,999", "9,999"),
    ("short", (12_345,), "12.3k", "12.3k"),
    ("short", (123_456,), "123k", "123k"),
    ("short", (4_500_000,), "4.5M", "4.5M"),
    ("short", (99_960,), "100k", "100k"),
    ("short", (999_960,), "1.0M", "1.0M"),
    ("short", (None,), "–", "–"),
    ("share", (0.874,), "87%", "87%"),
    ("share", (0.0042,), "0.4%", "0.4%"),
    ("share", (1,), "100%", "100%"),
    ("share", (None,), "–", "–"),
    ("rate", (42.51,), "42.5/s", "42.5/s"),
    ("rate", (412.0,), "412/s", "412/s"),
    ("rate", (99.97,), "100/s", "100/s"),
    ("rate", (None,), "–", "–"),
    ("lasting", (850,), "850 ms", "850 ms"),
    ("lasting", (1240,), "1.24 s", "1.24 s"),
    ("lasting", (12_400,), "12.4 s", "12.4 s"),
    ("lasting", (125_000,), "2 min 5 s", "2 分 5 秒"),
    ("lasting", (3_600_000 * 3 + 600_000,), "3 h 10 min", "3 小时 10 分"),
    ("lasting", (86_400_000 * 2 + 3_600_000 * 4,), "2 d 4 h", "2 天 4 小时"),
    ("lasting", (999.7,), "1.00 s", "1.00 s"),
    ("lasting", (9_996,), "10.0 s", "10.0 s"),
    ("lasting", (59_970,), "1 min 0 s", "1 分 0 秒"),
    ("lasting", (3_599_600,), "1 h 0 min", "1 小时 0 分"),
    ("lasting", (None,), "–", "–"),
    ("moment", (None,), "–", "–"),
    ("day", (None,), "–", "–"),
]


@pytest.mark.parametrize(("name", "arguments", "english", "chinese"), CASES)
def test_a_figure_is_written_as_people_write_it(name: str, arguments: tuple[Any, ...], english: str, chinese: str) -> None:
    assert getattr(Figures("en"), name)(*arguments) == english
    assert getattr(Figures("zh"), name)(*arguments) == chinese


@pytest.mark.parametrize(("form", "shown"), [("full", "2023-11-14 22:13:20"), ("short", "11-14 22:13:20"), ("time", "22:13:20")])
def test_a_moment_is_in_utc_until_a_script_makes_it_local(form: str, shown: str) -> None:
    expected = f'<time datetime="2023-11-14T22:13:20Z" data-form="{form}">{shown} UTC</time>'
    assert Figures().moment(1_700_000_000.0, form) == expected
