"""A stand-in for the hubs: speaks the part of Hugging Face's and NGC's HTTP that fetching a model uses.

It can be made to break off, to send what it did not promise, to ask who is there, and to wait in the middle.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "89abcdef0123456789abcdef0123456789abcdef"
LARGE = (".onnx", ".nemo", ".bin")
"""Files of these kinds are in large-file storage, as `.gitattributes` says on the real hub."""

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    content: bool = False
    """Whether it is a file's content: may be asked in parts, and may break off."""


@dataclass
class Hub:
    """Repositories as dictionaries of files, and a log of what was asked."""

    repositories: Mapping[str, Files] = field(default_factory=dict)
    older: Mapping[str, Files] = field(default_factory=dict)
    """The same repositories at the commit `OLDER`, which has the tag v1."""
    ngc: Files = field(default_factory=dict)
    """NGC's files by their path after `/v2/models/`."""
    token: str | None = None
    """Who has none is turned away."""
    gated: bool = False
    """Everyone may see which files there are; only the token's owner may have them."""
    declared: dict[str, int] = field(default_factory=dict)
    """Sizes that are promised instead of the true ones."""
    spoilt: set[str] = field(default_factory=set)
    """Files that come with another last byte."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers with content break off."""
    ranges: bool = True
    """Whether a part of a file can be asked for."""
    wait_after: int | None = None
    """Send so many bytes of a content, then wait for `go_on`."""
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    secrets: list[str | None] = field(default_factory=list)
    """The `Authorization` of each question."""
    url: str = ""

    def answer(self, path: str, secret: str | None) -> Answer:
        """Return what a path gives whoever has the secret."""
        known = self.token is None or secret == f"Bearer {self.token}"
        if path.startswith("/v2/models/"):
            return self._ngc(path.removeprefix("/v2/models/"), known=known)
        if path.startswith("/signed/"):  # as object stores do: the address is the permission, another one is an error
            return Answer(400) if secret else self._content(self.ngc[path.removeprefix("/signed/")], "ngc", "")
        for name in self.repositories:
            if path.startswith(f"/api/models/{name}"):
                return self._list(name, path.removeprefix(f"/api/models/{name}"), known=known)
            for commit in (COMMIT, OLDER):
                prefix = f"/{name}/resolve/{commit}/"
                if path.startswith(prefix):
                    return self._file(name, commit, path.removeprefix(prefix), known=known)
        return Answer(401, {"X-Error-Code": "RepoNotFound"})

    def _list(self, name: str, rest: str, *, known: bool) -> Answer:
        revision = rest.removeprefix("/revision/") or "main"
        commit = {"main": COMMIT, COMMIT: COMMIT, "v1": OLDER, OLDER: OLDER}.get(revision)
        if commit is None:
            return Answer(404, {"X-Error-Code": "RevisionNotFound"})
        if not known and not self.gated:
            return Answer(401, {"X-Error-Code": "RepoNotFound"})
        siblings = [self._sibling(file, data) for file, data in self._files(name, commit).items()]
        body = {"id": name, "sha": commit, "siblings": siblings, "private": False, "gated": self.gated}
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _file(self, name: str, commit: str, file: str, *, known: bool) -> Answer:
        if not known:
            return Answer(401, {"X-Error-Code": "GatedRepo"})
        data = self._files(name, commit).get(file)
        return Answer(404, {"X-Error-Code": "EntryNotFound"}) if data is None else self._content(data, commit, file)

    def _ngc(self, path: str, *, known: bool) -> Answer:
        if not known:
            return Answer(403)
        if path not in self.ngc:
            return Answer(404)
        elsewhere = self.url.replace("127.0.0.1", "localhost")
        return Answer(302, {"Location": f"{elsewhere}/signed/{path}"})

    def _files(self, name: str, commit: str) -> Files:
        return (self.repositories if commit == COMMIT else self.older)[name]

    def _sibling(self, file: str, data: bytes) -> dict[str, object]:
        size = self.declared.get(file, len(data))
        found: dict[str, object] = {"rfilename": file, "size": size, "blobId": _oid(data)}
        if file.endswith(LARGE):
            found["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 130}
        return found

    def _content(self, data: bytes, commit: str, file: str) -> Answer:
        sent = data[:-1] + bytes([data[-1] ^ 1]) if file in self.spoilt else data
        headers = {"ETag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"', "X-Repo-Commit": commit}
        return Answer(200, headers, sent, content=True)


def _oid(data: bytes) -> str:
    """Name a file as git does."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _part(answer: Answer, asked: str) -> Answer:
    """Answer a question for a range."""
    first, _, last = asked.removeprefix("bytes=").partition("-")
    total = len(answer.body)
    if int(first) >= total:
        return Answer(416, {"Content-Range": f"bytes */{total}"})
    part = answer.body[int(first) : int(last) + 1 if last else total]
    place = f"bytes {first}-{int(first) + len(part) - 1}/{total}"
    return Answer(206, {**answer.headers, "Content-Range": place}, part, content=not last)


class Server(ThreadingHTTPServer):
    """Answers for a hub, and says nothing of clients that hang up."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub

    def handle_error(self, *_: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        hub, part, secret = self.server.hub, self.headers.get("Range"), self.headers.get("Authorization")
        hub.asked.append(" ".join(["GET", self.path, *([part] if part else [])]))
        hub.secrets.append(secret)
        answer = hub.answer(self.path.split("?")[0], secret)
        if answer.content and part and hub.ranges:
            answer = _part(answer, part)
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(answer, hub)

    def _send(self, answer: Answer, hub: Hub) -> None:
        body = answer.body
        if answer.content and hub.cuts:
            body = body[: hub.cuts.pop(0)]
            self.close_connection = True
        elif answer.content and hub.wait_after is not None:
            self.wfile.write(body[: hub.wait_after])
            hub.go_on.wait(30)
            body = body[hub.wait_after :]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        del format, args


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run a hub on a free port of the loopback."""
    server = Server(hub)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
