"""Tables of word error rates, from scratch: `make accuracy`.

    python benchmarks/accuracy.py --speech FOLDER [--only noise,times] [--markdown FILE] [--plots FOLDER]

FOLDER has the manifests `dev_en.jsonl`, `digits_en.jsonl` and `noise.jsonl` with their recordings. The model is the
embedded one.
"""

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import threadpool_limits

import confidence
import keywords
import long_recordings
import noise
import word_times
from conditions import SNRS, write_conditions
from denoisers import compare_denoisers
from engine_alone import decode
from nautilus.measure.manifest import read_manifest
from plots import Panel, Point, Shape, draw
from preprocessing import (
    BETTER,
    WORSE,
    Table,
    all_noises,
    curves,
    each_noise,
    hear,
    markdown,
    no_noise,
    pooled,
    speeds,
    table,
)

TIMED = 120
"""Recordings that the levels are timed with."""


@dataclass(slots=True)
class Report:
    """What was measured, shown at once and kept."""

    plots: Path | None
    parts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Show some markdown."""
        self.parts.append(text)
        print(text, flush=True)

    def plot(self, name: str, svg: str) -> None:
        """Write a plot, if somebody wants plots."""
        if self.plots:
            (self.plots / name).write_text(svg, encoding="utf-8")


def preprocessing(speech: Path, work: Path, report: Report) -> None:
    """Hear every condition at every level; how fast the levels are."""
    manifest = write_conditions(speech, work, "report")
    scores = asyncio.run(hear(manifest, note))
    rated = table(scores)
    together = table(pooled(scores, all_noises))
    report.add(markdown(table(pooled(scores, no_noise)), "no noise") + "\n")
    report.add(markdown(together, "noise") + "\n")
    report.add(markdown(table(pooled(scores, each_noise)), "noise, 0 to 20 dB") + "\n")
    for mark, word in ((BETTER, "better"), (WORSE, "worse")):
        found = [name for name, cells in rated.items() if name.endswith(" dB") and cells["auto"].mark == mark]
        report.add(
            f"Of each noise at each ratio, auto is significantly {word} in {len(found)}: {', '.join(found)}.\n\n"
        )
    places = tuple(map(str, SNRS))
    report.plot(
        "preprocessing-snr.svg", draw([panel(together, "any noise")], Shape(places, "signal-to-noise ratio, dB"))
    )
    kinds = [condition.rsplit(" ", 2)[0] for condition in rated if condition.endswith(" 0 dB")]
    small = Shape(places, "SNR, dB", columns=4, width=240, height=190, whiskers=False)
    report.plot("preprocessing-noises.svg", draw([panel(rated, kind) for kind in kinds], small))
    timed = [one.path for one in read_manifest(manifest) if one.set.endswith(" 5 dB")]
    with threadpool_limits(1):
        rates = speeds(decode(timed[:: len(timed) // TIMED]))
    rows = "".join(f"| {level} | {rate:.0f} |\n" for level, rate in rates.items() if level != "none")
    report.add(f"| level | times real time on one core |\n|---|---|\n{rows}\n")


def denoisers(speech: Path, work: Path, report: Report) -> None:
    """Compare our denoisers with those of libraries."""
    manifest = work / "report.jsonl"
    if not manifest.is_file():
        write_conditions(speech, work, "report")
    with threadpool_limits(1):
        found = compare_denoisers(manifest, note)
    rated = table(pooled(found.scores, all_noises))
    lines = [f"| denoiser | {' | '.join(rated)} | times real time |", "|---|" + "---|" * (len(rated) + 1)]
    for name, speed in found.speeds.items():
        cells = " | ".join(str(by_name[name]) for by_name in rated.values())
        lines.append(f"| {name} | {cells} | {'' if name == 'none' else f'{speed:.0f}'} |")
    report.add("\n".join(lines) + "\n")


def panel(rated: Table, kind: str) -> Panel:
    """Return the curves of one kind of noise."""
    lines = {
        level: [Point(cell.wer, cell.low, cell.high) for _, cell in cells]
        for level, cells in curves(rated, kind).items()
    }
    return Panel(f"{kind}, WER in %", lines)


def note(text: str) -> None:
    """Say what goes on."""
    print(text, file=sys.stderr, flush=True)


def confidences(speech: Path, work: Path, report: Report) -> None:
    """Say what confidence is worth."""
    report.add(confidence.section(speech, work))
    if report.plots:
        report.plot("reliability.svg", confidence.reliability(confidence.measure(speech)))


def longs(speech: Path, work: Path, report: Report) -> None:
    """Say what long recordings cost."""
    report.add(long_recordings.section(speech, work))


def noises(speech: Path, work: Path, report: Report) -> None:
    """Say what is heard of noise."""
    report.add(noise.section(speech, work))


def times(speech: Path, work: Path, report: Report) -> None:
    """Say how true the times of words are."""
    report.add(word_times.section(speech, work))


def boosts(speech: Path, work: Path, report: Report) -> None:
    """Say what keywords bring back, and what they cost."""
    report.add(keywords.section(speech, work))


MEASUREMENTS = {
    "preprocessing": preprocessing,
    "denoisers": denoisers,
    "noise": noises,
    "long": longs,
    "times": times,
    "confidence": confidences,
    "keywords": boosts,
}
"""In the order of the docs: `preprocessing.md` has the first two, `keywords.md` the last, `accuracy.md` the others."""


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, default=Path("../shared/speech"))
    parser.add_argument("--only", default=",".join(MEASUREMENTS))
    parser.add_argument("--markdown", type=Path, help="write the tables to this file as well")
    parser.add_argument("--plots", type=Path, help="write the plots of the docs to this folder")
    arguments = parser.parse_args()
    report = Report(arguments.plots)
    with tempfile.TemporaryDirectory() as work:
        for name in arguments.only.split(","):
            report.add(f"\n## {name}\n\n")
            MEASUREMENTS[name](arguments.speech, Path(work), report)
    if arguments.markdown:
        arguments.markdown.write_text("".join(report.parts), encoding="utf-8")


if __name__ == "__main__":
    main()
