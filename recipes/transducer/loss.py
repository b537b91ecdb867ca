"""The loss of a Token-and-Duration Transducer on any device: NeMo's own wants CUDA.

Source: Xu et al., Efficient Sequence Transduction by Jointly Predicting Tokens and Durations (ICML 2023), equation 7.
"""

import torch
from torch import Tensor

IMPOSSIBLE = -1e4
"""A logarithm of no probability that arithmetic survives."""


def tdt_loss(joined: Tensor, texts: Tensor, frames: Tensor, lengths: Tensor, durations: tuple[int, ...]) -> Tensor:
    """Return the mean negative log-likelihood of the texts, a scalar.

    `joined` has shape (batch, frames, sub-words + 1, outputs), where the last outputs are the durations' and the one
    before them is the blank's; `texts` (batch, sub-words); `frames` and `lengths` say how much of each is real.
    """
    labels = joined[..., : -len(durations)].log_softmax(-1)
    lasting = joined[..., -len(durations) :].log_softmax(-1)
    blank = labels[..., -1]
    index = texts[:, None, :, None].expand(-1, labels.shape[1], -1, 1)
    spoken = labels[:, :, :-1].gather(3, index)[..., 0]
    rows: list[Tensor] = []
    ends: list[Tensor] = []
    for frame in range(labels.shape[1] + 1):
        ends.append(_arrived(rows, frame, spoken, (blank, lasting), durations))
        if frame < labels.shape[1]:
            rows.append(_within(ends[-1], spoken[:, frame] + lasting[:, frame, :-1, durations.index(0)]))
    return -torch.stack(ends)[frames, torch.arange(len(frames)), lengths].mean()


def _arrived(
    rows: list[Tensor], frame: int, spoken: Tensor, waiting: tuple[Tensor, Tensor], durations: tuple[int, ...]
) -> Tensor:
    """Sum up the ways into a frame from earlier ones, shape (batch, sub-words + 1)."""
    blank, lasting = waiting
    if not frame:
        first = torch.full_like(blank[:, 0], IMPOSSIBLE)
        first[:, 0] = 0.0
        return first
    ways = [torch.full_like(blank[:, 0], IMPOSSIBLE)]
    for column, duration in enumerate(durations):
        before = frame - duration
        if duration and 0 <= before < blank.shape[1]:
            went = rows[before] + lasting[:, before, :, column]
            ways.append(went + blank[:, before])
            ways.append(torch.nn.functional.pad(went[:, :-1] + spoken[:, before], (1, 0), value=IMPOSSIBLE))
    return torch.stack(ways).logsumexp(0)


def _within(arrived: Tensor, instant: Tensor) -> Tensor:
    """Add the ways by sub-words that take no time: a recurrence over sub-words, written as one cumulative sum."""
    passed = torch.nn.functional.pad(instant.cumsum(1), (1, 0))
    return passed + torch.logcumsumexp(arrived - passed, 1)
