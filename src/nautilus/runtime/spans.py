"""What is told of a batch to the traces of those whose windows were in it.

A batch belongs to no single request. So each has a span of it in its own trace, which is whole that way, however the
others are sampled: the batch's size and padding are its attributes, and links lead to the others that were heard with
it, which is what OpenTelemetry has links for.
"""

import os
from collections.abc import Sequence

from nautilus.runtime.answer import Answer
from nautilus.runtime.queue import Ticket
from nautilus.traces.trace import Attributes, Trace, reason_of


def tell_batch(model: str, batch: Sequence[Ticket], since: float, until: float, outcome: Answer | Exception) -> None:
    """Write down how each window of a batch waited and was heard."""
    if not any(ticket.trace for ticket in batch):
        return
    seconds = [ticket.seconds for ticket in batch]
    facts: Attributes = {
        "nautilus.model": model,
        "nautilus.batch.id": os.urandom(8).hex(),
        "nautilus.batch.windows": len(batch),
        "nautilus.batch.audio_seconds": sum(seconds),
        "nautilus.batch.padding_seconds": max(seconds) * len(seconds) - sum(seconds),
    }
    for ticket in batch:
        if ticket.trace is None:
            continue
        about: Attributes = {"nautilus.window": ticket.place.number, "nautilus.audio_seconds": ticket.seconds}
        waited: Attributes = {**about, "nautilus.priority": ticket.claim.priority.name.lower()}
        ticket.trace.add("queue", ticket.submitted, since, waited)
        heard = ticket.trace.begin("batch", {**about, **facts}, since=since, links=_others(ticket.trace, batch))
        if heard is None:
            continue
        if isinstance(outcome, Answer):
            heard.add("engine", outcome.since, outcome.until)
        else:
            heard.fail(reason_of(outcome))
        heard.end(until)


def _others(trace: Trace, batch: Sequence[Ticket]) -> list[Trace]:
    """Return whose windows were in the batch as well, each once, but for those of the same trace."""
    others = {id(ticket.trace): ticket.trace for ticket in batch if ticket.trace and ticket.trace.id != trace.id}
    return list(others.values())
