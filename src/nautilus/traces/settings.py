"""What an operator can say about traces; everything else is told by OpenTelemetry's own `OTEL_…` variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nautilus.errors import ConfigurationError

PROTOCOL: Final = "http/protobuf"


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Whether traces are sent, and how many spans."""

    enabled: bool = False
    """Send traces by OTLP. Where to, which of them and as whom is told by `OTEL_…` variables: docs/traces.md."""
    most_spans: int = 1000
    """Spans that one request, stream or group of a job's files may have; a recording of hours has more windows."""
    last_seconds: float = 5.0
    """Seconds that the last spans may take to be sent when the server ends."""


def are_wanted(settings: TraceSettings, environment: Mapping[str, str]) -> bool:
    """Say whether traces are to be sent. Raises ConfigurationError where the variables want what Nautilus can't do."""
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if not settings.enabled or exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporter != "otlp":
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER={exporter}: Nautilus sends traces by otlp, or none.")
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", PROTOCOL):
        raise ConfigurationError(
            f"Nautilus sends traces by {PROTOCOL}, not {protocol}: set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL to it, "
            "and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to where your collector hears that: mostly port 4318, /v1/traces."
        )
    return True
