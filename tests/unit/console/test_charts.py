"""Plots: what is in them, and that nothing in them needs more than the page's own stylesheet."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from compat.console.charts import MOST_NARROW, MOST_SERIES, Series, in_groups, most_of, stacked_bars, ticks

HOSTILE = '</svg><script>alert(1)</script> & "x"'


def plots(*series: Series, title: str = "Cost") -> list[ET.Element]:
    text = stacked_bars(["Mon", "Tue"], series, title=title, show=lambda value: f"${value:.2f}")
    return list(ET.fromstring(f"<figure>{text}</figure>".replace(' xmlns="http://www.w3.org/2000/svg"', "")))


def test_there_is_a_plot_for_wide_pages_and_one_for_narrow_ones() -> None:
    wide, narrow = plots(Series("a", (1.0, 2.0)), Series("b", (0.0, 4.0)))
    assert (wide.get("class"), narrow.get("class")) == ("plot-svg wide", "plot-svg narrow")
    for plot in (wide, narrow):
        assert (plot.get("role"), plot.get("aria-label")) == ("img", "Cost")
        assert {node.get("class") for node in plot.iter("g")} >= {"series serie-0 color-0", "series serie-1 color-1"}
        assert "Tue · $4.00" in {node.text for node in plot.iter("title")}


def test_nothing_is_drawn_of_what_costs_nothing() -> None:
    for plot in plots(Series("a", (0.0, 2.0)), Series("b", (0.0, 4.0)), Series("c", (0.0, 0.0))):
        bars = [node for node in plot.iter("rect") if node.get("class", "").startswith("rect reactive")]
        assert len(bars) == 2
        assert {"Tue · $2.00", "Tue · $4.00"} == {node.text for node in plot.iter("title")}


@pytest.mark.parametrize(
    ("count", "groups", "first", "last"),
    [
        (1, 1, "0", "0"),
        (31, 31, "0", "30"),
        (32, 16, "0 – 1", "30 – 31"),
        (60, 30, "0 – 1", "58 – 59"),
        (90, 30, "0 – 2", "87 – 89"),
        (91, 31, "0 – 2", "90"),
    ],
)
def test_a_narrow_plot_has_no_more_heaps_than_can_be_seen(count: int, groups: int, first: str, last: str) -> None:
    labels, (one, other) = in_groups(
        [str(number) for number in range(count)], [Series("a", tuple(map(float, range(count)))), Series("b", (1.0,) * count)]
    )
    assert (len(labels), labels[0], labels[-1]) == (groups, first, last)
    assert groups <= MOST_NARROW
    assert (len(one.values), len(other.values)) == (groups, groups)
    assert (sum(one.values), sum(other.values)) == (count * (count - 1) / 2, count)


def test_a_plot_has_no_style_or_script_of_its_own() -> None:
    for plot in plots(Series("a", (1.0, 2.0))):
        assert not {node.tag for node in plot.iter()} & {"style", "script", "defs", "desc"}
        assert not [name for node in plot.iter() for name in node.attrib if name in {"style", "id"} or "href" in name]


def test_hostile_names_are_text() -> None:
    for plot in plots(Series(HOSTILE, (1.0, 2.0)), title=HOSTILE):
        assert plot.get("aria-label") == HOSTILE
        assert not list(plot.iter("script"))


@pytest.mark.parametrize("count", [1, MOST_SERIES, MOST_SERIES + 1, 40])
def test_what_can_not_be_told_apart_is_added_up(count: int) -> None:
    series = [Series(f"s{number}", (float(number), 1.0)) for number in range(count)]
    shown = most_of(series, "others")
    assert len(shown) == min(count, MOST_SERIES)
    assert sum(sum(one.values) for one in shown) == sum(sum(one.values) for one in series)
    assert shown[0].name == f"s{count - 1}"
    assert (shown[-1].name == "others") == (count > MOST_SERIES)


@pytest.mark.parametrize(
    ("top", "least", "wanted"),
    [
        (0, 1, [0, 1]),
        (1, 1, [0, 1]),
        (3, 1, [0, 1, 2, 3]),
        (14, 1, [0, 5, 10, 15]),
        (29.35, 0.000001, [0, 10, 20, 30]),
        (0.031, 0.000001, [0, 0.01, 0.02, 0.03, 0.04]),
        (1_000_000, 1, [0, 500_000, 1_000_000]),
    ],
)
def test_a_scale_has_round_values(top: float, least: float, wanted: list[float]) -> None:
    assert ticks(top, least) == pytest.approx(wanted)


def test_the_scale_is_in_the_plot() -> None:
    for plot in plots(Series("a", (1.0, 2.0)), Series("b", (0.0, 4.0))):
        assert [text for text in ("$0.00", "$2.00", "$4.00", "$6.00") if text in {node.text for node in plot.iter("text")}] == [
            "$0.00",
            "$2.00",
            "$4.00",
            "$6.00",
        ]
