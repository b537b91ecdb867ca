"""Writes `nautilus.json`, the dashboard for Grafana: `python deploy/grafana/dashboard.py`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("nautilus.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Grafana's columns."""
HEIGHT = 7


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: its title, its unit in Grafana's words, and expressions by their legends."""

    title: str
    unit: str
    curves: dict[str, str]
    most: float | None = None
    """The end of its axis, where there is one."""


def rate(counter: str, by: str, labels: str = "") -> str:
    """Return the expression of a counter's growth per second."""
    return f"sum by ({by}) (rate({counter}{{{_chosen(labels)}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str = "", labels: str = "") -> str:
    """Return the expression of a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'{by}, le'.lstrip(', '), labels)})"


def quantiles(histogram: str, labels: str = "") -> dict[str, str]:
    """Return the median and what the slowest have."""
    return {f"p{round(100 * share)}": quantile(share, histogram, labels=labels) for share in (0.5, 0.95, 0.99)}


def mean(histogram: str, by: str, labels: str = "") -> str:
    """Return the expression of a histogram's mean."""
    return f"{rate(f'{histogram}_sum', by, labels)} / {rate(f'{histogram}_count', by, labels)}"


def gauge(name: str, by: str, labels: str = "") -> str:
    """Return the expression of a gauge over all chosen servers."""
    return f"sum by ({by}) ({name}{{{_chosen(labels)}}})"


def _chosen(labels: str) -> str:
    return f'instance=~"$instance"{labels}'


MODEL = ', model=~"$model"'
WORK = ', route=~"/transcribe|/v1/audio/.*"'

