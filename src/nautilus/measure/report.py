"""An evaluation for people and for programs: tables, the worst utterances with their differences, JSON."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from nautilus.measure.evaluate import Evaluation, Result
from nautilus.measure.score import Difference, Rate, rate
from nautilus.types import Level

STYLES = {"equal": "", "substitute": "yellow", "delete": "red", "insert": "magenta"}


@dataclass(frozen=True, slots=True)
class Row:
    """The rates of one group of utterances at one level."""

    group: str
    level: Level
    utterances: int
    seconds: float
    rate: Rate


def rows_by(evaluation: Evaluation, group: Callable[[Result], str]) -> list[Row]:
    """Divide the results into groups, and rate each at each level."""
    divided: dict[tuple[str, Level], list[Result]] = {}
    for result in evaluation.results:
        divided.setdefault((group(result), result.level), []).append(result)
    return [
        Row(name, level, len(results), sum(r.answer.seconds for r in results), rate([r.score for r in results]))
        for (name, level), results in divided.items()
    ]


def rates_table(rows: Iterable[Row], title: str) -> Table:
    """Return error rates as a table; the interval is the 95 % confidence of the WER."""
    table = Table(
        title, "level", "WER %", "95 %", "CER %", "sub", "ins", "del", "words", "clips", box=None, header_style="bold"
    )
    for row in rows:
        one = row.rate
        table.add_row(
            row.group,
            row.level,
            f"{100 * one.wer:.1f}",
            f"{100 * one.low:.1f} to {100 * one.high:.1f}",
            f"{100 * one.cer:.1f}",
            *(str(count) for count in (one.substitutions, one.insertions, one.deletions, one.words, row.utterances)),
        )
    return table


def speed_table(evaluation: Evaluation) -> Table:
    """Return how fast each level was."""
    table = Table("level", "audio s", "wall s", "RTFx", "refused", box=None, header_style="bold")
    for level, wall in evaluation.wall.items():
        results = [result for result in evaluation.results if result.level == level]
        seconds = sum(result.answer.seconds for result in results)
        refused = sum(result.error is not None for result in results)
        table.add_row(level, f"{seconds:.0f}", f"{wall:.1f}", f"{evaluation.speed(level):.0f}", str(refused))
    return table


def worst(results: Sequence[Result], count: int) -> list[Result]:
    """Return the results with the highest error rates, each recording once, the longer ones first among equals."""
    ranked = sorted(results, key=lambda r: (-r.score.errors / max(1, r.score.words), -r.score.words))
    return list({result.utterance.path: result for result in reversed(ranked)}.values())[::-1][:count]


def worst_table(results: Sequence[Result]) -> Table:
    """Return results with what was said and what was heard, differences coloured."""
    table = Table("WER %", "level", "recording", "said / heard", box=None, header_style="bold", show_lines=True)
    for result in results:
        said, heard = aligned(result.score.differences)
        told = Text("\n").join([said, heard]) if result.error is None else Text(result.error, "red")
        wer = 100 * result.score.errors / max(1, result.score.words)
        table.add_row(f"{wer:.0f}", result.level, result.utterance.path.name, told)
    return table


def aligned(differences: Iterable[Difference]) -> tuple[Text, Text]:
    """Return reference and hypothesis, one above the other: yellow substituted, red missed, magenta invented."""
    said, heard = Text(), Text()
    for difference in differences:
        width = max(len(difference.reference), len(difference.hypothesis)) + 1
        style = STYLES[difference.kind]
        said.append(difference.reference.ljust(width), style)
        heard.append(difference.hypothesis.ljust(width), style)
    return said, heard


def document(evaluation: Evaluation, groups: dict[str, list[Row]]) -> dict[str, Any]:
    """Return everything for programs."""
    return {
        "speed": {level: round(evaluation.speed(level), 2) for level in evaluation.wall},
        "groups": {name: [asdict(row) for row in rows] for name, rows in groups.items()},
        "utterances": [_utterance(result) for result in evaluation.results],
    }


def _utterance(result: Result) -> dict[str, Any]:
    return {
        "audio_filepath": str(result.utterance.path),
        "set": result.utterance.set,
        "speaker": result.utterance.speaker,
        "level": result.level,
        "duration": result.answer.seconds,
        "snr": result.answer.snr,
        "text": result.utterance.text,
        "pred_text": result.answer.text,
        "errors": result.score.errors,
        "words": result.score.words,
        "error": result.error,
    }
