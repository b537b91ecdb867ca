"""The dashboard's picture for the docs: a server under mixed load, watched by a real Prometheus: `make picture`.

    python benchmarks/picture.py TARGET.svg [--speech FOLDER] [--minutes 4]

Uploads by more and fewer clients, live streams that come and go, jobs with webhooks, and a few requests that fail.
`deploy/grafana/render.py` draws what Prometheus then knows. It needs `prometheus` (scripts/system-packages.sh).
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import httpx

from nautilus.measure.bench import run_rounds
from nautilus.measure.live import run_live
from process import Server, free_port, serve
from run import find_clips

HERE: Final = Path(__file__).parent
sys.path.append(str(HERE.parent / "deploy" / "grafana"))

from render import Span, render  # noqa: E402 - it lies beside the dashboard

JOBS: Final = "/v1/audio/transcriptions/jobs"
CLIENTS: Final = (1, 4, 12, 32, 6, 2)
STREAMS: Final = (3, 8, 16, 6)
FILES: Final = 24
SCRAPE: Final = 2
"""Seconds; Grafana takes rates over four of them."""


@contextmanager
def prometheus(server: Server, folder: Path) -> Iterator[str]:
    """Run a Prometheus that asks a server often; its URL."""
    watched = {"job_name": "nautilus", "static_configs": [{"targets": [server.url.removeprefix("http://")]}]}
    settings = {"global": {"scrape_interval": f"{SCRAPE}s"}, "scrape_configs": [watched]}
    (folder / "prometheus.yml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def receiving() -> Iterator[str]:
    """Receive webhooks; the URL to name."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{receiver.server_address[1]}/hooks"
    finally:
        receiver.shutdown()
        thread.join()


async def load(url: str, clips: list[Path], hooks: str, seconds: float) -> None:
    """Ask in all ways for so long."""
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_rounds(url, clips, CLIENTS, seconds / len(CLIENTS)))
        tasks.create_task(run_live(url, clips, STREAMS, seconds / len(STREAMS), "high"))
        tasks.create_task(_jobs(url, clips, hooks, until))
        tasks.create_task(_mistakes(url, until))


async def _jobs(url: str, clips: list[Path], hooks: str, until: float) -> None:
    """Begin jobs; every other one has what an earlier one had."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        number = 0
        while time.monotonic() < until:
            first = number // 2 * FILES
            some = [clips[(first + place) % len(clips)] for place in range(FILES)]
            files = [("file", (clip.name, clip.read_bytes())) for clip in some]
            (await client.post(JOBS, files=files, data={"webhook_url": hooks})).raise_for_status()
            number += 1
            await asyncio.sleep(10)


async def _mistakes(url: str, until: float) -> None:
    """Ask for what there is not, and send what is none."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while time.monotonic() < until:
            await client.get("/v1/models/nobody")
            await asyncio.sleep(4)
            await client.post("/v1/audio/transcriptions", files={"file": b"no sound"})
            await asyncio.sleep(3)


def main() -> None:
    """Load a server, and draw what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--speech", type=Path, default=HERE)
    parser.add_argument("--minutes", type=float, default=4.0)
    given = parser.parse_args()
    clips = find_clips(given.speech)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hooks = stack.enter_context(receiving())
        own = {
            "NAUTILUS_STORAGE__DATA_DIR": str(folder / "storage"),
            "NAUTILUS_WEBHOOKS__SECRETS": json.dumps([f"whsec_{b64encode(bytes(24)).decode()}"]),
            "NAUTILUS_OUTSIDE__NETWORKS": '["127.0.0.0/8"]',
            "NAUTILUS_OUTSIDE__PORTS": "[]",
        }
        server = stack.enter_context(serve(environment=own))
        watching = stack.enter_context(prometheus(server, folder))
        while not httpx.get(f"{server.url}{JOBS}").is_success:
            time.sleep(0.1)
        start = time.time()
        asyncio.run(load(server.url, clips, hooks, 60 * given.minutes))
        render(watching, given.target, Span(start, time.time(), f"{5 * SCRAPE}s"), "Nautilus, under mixed load")


if __name__ == "__main__":
    main()
