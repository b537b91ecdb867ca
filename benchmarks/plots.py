"""Plots for the docs as SVG: lines over few places, no background, colours that are read on white and on black."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK = "#7d8590"
COLOURS = ("#8b949e", "#3b82f6", "#d97706", "#db2777", "#16a34a")
DASHES = ("", "", "", "", "6 4")
WIDTHS = (5.0, 2.0, 2.0, 2.0, 2.5)
MARKS = 5
"""Lines across a panel, at most."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value, and between what it lies with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: for each name, a point at every place."""

    title: str
    lines: dict[str, list[Point]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Where panels lie and what their axes say."""

    places: tuple[str, ...]
    """Under the plot, from left to right."""
    axis: str
    columns: int = 1
    width: int = 560
    height: int = 300
    whiskers: bool = True
    """Whether confidence is drawn."""


@dataclass(frozen=True, slots=True)
class _Frame:
    left: float
    top: float
    width: float
    height: float
    highest: float
    count: int

    def x(self, place: float) -> float:
        return self.left + (place + 0.5) * self.width / self.count

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - value / self.highest)


def draw(panels: Sequence[Panel], shape: Shape) -> str:
    """Draw panels in rows under one legend."""
    rows = -(-len(panels) // shape.columns)
    width, height = shape.columns * shape.width, 34 + rows * shape.height
    parts = [_legend(list(panels[0].lines))]
    for number, panel in enumerate(panels):
        row, column = divmod(number, shape.columns)
        parts.append(_panel(panel, shape, column * shape.width, 34 + row * shape.height))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">\n{"".join(parts)}</svg>\n'
    )


def _legend(names: Sequence[str]) -> str:
    parts = []
    x = 44.0
    for name, line in zip(names, _styles(), strict=False):
        parts.append(f'<line x1="{x:.0f}" x2="{x + 28:.0f}" y1="16" y2="16" {line}/>')
        parts.append(f'<text x="{x + 34:.0f}" y="20">{escape(name)}</text>\n')
        x += 58 + 7 * len(name)
    return "".join(parts)


def _panel(panel: Panel, shape: Shape, left: float, top: float) -> str:
    points = [point for line in panel.lines.values() for point in line]
    highest = max(point.high if shape.whiskers else point.value for point in points)
    step = _step(highest)
    frame = _Frame(
        left + 44, top + 30, shape.width - 60, shape.height - 70, step * -(-highest // step), len(shape.places)
    )
    parts = [f'<text x="{frame.left:.0f}" y="{top + 18:.0f}" font-weight="600">{escape(panel.title)}</text>\n']
    parts += _axes(frame, shape, step)
    for number, (line, style) in enumerate(zip(panel.lines.values(), _styles(), strict=False)):
        parts += _line(
            frame, line, style, shift=0.05 * (number - 2) if shape.whiskers else 0.0, whiskers=shape.whiskers
        )
    return "".join(parts)


def _axes(frame: _Frame, shape: Shape, step: float) -> list[str]:
    parts = []
    value = 0.0
    while value <= frame.highest * 1.001:
        y = frame.y(value)
        parts.append(
            f'<line x1="{frame.left:.0f}" x2="{frame.left + frame.width:.0f}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{INK}" stroke-opacity="{0.9 if value == 0 else 0.25}"/>'
            f'<text x="{frame.left - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.0f}</text>\n'
        )
        value += step
    bottom = frame.top + frame.height
    for place, name in enumerate(shape.places):
        parts.append(f'<text x="{frame.x(place):.1f}" y="{bottom + 17:.0f}" text-anchor="middle">{name}</text>')
    middle = frame.left + frame.width / 2
    parts.append(f'<text x="{middle:.0f}" y="{bottom + 33:.0f}" text-anchor="middle">{escape(shape.axis)}</text>\n')
    return parts


def _line(frame: _Frame, line: Sequence[Point], style: str, *, shift: float, whiskers: bool) -> list[str]:
    places = [(frame.x(place + shift), frame.y(point.value)) for place, point in enumerate(line)]
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{corners}" fill="none" stroke-linejoin="round" {style}/>\n']
    if whiskers:
        thin = style.split(" stroke-width", maxsplit=1)[0]
        parts += [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(point.low):.1f}" y2="{frame.y(point.high):.1f}" {thin}/>'
            for (x, _), point in zip(places, line, strict=True)
        ]
    return parts


def _styles() -> list[str]:
    return [
        f'stroke="{colour}" stroke-width="{width}"' + (f' stroke-dasharray="{dash}"' if dash else "")
        for colour, width, dash in zip(COLOURS, WIDTHS, DASHES, strict=True)
    ]


def _step(highest: float) -> float:
    return next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if highest / step <= MARKS or step == 1.0)
