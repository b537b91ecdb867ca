"""What is lost in long recordings: a whole against its utterances one by one, through the whole server.

    python benchmarks/long_recordings.py --speech FOLDER [--minutes 5,20] [--pauses 0,0.3,1,3,mixed] [--sets an4]

FOLDER has `dev_en.jsonl` in NeMo's manifest form. Utterances of a set are joined, again and again where the set is
shorter than that, with a pause behind each. The last column says how many words that both heard have another time.
"""

import argparse
import asyncio
import io
import json
import shutil
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import nautilus.resources
from engine_alone import decode
from nautilus.assembly import assemble
from nautilus.engines.bundle import MANIFEST
from nautilus.hearing import Task
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.measure.wholeness import Part, Wholeness, compare, joined
from nautilus.pipeline import Pipeline
from nautilus.settings import Settings
from nautilus.types import SAMPLE_RATE, Waveform, Word

AT_ONCE = 16
MIXED = (0.0, 0.2, 0.5, 1.0, 3.0, 10.0)
TARGET = 0.3
"""Points of word error rate that a whole may cost."""
LATE = 0.1
"""Seconds by which times may differ."""


LEAD_CUT = 0.14
LEAD_ADDED = 0.2
"""Seconds of silence that are taken from, and of faint noise that are put before, utterances."""


async def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--minutes", default="5,20")
    parser.add_argument("--pauses", default="0,0.3,1,3,mixed")
    parser.add_argument("--sets", default="")
    options = parser.parse_args()
    table = Table(
        "set", "minutes", "pauses", "alone WER %", "whole WER %", "loss", "changed %", f"> {LATE} s %", box=None
    )
    asked = Asked(
        tuple(map(float, options.minutes.split(","))), tuple(options.pauses.split(",")), tuple(options.sets.split(","))
    )
    with tempfile.TemporaryDirectory() as home:
        for one in await measure(options.speech, Path(home), asked):
            table.add_row(one.set, f"{one.minutes:g}", one.pauses, *_row(one.result))
    Console(width=120).print(table)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which recordings to join."""

    minutes: tuple[float, ...] = (20.0,)
    pauses: tuple[str, ...] = ("0", "0.3", "1", "mixed")
    """Seconds, or `mixed`."""
    sets: tuple[str, ...] = ("",)
    """All where the only one has no name."""
    utterances: bool | None = None
    """Whether windows end at every pause; None: as the model's manifest says."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a joined recording costs."""

    set: str
    minutes: float
    pauses: str
    result: Wholeness


async def measure(speech: Path, home: Path, asked: Asked) -> list[Measured]:
    """Join utterances and hear them."""
    utterances = [one for one in read_manifest(speech / "dev_en.jsonl") if asked.sets == ("",) or one.set in asked.sets]
    found = []
    async with assemble(_settings(home, asked.utterances)) as core:
        hear = Hearing(core.pipeline, core.default_model)
        for name in dict.fromkeys(one.set for one in utterances):
            clips = await hear.clips([one for one in utterances if one.set == name])
            for minutes in asked.minutes:
                for pauses in asked.pauses:
                    result = await hear.whole(clips, minutes, MIXED if pauses == "mixed" else (float(pauses),))
                    found.append(Measured(name, minutes, pauses, result))
    return found


async def leads(speech: Path, home: Path) -> str:
    """Return markdown: what the silence before the first word does to utterances of AN4."""
    utterances = [one for one in read_manifest(speech / "dev_en.jsonl") if one.set == "an4"]
    clips = decode([one.path for one in utterances])
    faint = (1e-4 * np.random.default_rng(0).standard_normal(int(LEAD_ADDED * SAMPLE_RATE))).astype(np.float32)
    changed = {
        "as it is": clips,
        f"{LEAD_CUT} s cut off": [clip[int(LEAD_CUT * SAMPLE_RATE) :] for clip in clips],
        f"{LEAD_ADDED} s of faint noise before": [np.concatenate([faint, clip]) for clip in clips],
    }
    lines = ["| `an4` | word error rate |\n|---|---|\n"]
    async with assemble(_settings(home)) as core:
        hear = Hearing(core.pipeline, core.default_model)
        for name, waveforms in changed.items():
            heard = await hear.each(waveforms)
            parts = [Part(one.text, 0.0, words) for one, words in zip(utterances, heard, strict=True)]
            result = compare(parts, ())
            lines.append(f"| {name} | {100 * result.errors_alone / result.words:.1f} % |\n")
    return "".join(lines)


