"""What is lost in long recordings: a whole against its utterances one by one, through the whole server.

    python benchmarks/long_recordings.py --speech FOLDER [--minutes 5,20] [--pauses 0,0.3,1,3,mixed] [--sets an4]

FOLDER has `dev_en.jsonl` in NeMo's manifest form. Utterances of a set are joined, again and again where the set is
shorter than that, with a pause behind each. The last column says how many words that both heard have another time.
"""

import argparse
import asyncio
import io
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from engine_alone import decode
from nautilus.assembly import assemble
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.measure.wholeness import Part, Wholeness, compare, joined
from nautilus.pipeline import Pipeline, Task
from nautilus.settings import Settings
from nautilus.types import SAMPLE_RATE, Waveform, Word

AT_ONCE = 16
MIXED = (0.0, 0.2, 0.5, 1.0, 3.0, 10.0)
TARGET = 0.3
"""Points of word error rate that a whole may cost."""
LATE = 0.1
"""Seconds by which times may differ."""


async def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--minutes", default="5,20")
    parser.add_argument("--pauses", default="0,0.3,1,3,mixed")
    parser.add_argument("--sets", default="")
    options = parser.parse_args()
    wanted = options.sets.split(",") if options.sets else []
    utterances = [one for one in read_manifest(options.speech / "dev_en.jsonl") if not wanted or one.set in wanted]
    table = Table(
        "set", "minutes", "pauses", "alone WER %", "whole WER %", "loss", "changed %", f"> {LATE} s %", box=None
    )
    with tempfile.TemporaryDirectory() as home:
        async with assemble(Settings(models_dir=Path(home) / "models", cache_dir=Path(home))) as core:
            hear = Hearing(core.pipeline, core.default_model)
            for name in dict.fromkeys(one.set for one in utterances):
                clips = await hear.clips([one for one in utterances if one.set == name])
                for minutes in map(float, options.minutes.split(",")):
                    for pauses in options.pauses.split(","):
                        result = await hear.whole(clips, minutes, MIXED if pauses == "mixed" else (float(pauses),))
                        table.add_row(name, f"{minutes:g}", pauses, *_row(result))
    Console(width=120).print(table)


class Hearing:
    """The server's ear."""

    def __init__(self, pipeline: Pipeline, model: str) -> None:
        self._pipeline = pipeline
        self._model = model

    async def clips(self, utterances: Sequence[Utterance]) -> list[tuple[Utterance, Waveform, tuple[Word, ...]]]:
        """Decode utterances and hear each alone."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(waveform: Waveform) -> tuple[Word, ...]:
            async with places:
                return await self.hear(waveform)

        waveforms = decode([utterance.path for utterance in utterances])
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(one(waveform)) for waveform in waveforms]
        return [
            (utterance, waveform, task.result())
            for utterance, waveform, task in zip(utterances, waveforms, asked, strict=True)
        ]

    async def whole(
        self, clips: Sequence[tuple[Utterance, Waveform, tuple[Word, ...]]], minutes: float, pauses: Sequence[float]
    ) -> Wholeness:
        """Join clips to a recording of so many minutes, hear it, and compare."""
        chosen, seconds = [], 0.0
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
