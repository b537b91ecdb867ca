"""Average the weights of checkpoints of one run and its branches: often better than any of them.

    python -m recipes.embedded.merge --work WORK --out MERGED.nemo CHECKPOINT.pt CHECKPOINT.pt MODEL.nemo ...

It takes each checkpoint's own moving average, and a `.nemo` file's weights. What is named twice counts twice.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from recipes.embedded.model import VOCABULARY, build, unpack


def mean(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Mean of the floating-point tensors; others are those of the first."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }


def weights(path: Path, tokenizer: Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint or a `.nemo` file (whose sub-words must be those of `tokenizer`)."""
    if path.suffix == ".nemo":
        return unpack(path, tokenizer)
    checkpoint: Any = torch.load(path, map_location="cpu")
    average: dict[str, torch.Tensor] = checkpoint["average"]
    return average


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    options = parser.parse_args()
    tokenizer = options.work / f"tokenizer-{VOCABULARY}"
    states = [weights(path, tokenizer) for path in options.checkpoints]
    model = build(tokenizer).eval()
    model.load_state_dict(mean(states))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model.save_to(str(options.out))


if __name__ == "__main__":
    main()
