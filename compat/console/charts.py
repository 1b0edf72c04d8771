"""Plots as SVG, made here by pygal, without a script or a style of its own: the page's stylesheet gives them its colours, by classes."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import markupsafe

MOST_SERIES = 6
"""As many as a reader can tell apart by colour; the others are one, the last."""
MOST_NARROW = 31
"""Bars of a narrow plot: more would be thinner than its pixels."""
_LENGTHS = {"x", "y", "width", "height"}
"""Attributes that a tenth of a pixel is exact enough for."""
_UNUSED = {"style", "rx", "ry"}
_XLINK = "{http://www.w3.org/1999/xlink}"


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one name, one for each label."""

    name: str
    values: tuple[float, ...]


class _Room(NamedTuple):
    """What a plot may take, in pixels: `labels` is how many of them are shown, `right` what the last one has beside its bar."""

    width: int
    height: int
    labels: int
    right: int


def most_of(series: Sequence[Series], others: str) -> list[Series]:
    """The largest `MOST_SERIES`, the largest first; what does not fit is added up under the name `others`."""
    ordered = sorted(series, key=lambda one: -sum(one.values))
    kept, rest = ordered[:MOST_SERIES], ordered[MOST_SERIES:]
    if not rest:
        return kept
    kept, rest = ordered[: MOST_SERIES - 1], ordered[MOST_SERIES - 1 :]
    return [*kept, Series(others, tuple(map(sum, zip(*(one.values for one in rest), strict=True))))]


def stacked_bars(
    labels: Sequence[str], series: Sequence[Series], *, title: str, show: Callable[[float], str], height: int = 240, least: float = 1e-6
) -> markupsafe.Markup:
    """Bars over each other, one heap for each label, once for a wide page and once for a narrow one: the stylesheet shows one of them.

    Where a narrow one would have more than `MOST_NARROW` heaps, neighbours are one.
    `title` is what a screen reader says of it, `show` writes a value, `least` is how close two lines of the scale may be.
    """
    wide = _bars(labels, series, show, _Room(960, height, labels=10, right=4), least)
    narrow = _bars(*in_groups(labels, series), show, _Room(360, 200, labels=3, right=36), least)
    return _inline(wide, title, "wide") + _inline(narrow, title, "narrow")


def in_groups(labels: Sequence[str], series: Sequence[Series]) -> tuple[list[str], list[Series]]:
    """The same sums under `MOST_NARROW` labels at most, each of which names its first and its last."""
    size = max(math.ceil(len(labels) / MOST_NARROW), 1)
    begins = range(0, len(labels), size)
    parts = [labels[begin : begin + size] for begin in begins]
    sums = [Series(one.name, tuple(sum(one.values[begin : begin + size]) for begin in begins)) for one in series]
    return [part[0] if len(part) == 1 else f"{part[0]} – {part[-1]}" for part in parts], sums


def _pygal() -> Any:
    """The library, at the first plot. Its finder of plugins speaks a protocol that Python dropped: every import would warn of it."""
    import pygal

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]
    return pygal


@functools.cache
def _stacked_bar() -> Any:
    """pygal's plot, which would draw days of nothing too, at a cost of their own: as bars without a height."""

    class StackedBar(_pygal().StackedBar):  # type: ignore[misc]  # the library has no types
        def bar(self, serie: Any, rescale: bool = False) -> None:  # as pygal calls it
            serie.points = [(x, y or None) for x, y in serie.points]
            super().bar(serie, rescale)

    return StackedBar


def ticks(top: float, least: float) -> list[float]:
    """Round values from nothing to the first that is not below `top`, six at most, not closer than `least`."""
    rough = max(top / 4, least)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [number * step for number in range(max(math.ceil(top / step), 1) + 1)]


def _bars(labels: Sequence[str], series: Sequence[Series], show: Callable[[float], str], room: _Room, least: float) -> Any:
    chart = _stacked_bar()(
        width=room.width,
        height=room.height,
        show_legend=False,
        no_prefix=True,
        js=[],
        css=[],
        margin=4,
        margin_right=room.right,
        spacing=6,
        value_formatter=show,
        include_x_axis=True,
        show_minor_x_labels=False,
        x_labels_major_count=min(room.labels, len(labels)),
        truncate_label=-1,
    )
    chart.x_labels = list(labels)
    chart.y_labels = ticks(max((sum(heap) for heap in zip(*(one.values for one in series), strict=True)), default=0.0), least)
    for one in series:
        chart.add(one.name, [value or None for value in one.values])
    return chart


def _inline(chart: Any, title: str, name: str) -> markupsafe.Markup:
    """The SVG to stand in a page: less what a strict policy refuses and what only pygal's own script reads, which is given as tooltips."""
    etree = _pygal().etree.etree
    root = chart.render_tree()
    for parent in list(root.iter()):
        told = {node.get("class"): node.text or "" for node in parent if node.tag == "desc"}
        for child in list(parent):
            if child.tag in {"defs", "desc", "style", "script", "title"} or not isinstance(child.tag, str):
                parent.remove(child)
        for attribute in [one for one in parent.attrib if one in _UNUSED or one.startswith(_XLINK)]:
            del parent.attrib[attribute]
        for attribute in _LENGTHS & parent.attrib.keys():
            parent.set(attribute, f"{float(parent.get(attribute)):.1f}")
        if "value" in told:
            tooltip = etree.Element("title")
            tooltip.text = f"{told.get('x_label', '')} · {told['value']}"
            parent.insert(0, tooltip)
    root.attrib.pop("id", None)
    for attribute, value in (("role", "img"), ("aria-label", title), ("class", f"plot-svg {name}")):
        root.set(attribute, value)
    return markupsafe.Markup(etree.tostring(root, encoding="unicode"))  # noqa: S704  # pygal escapes names; a test has hostile ones
