"""Processes that train one model together, each on batches of its own.

They are a team, on one machine; a process that trains alone is a team of one.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True, slots=True)
class Team:
    """What a process knows of its team."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process logs, scores and saves; the others wait for it."""
        return self.rank == 0

    @torch.no_grad()
    def agree(self, model: torch.nn.Module) -> None:
        """Give every process the weights of the leader."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, src=0)

    @torch.no_grad()
    def average_gradients(self, model: torch.nn.Module) -> None:
        """Replace the gradients by their mean over the team, in one flat exchange."""
        if self.size == 1:
            return
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = flat.div_(self.size).split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(old) for part, old in zip(parts, gradients, strict=True)])


def launch(run: Callable[[Team], None], size: int) -> None:
    """Run a picklable function once per process of a team; returns when all have, fails when one does."""
    if size == 1:
        run(Team())
        return
    with tempfile.TemporaryDirectory() as meeting:
        torch.multiprocessing.spawn(_member, (run, size, f"file://{meeting}/store"), nprocs=size)


def _member(rank: int, run: Callable[[Team], None], size: int, meeting: str) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    run(Team(rank, size))
