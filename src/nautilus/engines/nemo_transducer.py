"""A NeMo transducer's prediction and joint networks, as the search for keywords asks them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nautilus.engines.lattice import Floats, Indices


class NemoNetwork:
    """See `lattice.Network`."""

    def __init__(self, model: Any, durations: tuple[int, ...]) -> None:
        self._model = model
        self.durations = durations

    @classmethod
    def of(cls, model: Any, durations: tuple[int, ...]) -> "NemoNetwork | None":
        """Return the networks of a transducer; None for a kind without a plain LSTM, or with blanks that last."""
        from nemo.collections.asr.modules import RNNTDecoder

        if not isinstance(getattr(model, "decoder", None), RNNTDecoder):
            return None
        recurrent = getattr(model.decoder.prediction["dec_rnn"], "lstm", None)
        if recurrent is None or recurrent.proj_size or model.cfg.decoding.get("big_blank_durations"):
            return None
        return cls(model, durations)

    def start(self, count: int, /) -> Floats:
        """Return zeros."""
        recurrent = self._model.decoder.prediction["dec_rnn"].lstm
        return np.zeros((2, recurrent.num_layers, count, recurrent.hidden_size), np.float32)

    def say(self, frames: Floats, tokens: Indices, states: Floats, /) -> tuple[Floats, Floats, Floats]:
        """Say a token each, and listen."""
        import torch

        like = next(self._model.joint.parameters())
        with torch.inference_mode():
            state = [torch.from_numpy(np.ascontiguousarray(part)).to(like) for part in states]
            said, state = self._model.decoder.predict(
                torch.from_numpy(tokens).long()[:, None].to(like.device), state=state, add_sos=False
            )
            scores = self._model.joint.joint(torch.from_numpy(frames).to(like), said)[:, :, 0].float()
            count = scores.shape[-1] - len(self.durations)
            parts = scores[..., :count].log_softmax(-1), scores[..., count:].log_softmax(-1), torch.stack(list(state))
        labels, lasting, after = (part.float().cpu().numpy() for part in parts)
        return labels, lasting, after


@dataclass(frozen=True, slots=True)
class Said:
    """How far a prediction network has come in a stream: what it said last, and its state before it heard that."""

    token: int
    state: Any


def lasting(
    model: Any, encoding: Any, tokens: Sequence[int], frames: Sequence[int], said: Said | None = None
) -> tuple[list[int], Said | None]:
    """Return how many frames a TDT says that each token lasts, and how far it has come; `encoding` is (width, frames).

    Before these tokens came what was `said`. NeMo tells it, too, but in a batch its search writes down what later
    frames say instead.
    """
    import torch

    if not tokens:
        return [], said
    durations = model.cfg.decoding.durations
    before, state = ([], None) if said is None else ([said.token], said.state)
    with torch.inference_mode():
        heard = torch.tensor([[*before, *tokens[:-1]]], dtype=torch.long, device=encoding.device)
        told, state = model.decoder.predict(heard, state=state, add_sos=said is None)
        scores = model.joint.joint(encoding.T[list(frames)][:, None], told[0][:, None])[:, 0, 0, -len(durations) :]
    return [int(durations[column]) for column in scores.argmax(dim=1).tolist()], Said(tokens[-1], state)
