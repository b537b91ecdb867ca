"""What cleaning does to the word error rate: each level against hearing the same recordings as they are.

Pairs make small differences visible: the errors of one utterance at a level are compared with its own errors without
cleaning, and a difference counts where the 95 % interval of their sum (bootstrap over utterances) leaves zero out.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from conditions import SNRS
from nautilus.assembly import assemble
from nautilus.audio.enhance import enhance
from nautilus.measure.evaluate import Result, by_pipeline, evaluate
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.measure.score import RESAMPLES, Score, rate
from nautilus.settings import load_settings
from nautilus.types import LEVELS, SAMPLE_RATE, Level, Waveform

BETTER, WORSE = "▼", "▲"
"""Of errors: significantly fewer, significantly more."""
REPEATS = 7

Scores = dict[str, list[Score]]
"""By level (or by denoiser), each in the same order of utterances; the first is what the others are compared with."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One way of cleaning in one condition. Rates are fractions."""

    wer: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    mark: str
    """`BETTER` or `WORSE` where it differs from no cleaning more than chance does, else empty."""

    def __str__(self) -> str:
        return f"{100 * self.wer:.1f}{' ' if self.mark else ''}{self.mark}"


Table = dict[str, dict[str, Cell]]
"""By condition, then by level."""


async def hear(manifest: Path, progress: Callable[[str], None]) -> dict[str, Scores]:
    """Hear a manifest at every level through the whole server; scores by the utterances' set."""
    utterances = list(read_manifest(manifest))
    found: dict[str, Scores] = {}
    async with assemble(load_settings(log_level="warning")) as core:
        await core.pool.keep(core.default_model)
        for level in LEVELS:
            progress(f"hearing {len(utterances)} recordings, level {level}")
            listen = by_pipeline(core.pipeline, core.default_model)
            evaluation = await evaluate(utterances, [level], listen, lambda _: None, plain=True)
            for result in evaluation.results:
                found.setdefault(_heard(result).set, {}).setdefault(level, []).append(result.score)
    return found


def table(scores: dict[str, Scores]) -> Table:
    """Rate and compare."""
    return {
        condition: {name: compare(by_level[name], next(iter(by_level.values()))) for name in by_level}
        for condition, by_level in scores.items()
    }


def compare(scores: Sequence[Score], plain: Sequence[Score]) -> Cell:
    """Rate some scores, and compare them with those of the same utterances without cleaning."""
    more = np.array([one.errors - other.errors for one, other in zip(scores, plain, strict=True)])
    draws = np.random.default_rng(0).integers(0, len(more), (RESAMPLES, len(more)))
    low, high = np.percentile(more[draws].sum(axis=1), (2.5, 97.5))
    one = rate(scores)
    return Cell(one.wer, one.low, one.high, BETTER if high < 0 else WORSE if low > 0 else "")


def pooled(scores: dict[str, Scores], group: Callable[[str], str | None]) -> dict[str, Scores]:
    """Join conditions; those that belong to no group are left out."""
    joined: dict[str, Scores] = {}
    for condition, by_level in scores.items():
        if (name := group(condition)) is not None:
            mine = joined.setdefault(name, {})
            for level, some in by_level.items():
                mine.setdefault(level, []).extend(some)
    return joined


def all_noises(condition: str) -> str | None:
    """Group by SNR, whatever the noise."""
    return f"any noise {condition.rsplit(' ', 2)[1]} dB" if condition.endswith(" dB") else None


def no_noise(condition: str) -> str | None:
    """Keep what has no noise."""
    return None if condition.endswith(" dB") else condition


def each_noise(condition: str) -> str | None:
    """Group by noise, whatever the SNR."""
    return condition.rsplit(" ", 2)[0] if condition.endswith(" dB") else None


def curves(rated: Table, kind: str) -> dict[str, list[tuple[float, Cell]]]:
    """Return, for each level, the cells of a noise by SNR."""
    by_level: dict[str, list[tuple[float, Cell]]] = {}
    for snr in SNRS:
        for level, cell in rated[f"{kind} {snr} dB"].items():
            by_level.setdefault(level, []).append((float(snr), cell))
    return by_level


def markdown(rated: Table, title: str) -> str:
    """Return a table as the docs have it."""
    names = list(next(iter(rated.values())))
    lines = [f"| {title} | {' | '.join(names)} | 95 % of {names[0]} |", "|---|" + "---|" * (len(names) + 1)]
    for condition, cells in rated.items():
        first = cells[names[0]]
        values = " | ".join(str(cells[name]) for name in names)
        lines.append(f"| {condition} | {values} | {100 * first.low:.1f} to {100 * first.high:.1f} |")
    return "\n".join(lines) + "\n"


def speeds(waveforms: Sequence[Waveform]) -> dict[Level, float]:
    """Return how many times real time each level runs on one core: processor time, the median of several runs."""
    seconds = sum(map(len, waveforms)) / SAMPLE_RATE
    return {level: seconds / _median(partial(_clean, waveforms, level)) for level in LEVELS}


def _clean(waveforms: Iterable[Waveform], level: Level) -> None:
    for waveform in waveforms:
        enhance(waveform, level)


def _median(work: Callable[[], None]) -> float:
    work()
    spent = []
    for _ in range(REPEATS):
        started = time.thread_time()
        work()
        spent.append(time.thread_time() - started)
    return sorted(spent)[REPEATS // 2]


def _heard(result: Result) -> Utterance:
    """Return what was heard, where something was: a refusal is no word error rate."""
    if result.error is not None:
        raise RuntimeError(f"{result.utterance.path}: {result.error}")
    return result.utterance
