"""Our denoisers beside those of libraries, judged by what the embedded model hears after them, and by their speed.

Libraries are measured where they are installed: `pip install noisereduce pyrnnoise`. Each gets the recording alone, as
ours do, and hands back a recording of the same length.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr

from engine_alone import decode
from nautilus.audio.denoise import subtract_noise, suppress_noise
from nautilus.engines.bundle import read_bundle
from nautilus.engines.catalog import Catalog
from nautilus.engines.onnx import OnnxEngine
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.measure.score import Score, score
from nautilus.types import SAMPLE_RATE, Options, Waveform
from preprocessing import Scores

BATCH = 16
WORKERS = 2
RNNOISE_RATE = 48_000
CONDITIONS = (" 10 dB", " 0 dB")
SHARE = 6
"""One in so many recordings is heard."""

Denoise = Callable[[Waveform], Waveform]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it."""

    scores: dict[str, Scores]
    """By condition and denoiser."""
    speeds: dict[str, float]
    """Times real time on one core, in processor time."""


def compare_denoisers(manifest: Path, progress: Callable[[str], None]) -> Comparison:
    """Clean all noisy recordings of a manifest by each denoiser, and hear what is left."""
    utterances = [one for one in read_manifest(manifest) if one.set.endswith(CONDITIONS)][::SHARE]
    waveforms = decode([one.path for one in utterances])
    engine = OnnxEngine(read_bundle(Catalog(manifest.parent).embedded))
    seconds = sum(map(len, waveforms)) / SAMPLE_RATE
    scores: dict[str, Scores] = {}
    speeds = {}
    for name, denoise in denoisers().items():
        progress(f"hearing {len(utterances)} recordings after {name}")
        started = time.process_time()
        cleaned = [denoise(waveform) for waveform in waveforms]
        speeds[name] = seconds / (time.process_time() - started)
        for one, scored in zip(utterances, hear(engine, cleaned, utterances), strict=True):
            scores.setdefault(one.set, {}).setdefault(name, []).append(scored)
    return Comparison(scores, speeds)


def denoisers() -> dict[str, Denoise]:
    """Return those that are there."""
    found: dict[str, Denoise] = {
        "none": lambda waveform: waveform,
        "spectral subtraction (`medium`)": subtract_noise,
        "log-MMSE (`high`)": suppress_noise,
    }
    if find_spec("noisereduce"):
        from noisereduce import reduce_noise

        found["noisereduce, steady"] = lambda waveform: reduce_noise(waveform, SAMPLE_RATE, stationary=True)
        found["noisereduce"] = lambda waveform: reduce_noise(waveform, SAMPLE_RATE)
    if find_spec("pyrnnoise"):
        found["RNNoise"] = rnnoise
    return found


def rnnoise(waveform: Waveform) -> Waveform:
    """Clean with RNNoise (Valin 2018), a network on frames of 10 ms at 48 kHz, which answers a frame late."""
    from pyrnnoise.rnnoise import FRAME_SIZE, create, destroy, process_mono_frame

    wide = soxr.resample(waveform, SAMPLE_RATE, RNNOISE_RATE)
    frames = -(-len(wide) // FRAME_SIZE) + 1
    padded = np.pad(wide, (0, frames * FRAME_SIZE - len(wide))).astype(np.float32)
    state = create()
    cleaned = [process_mono_frame(state, frame)[0] for frame in np.clip(padded, -1, 1).reshape(frames, FRAME_SIZE)]
    destroy(state)
    joined = np.concatenate(cleaned)[FRAME_SIZE:].astype(np.float32) / 32768
    narrow = soxr.resample(joined, RNNOISE_RATE, SAMPLE_RATE)
    return np.pad(narrow, (0, max(0, len(waveform) - len(narrow))))[: len(waveform)]


def hear(engine: OnnxEngine, waveforms: Sequence[Waveform], utterances: Sequence[Utterance]) -> list[Score]:
    """Hear waveforms in batches of like length; scores in their order."""
    ranked = sorted(range(len(waveforms)), key=lambda place: len(waveforms[place]))
    texts = [""] * len(waveforms)

    def work(places: Sequence[int]) -> None:
        for place, heard in zip(places, engine.transcribe([waveforms[n] for n in places], Options()), strict=True):
            texts[place] = heard.text

    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(work, [ranked[first : first + BATCH] for first in range(0, len(ranked), BATCH)]))
    return [score(one.text, text, one.language, plain=True) for one, text in zip(utterances, texts, strict=True)]
