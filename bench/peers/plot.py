"""The run as a picture: CPU of each target, scenario by scenario, in a logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence

from bench.chart import Bars, Colour, draw_bars
from bench.peers.figures import Table

_ROWS = (
    ("whole, 32 at once", "cpu_us_request", "whole answer, CPU us a request"),
    ("stream, 8 at once", "cpu_us_chunk", "stream back to back, CPU us a chunk"),
    ("100 slow streams", "cpu_us_chunk", "100 slow streams, CPU us a chunk"),
    ("500 slow streams", "cpu_us_chunk", "500 slow streams, CPU us a chunk"),
    ("200 kB request", "cpu_us_request", "200 kB request, CPU us a request"),
    ("translated stream", "cpu_us_chunk", "Claude upstream, stream, CPU us a chunk"),
    ("Kilo call", "cpu_us_request", "Kilo-shaped call, CPU us"),
    ("Kilo call, TLS", "cpu_us_request", "Kilo-shaped call, TLS upstream, CPU us"),
)
_OURS: Colour = (214, 100, 20)
_LIMIT: Colour = (150, 150, 150)
_OTHERS: Colour = (31, 119, 180)


def picture(table: Table, targets: Sequence[str]) -> bytes | None:
    """A PNG; `None` when no figure of the picture was measured."""
    groups = []
    for scenario, figure, words in _ROWS:
        values = [(name, getattr(table[scenario, name], figure)) for name in targets if (scenario, name) in table]
        bars = [(name, value, _colour(name)) for name, value in values if value is not None and value > 0]
        if bars:
            groups.append(Bars(words, bars))
    return draw_bars(groups) if groups else None


def _colour(name: str) -> Colour:
    return _OURS if name in {"ours", "gunicorn"} else _LIMIT if name == "nginx" else _OTHERS
