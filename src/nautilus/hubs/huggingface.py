"""What the Hugging Face hub has: its API's list of a repository's files at a commit."""

from typing import Any
from urllib.parse import quote

import httpx

from nautilus.errors import ModelLoadError
from nautilus.hubs.client import check_status
from nautilus.hubs.offer import Offer, RemoteFile, useful
from nautilus.hubs.source import Source


def offer(client: httpx.Client, name: str, source: Source, endpoint: str) -> Offer:
    """Ask what there is for a source. Raises ModelLoadError, httpx.HTTPError."""
    revision = f"/revision/{quote(source.revision, safe='')}" if source.revision else ""
    answer = client.get(f"{endpoint}/api/models/{source.repository}{revision}", params={"blobs": "true"})
    check_status(answer, source)
    try:
        found: dict[str, Any] = answer.json()
        commit = str(found["sha"])
        base = f"{endpoint}/{source.repository}/resolve/{commit}"
        files = tuple(_file(sibling, base) for sibling in found["siblings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{endpoint} does not answer as the Hugging Face hub does. Check HF_ENDPOINT.") from error
    return Offer(name, source, commit, useful(files, source))


def _file(sibling: dict[str, Any], base: str) -> RemoteFile:
    path, large = str(sibling["rfilename"]), sibling.get("lfs") or {}
    return RemoteFile(
        path=path,
        url=f"{base}/{quote(path)}",
        size=int(large.get("size", sibling["size"])),
        sha256=large.get("sha256"),
        git=None if large else sibling.get("blobId"),
    )
