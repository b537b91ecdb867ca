"""Word error rates per development set.

    python -m recipes.embedded.evaluate --work WORK MODEL [--look-ahead N]

MODEL is a `.nemo` file or a bundle folder. Without a look-ahead, whole recordings are read at the
longest one; with it, a bundle is stepped as a stream and a `.nemo` model uses that attention mask.
Prints one line of JSON, and where there is a shard `unspoken-test` a second one: the words that the model
makes of sounds in which nobody speaks, by kind.
"""

import argparse
import json
from pathlib import Path

from recipes.embedded import scoring, unspoken
from recipes.embedded.corpus import read_shard, shard_names


def word_error_rates(
    reader: scoring.Reader, work: Path, pieces: list[str], limit: int | None = None
) -> dict[str, float]:
    """Percent per set, over all its clips or an even sample of `limit`."""
    return {
        name: round(scoring.word_error_rate(reader, shard, pieces, limit), 1)
        for name, shard in scoring.development_sets(work).items()
    }


def reader_of(path: Path, look_ahead: int | None) -> tuple[scoring.Reader, list[str]]:
    """Open a `.nemo` file or a bundle: its reader and its sub-words."""
    if path.is_dir():
        from recipes.embedded.bundle import Bundle  # onnxruntime only where it is used

        bundle = Bundle(path, threads=2)
        return bundle.reader(look_ahead), bundle.pieces
    from nemo.collections.asr.models import EncDecCTCModelBPE  # slow to import

    model = EncDecCTCModelBPE.restore_from(str(path), map_location="cpu").eval()
    if look_ahead is not None:
        model.encoder.set_default_att_context_size([model.encoder.att_context_size[0], look_ahead])
    return scoring.nemo_reader(model), list(model.tokenizer.vocab)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--look-ahead", type=int)
    parser.add_argument("--limit", type=int, help="clips per set")
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    reader, pieces = reader_of(options.model, options.look_ahead)
    print(json.dumps(word_error_rates(reader, options.work, pieces, options.limit)), flush=True)
    for name in shard_names(options.work, f"{unspoken.SET}-test"):
        made = unspoken.words_made(reader, read_shard(options.work, name), pieces)
        print(json.dumps({"words of nothing": made.total(), **dict(made.most_common())}))


if __name__ == "__main__":
    main()