ROWS: dict[str, list[Panel]] = {
    "Traffic": [
        Panel("Requests", "reqps", {"{{status}}": rate("nautilus_http_requests_total", "status")}),
        Panel("Seconds per transcription", "s", quantiles("nautilus_http_request_seconds", WORK)),
        Panel(
            "Audio heard, seconds per second",
            "none",
            {
                "recordings": rate("nautilus_recording_audio_seconds_total", "job"),
                "live": rate("nautilus_live_audio_seconds_total", "job"),
            },
        ),
        Panel(
            "Requests not answered well",
            "reqps",
            {"{{route}} {{status}}": rate("nautilus_http_requests_total", "route, status", ', status!~"[123].."')},
        ),
    ],
    "Jobs": [
        Panel("Jobs of all servers", "none", {"{{state}}": 'max by (state) (nautilus_jobs{instance=~"$instance"})'}),
        Panel(
            "Jobs",
            "ops",
            {
                "accepted": rate("nautilus_jobs_accepted_total", "job"),
                "{{status}}": rate("nautilus_jobs_ended_total", "status"),
            },
        ),
        Panel("Files of jobs", "ops", {"{{status}}": rate("nautilus_job_files_total", "status")}),
        Panel(
            "Webhooks, kept transcripts",
            "ops",
            {
                "{{outcome}}": rate("nautilus_webhooks_total", "outcome"),
                "{{result}}": rate("nautilus_kept_transcripts_total", "result"),
            },
        ),
    ],
    "Recordings": [
        Panel("Windows that wait", "none", {"{{model}}": gauge("nautilus_queue_windows", "model", MODEL)}),
        Panel("Wait before a batch", "s", quantiles("nautilus_queue_wait_seconds", MODEL)),
        Panel("Windows in a batch", "none", {"{{model}}": mean("nautilus_batch_windows", "model", MODEL)}),
        Panel("Seconds of a batch", "s", quantiles("nautilus_batch_seconds", MODEL)),
        Panel(
            "Padding, share of a batch",
            "percentunit",
            {
                "{{model}}": f"{rate('nautilus_batch_padding_seconds_total', 'model', MODEL)} / "
                f"({rate('nautilus_batch_padding_seconds_total', 'model', MODEL)}"
                f" + {rate('nautilus_batch_audio_seconds_total', 'model', MODEL)})"
            },
            1,
        ),
        Panel(
            "Speed of a model, times real time (one worker)",
            "none",
            {
                "{{model}}": f"{rate('nautilus_batch_audio_seconds_total', 'model', MODEL)}"
                f" / {rate('nautilus_batch_seconds_sum', 'model', MODEL)}"
            },
        ),
    ],
    "Live speech": [
        Panel(
            "Open streams, by look-ahead",
            "none",
            {"{{model}} {{look_ahead}} s": gauge("nautilus_live_streams", "model, look_ahead", MODEL)},
        ),
        Panel(
            "Streams that fit, by look-ahead",
            "none",
            {"{{model}} {{look_ahead}} s": gauge("nautilus_live_streams_capacity", "model, look_ahead", MODEL)},
        ),
        Panel(
            "Places taken",
            "percentunit",
            {"{{instance}} {{model}}": f"max by (instance, model) (nautilus_live_taken_ratio{{{_chosen(MODEL)}}})"},
            1,
        ),
        Panel("Sound that came and was not heard yet", "s", quantiles("nautilus_live_lag_seconds")),
        Panel("Streams refused", "cps", {"{{model}}": rate("nautilus_live_streams_refused_total", "model", MODEL)}),
        Panel("Conversations", "none", {"{{state}}": gauge("nautilus_live_conversations", "state")}),
        Panel("Utterances", "cps", {"utterances": rate("nautilus_live_utterances_total", "job")}),
        Panel("Streams in a step", "none", {"{{model}}": mean("nautilus_step_streams", "model", MODEL)}),
        Panel("Seconds of a step", "s", quantiles("nautilus_step_seconds", MODEL)),
    ],
    "Models": [
        Panel("Ready", "none", {"{{instance}} {{model}}": gauge("nautilus_model_ready", "instance, model", MODEL)}),
        Panel(
            "Seconds to load",
            "s",
            {"{{instance}} {{model}}": gauge("nautilus_model_load_seconds", "instance, model", MODEL)},
        ),
        Panel(
            "Failures and restarts",
            "cps",
            {
                "failures {{model}}": rate("nautilus_model_failures_total", "model", MODEL),
                "restarts {{model}}": rate("nautilus_model_restarts_total", "model", MODEL),
                "failed loads": rate("nautilus_model_load_failures_total", "job"),
            },
        ),
        Panel(
            "Memory of GPUs",
            "bytes",
            {
                "{{instance}} {{gpu}}": gauge("nautilus_gpu_memory_used_bytes", "instance, gpu"),
                "{{instance}} {{gpu}}, all there is": gauge("nautilus_gpu_memory_total_bytes", "instance, gpu"),
            },
        ),
    ],
    "Servers": [
        Panel("Version", "none", {"{{instance}} {{version}}": gauge("nautilus_info", "instance, version")}),
        Panel(
            "Event loop comes late, p99",
            "s",
            {"{{instance}}": quantile(0.99, "nautilus_event_loop_lag_seconds", "instance")},
        ),
        Panel(
            "Decoders that died of a recording",
            "cps",
            {
                "crashes": rate("nautilus_decoder_crashes_total", "job"),
                "timeouts": rate("nautilus_decoder_timeouts_total", "job"),
            },
        ),
        Panel("Processor of the front", "percentunit", {"{{instance}}": rate("process_cpu_seconds_total", "instance")}),
        Panel("Memory of the front", "bytes", {"{{instance}}": gauge("process_resident_memory_bytes", "instance")}),
        Panel("Open files of the front", "none", {"{{instance}}": gauge("process_open_fds", "instance")}),
    ],
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "nautilus",
        "title": "Nautilus",
        "tags": ["speech"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    for name in ("instance", "model"):
        metric = "nautilus_info" if name == "instance" else "nautilus_model_ready"
        yield {
            "name": name,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": f"label_values({metric}, {name})", "refId": name},
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        }


def _panels() -> Iterator[dict[str, Any]]:
    number = top = 0
    for title, panels in ROWS.items():
        number += 1
        yield {"id": number, "type": "row", "title": title, "gridPos": _place(0, top, WIDTH, 1)}
        top += 1
        across = 4 if len(panels) % 4 == 0 else 3
        for index, panel in enumerate(panels):
            number += 1
            line, column = divmod(index, across)
            width = WIDTH // across
            yield _panel(number, panel) | {"gridPos": _place(column * width, top + line * HEIGHT, width, HEIGHT)}
        top += HEIGHT * -(-len(panels) // across)


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    bounds = {"min": 0} if panel.most is None else {"min": 0, "max": panel.most}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit} | bounds, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for index, (legend, expression) in enumerate(panel.curves.items())
        ],
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")
