"""`/metrics`: writes what is counted, for Prometheus.

Everything belongs to one application: there is no global registry, so that two can run in one process.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from nautilus.assembly import Core
from nautilus.observe import Histogram
from nautilus.web.metrics import HTTP_METRICS, METRICS, HttpMeters, Metric, Source, Values

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class CoreCollector(Collector):
    """Reads the metrics of one application."""

    def __init__(self, http: HttpMeters, core: Callable[[], Core | None]) -> None:
        self._http = http
        self._core = core

    def collect(self) -> Iterable[Family]:
        """Return all families; see prometheus_client."""
        for of_requests in HTTP_METRICS:
            yield _family(of_requests, of_requests.read(self._http))
        if core := self._core():
            for metric in METRICS:
                yield _family(metric, metric.read(core))


class Exposition:
    """Writes the metrics of one application."""

    def __init__(self, http: HttpMeters, core: Callable[[], Core | None]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(CoreCollector(http, core))
        ProcessCollector(registry=self._registry)

    def write(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, in the format that is asked for."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


def _family(metric: Metric[Source], values: Values) -> Family:
    """Return the values as Prometheus takes them."""
    if metric.kind == "histogram":
        histograms = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in values:
            assert isinstance(value, Histogram)  # noqa: S101 - the table says so
            histograms.add_metric(labels, _buckets(value), value.sum)
        return histograms
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in values:
        assert not isinstance(value, Histogram)  # noqa: S101 - the table says so
        family.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Return how many values were at most each bound, and one that was traced, which only OpenMetrics tells."""
    total = 0
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    for place, (bound, count) in enumerate(zip((*histogram.bounds, float("inf")), histogram.counts, strict=True)):
        total += count
        name = "+Inf" if bound == float("inf") else str(bound)
        traced = histogram.exemplars.get(place)
        if traced is None:
            buckets.append((name, total))
        else:
            buckets.append((name, total, Exemplar({"trace_id": traced.trace}, traced.value, traced.at)))
    return buckets
