"""Synthetic voices: each turns one sentence into samples at 16 kHz.

Robotic ones are programs (flite, espeak-ng, festival); natural ones are ONNX models (Piper, Kokoro)
that read espeak-ng's phonemes.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import soxr
from recipes.embedded.corpus import SAMPLE_RATE
from recipes.embedded.prepare import decode

Samples = npt.NDArray[np.int16]
Voice = Callable[[str, np.random.Generator], tuple[Samples, str]]
"""Reads a sentence; returns samples and the speaker's name."""

ESPEAK_VARIANTS = ("m1", "m2", "m3", "m4", "m7", "f1", "f2", "f3", "f4", "f5", "klatt", "klatt3", "croak")
ESPEAK_ACCENTS = ("en-us", "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029")
KOKORO_RATE = 24_000
BENT = 0.7
"""Share of a lone Piper voice's sentences that are bent to other speakers."""
WHISPERED = "af_nicole"
"""A whispering voice: rarely drawn."""


def spoken(text: str) -> str:
    """Write the sentence as a synthesiser should read it: spelled letters as capitals with a full stop."""
    words = text.split()
    alone = [len(word) == 1 for word in words]
    beside = [any(alone[max(0, i - 1) : i] + alone[i + 1 : i + 2]) for i in range(len(words))]
    return " ".join(
        f"{word.upper()}." if alone[i] and (word not in "ai" or beside[i]) else word for i, word in enumerate(words)
    )


def from_program(command: list[str], suffix: str = ".wav") -> Samples:
    """Run a program that writes its last argument."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"out{suffix}"
        subprocess.run([*command, str(path)], check=True, capture_output=True)  # our own list
        return decode(path)


def flite(name: str) -> Voice:
    """Make a voice of flite, at various speeds."""

    def speak(text: str, rng: np.random.Generator) -> tuple[Samples, str]:
        stretch = f"duration_stretch={rng.uniform(0.85, 1.25):.2f}"
        command = ["flite", "-voice", name, "--setf", stretch, "-t", spoken(text), "-o"]
        return from_program(command), f"flite-{name}"

    return speak


def espeak(text: str, rng: np.random.Generator) -> tuple[Samples, str]:
    """espeak-ng with a random accent, variant, speed and pitch."""
    voice = f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(ESPEAK_VARIANTS)}"
    speed, pitch = str(rng.integers(120, 190)), str(rng.integers(25, 75))
    return from_program(["espeak-ng", "-v", voice, "-s", speed, "-p", pitch, spoken(text), "-w"]), voice


def festival(text: str, rng: np.random.Generator) -> tuple[Samples, str]:
    """Festival's statistical voice slt."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(spoken(text))
        file.flush()
        stretch = f"(Parameter.set 'Duration_Stretch {rng.uniform(0.85, 1.2):.2f})"
        voice = "(voice_cmu_us_slt_arctic_hts)"
        command = ["text2wave", "-eval", voice, "-eval", stretch, file.name, "-o"]
        return from_program(command), "festival-slt"


def phonemes(text: str, accent: str) -> str:
    """espeak-ng's IPA of a sentence."""
    command = ["espeak-ng", "-q", "--ipa", "-v", accent, spoken(text)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # our own list
    return re.sub(r"\([a-z-]+\)", "", " ".join(output.split()))


def session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """Open a single-threaded session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def to_samples(wave: npt.NDArray[np.float32], rate: float) -> Samples:
    """Float -1..1 at any rate to int16 at 16 kHz."""
    wave = soxr.resample(np.ascontiguousarray(wave.reshape(-1)), rate, SAMPLE_RATE)
    return (np.clip(wave, -1, 1) * 32767).astype(np.int16)


def bend(rng: np.random.Generator) -> float:
    """Draw how much higher a voice sounds (1: as it is): between a big man's and a child's."""
    return float(np.exp(rng.uniform(np.log(0.87), np.log(1.4)))) if rng.random() < BENT else 1.0


def piper(model: Path) -> Voice:
    """Make a Piper voice (`model` and `model.json`), at various speeds and degrees of liveliness.

    Played faster or slower, with its own speed set against that, it is another speaker.
    """
    settings = json.loads(Path(f"{model}.json").read_text(encoding="utf-8"))
    ids: dict[str, list[int]] = settings["phoneme_id_map"]
    accent, rate = settings["espeak"]["voice"], settings["audio"]["sample_rate"]
    network = session(model)

    def speak(text: str, rng: np.random.Generator) -> tuple[Samples, str]:
        row = [*ids["^"], *ids["_"]]
        for symbol in phonemes(text, accent) + ".":
            row += [*ids.get(symbol, []), *ids["_"]] if symbol in ids else []
        row += ids["$"]
        higher = bend(rng)
        scales = [rng.uniform(0.5, 0.8), rng.uniform(0.8, 1.35) * higher, rng.uniform(0.6, 0.9)]
        inputs = {
            "input": np.array([row], np.int64),
            "input_lengths": np.array([len(row)], np.int64),
            "scales": np.array(scales, np.float32),
        }
        return to_samples(network.run(None, inputs)[0], rate * higher), f"piper-{model.stem}-{higher:.2f}"

    return speak


def kokoro(folder: Path) -> Voice:
    """Kokoro-82M: random voices, mixed voices of one accent, and speeds.

    `folder` has `parts/*.bin` (the int8 model in pieces, in order), `voices/*.bin` and `config.json`.
    """
    network = session(b"".join(path.read_bytes() for path in sorted((folder / "parts").glob("*.bin"))))
    table: dict[str, int] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab"]
    styles = {
        path.stem: np.fromfile(path, np.float32).reshape(510, 1, 256)
        for path in sorted((folder / "voices").glob("[ab][fm]_*.bin"))
    }

    def style(rng: np.random.Generator) -> tuple[str, Any]:
        names = [name for name in styles if name != WHISPERED or rng.random() < 0.5]
        first = str(rng.choice(names))
        second = str(rng.choice([name for name in names if name[0] == first[0]]))
        share = rng.uniform(0.25, 0.75) if rng.random() < 0.6 else 1.0
        return f"kokoro-{first}-{second}-{share:.2f}", share * styles[first] + (1 - share) * styles[second]

    def speak(text: str, rng: np.random.Generator) -> tuple[Samples, str]:
        name, rows = style(rng)
        accent = "en-us" if name.startswith("kokoro-a") else "en-gb"
        ipa = phonemes(text, accent).replace("r", "ɹ").replace("x", "k").replace("ʲ", "j")
        tokens = [table[symbol] for symbol in ipa if symbol in table][:508]
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": rows[len(tokens)].astype(np.float32),
            "speed": np.array([rng.uniform(0.8, 1.3)], np.float32),
        }
        expected = [node.name for node in network.get_inputs()]
        named = dict(zip(expected, inputs.values(), strict=True))
        return to_samples(network.run(None, named)[0], KOKORO_RATE), name

    return speak
