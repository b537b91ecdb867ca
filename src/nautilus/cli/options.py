"""Options of every command that talks to a server."""

from typing import Annotated, Final

import typer

from nautilus.errors import BadRequestError

HERE: Final = "http://127.0.0.1:8000"

UrlOption = Annotated[str, typer.Option(envvar="NAUTILUS_URL", help="The server.")]
KeyOption = Annotated[
    str | None, typer.Option(envvar="NAUTILUS_API_KEY", help="Your key, where the server asks for one.")
]


def authorization(key: str | None) -> dict[str, str]:
    """Return the header that carries a key, if there is one. Raises BadRequestError for what can't be one."""
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadRequestError("The key has characters that no key has; look at --api-key and NAUTILUS_API_KEY.")
    return {"Authorization": f"Bearer {key}"}
