"""Somebody's server that is told of jobs: a real one on the loopback, which verifies what it gets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_" + "bmF1dGlsdXMtdGVzdHMtb25seS1zZWNyZXQh"


class Receiver:
    """What came, and what it answers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        """The id and the body of each webhook, in order."""
        self.headers: list[dict[str, str]] = []
        """That they came with."""
        self.status = 204
        self.wait = 0.0
        """Seconds before it answers."""
        self.url = ""

    def ids(self, job: str) -> list[str]:
        """Return the ids of what told of a job."""
        return [name for name, body in self.told if body["data"]["id"] == job]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive webhooks until the block ends; one that does not verify is none."""
    receiver, over = Receiver(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            verified = Webhook(SECRET).verify(body, dict(self.headers.items()))
            receiver.told.append((self.headers["webhook-id"], verified))
            receiver.headers.append(dict(self.headers.items()))
            over.wait(receiver.wait)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hooks"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
