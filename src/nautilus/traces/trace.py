"""The seam between what happens and who writes it down: rooms say what they do here, and know no library.

    with span("decode") as decoding:          a part of what goes on in this task
        decoding.note({"…": 30.0})
    ticket.trace = here()                     taken to where somebody else goes on with it …
    ticket.trace.add("queue", since, until)   … who adds what is over

A task inherits its trace from the one that started it, as it does all context variables. Where nothing is written down
(traces are off, or this one is not sampled) there is none, and a span costs a look at that variable.

All times are `time.monotonic`, which the processes of a machine share.
"""

from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Literal, Protocol, TypeAlias

from nautilus.errors import NautilusError

Kind: TypeAlias = Literal["internal", "server", "client", "consumer"]
"""OpenTelemetry's kinds of spans."""
Attributes: TypeAlias = Mapping[str, str | bool | int | float]
Carrier: TypeAlias = Mapping[str, str]
"""The headers of W3C Trace Context, `traceparent` and `tracestate`, which name a span to other processes."""

CANCELLED: Final = "cancelled"
"""The reason of what nobody waited for."""
NO_ATTRIBUTES: Final[Attributes] = {}


class Trace(Protocol):
    """A span that goes on, as those see it that begin theirs in it."""

    @property
    def id(self) -> str:
        """The trace's, as `traceparent` has it; nothing where there is none."""
        ...

    @property
    def recorded(self) -> bool:
        """Whether it is written down."""
        ...

    def carrier(self) -> Carrier:
        """Return what names it to other processes."""
        ...

    def begin(
        self,
        name: str,
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        kind: Kind = "internal",
        since: float | None = None,
        links: Sequence["Trace"] = (),
    ) -> "Trace | None":
        """Begin a span in this one, `since` now or earlier; None once there are too many. End it."""
        ...

    def add(self, name: str, since: float, until: float, attributes: Attributes = NO_ATTRIBUTES) -> None:
        """Write down a span in this one that is over."""
        ...

    def note(self, attributes: Attributes) -> None:
        """Say more about it."""
        ...

    def rename(self, name: str) -> None:
        """Call it what only its end knows."""
        ...

    def link(self, other: "Trace") -> None:
        """Point to a span elsewhere that it has to do with."""
        ...

    def fail(self, reason: str) -> None:
        """Say that it failed; `reason` is a code or the name of an error, never what a caller sent."""
        ...

    def end(self, until: float | None = None) -> None:
        """Take it as over, now or then."""
        ...


class Nowhere:
    """What takes the place of a trace that is not written down."""

    id = ""
    recorded = False

    def carrier(self) -> Carrier:
        """Name nothing."""
        return {}

    def begin(self, *_: object, **__: object) -> None:
        """Begin nothing."""

    def add(self, *_: object) -> None:
        """Write nothing down."""

    def note(self, attributes: Attributes) -> None:
        """Say nothing."""

    def rename(self, name: str) -> None:
        """Have no name."""

    def link(self, other: Trace) -> None:
        """Point nowhere."""

    def fail(self, reason: str) -> None:
        """Don't tell."""

    def end(self, until: float | None = None) -> None:
        """Never began."""


class Tracer(Protocol):
    """Begins traces, and goes on with those of others."""

    def follow(
        self, carrier: Carrier, name: str, attributes: Attributes = NO_ATTRIBUTES, *, kind: Kind = "internal"
    ) -> AbstractContextManager[Trace]:
        """Let what happens in the block belong to a span in the trace that `carrier` names, or in a new one."""
        ...


NOWHERE: Final[Trace] = Nowhere()
_NOTHING: Final = nullcontext(NOWHERE)
_here: ContextVar[Trace | None] = ContextVar("trace", default=None)


class Off:
    """Traces nothing."""

    def follow(self, *_: object, **__: object) -> AbstractContextManager[Trace]:
        """Let the block belong to nothing."""
        return _NOTHING


OFF: Final[Tracer] = Off()


def here() -> Trace | None:
    """Return the span that this task is in; None where nothing is written down."""
    trace = _here.get()
    return trace if trace is not None and trace.recorded else None


def id_of(trace: Trace | None) -> str | None:
    """Return the id of a trace that is written down, as histograms take it."""
    return trace.id if trace is not None and trace.recorded else None


def carried() -> Carrier:
    """Return what names the span that this task is in to other processes; also one that is not written down."""
    trace = _here.get()
    return {} if trace is None else trace.carrier()


def span(
    name: str, attributes: Attributes = NO_ATTRIBUTES, *, kind: Kind = "internal"
) -> AbstractContextManager[Trace]:
    """Let what happens in the block be a span of its own."""
    above = here()
    inner = above.begin(name, attributes, kind=kind) if above is not None else None
    return _NOTHING if inner is None else Inside(inner)


def leaf(
    name: str, attributes: Attributes = NO_ATTRIBUTES, *, kind: Kind = "internal"
) -> AbstractContextManager[Trace]:
    """Let the block be a span that has no others in it: for generators, whose callers must stay where they are."""
    above = here()
    inner = above.begin(name, attributes, kind=kind) if above is not None else None
    return _NOTHING if inner is None else Lasting(inner)


class Lasting:
    """A block that a span lasts for: it ends with the block, and fails with it."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __enter__(self) -> Trace:
        return self._trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._trace.fail(reason_of(error))
        self._trace.end()


class Inside(Lasting):
    """A block in which a span goes on: those that begin there are its own."""

    _before: Token[Trace | None]

    def __enter__(self) -> Trace:
        self._before = _here.set(self._trace)
        return self._trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.reset(self._before)
        super().__exit__(kind, error, trace)


def reason_of(error: BaseException) -> str:
    """Return what is told of an error: its code where it has one."""
    if isinstance(error, CancelledError | GeneratorExit):
        return CANCELLED
    return error.code if isinstance(error, NautilusError) else type(error).__name__
