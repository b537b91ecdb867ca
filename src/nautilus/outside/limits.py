"""Bounds on what is asked of addresses that callers name."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TypeAlias

from pydantic import IPvAnyNetwork

Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class OutsideLimits:
    """Where callers' URLs may lead, and how much may come from there."""

    networks: tuple[IPvAnyNetwork, ...] = ()
    """Private networks that callers' URLs may lead to, as a JSON list such as `["10.1.0.0/16"]`. None by default."""
    refused_networks: tuple[IPvAnyNetwork, ...] = ()
    """Further networks that callers' URLs may not lead to, as a JSON list: your own public addresses, perhaps."""
    ports: tuple[int, ...] = (80, 443, 8080, 8443)
    """Ports that callers' URLs may name, as a JSON list; an empty list allows all."""
    ca_file: Path | None = None
    """A PEM file of certificates to trust beside the usual ones: those of a company's own authority."""
    max_bytes: int = 0
    """Largest file that is fetched; 0: as large as `NAUTILUS_MAX_UPLOAD_BYTES`."""
    connect_seconds: float = 10.0
    """Seconds that finding a host and connecting to it may take."""
    read_seconds: float = 30.0
    """Seconds that a host may be silent."""
    total_seconds: float = 3600.0
    """Seconds after which the fetching of a file is given up."""
