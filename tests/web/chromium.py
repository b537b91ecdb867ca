"""Chromium without a window, told what to do over its DevTools protocol; its microphone plays a recording."""

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--remote-debugging-port=0"),
)
PATIENCE: Final = 30.0
"""Seconds that anything may take in a browser on a busy machine."""


class Tab:
    """One page."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = count(1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; see the DevTools protocol."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = json.loads(self._connection.recv(timeout=deadline - time.monotonic()))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, script: str) -> Any:
        """Return what an expression, or the promise that it is, comes to; as if a person had asked for it."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true; return what it is."""
        look = f"const look = () => {{ const is = {script}; is ? resolve(is) : setTimeout(look, 30); }}; look();"
        return self.run(f"new Promise((resolve) => {{ {look} }})")

    def open(self, url: str) -> None:
        """Go to an address; return once the page and its scripts are there."""
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith('{url}') && document.readyState === 'complete'")

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files in an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Show the page in a window of that size, light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def picture(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])


class Browser:
    """A running Chromium."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        """Open a tab for the length of a block."""
        target = httpx.put(f"{self._url}/json/new?about:blank").raise_for_status().json()
        try:
            with connect(target["webSocketDebuggerUrl"], compression=None, max_size=None) as connection:
                yield Tab(connection)
        finally:
            httpx.get(f"{self._url}/json/close/{target['id']}")


@contextmanager
def running_browser(folder: Path, microphone: Path) -> Iterator[Browser]:
    """Run Chromium with a profile of its own in a folder; whoever opens its microphone hears that WAV file, once."""
    program = shutil.which("chromium")
    if not program:
        pytest.skip("Chromium is not installed")
    command = [program, *FLAGS, f"--user-data-dir={folder}", f"--use-file-for-fake-audio-capture={microphone}%noloop"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Browser(_port(folder / "DevToolsActivePort", process))
    finally:
        process.terminate()
        process.wait()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait for the port that Chromium chose."""
    wait = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None
        if file.is_file() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        wait.wait(0.02)
    raise TimeoutError(file)


@contextmanager
def site(pages: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Serve pages, each a type and a text, as somebody else's web server would; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = pages.get(self.path, ("text/plain", ""))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, name="somebody's web server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
