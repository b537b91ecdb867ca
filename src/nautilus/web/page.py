"""The page at `/`: captions of a microphone and transcripts of files, for people. A few small files, kept in memory."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

FOLDER: Final = Path(__file__).parent / "static"
KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
NOTHING_ELSE: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""What the page may load and ask: this server."""


def _answering(path: Path) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a file, as long as a browser has not this one already."""
    content = path.read_bytes()
    tag = f'"{sha256(content).hexdigest()[:16]}"'
    # Asked for again each time, which costs nothing: an older script never meets a newer page.
    headers = {"etag": tag, "cache-control": "no-cache", "content-security-policy": NOTHING_ELSE}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers | {"content-type": KINDS[path.suffix]})

    return answer


router.add_api_route("/", _answering(FOLDER / "index.html"))
for _file in sorted(FOLDER.iterdir()):
    router.add_api_route(f"/static/{_file.name}", _answering(_file))
