"""Every metric: its name, and where in the running server its values are read when Prometheus asks; docs/metrics.md."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from nautilus import __version__
from nautilus.assembly import Core
from nautilus.observe import Count, Histogram
from nautilus.runtime.lane import LaneState

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE: Final = "none"
"""Of requests for what there is not: their paths are without number."""

Source = TypeVar("Source")
Value: TypeAlias = float | Histogram
Values: TypeAlias = Iterable[tuple[tuple[str, ...], Value]]
"""Values of labels, and what is measured for them."""


@dataclass(frozen=True, slots=True)
class HttpMeters:
    """What is counted of HTTP requests."""

    requests: dict[tuple[str, str, str], Count] = field(default_factory=dict)
    """By method, route and status."""
    seconds: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    """By method and route."""

    def add(self, method: str, route: str, status: int, seconds: float, trace: str | None = None) -> None:
        """Count a request. `status` is 0 where the client went before the answer; `trace` as in `Histogram`."""
        method = method if method in METHODS else "other"
        key = (method, route, str(status))
        if key not in self.requests:
            self.requests[key] = Count()
            self.seconds.setdefault(key[:2], Histogram())
        self.requests[key].add()
        self.seconds[key[:2]].add(seconds, trace)


@dataclass(frozen=True, slots=True)
class Metric(Generic[Source]):
    """One metric: what it is called and where its values are."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[Source], Values]
    """Reads the values from where they are kept."""
    labels: tuple[str, ...] = ()


def _one(read: Callable[[Core], Value]) -> Callable[[Core], Values]:
    return lambda core: [((), read(core))]


def _lanes(read: Callable[[LaneState], Value]) -> Callable[[Core], Values]:
    return lambda core: [((name,), read(state)) for name, state in _states(core)]


def _states(core: Core) -> list[tuple[str, LaneState]]:
    return [(one.name, one.lane.state()) for one in core.pool.standings() if one.lane]


def _look_aheads(read: Callable[[LaneState, float], float]) -> Callable[[Core], Values]:
    return lambda core: [
        ((one.name, f"{look_ahead:g}"), read(one.lane.state(), look_ahead))
        for one in core.pool.standings()
        if one.lane
        for look_ahead in one.lane.info.waits
    ]


def _by(read: Callable[[Core], Mapping[str, Count]]) -> Callable[[Core], Values]:
    return lambda core: [((name,), count.value) for name, count in read(core).items()]


_MODEL: Final = ("model",)
_LOOK_AHEAD: Final = ("model", "look_ahead")

