"""Multipart bodies as they come: files of any size pass through in chunks and are never held as a whole.

Starlette's own form parser spools each file first, which is right for one recording and wrong for ten thousand.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from nautilus.errors import BadRequestError

MAX_HEADER_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a body. Its data must be read, or skipped, before the next part comes."""

    name: str
    file: str | None
    """The name of the file, if it is one."""
    data: AsyncIterator[bytes]

    async def text(self, at_most: int) -> str:
        """Return the data of a text field. Raises BadRequestError if it is longer than `at_most` bytes."""
        value = bytearray()
        async for chunk in self.data:
            value += chunk
            if len(value) > at_most:
                raise BadRequestError(f"The field '{self.name}' is longer than {at_most} bytes.", self.name)
        return _readable(bytes(value))


@contextmanager
def read_as_form() -> Iterator[None]:
    """Blame the caller for what the parser does not take."""
    try:
        yield
    except FormParserError as error:
        raise BadRequestError(f"The body is no valid multipart/form-data: {str(error)[:200]}.", "file") from error


class Parts:
    """The parts of a request's body, in order."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise BadRequestError("Send the files as multipart/form-data, or addresses as JSON.", "file")
        self._stream = request.stream()
        self._header = self._value = b""
        self._headers: dict[str, str] = {}
        self._begun: deque[str] = deque()
        """What parts that have begun are called by, the Content-Disposition of each."""
        self._events: deque[tuple[str, bytes]] = deque()
        with read_as_form():
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_header_field": self._on_header,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": lambda data, start, end: self._events.append(("data", data[start:end])),
                    "on_part_end": lambda: self._events.append(("end", b"")),
                    "on_end": lambda: self._events.append(("over", b"")),
                },
            )

    async def __aiter__(self) -> AsyncIterator[Part]:
        """Give each part. Raises BadRequestError for a body that is none, or that ends too early."""
        while True:
            event, _ = await self._next()
            if event == "over":
                return
            if event == "begin":
                name, file = self._named()
                data = self._data()
                yield Part(name, file, data)
                async for _ in data:  # what nobody wanted
                    pass

    async def _data(self) -> AsyncIterator[bytes]:
        while True:
            event, data = await self._next()
            if event == "end":
                return
            if data:
                yield data

    async def _next(self) -> tuple[str, bytes]:
        while not self._events:
            try:
                chunk = await anext(self._stream, None)
                if chunk is None:
                    raise BadRequestError("The body ended too early; send it whole.", "file")
                with read_as_form():
                    self._parser.write(chunk)
            except ClientDisconnect:
                raise BadRequestError("The body ended too early; send it whole.", "file") from None
        return self._events.popleft()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._header) + len(self._value) > MAX_HEADER_BYTES:
            raise BadRequestError(f"A header of a part is longer than {MAX_HEADER_BYTES} bytes.", "file")

    def _on_header_end(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        self._begun.append(self._headers.get("content-disposition", ""))
        self._headers.clear()
        self._events.append(("begin", b""))

    def _named(self) -> tuple[str, str | None]:
        _, options = parse_options_header(self._begun.popleft())
        if b"name" not in options:
            raise BadRequestError("A part of the body has no name.", "file")
        file = options.get(b"filename")
        return _readable(options[b"name"]), None if file is None else _readable(file)


def _readable(data: bytes) -> str:
    """Return text that can be stored anywhere: no database keeps a NUL."""
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
