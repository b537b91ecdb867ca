"""A running server, as the command line asks it about jobs."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import httpx

from nautilus.cli.options import authorization
from nautilus.errors import BadRequestError, NautilusError, OverloadedError

JOBS: Final = "/v1/audio/transcriptions/jobs"
PATIENCE: Final = httpx.Timeout(60.0, connect=10.0, write=None)
"""Seconds of silence that are borne; the server says something every 15 s while it tells events."""
PAGE: Final = 1000


class UnreachableError(BadRequestError):
    """No server answers, or the connection broke."""


class JobServer:
    """Asks one server. Every method raises NautilusError with the server's own words, or UnreachableError."""

    def __init__(self, url: str, key: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadRequestError(f"--url must begin with http:// or https://, not '{url}'.")
        self._url = url.rstrip("/")
        self._http = httpx.Client(base_url=self._url, headers=authorization(key), timeout=PATIENCE)
        self._stores = httpx.Client(timeout=PATIENCE)
        """For addresses of stores, which must not see the key."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._stores.close()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return a JSON document."""
        return self._json("GET", path, params=_given(query))

    def text(self, path: str, **query: Any) -> str:
        """Return an answer as it is."""
        with self._told():
            answer = self._http.get(path, params=_given(query))
        _check(answer)
        return answer.text

    def lines(self, path: str, **query: Any) -> Iterator[str]:
        """Give the lines of a long answer as they come."""
        with self._told(), self._http.stream("GET", path, params=_given(query)) as answer:
            if answer.is_error:
                answer.read()
                _check(answer)
            yield from answer.iter_lines()

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """Send JSON, or nothing; return the document that comes back."""
        return self._json("POST", path, json=body)

    def delete(self, path: str) -> dict[str, Any]:
        """Delete something."""
        return self._json("DELETE", path)

    def send(self, method: str, url: str, chunks: Iterator[bytes], headers: Mapping[str, str]) -> bytes:
        """Send a body piece by piece to a path of the server, or to a store's address; return the answer."""
        own = url.startswith(("/", self._url + "/"))
        with self._told():
            answer = (self._http if own else self._stores).request(method, url, content=chunks, headers=headers)
        _check(answer)
        return answer.content

    def files(self, job: str) -> Iterator[dict[str, Any]]:
        """Give the documents of all files of a job."""
        after = -1
        while True:
            page = self.get(f"{JOBS}/{job}/files", after=after, limit=PAGE)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["last_id"]

    def events(self, job: str, after: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give the numbers and the data of events behind number `after`, until the server ends the stream."""
        headers = {"Last-Event-ID": str(after)}
        with self._told(), self._http.stream("GET", f"{JOBS}/{job}/events", headers=headers) as answer:
            if answer.is_error:
                answer.read()
                _check(answer)
            number = after
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "data":
                    yield number, json.loads(value)

    def _json(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        with self._told():
            answer = self._http.request(method, path, **sent)
        _check(answer)
        try:
            return dict(answer.json())
        except ValueError:
            raise UnreachableError(f"What answers at {self._url} is no Nautilus server.") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one sentence why nothing came back."""
        try:
            yield
        except httpx.ConnectError as error:
            raise UnreachableError(f"There is no server at {self._url}: {error}") from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise UnreachableError(f"The connection to {self._url} broke: {error or type(error).__name__}") from None


def _check(answer: httpx.Response) -> None:
    """Raise what the server refused with."""
    if not answer.is_error:
        return
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = f"The server answered {answer.status_code}: {answer.text[:200]}"
    if answer.status_code in (429, 503):
        raise _Busy(message)
    raise BadRequestError(message)


class _Busy(OverloadedError):  # noqa: N818 - a name for what the server said
    """The server asks for patience, in its own words."""

    def __init__(self, message: str) -> None:
        NautilusError.__init__(self, message)
        self.retry_after = 1.0


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
