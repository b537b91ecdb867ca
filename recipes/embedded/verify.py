"""Proof that a bundle computes what the trained model computes."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recipes.embedded.bundle import Bundle, FrontEnd
from recipes.embedded.corpus import read_shard, to_wave
from recipes.embedded.model import LEFT_CONTEXT

TOLERANCE = 1e-3
"""Largest difference of log-probabilities that passes."""


def clips_to_compare(work: Path) -> list[npt.NDArray[np.int16]]:
    """Take recordings of various lengths, some longer than the attention's reach."""
    shards = [read_shard(work, f"dev-{name}") for name in ("kathleen", "speechocean762", "an4")]
    chosen = [shard.samples(i) for shard in shards for i in (0, 7, 21)]
    return [*chosen, np.concatenate(chosen)]


def reference(model: Any, clip: npt.NDArray[np.int16], look_ahead: int) -> npt.NDArray[np.float32]:  # NeMo is untyped
    """NeMo's log-probabilities of one clip at a look-ahead."""
    model.encoder.set_default_att_context_size([LEFT_CONTEXT, look_ahead])
    wave = torch.from_numpy(to_wave(clip)).unsqueeze(0)
    with torch.inference_mode():
        logprobs, lengths, _ = model(input_signal=wave, input_signal_length=torch.tensor([len(clip)]))
    found: npt.NDArray[np.float32] = logprobs[0, : lengths[0]].numpy()
    return found


def differences(model: Any, folder: Path, work: Path) -> dict[str, float]:  # NeMo is untyped
    """Largest differences: batch against NeMo, batch against alone, streams against NeMo per look-ahead."""
    bundle, front = Bundle(folder), FrontEnd()
    clips = clips_to_compare(work)
    features, lengths = front(clips)
    look_aheads = bundle.streaming["look_aheads"]
    together = bundle.offline(features, lengths)
    alone = [bundle.offline(row[None, :, :n], np.array([n]))[0] for row, n in zip(features, lengths, strict=True)]
    found = {
        "offline": _largest(together, [reference(model, clip, max(look_aheads)) for clip in clips]),
        "batch": _largest(together, alone),
    }
    for look_ahead in look_aheads:
        streamed = [bundle.stream(row[:, :n], look_ahead) for row, n in zip(features, lengths, strict=True)]
        expected = [reference(model, clip, look_ahead) for clip in clips]
        found[f"stream {look_ahead}"] = _largest(streamed, expected)
        first = look_ahead + 1
        found[f"stream {look_ahead} first chunk"] = _largest(
            [rows[:first] for rows in streamed], [rows[:first] for rows in expected]
        )
    return found


def _largest(ours: list[npt.NDArray[np.float32]], theirs: list[npt.NDArray[np.float32]]) -> float:
    """Largest absolute difference; infinite where the numbers of frames differ."""
    return max(
        float(np.abs(a - b).max()) if a.shape == b.shape else float("inf") for a, b in zip(ours, theirs, strict=True)
    )