METRICS: Final[tuple[Metric[Core], ...]] = (
    Metric("nautilus_info", "gauge", "The version.", lambda _: [((__version__,), 1)], ("version",)),
    Metric(
        "nautilus_recording_audio_seconds_total",
        "counter",
        "Seconds of recordings transcribed.",
        _one(lambda core: core.meters.recordings.value),
    ),
    Metric(
        "nautilus_live_audio_seconds_total",
        "counter",
        "Seconds of sound that live streams brought.",
        _one(lambda core: core.meters.streams.audio.value),
    ),
    Metric(
        "nautilus_live_utterances_total",
        "counter",
        "Utterances that ended in live streams.",
        _one(lambda core: core.meters.streams.utterances.value),
    ),
    Metric(
        "nautilus_live_lag_seconds",
        "histogram",
        "Seconds of sound that had come and was not heard yet, at each partial and final.",
        _one(lambda core: core.meters.streams.lag),
    ),
    Metric(
        "nautilus_live_conversations",
        "gauge",
        "Conversations of /v1/stream, with a connection (held) or without one (kept).",
        lambda core: [(("held",), core.conversations.held), (("kept",), core.conversations.kept)],
        ("state",),
    ),
    Metric(
        "nautilus_live_streams",
        "gauge",
        "Open live streams.",
        _look_aheads(lambda state, look_ahead: state.places.open[look_ahead]),
        _LOOK_AHEAD,
    ),
    Metric(
        "nautilus_live_streams_capacity",
        "gauge",
        "Live streams of this look-ahead that fit where there are no others.",
        _look_aheads(lambda state, look_ahead: state.places.capacity(look_ahead)),
        _LOOK_AHEAD,
    ),
    Metric(
        "nautilus_live_taken_ratio",
        "gauge",
        "Share of the room for live streams that is taken; refusals begin near 1.",
        _lanes(lambda state: state.places.taken_share),
        _MODEL,
    ),
    Metric(
        "nautilus_live_streams_refused_total",
        "counter",
        "Live streams refused for want of a place.",
        _lanes(lambda state: state.places.refused),
        _MODEL,
    ),
    Metric(
        "nautilus_step_streams",
        "histogram",
        "Live streams in a step of the model.",
        _lanes(lambda state: state.meters.step_streams),
        _MODEL,
    ),
    Metric(
        "nautilus_step_seconds",
        "histogram",
        "Seconds that a step of live streams took.",
        _lanes(lambda state: state.meters.step_seconds),
        _MODEL,
    ),
    Metric(
        "nautilus_queue_windows",
        "gauge",
        "Windows of recordings that wait for the model.",
        _lanes(lambda state: state.waiting),
        _MODEL,
    ),
    Metric(
        "nautilus_queue_wait_seconds",
        "histogram",
        "Seconds that windows waited for a batch.",
        _lanes(lambda state: state.meters.queue),
        _MODEL,
    ),
    Metric(
        "nautilus_batch_windows",
        "histogram",
        "Windows in a batch.",
        _lanes(lambda state: state.meters.batch_items),
        _MODEL,
    ),
    Metric(
        "nautilus_batch_seconds",
        "histogram",
        "Seconds that a batch took.",
        _lanes(lambda state: state.meters.batch_seconds),
        _MODEL,
    ),
    Metric(
        "nautilus_batch_audio_seconds_total",
        "counter",
        "Seconds of audio in batches.",
        _lanes(lambda state: state.meters.audio.value),
        _MODEL,
    ),
    Metric(
        "nautilus_batch_padding_seconds_total",
        "counter",
        "Seconds of padding in batches, heard for nothing.",
        _lanes(lambda state: state.meters.padding.value),
        _MODEL,
    ),
    Metric(
        "nautilus_model_ready",
        "gauge",
        "1 for a model that can answer, 0 for one that is loading.",
        lambda core: [((one.name,), float(one.lane is not None)) for one in core.pool.standings()],
        _MODEL,
    ),
    Metric(
        "nautilus_model_load_seconds",
        "gauge",
        "Seconds from the wish for a model until it was ready.",
        lambda core: [((one.name,), one.load_seconds) for one in core.pool.standings() if one.lane],
        _MODEL,
    ),
    Metric(
        "nautilus_model_load_failures_total",
        "counter",
        "Loads of models that failed.",
        _one(lambda core: core.pool.failures.value),
    ),
    Metric(
        "nautilus_model_failures_total",
        "counter",
        "Batches and steps in which the model raised.",
        _lanes(lambda state: state.meters.failures.value),
        _MODEL,
    ),
    Metric(
        "nautilus_model_restarts_total",
        "counter",
        "Times that the model's process died and was started again.",
        _lanes(lambda state: state.meters.restarts.value),
        _MODEL,
    ),
    Metric(
        "nautilus_gpu_memory_used_bytes",
        "gauge",
        "Memory of a GPU in use, by whatever process, where a model is on one.",
        lambda core: [((gpu.name,), gpu.used) for gpu in core.gpu_memory()],
        ("gpu",),
    ),
    Metric(
        "nautilus_gpu_memory_total_bytes",
        "gauge",
        "Memory that a GPU has.",
        lambda core: [((gpu.name,), gpu.total) for gpu in core.gpu_memory()],
        ("gpu",),
    ),
    Metric(
        "nautilus_decoder_crashes_total",
        "counter",
        "Decoder processes that died of a recording.",
        _one(lambda core: core.sandbox.crashes),
    ),
    Metric(
        "nautilus_decoder_timeouts_total",
        "counter",
        "Decoder processes that took too long over a block.",
        _one(lambda core: core.sandbox.timeouts),
    ),
    Metric(
        "nautilus_jobs",
        "gauge",
        "Jobs of all servers that wait or run, counted every few seconds.",
        lambda core: [(("waiting",), core.meters.jobs.waiting), (("running",), core.meters.jobs.running)],
        ("state",),
    ),
    Metric(
        "nautilus_jobs_accepted_total",
        "counter",
        "Jobs that this server took.",
        _one(lambda core: core.meters.jobs.accepted.value),
    ),
    Metric(
        "nautilus_jobs_ended_total",
        "counter",
        "Jobs that ended on this server.",
        _by(lambda core: core.meters.jobs.ended),
        ("status",),
    ),
    Metric(
        "nautilus_job_files_total",
        "counter",
        "Files of jobs that ended on this server.",
        _by(lambda core: core.meters.jobs.files),
        ("status",),
    ),
    Metric(
        "nautilus_kept_transcripts_total",
        "counter",
        "Looks for a transcript of the same audio among those of earlier jobs.",
        _by(lambda core: core.meters.jobs.kept),
        ("result",),
    ),
    Metric(
        "nautilus_webhooks_total",
        "counter",
        "Attempts to send webhooks, by what became of them.",
        _by(lambda core: core.meters.jobs.webhooks),
        ("outcome",),
    ),
    Metric(
        "nautilus_event_loop_lag_seconds",
        "histogram",
        "Seconds by which the server's event loop came late, every 0.25 s.",
        _one(lambda core: core.meters.loop_lag),
    ),
)
"""Metrics of a running core."""


HTTP_METRICS: Final[tuple[Metric[HttpMeters], ...]] = (
    Metric(
        "nautilus_http_requests_total",
        "counter",
        "HTTP requests, by the route's template; status 0: the client went before the answer.",
        lambda http: [(labels, count.value) for labels, count in http.requests.items()],
        ("method", "route", "status"),
    ),
    Metric(
        "nautilus_http_request_seconds",
        "histogram",
        "Seconds from a request to the end of its answer.",
        lambda http: list(http.seconds.items()),
        ("method", "route"),
    ),
)
"""Metrics of requests, which there are before there is a core."""
