"""What NGC has: the one `.nemo` file of a model, at the address that NeMo itself uses.

NGC tells a file's size and its tag, but no checksum that one could compare.
"""

import httpx

from nautilus.errors import ModelLoadError
from nautilus.hubs.client import check_status
from nautilus.hubs.offer import Offer, RemoteFile
from nautilus.hubs.source import Source, check_path


def offer(client: httpx.Client, name: str, source: Source, endpoint: str) -> Offer:
    """Ask what there is for a source. Raises ModelLoadError, httpx.HTTPError."""
    path = check_path(source.file or f"{source.repository.rpartition('/')[2]}.nemo")
    url = f"{endpoint}/v2/models/{source.repository}/versions/{source.revision}/files/{path}"
    # Not HEAD: NGC sends on to addresses that are signed for GET.
    with client.stream("GET", url, headers={"Range": "bytes=0-0"}) as answer:
        check_status(answer, source)
        size, etag = _size(answer), answer.headers.get("ETag")
    if size is None:
        raise ModelLoadError(f"{url} does not tell its size. Check NGC_ENDPOINT.")
    return Offer(name, source, None, (RemoteFile(path, url, size, etag=etag),))


def _size(answer: httpx.Response) -> int | None:
    part = answer.headers.get("Content-Range", "").rpartition("/")[2]
    told = part if answer.status_code == httpx.codes.PARTIAL_CONTENT else answer.headers.get("Content-Length", "")
    return int(told) if told.isdigit() else None
