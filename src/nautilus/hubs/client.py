"""Asking a hub: who asks, and what a refusal means to people."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx

import nautilus
from nautilus.errors import ModelLoadError
from nautilus.hubs.source import Source

NGC: Final = "https://api.ngc.nvidia.com"
TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the hubs are and who asks."""

    huggingface: str
    ngc: str = NGC
    token: str | None = field(default=None, repr=False)
    """Of Hugging Face."""
    ngc_key: str | None = field(default=None, repr=False)
    offline: bool = False
    """Nothing may be asked."""

    def headers(self, source: Source) -> dict[str, str]:
        """Return what a request for a source carries."""
        secret = self.token if source.hub == "huggingface" else self.ngc_key
        return {"Authorization": f"Bearer {secret}"} if secret else {}


def usual_access(*, offline: bool) -> Access:
    """Read the variables that the hubs' own tools read: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, NGC_API_KEY."""
    from huggingface_hub import constants, get_token

    return Access(
        huggingface=constants.ENDPOINT,
        ngc=os.environ.get("NGC_ENDPOINT", NGC).rstrip("/"),
        token=get_token(),
        ngc_key=os.environ.get("NGC_API_KEY"),
        offline=offline or constants.HF_HUB_OFFLINE,
    )


@contextmanager
def asking(source: Source, access: Access) -> Iterator[httpx.Client]:
    """Lend a client that may ask for a source. Failures of the network become ModelLoadErrors."""
    headers = {
        "User-Agent": f"nautilus/{nautilus.__version__}",
        "Accept-Encoding": "identity",  # else sizes and ranges are of something that is not the file
        **access.headers(source),
    }
    try:
        with httpx.Client(headers=headers, timeout=TIMEOUT, follow_redirects=True) as client:
            yield client
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        hub = access.huggingface if source.hub == "huggingface" else access.ngc
        raise ModelLoadError(
            f"{source} could not be fetched from {hub} ({str(error) or type(error).__name__}). "
            "Check the network and try again: what has arrived is kept."
        ) from error


def check_status(response: httpx.Response, source: Source) -> None:
    """Raise ModelLoadError, which says what to change, for an answer that is none."""
    if response.is_success:
        return
    code = response.headers.get("X-Error-Code", "")
    where = "the Hugging Face hub" if source.hub == "huggingface" else "NGC"
    secret = "HF_TOKEN" if source.hub == "huggingface" else "NGC_API_KEY"
    match response.status_code, code:
        case _, "RevisionNotFound":
            raise ModelLoadError(f"{source.repository} has no revision '{source.revision}' on {where}.")
        case (404, _) | (_, "RepoNotFound"):
            raise ModelLoadError(
                f"There is no {source} on {where}, or it is private. Check the name; for a private one set {secret}."
            )
        case (401 | 403, _):
            raise ModelLoadError(
                f"{source} may not be fetched by everyone. Accept its terms on its page on {where} and set {secret} "
                "to a token that may read it."
            )
        case (429, _):
            raise ModelLoadError(f"{source}: there were too many requests to {where}. Wait, or set {secret}.")
        case status, _:
            raise ModelLoadError(
                f"{source} could not be fetched: {where} answers {status}. Try again later: what has arrived is kept."
            )
