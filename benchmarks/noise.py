"""What is heard where nobody speaks, and what asking the detectors costs where somebody does.

    python benchmarks/noise.py --speech FOLDER [--noise INDEX]

FOLDER has `noise.jsonl`, `dev_en.jsonl` and `digits_en.jsonl` in NeMo's manifest form. Every recording is heard by the
model alone, then words are dropped as the server drops them (`nautilus.audio.presence`). INDEX adds noise of one's own:
JSON lines with `file` (16-kHz wave, beside the index), `kind` and `split`, of which all but `train` is heard.
"""

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nautilus.resources
from conditions import read_rows, write_conditions
from engine_alone import decode
from nautilus.audio.enhance import enhance
from nautilus.audio.presence import confirmed, is_doubtful, spoken
from nautilus.engines.bundle import read_bundle
from nautilus.engines.onnx import OnnxEngine
from nautilus.measure.manifest import read_manifest
from nautilus.measure.reliability import judge
from nautilus.types import SAMPLE_RATE, Options, Waveform, Word

EMBEDDED = Path(nautilus.resources.__file__).parent / "embedded"
VOICES = "babble"
"""The one label of the noises in which somebody does speak."""
SHARE = 3
"""One in so many recordings of speech in noise is heard."""


@dataclass(slots=True)
class Count:
    """What was heard of some recordings."""

    recordings: int = 0
    asked: int = 0
    """Recordings that the detector was asked about …"""
    asked_both: int = 0
    """… and Silero, too."""
    with_words: int = 0
    """Recordings of which words remain."""
    words: int = 0
    """What the model heard."""
    kept: int = 0
    right_lost: int = 0
    """Words that were said, and dropped."""

    def row(self, name: str) -> str:
        """Return a row of the table."""
        asked, both = (f"{100 * count / max(1, self.recordings):.0f} %" for count in (self.asked, self.asked_both))
        heard = f"{self.words} | {self.kept} | {self.with_words} of {self.recordings}"
        return f"| {name} | {heard} | {asked}, {both} | {self.right_lost} |\n"


class Ears:
    """The embedded model, and the detectors behind it."""

    def __init__(self) -> None:
        self._engine = OnnxEngine(read_bundle(EMBEDDED))

    def count(self, clips: Iterable[tuple[Waveform, str]]) -> Count:
        """Hear recordings, and compare with what is said."""
        count = Count()
        for waveform, text in clips:
            words = self._engine.transcribe([enhance(waveform, "auto").waveform], Options())[0].words
            kept: tuple[Word, ...] = words
            if is_doubtful(words, len(waveform) / SAMPLE_RATE):
                count.asked += 1
                finding = spoken(words, waveform)
                count.asked_both += not finding.settled
                kept = (finding if finding.settled else confirmed(finding, waveform)).words
            count.recordings += 1
            count.words += len(words)
            count.kept += len(kept)
            count.with_words += bool(kept)
            right = {id(word) for word, one in zip(words, judge(text, words), strict=True) if one.right}
            count.right_lost += len(right - {id(word) for word in kept})
        return count


def section(speech: Path, work: Path, noise: Path | None = None) -> str:
    """Return the table of the docs as markdown."""
    ears = Ears()
    noises = [row for row in read_rows(speech / "noise.jsonl") if row["label"] != VOICES]
    lines = ["| recordings | words heard | kept | with words | asked: one, both | right words lost |\n"]
    lines.append(6 * "|---" + "|\n")
    waveforms = decode([speech / row["audio_filepath"] for row in noises])
    lines.append(ears.count((waveform, "") for waveform in waveforms).row("noise"))
    further = [row for row in read_rows(noise) if row["split"] != "train"] if noise else []
    for split, kind in sorted({(row["split"], row["kind"]) for row in further}):
        chosen = [row["file"] for row in further if (row["split"], row["kind"]) == (split, kind)]
        sounds = decode([noise.parent / file for file in chosen]) if noise else ()
        lines.append(ears.count((waveform, "") for waveform in sounds).row(f"{kind} ({split})"))
    utterances = list(read_manifest(speech / "dev_en.jsonl"))
    for name in dict.fromkeys(one.set for one in utterances):
        chosen = [one for one in utterances if one.set == name]
        clips = zip(decode([one.path for one in chosen]), (one.text for one in chosen), strict=True)
        lines.append(ears.count(clips).row(f"`{name}`"))
    manifest = work / "report.jsonl"
    mixed = list(read_manifest(manifest if manifest.is_file() else write_conditions(speech, work, "report")))[::SHARE]
    for snr in ("20", "10", "5", "0"):
        chosen = [one for one in mixed if one.set.endswith(f" {snr} dB")]
        clips = zip(decode([one.path for one in chosen]), (one.text for one in chosen), strict=True)
        lines.append(ears.count(clips).row(f"speech in noise, {snr} dB"))
    return "".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--noise", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(section(options.speech, Path(work), options.noise))


if __name__ == "__main__":
    main()
