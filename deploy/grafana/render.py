"""Draws the dashboard from a Prometheus, without Grafana: `python deploy/grafana/render.py URL picture.svg`.

It asks the same queries for the same panels, so the picture in the docs is what Grafana shows. Its colours are read on
white and on black, as those of the other pictures there.
"""

import argparse
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from dashboard import dashboard

COLUMN: Final = 54
"""Pixels of one of Grafana's columns; of its rows, 30, so that a panel is 378 by 210 or 324 by 210."""
ROW: Final = 27
GAP: Final = 6
HEAD: Final = 44
INK: Final = "#7d8590"
COLOURS: Final = ("#3b82f6", "#d97706", "#16a34a", "#db2777", "#8b5cf6", "#0d9488", "#b45309", "#8b949e")
POINTS: Final = 90
"""Of each curve: more are not told apart."""
MARKS: Final = 4
"""Lines across a panel, at most."""
NAMES: Final = 4
"""In a legend, at most."""
EVERY: Final = {"$instance": ".*", "$model": ".*"}
PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SUFFIXES: Final = {"reqps": "/s", "cps": "/s", "ops": "/s"}


@dataclass(frozen=True, slots=True)
class Span:
    """What is shown: from when to when, in seconds since 1970, and over what rates are taken."""

    start: float
    end: float
    rate: str

    @property
    def step(self) -> float:
        """Seconds between two points."""
        return max(1.0, (self.end - self.start) / POINTS)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one series: seconds since the start, and values."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a plot is on the picture, and what it measures."""

    left: float
    top: float
    width: float
    height: float
    seconds: float
    highest: float

    def at(self, seconds: float, value: float) -> str:
        """Return a point of the plot as SVG has it."""
        x = self.left + self.width * seconds / self.seconds
        return f"{x:.0f},{self.y(value):.1f}".removesuffix(".0")

    def y(self, value: float) -> float:
        """Return how far down a value is."""
        return self.top + self.height * (1 - min(value, self.highest) / self.highest)


def curves(prometheus: str, panel: Mapping[str, Any], span: Span) -> list[Curve]:
    """Ask for all series of a panel."""
    found = []
    for target in panel["targets"]:
        expression = target["expr"]
        for name, value in (EVERY | {"$__rate_interval": span.rate}).items():
            expression = expression.replace(name, value)
        query = {"query": expression, "start": span.start, "end": span.end, "step": span.step}
        url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - the operator's own Prometheus
            data = json.load(answer)["data"]["result"]
        found += [Curve(_name(target["legendFormat"], series["metric"]), _points(series, span)) for series in data]
    return [curve for curve in found if curve.points]


def _name(legend: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend.strip() or "all"


def _points(series: Mapping[str, Any], span: Span) -> tuple[tuple[float, float], ...]:
    values = ((at - span.start, float(value)) for at, value in series["values"])
    return tuple((at, value) for at, value in values if math.isfinite(value))


def draw(panels: Sequence[Mapping[str, Any]], found: Mapping[int, Sequence[Curve]], span: Span, title: str) -> str:
    """Return the picture of all panels; `found` has their curves by their ids."""
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = 24 * COLUMN, HEAD + bottom * ROW + GAP
    parts = [f'<text x="{GAP}" y="26" font-size="17" font-weight="600">{escape(title)}</text>\n']
    for panel in panels:
        parts += _row(panel) if panel["type"] == "row" else _panel(panel, found[panel["id"]], span)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="{INK}">\n{"".join(parts)}</svg>\n'
    )


def _row(panel: Mapping[str, Any]) -> Iterator[str]:
    y = HEAD + panel["gridPos"]["y"] * ROW
    yield f'<text x="{GAP}" y="{y + 19}" font-size="14" font-weight="600">{escape(panel["title"])}</text>\n'


