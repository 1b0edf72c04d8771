"""Curves and bars as a PNG, without a plotting library: `draw(curves, "what is on the x axis")`, `draw_bars(groups)`.

A grid of pixels, letters of 3 by 5 dots drawn twice their size, and zlib for the PNG (W3C PNG, sections 9 to 11).
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

Colour = tuple[int, int, int]
WIDTH, HEIGHT = 900, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 50, 60
_SCALE = 3
_BAR, _NAMES, _VALUES = 18, 110, 90
_BLACK, _GREY, _LIGHT, _WHITE = (40, 40, 40), (150, 150, 150), (230, 230, 230), (255, 255, 255)
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", ",": "00024", ".": "00002", "A": "75755", "B": "65656", "C": "74447", "D": "65556",
    "E": "74647", "F": "74644", "G": "74557", "H": "55755", "I": "72227", "K": "55655", "L": "44447", "M": "57755",
    "N": "65555", "O": "75557", "P": "75744", "R": "75655", "S": "74717", "T": "72222", "U": "55557", "V": "55552",
    "J": "11157", "Q": "75573", "Z": "71247", "-": "00700", "/": "11244",
    "W": "55775", "X": "55255", "Y": "55222", " ": "00000",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line through points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: Colour


@dataclass(frozen=True, slots=True)
class Bars:
    """A named group: a bar for each (name, value, colour)."""

    name: str
    bars: Sequence[tuple[str, float, Colour]]


class _Canvas:
    """Mutable: its pixels."""

    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        self._width, self._height = width, height
        self._rows = [bytearray(bytes(_WHITE) * width) for _ in range(height)]

    def fill(self, left: float, top: float, width: int, height: int, colour: Colour) -> None:
        x = max(round(left), 0)
        for row in self._rows[max(round(top), 0) : max(round(top) + height, 0)]:
            count = max(min(width, self._width - x), 0)
            row[3 * x : 3 * (x + count)] = bytes(colour) * count

    def line(self, begin: tuple[float, float], end: tuple[float, float], colour: Colour) -> None:
        steps = math.ceil(max(abs(end[0] - begin[0]), abs(end[1] - begin[1]), 1))
        for step in range(steps + 1):
            share = step / steps
            self.fill(begin[0] + (end[0] - begin[0]) * share - 1, begin[1] + (end[1] - begin[1]) * share - 1, 3, 3, colour)

    def text(self, left: float, top: float, words: str, colour: Colour = _BLACK, scale: int = _SCALE - 1) -> None:
        for number, letter in enumerate(words.upper()):
            for row, dots in enumerate(_GLYPHS[letter]):
                for column in range(3):
                    if int(dots) >> (2 - column) & 1:
                        self.fill(left + (4 * number + column) * scale, top + row * scale, scale, scale, colour)

    def png(self) -> bytes:
        def part(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        header = struct.pack(">IIBBBBB", self._width, self._height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in self._rows), 9)
        return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")


def draw(curves: Sequence[Curve], x_name: str) -> bytes:
    """The curves over one x axis, from zero up, in one scale."""
    canvas = _Canvas()
    last_x = max(x for curve in curves for x, _ in curve.points)
    top_y = _round_up(max(y for curve in curves for _, y in curve.points))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + width * x / last_x, TOP + height * (1 - y / top_y)

    for step in range(5):
        _, y = place(0, top_y * step / 4)
        canvas.fill(LEFT, y, width, 1, _LIGHT if step else _GREY)
        words = f"{top_y * step / 4:g}"
        canvas.text(LEFT - 10 - 8 * len(words), y - 6, words)
        x, _ = place(last_x * step / 4, 0)
        words = f"{last_x * step / 4:,.0f}"
        canvas.text(x - 4 * len(words), HEIGHT - BOTTOM + 10, words)
    canvas.text(LEFT + width / 2 - 4 * len(x_name), HEIGHT - 24, x_name)
    offset = LEFT
    for curve in curves:
        spots = [place(x, y) for x, y in curve.points]
        for begin, end in itertools.pairwise(spots):
            canvas.line(begin, end, curve.colour)
        canvas.fill(offset, 18, 20, 8, curve.colour)
        canvas.text(offset + 28, 16, curve.name)
        offset += 60 + 8 * len(curve.name)
    return canvas.png()


def draw_bars(groups: Sequence[Bars]) -> bytes:
    """Bars to the right in a logarithmic scale of each group's own, from a third of the least value up, with the values beside them."""
    height = 20 + sum(30 + _BAR * len(group.bars) for group in groups)
    canvas, top = _Canvas(height=height), 14
    room = WIDTH - _NAMES - _VALUES
    for group in groups:
        canvas.text(14, top, group.name)
        top += 20
        least, most = min(value for _, value, _ in group.bars) / 3, max(value for _, value, _ in group.bars)
        for name, value, colour in group.bars:
            canvas.text(_NAMES - 12 - 8 * len(name), top + 2, name)
            width = round(room * math.log(value / least) / math.log(most / least))
            canvas.fill(_NAMES, top, width, _BAR - 4, colour)
            canvas.text(_NAMES + width + 8, top + 2, f"{value:,.0f}" if value >= 100 else f"{value:.1f}")
            top += _BAR
        top += 10
    return canvas.png()


def _round_up(value: float) -> float:
    """The next round number: 1, 2, 4, 5 or 8 and zeros."""
    unit = 10.0 ** math.floor(math.log10(max(value, 1)))
    return next(unit * step for step in (1, 1.2, 1.6, 2, 4, 5, 8, 10) if unit * step >= value)
