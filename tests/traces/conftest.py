"""A collector on the loopback, to which this process sends."""

from collections.abc import AsyncIterator, Iterator

import pytest

from nautilus.traces.otlp import open_tracer
from nautilus.traces.settings import TraceSettings
from nautilus.traces.trace import Tracer
from tests.traces.collector import Collector, collecting


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """What came; the environment of this process sends there."""
    with collecting() as one:
        for name, value in one.variables.items():
            monkeypatch.setenv(name, value)
        yield one


@pytest.fixture
async def tracer(collector: Collector) -> AsyncIterator[Tracer]:
    """A tracer that sends to the collector."""
    del collector
    async with open_tracer(TraceSettings(enabled=True, most_spans=20)) as one:
        yield one
