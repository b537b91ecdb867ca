"""What confidence is worth: does it tell right words from wrong ones, and is 0.8 right eight times in ten."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nautilus.types import Word

WIDTH, HEIGHT, MARGIN = 420, 420, 50
BINS = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """How sure a model was of a word, and whether it was right."""

    confidence: float
    right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Words of similar confidence."""

    confidence: float
    """Their mean."""
    right: float
    """Share of them that are right."""
    words: int


def judge(reference: str, words: Sequence[Word]) -> list[Judged]:
    """Align what was heard with what was said; a word is right where both agree."""
    from jiwer import process_words

    right = [False] * len(words)
    if reference.strip() and words:
        heard = " ".join(word.text.lower().replace(" ", "") for word in words)
        for chunk in process_words(reference.lower(), heard).alignments[0]:
            if chunk.type == "equal":
                right[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
    return [Judged(word.confidence, good) for word, good in zip(words, right, strict=True)]


def auc(judged: Sequence[Judged]) -> float:
    """Return how often a right word has more confidence than a wrong one (area under the ROC curve)."""
    confidences = np.array([one.confidence for one in judged])
    right = np.array([one.right for one in judged], bool)
    pairs = int(right.sum()) * int((~right).sum())
    if not pairs:
        return float("nan")
    _, places, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    least = right.sum() * (right.sum() + 1) / 2
    return float((ranks[right].sum() - least) / pairs)


def bins(judged: Sequence[Judged], count: int = BINS) -> list[Bin]:
    """Divide words into bins of equally many, by confidence."""
    ranked = sorted(judged, key=lambda one: one.confidence)
    edges = [round(len(ranked) * step / count) for step in range(count + 1)]
    parts = [ranked[low:high] for low, high in pairwise(edges) if high > low]
    return [
        Bin(float(np.mean([one.confidence for one in part])), float(np.mean([one.right for one in part])), len(part))
        for part in parts
    ]


def calibration_error(judged: Sequence[Judged]) -> float:
    """Return the mean distance between confidence and share of right words over bins (ECE, Guo et al. 2017)."""
    return sum(abs(one.confidence - one.right) * one.words for one in bins(judged)) / max(1, len(judged))


def plot(series: dict[str, list[Bin]], colours: Sequence[str]) -> str:
    """Draw confidence against the share of right words as SVG; the diagonal is where both agree."""
    marks = []
    for (name, points), colour, row in zip(series.items(), colours, range(len(series)), strict=False):
        places = [(_x(point.confidence), _y(point.right)) for point in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places)
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}')
        marks.append(f'<text x="{MARGIN + 12}" y="{MARGIN + 20 + 18 * row}" fill="{colour}">{name}</text>')
    ticks = "".join(
        f'<text x="{_x(tick)}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{tick:g}</text>'
        f'<text x="{MARGIN - 8}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    )
    side = f'width="{WIDTH - 2 * MARGIN}" height="{HEIGHT - 2 * MARGIN}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="13"><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<rect x="{MARGIN}" y="{MARGIN}" {side} fill="none" stroke="#a0aec0"/>'
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#a0aec0" stroke-dasharray="4"/>'
        f'{"".join(marks)}{ticks}<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">confidence</text>'
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})">'
        "share of right words</text></svg>\n"
    )


def _x(value: float) -> float:
    return MARGIN + value * (WIDTH - 2 * MARGIN)


def _y(value: float) -> float:
    return HEIGHT - MARGIN - value * (HEIGHT - 2 * MARGIN)