def section(speech: Path, work: Path) -> str:
    """Return the tables of the docs as markdown."""
    asked = Asked()
    by_window, by_utterance = (
        asyncio.run(measure(speech, work / f"utterances-{cut}", replace(asked, utterances=cut)))
        for cut in (False, True)
    )
    names = ", ".join("none" if pause == "0" else pause.replace("mixed", "mixed pauses") for pause in asked.pauses)
    lines = [f"| set | windows of 30 s: {names}; all | of utterances: {names}; all |\n|---|---|---|\n"]
    for name in dict.fromkeys(one.set for one in by_window):
        cells = [losses([one.result for one in found if one.set == name]) for found in (by_window, by_utterance)]
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} |\n")
    everything = [f"{pooled([one.result for one in found]):+.2f}" for found in (by_window, by_utterance)]
    lines.append(f"| all | {everything[0]} | {everything[1]} |\n")
    late = {
        name: max(100 * one.result.shifted(LATE) for one in by_utterance if one.set == name)
        for name in dict.fromkeys(one.set for one in by_utterance)
    }
    told = ", ".join(f"{share:.0f} % in `{name}`" for name, share in late.items())
    return (
        asyncio.run(leads(speech, work / "leads")) + "\n" + "".join(lines) + f"\nLater by {LATE} s: {told} at most.\n"
    )


def losses(results: Sequence[Wholeness]) -> str:
    """Say what each recording costs, and all together."""
    return f"{', '.join(f'{one.loss:+.1f}' for one in results)}; {pooled(results):+.2f}"


def pooled(results: Sequence[Wholeness]) -> float:
    """Return the points of word error rate that all of them cost together."""
    errors = sum(one.errors_whole - one.errors_alone for one in results)
    return 100 * errors / max(1, sum(one.words for one in results))


def _settings(home: Path, utterances: bool | None = None) -> Settings:
    """Return settings for the embedded model, or for a copy of it whose manifest says how windows end."""
    home.mkdir(parents=True, exist_ok=True)
    if utterances is None:
        return Settings(models_dir=home / "models", cache_dir=home)
    embedded, copy = Path(nautilus.resources.__file__).parent / "embedded", home / "copy"
    shutil.copytree(embedded, copy)
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8")) | {"utterances": utterances}
    (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return Settings(models_dir=home / "models", cache_dir=home, model=str(copy))


class Hearing:
    """The server's ear."""

    def __init__(self, pipeline: Pipeline, model: str) -> None:
        self._pipeline = pipeline
        self._model = model

    async def clips(self, utterances: Sequence[Utterance]) -> list[tuple[Utterance, Waveform, tuple[Word, ...]]]:
        """Decode utterances and hear each alone."""
        waveforms = decode([utterance.path for utterance in utterances])
        return list(zip(utterances, waveforms, await self.each(waveforms), strict=True))

    async def each(self, waveforms: Sequence[Waveform]) -> list[tuple[Word, ...]]:
        """Hear recordings, some at once."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(waveform: Waveform) -> tuple[Word, ...]:
            async with places:
                return await self.hear(waveform)

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(one(waveform)) for waveform in waveforms]
        return [task.result() for task in asked]

    async def whole(
        self, clips: Sequence[tuple[Utterance, Waveform, tuple[Word, ...]]], minutes: float, pauses: Sequence[float]
    ) -> Wholeness:
        """Join clips to a recording of so many minutes, hear it, and compare."""
        chosen: list[tuple[Utterance, Waveform, tuple[Word, ...]]] = []
        seconds = 0.0
        while seconds < 60 * minutes:
            chosen.append(clips[len(chosen) % len(clips)])
            seconds += len(chosen[-1][1]) / SAMPLE_RATE + pauses[(len(chosen) - 1) % len(pauses)]
        recording, starts = joined([waveform for _, waveform, _ in chosen], pauses)
        parts = [Part(one.text, start, words) for (one, _, words), start in zip(chosen, starts, strict=True)]
        return compare(parts, await self.hear(recording))

    async def hear(self, waveform: Waveform) -> tuple[Word, ...]:
        """Send a waveform as a WAV file."""
        file = io.BytesIO()
        with wave.open(file, "wb") as output:
            output.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            output.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
        file.seek(0)
        return (await self._pipeline.transcribe(file, Task(self._model))).words


def _row(result: Wholeness) -> list[str]:
    flag = "" if result.loss <= TARGET and not result.backwards else " !"
    return [
        f"{100 * result.errors_alone / result.words:.2f}",
        f"{100 * result.errors_whole / result.words:.2f}",
        f"{result.loss:+.2f}{flag}",
        f"{100 * result.changed / result.words:.2f}",
        f"{100 * result.shifted(LATE):.2f}",
    ]


if __name__ == "__main__":
    asyncio.run(main())
