"""Figures as people write them: money, counts, durations, shares, moments. Times are seconds since 1970, durations milliseconds."""

from __future__ import annotations

import datetime
import itertools
from dataclasses import dataclass

import markupsafe

from compat.setup.clients import Language

NOTHING = "–"
"""Stands for what is not known."""
_UNITS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k"))
_CENT = 0.01
_LEAST = 0.0001
_FORMS = {"full": "%Y-%m-%d %H:%M:%S", "short": "%m-%d %H:%M:%S", "time": "%H:%M:%S"}
_TIMES = {"en": ("d", "h", "min", "s"), "zh": ("天", "小时", "分", "秒")}


@dataclass(frozen=True, slots=True)
class Figures:
    """They are the same in both languages but for a few words."""

    language: Language = "en"

    def money(self, usd: float | None) -> str:
        """`$12.30`; what is less than ten cents has two significant figures, `$0.0042`."""
        if usd is None:
            return NOTHING
        size, sign = abs(usd), "−" if usd < 0 else ""
        if size == 0 or float(f"{size:.2g}") >= 10 * _CENT:
            return f"{sign}${size:,.2f}"
        return f"{sign}${size:.2g}" if size >= _LEAST else f"{sign}<${_LEAST}"

    def exact_money(self, usd: float) -> str:
        """All that is known, to a billionth of a dollar: for the parts of a price."""
        text = f"{usd:,.9f}".rstrip("0")
        whole, _, part = text.partition(".")
        return f"${whole}.{part.ljust(2, '0')}"

    def count(self, number: float | None) -> str:
        """`1,234`."""
        return NOTHING if number is None else f"{number:,.0f}"

    def short(self, number: float | None) -> str:
        """`1,234`, `12.3k`, `4.5M`: three figures are enough to compare."""
        if number is None:
            return NOTHING
        for size, unit in _UNITS:
            if number >= max(0.9995 * size, 10_000):  # what would be written as 1000 is one of the next unit
                return f"{number / size:.{1 if number < 99.95 * size else 0}f}{unit}"
        return f"{number:,.0f}"

    def share(self, part: float | None) -> str:
        """`87%` of a part from 0 to 1."""
        return NOTHING if part is None else f"{part:.0%}" if part in {0, 1} or 0.01 <= part <= 0.99 else f"{part:.1%}"

    def rate(self, per_second: float | None) -> str:
        """`42.5/s`."""
        return NOTHING if per_second is None else f"{per_second:,.{0 if per_second >= 99.95 else 1}f}/s"

    def lasting(self, ms: float | None) -> str:
        """`850 ms`, `1.24 s`, `2 min 5 s`, `3 h 10 min`, `2 d 4 h`."""
        if ms is None:
            return NOTHING
        if round(ms) < 1000:
            return f"{ms:.0f} ms"
        if ms < 59_950:
            return f"{ms / 1000:.{2 if ms < 9995 else 1}f} s"
        seconds = round(ms / 1000)
        steps = itertools.pairwise(zip((86_400, 3600, 60, 1), _TIMES[self.language], strict=True))
        (size, unit), (smaller, rest) = next(pair for pair in steps if seconds >= pair[0][0])
        whole, left = divmod(seconds, size)
        return f"{whole} {unit} {left // smaller} {rest}"

    def moment(self, time_s: float | None, form: str = "full") -> markupsafe.Markup | str:
        """A moment in UTC, which the page's script makes local: `full`; `short` without the year; `time` without the day."""
        if time_s is None:
            return NOTHING
        moment = datetime.datetime.fromtimestamp(time_s, datetime.UTC)
        shown = moment.strftime(_FORMS[form])
        return markupsafe.Markup('<time datetime="{}" data-form="{}">{} UTC</time>').format(f"{moment:%Y-%m-%dT%H:%M:%SZ}", form, shown)

    def day(self, day: datetime.date | None) -> str:
        """`2026-01-31`."""
        return NOTHING if day is None else day.isoformat()
