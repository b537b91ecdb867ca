"""Traces written down with OpenTelemetry's SDK and sent by OTLP over HTTP; imported only where traces are wanted.

What the `OTEL_…` variables say is read by the SDK itself: where to, with which headers, as whom, and what is sampled.
Source: opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from threading import Thread
from typing import Final

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as OpenTelemetryTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from nautilus import __version__
from nautilus.errors import ConfigurationError
from nautilus.traces.settings import TraceSettings
from nautilus.traces.trace import CANCELLED, NO_ATTRIBUTES, Attributes, Carrier, Inside, Kind, Trace, Tracer

log = structlog.get_logger(__name__)

NAME: Final = "nautilus"
KINDS: Final[dict[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}
MOST_LINKS: Final = 32


@asynccontextmanager
async def open_tracer(settings: TraceSettings) -> AsyncIterator[Tracer]:
    """Trace for the length of the block; its end waits a while for the last spans. Raises ConfigurationError."""
    provider = _provider()
    try:
        yield OtlpTracer(provider, settings.most_spans)
    finally:
        await _shut(provider, settings.last_seconds)


def _provider() -> TracerProvider:
    ours = Resource({"service.name": NAME, "service.version": __version__, "service.instance.id": os.urandom(8).hex()})
    resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())  # the last one wins
    try:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise ConfigurationError(f"Traces cannot be sent as the OTEL_… variables say: {error}") from error
    return provider


async def _shut(provider: TracerProvider, seconds: float) -> None:
    """Send what is left, and go when the time is over: the thread that still tries ends with the process."""
    loop, sent = asyncio.get_running_loop(), asyncio.Event()

    def shut() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(sent.set)

    Thread(target=shut, name="send the last spans", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await sent.wait()
    except TimeoutError:
        log.warning("the last spans could not be sent in time", seconds=seconds)


class OtlpTracer:
    """Begins traces; see `Tracer`."""

    def __init__(self, provider: TracerProvider, most_spans: int) -> None:
        self._tracer = provider.get_tracer(NAME, __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._most = most_spans

    @contextmanager
    def follow(
        self, carrier: Carrier, name: str, attributes: Attributes = NO_ATTRIBUTES, *, kind: Kind = "internal"
    ) -> Iterator[Trace]:
        """Go on with a trace, or begin one; see `Tracer`. Logs of the block name it."""
        above = self._propagator.extract(carrier, context=Context())
        pen = Pen(self._tracer, self._most)
        trace = OtlpTrace(pen, pen.write(name, attributes, kind, above, pen.at()))
        with structlog.contextvars.bound_contextvars(trace_id=trace.id), Inside(trace):
            try:
                yield trace
            finally:
                if pen.left_out:
                    trace.note({"nautilus.spans_left_out": pen.left_out})


class Pen:
    """Writes the spans of one trace in this process: so many, and by a clock that is set once, so that they nest."""

    def __init__(self, tracer: OpenTelemetryTracer, most: int) -> None:
        self.left_out = 0
        """Spans that were too many."""
        self._tracer = tracer
        self._left = most
        self._zero = time.time_ns() - time.monotonic_ns()

    def write(
        self, name: str, attributes: Attributes, kind: Kind, above: Context, since: int, links: Sequence[Link] = ()
    ) -> Span:
        """Begin a span."""
        return self._tracer.start_span(name, above, KINDS[kind], attributes, links, since)

    def may_write(self) -> bool:
        """Say whether there may be one more, and count it."""
        if not self._left:
            self.left_out += 1
            return False
        self._left -= 1
        return True

    def at(self, when: float | None = None) -> int:
        """Return nanoseconds since 1970: of a time by `time.monotonic`, or of now."""
        return self._zero + (time.monotonic_ns() if when is None else round(when * 1e9))


class OtlpTrace:
    """A span of OpenTelemetry's; see `Trace`."""

    def __init__(self, pen: Pen, span: Span) -> None:
        self._pen = pen
        self._span = span

    @property
    def id(self) -> str:
        """The trace's."""
        return f"{self.context.trace_id:032x}"

    @property
    def context(self) -> SpanContext:
        """What OpenTelemetry knows it by."""
        return self._span.get_span_context()

    @property
    def recorded(self) -> bool:
        """Whether it is sampled, and not over."""
        return self._span.is_recording()

    def carrier(self) -> Carrier:
        """Return its headers, as the W3C recommends them."""
        context = self.context
        named = {"traceparent": f"00-{self.id}-{context.span_id:016x}-{context.trace_flags:02x}"}
        return named | ({"tracestate": context.trace_state.to_header()} if context.trace_state else {})

    def begin(
        self,
        name: str,
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        kind: Kind = "internal",
        since: float | None = None,
        links: Sequence[Trace] = (),
    ) -> "OtlpTrace | None":
        """Begin a span in this one."""
        if not self._pen.may_write():
            return None
        above = set_span_in_context(self._span, Context())
        others = [Link(one.context) for one in links[:MOST_LINKS] if isinstance(one, OtlpTrace)]
        return OtlpTrace(self._pen, self._pen.write(name, attributes, kind, above, self._pen.at(since), others))

    def add(self, name: str, since: float, until: float, attributes: Attributes = NO_ATTRIBUTES) -> None:
        """Write down a span in this one that is over."""
        if inner := self.begin(name, attributes, since=since):
            inner.end(until)

    def note(self, attributes: Attributes) -> None:
        """Say more about it."""
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """Change its name."""
        self._span.update_name(name)

    def link(self, other: Trace) -> None:
        """Point to another span."""
        if isinstance(other, OtlpTrace):
            self._span.add_link(other.context)

    def fail(self, reason: str) -> None:
        """Say that it failed; to be cancelled is told, and is no failure."""
        self._span.set_attribute("error.type", reason)
        if reason != CANCELLED:
            self._span.set_status(StatusCode.ERROR)

    def end(self, until: float | None = None) -> None:
        """Take it as over."""
        self._span.end(self._pen.at(until))
