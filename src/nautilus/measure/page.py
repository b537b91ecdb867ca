"""An evaluation as one HTML file that needs nothing else: tables, plots against SNR and duration, the worst clips."""

import base64
import mimetypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from nautilus.measure.evaluate import Evaluation, Result
from nautilus.measure.report import Row, worst
from nautilus.measure.score import Difference, rate

PLAYERS = 20
"""How many of the worst clips can be played."""
LONG_TABLE = 20
"""Rows; longer tables are folded away."""
MAX_CLIP_BYTES = 1_000_000
"""Larger recordings are not put into the page."""
SNR_EDGES = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 81.0)
SECONDS_EDGES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 1e9)
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280")
WIDTH, HEIGHT, MARGIN = 560, 240, 40

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1a202c; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .2rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr:nth-child(even) { background: #f7fafc; }
figure { display: inline-block; margin: 1rem 1rem 1rem 0; } figcaption { font-weight: 600; }
.clip { border-top: 1px solid #e2e8f0; padding: .6rem 0; } .substitute { background: #fefcbf; }
.delete { background: #fed7d7; text-decoration: line-through; } .insert { background: #e9d8fd; } audio { height: 2rem; }
"""


@dataclass(frozen=True, slots=True)
class Point:
    """The error rate of the results in one bin."""

    label: str
    wer: float
    clips: int


def page(evaluation: Evaluation, groups: dict[str, list[Row]]) -> str:
    """Render the report."""
    tables = "".join(_table(name, rows) for name, rows in groups.items())
    plots = _plot(evaluation, "Word error rate by SNR (dB)", lambda r: r.answer.snr, SNR_EDGES) + _plot(
        evaluation, "Word error rate by duration (s)", lambda r: r.answer.seconds, SECONDS_EDGES
    )
    clips = "".join(_clip(result) for result in worst(evaluation.results, PLAYERS))
    speeds = ", ".join(f"{level}: {evaluation.speed(level):.0f} x real time" for level in evaluation.wall)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Nautilus evaluation</title><style>{STYLE}</style>"
        f"<h1>Evaluation</h1><p>{escape(speeds)}</p>{tables}{plots}<h2>The worst</h2>{clips}</html>"
    )


def _table(name: str, rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{title}" for title in (name, "level", "WER %", "95 %", "CER %", "words", "clips"))
    body = "".join(
        f"<tr><td>{escape(row.group) or '-'}<td>{row.level}<td>{100 * row.rate.wer:.1f}"
        f"<td>{100 * row.rate.low:.1f} to {100 * row.rate.high:.1f}<td>{100 * row.rate.cer:.1f}"
        f"<td>{row.rate.words}<td>{row.utterances}"
        for row in rows
    )
    table = f"<table><tr>{head}</tr>{body}</table>"
    if len(rows) <= LONG_TABLE:
        return table
    return f"<details><summary>{len({row.group for row in rows})} by {name}</summary>{table}</details>"


def bins(results: Iterable[Result], value: Callable[[Result], float | None], edges: Sequence[float]) -> list[Point]:
    """Return the error rate of each bin that has results; those without a value are left out."""
    points = []
    placed = [(value(result), result) for result in results]
    for low, high in pairwise(edges):
        inside = [result.score for place, result in placed if place is not None and low <= place < high]
        if inside:
            label = f"{low:g}+" if high == edges[-1] else f"{low:g} to {high:g}"
            points.append(Point(label, rate(inside).wer, len(inside)))
    return points


def _plot(evaluation: Evaluation, title: str, value: Callable[[Result], float | None], edges: Sequence[float]) -> str:
    """Draw one group of bars per bin, one bar per level."""
    levels = list(evaluation.wall)
    series = {level: bins([r for r in evaluation.results if r.level == level], value, edges) for level in levels}
    labels = list(dict.fromkeys(point.label for points in series.values() for point in points))
    if not labels:
        return ""
    top = max(0.01, *(point.wer for points in series.values() for point in points))
    slot = (WIDTH - MARGIN) / len(labels)
    bars = []
    for number, (level, points) in enumerate(series.items()):
        wide = 0.8 * slot / len(levels)
        for point in points:
            x = MARGIN + labels.index(point.label) * slot + 0.1 * slot + number * wide
            tall = (HEIGHT - 2 * MARGIN) * point.wer / top
            tip = f"{level}, {point.label}: {100 * point.wer:.1f} % of {point.clips} clips"
            bars.append(
                f'<rect x="{x:.1f}" y="{HEIGHT - MARGIN - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
                f'fill="{COLOURS[number % len(COLOURS)]}"><title>{escape(tip)}</title></rect>'
            )
    names = "".join(
        f'<text x="{MARGIN + (n + 0.5) * slot:.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{label}</text>'
        for n, label in enumerate(labels)
    )
    keys = " ".join(
        f'<span style="color:{COLOURS[n % len(COLOURS)]}">&#9632; {level}</span>' for n, level in enumerate(levels)
    )
    return (
        f'<figure><figcaption>{escape(title)} {keys}</figcaption><svg width="{WIDTH}" height="{HEIGHT}" '
        f'font-size="11" role="img">{"".join(bars)}{names}<text x="0" y="{MARGIN}">{100 * top:.0f} %</text>'
        f'<line x1="{MARGIN}" x2="{WIDTH}" y1="{HEIGHT - MARGIN}" y2="{HEIGHT - MARGIN}" stroke="#718096"/>'
        "</svg></figure>"
    )


def _clip(result: Result) -> str:
    wer = 100 * result.score.errors / max(1, result.score.words)
    told = escape(result.error or "") or "".join(map(_difference, result.score.differences)) or "(nothing)"
    return (
        f"<div class=clip><b>{wer:.0f} %</b> {escape(result.utterance.path.name)} ({result.level}) "
        f"{_player(result.utterance.path)}<br>{told}</div>"
    )


def _difference(difference: Difference) -> str:
    said, heard = escape(difference.reference), escape(difference.hypothesis)
    match difference.kind:
        case "equal":
            return f"{said} "
        case "delete":
            return f"<span class=delete>{said}</span> "
        case "insert":
            return f"<span class=insert>{heard}</span> "
        case _:
            return f"<span class=delete>{said}</span> <span class=substitute>{heard}</span> "


def _player(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > MAX_CLIP_BYTES:
        return ""
    kind = mimetypes.guess_type(path.name)[0] or "audio/wav"
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<audio controls preload=none src="data:{kind};base64,{data}"></audio>'
