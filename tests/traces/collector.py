"""A collector of traces: a real HTTP server on the loopback, which reads OTLP's protobuf."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from nautilus.traces.trace import Kind

KINDS: dict[int, Kind] = {
    trace_pb2.Span.SPAN_KIND_INTERNAL: "internal",
    trace_pb2.Span.SPAN_KIND_SERVER: "server",
    trace_pb2.Span.SPAN_KIND_CLIENT: "client",
    trace_pb2.Span.SPAN_KIND_CONSUMER: "consumer",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A span as it came."""

    name: str
    kind: Kind
    trace: str
    id: str
    parent: str
    state: str
    since: int
    """Nanoseconds since 1970."""
    until: int
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """The spans that it points to."""
    failed: bool
    service: dict[str, Any]

    def holds(self, other: "Told") -> bool:
        """Say whether another span lies within this one's time."""
        return self.since <= other.since <= other.until <= self.until


class Collector:
    """What came."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self.spans: list[Told] = []
        self._came = threading.Condition()

    @property
    def variables(self) -> dict[str, str]:
        """Settings of a server that sends here, soon."""
        own = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        return own | {"NAUTILUS_TRACES__ENABLED": "true"}

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Take what was sent."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._came:
            self.headers.append(headers)
            self.spans += _read(request)
            self._came.notify_all()

    def until(self, happened: Callable[[list[Told]], Any], seconds: float = 30.0) -> list[Told]:
        """Return all that came, once it is enough."""
        with self._came:
            assert self._came.wait_for(lambda: happened(self.spans), seconds), [span.name for span in self.spans]
            return list(self.spans)

    def named(self, name: str, count: int = 1) -> list[Told]:
        """Return the spans of a name, once there are so many."""
        spans = self.until(lambda came: sum(span.name == name for span in came) >= count)
        return [span for span in spans if span.name == name]


def _read(request: ExportTraceServiceRequest) -> Iterator[Told]:
    for of_service in request.resource_spans:
        service = {pair.key: _value(pair.value) for pair in of_service.resource.attributes}
        for scope in of_service.scope_spans:
            for span in scope.spans:
                yield Told(
                    name=span.name,
                    kind=KINDS[span.kind],
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    state=span.trace_state,
                    since=span.start_time_unix_nano,
                    until=span.end_time_unix_nano,
                    attributes={pair.key: _value(pair.value) for pair in span.attributes},
                    links=tuple(link.span_id.hex() for link in span.links),
                    failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    service=service,
                )


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect traces until the block ends."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            collector.take(dict(self.headers.items()), body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