def _panel(panel: Mapping[str, Any], found: Sequence[Curve], span: Span) -> Iterator[str]:
    place, fields = panel["gridPos"], panel["fieldConfig"]["defaults"]
    left, top = place["x"] * COLUMN + GAP, HEAD + place["y"] * ROW + GAP
    width, height = place["w"] * COLUMN - 2 * GAP, place["h"] * ROW - 2 * GAP
    highest = max((value for curve in found for _, value in curve.points), default=0.0)
    step = _step(fields.get("max", highest) or 1.0)
    most = fields.get("max", step * max(1, math.ceil(highest / step - 1e-9)))
    frame = Frame(left + 52, top + 30, width - 62, height - 70, span.end - span.start, most)
    yield f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="4" fill="none" stroke="{INK}" '
    yield 'stroke-opacity="0.35"/>\n'
    yield f'<text x="{left + 9}" y="{top + 18}" font-size="12" font-weight="600">{escape(panel["title"])}</text>\n'
    yield from _axes(frame, step, fields["unit"])
    for curve, colour in zip(found, COLOURS * (1 + len(found)), strict=False):
        points = " ".join(frame.at(*point) for point in curve.points)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>\n'
    if not found:
        middle = frame.left + frame.width / 2
        yield f'<text x="{middle:.0f}" y="{frame.top + frame.height / 2:.0f}" text-anchor="middle">no data</text>\n'
    yield from _legend([curve.name for curve in found], left + 9, top + height - 9, width - 18)


def _axes(frame: Frame, step: float, unit: str) -> Iterator[str]:
    for number in range(round(frame.highest / step) + 1):
        value = number * step
        y = frame.y(value)
        yield (
            f'<line x1="{frame.left:.0f}" x2="{frame.left + frame.width:.0f}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{INK}" stroke-opacity="{0.2 if number else 0.8}"/>'
            f'<text x="{frame.left - 5:.0f}" y="{y + 4:.1f}" text-anchor="end">{shown(value, unit)}</text>\n'
        )
    minutes = frame.seconds / 60
    every = next((many for many in (0.5, 1, 2, 5, 10, 15, 30, 60) if minutes / many <= 6), 120)  # noqa: PLR2004 - marks
    for number in range(int(minutes / every) + 1):
        x = frame.left + frame.width * number * every / minutes
        yield f'<text x="{x:.0f}" y="{frame.top + frame.height + 14:.0f}" text-anchor="middle">'
        yield f"{number * every:g}{' min' if number == 0 else ''}</text>\n"


def _legend(names: Sequence[str], left: float, y: float, width: float) -> Iterator[str]:
    """Name as many curves as there is room for."""
    x = left
    for number, name in enumerate(names):
        needed = 24 + 5.8 * len(name)
        if x + needed > left + width or number == NAMES + 4:
            yield f'<text x="{x:.0f}" y="{y:.0f}">…</text>\n'
            return
        colour = COLOURS[number % len(COLOURS)]
        yield f'<rect x="{x:.0f}" y="{y - 6:.0f}" width="10" height="3" fill="{colour}"/>'
        yield f'<text x="{x + 13:.0f}" y="{y:.0f}">{escape(name)}</text>\n'
        x += needed


def shown(value: float, unit: str) -> str:
    """Return a value as people read it, in one of Grafana's units."""
    if unit == "percentunit":
        return f"{100 * value:g} %"
    if unit == "s" and 0 < value < 1:
        return f"{1000 * value:g} ms"
    if unit == "s":
        return f"{value:g} s"
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:g} {prefix}{'B' if unit == 'bytes' else ''}"
    return f"{value:g}{' B' if unit == 'bytes' else SUFFIXES.get(unit, '')}"


def _step(highest: float) -> float:
    """Return what lies between two lines across a panel: 1, 2 or 5 times a power of ten."""
    size = 10.0 ** math.floor(math.log10(highest / MARKS))
    return next(size * many for many in (1, 2, 5, 10) if size * many * MARKS >= highest * (1 - 1e-9))


def main() -> None:
    """Ask and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prometheus", help="for example http://127.0.0.1:9090")
    parser.add_argument("picture", type=Path, help="an SVG file to write")
    parser.add_argument("--minutes", type=float, default=60.0, help="until now")
    parser.add_argument("--rate", default="1m", help="what Grafana has for $__rate_interval: four scrapes or more")
    parser.add_argument("--title", default="Nautilus")
    given = parser.parse_args()
    now = time.time()
    render(given.prometheus, given.picture, Span(now - 60 * given.minutes, now, given.rate), given.title)


def render(prometheus: str, picture: Path, span: Span, title: str) -> None:
    """Write the picture of what a Prometheus knows."""
    panels = dashboard()["panels"]
    found = {panel["id"]: curves(prometheus, panel, span) for panel in panels if panel["type"] != "row"}
    picture.write_text(draw(panels, found, span, title), encoding="utf-8")


if __name__ == "__main__":
    main()
