"""What the measurements of `run.py` share: what they are given, and where they put what they measured."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from nautilus.engines.bundle import read_bundle
from nautilus.types import Waveform

HERE = Path(__file__).parent


@dataclass(slots=True)
class Report:
    """What was measured, line by line."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, what: str, measured: str, target: str) -> None:
        """Note one figure and show it at once."""
        self.rows.append((what, measured, target))
        print(f"{what}: {measured} (target: {target})", flush=True)

    def markdown(self) -> str:
        """Return the table as the docs have it."""
        rows = (f"| {what} | {measured} | {target} |" for what, measured, target in self.rows)
        return "\n".join(["| what | measured | target |", "|---|---|---|", *rows]) + "\n"

    def table(self) -> Table:
        """Return the whole table."""
        table = Table("what", "measured", "target", box=None)
        for row in self.rows:
            table.add_row(*row)
        return table


@dataclass(frozen=True, slots=True)
class Bench:
    """What the measurements share."""

    clips: list[Path]
    waveforms: list[Waveform]
    speech: Path
    work: Path
    seconds: float
    clients: tuple[int, ...]
    streams: tuple[int, ...]
    report: Report

    @property
    def large(self) -> Path:
        """Bundle of the 109M-parameter model; made at first use."""
        folder, nemo = self.work / "large", self.work / "large.nemo"
        if not nemo.exists():
            subprocess.run([sys.executable, str(HERE / "random_model.py"), str(nemo)], check=True)
        if not folder.exists():
            subprocess.run([sys.executable, "-m", "nautilus", "export", str(nemo), str(folder)], check=True)
        return folder

    @property
    def large_streaming(self) -> Path:
        """Bundle of the 109M-parameter cache-aware model; made at first use."""
        folder = self.work / "large-streaming"
        if not folder.exists():
            command = [sys.executable, "-m", "benchmarks.random_streaming_model", str(folder.absolute())]
            subprocess.run(command, check=True, cwd=HERE.parent)
        return folder

    def quantized(self, bundle: Path) -> Path:
        """Bundle with 8-bit weights, its scales fitted to the clips; made at first use."""
        folder = self.work / f"{read_bundle(bundle).fingerprint}-static"
        if not folder.exists():
            command = [sys.executable, "-m", "nautilus", "quantize", *map(str, (bundle, folder, *self.clips))]
            subprocess.run(command, check=True)
        return folder
