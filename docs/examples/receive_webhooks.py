"""Receive webhooks: python receive_webhooks.py whsec_… [port]. Needs `pip install standardwebhooks`."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(sys.argv[1])
seen: set[str] = set()  # a real receiver keeps these ids in its database


class Receiver(BaseHTTPRequestHandler):
    """Answers each webhook."""

    def do_POST(self) -> None:
        """Verify a webhook and print what ended."""
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            told = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_error(400)
            return
        if self.headers["webhook-id"] not in seen:  # the same one may come more than once
            seen.add(self.headers["webhook-id"])
            print(told["type"], told["data"]["id"], flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing but what came."""


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if sys.argv[2:] else 9000), Receiver)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
