"""`/v1/admin/keys`: the keys of the database, for who has a key with the scope `admin`."""

import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query

from nautilus.access import store
from nautilus.access.document import key_document
from nautilus.access.keys import NO_TENANT, USUAL_SCOPES, check_limits, check_name, check_scopes, check_tenant
from nautilus.access.store import Made, Wanted
from nautilus.errors import BadRequestError
from nautilus.web.deps import CallerDep, CoreDep
from nautilus.web.examples import answer, error
from nautilus.web.schemas import ref

router = APIRouter(prefix="/v1/admin/keys", tags=["keys"])

MOST_SECONDS: Final = 100 * 366 * 86400

_SHOWN: Final = {
    "id": "key_019f04c2a1b35d0c8e7f6a5b4c3d2e1f00",
    "object": "key",
    "name": "the web shop",
    "tenant": "shop",
    "prefix": "nau_k7mz3q9w",
    "scopes": list(USUAL_SCOPES),
    "limits": {"requests_per_minute": 60},
    "status": "valid",
    "created_at": 1795456800,
    "expires_at": None,
    "revoked_at": None,
    "used_at": None,
}
_EXAMPLE: Final = _SHOWN | {"key": "nau_k7mz3q9w_…"}
_NO_KEY: Final = {"description": "No such key."} | error(
    "There is no key x that could be changed. GET /v1/admin/keys lists all.", "key_not_found", "id"
)


@dataclass(frozen=True, slots=True)
class NewKeyBody:
    """What a new key is to be like."""

    name: str
    tenant: str = NO_TENANT
    scopes: list[str] = field(default_factory=lambda: list(USUAL_SCOPES))
    limits: dict[str, Any] = field(default_factory=dict)
    expires_in: float | None = None
    """Seconds for which it is valid; null: until it is revoked."""


@dataclass(frozen=True, slots=True)
class RotateBody:
    """How a key is replaced."""

    grace: float = store.USUAL_GRACE
    """Seconds for which the old key stays valid."""


@router.post("", status_code=201, responses={201: answer("The key.", ref("Key"), _EXAMPLE)})
async def create(core: CoreDep, caller: CallerDep, body: NewKeyBody) -> dict[str, Any]:
    """Make a key. It is in this answer and nowhere else: the server keeps its digest only."""
    wanted = wanted_key(body, time.time())
    return _shown_once(await store.create(core.office.place.database, wanted, caller.name, time.time()))


@router.get("", responses={200: answer("The keys.", ref("Keys"), {"object": "list", "data": [_SHOWN]})})
async def keys(core: CoreDep, tenant: Annotated[str | None, Query()] = None) -> dict[str, Any]:
    """List the keys of the database, the oldest first; those of the settings are not among them."""
    found = await store.listed(core.office.place.database, tenant)
    return {"object": "list", "data": [key_document(key, time.time()) for key in found]}


@router.delete("/{key_id}", responses={200: answer("The key, ended.", ref("Key"), _SHOWN), 404: _NO_KEY})
async def revoke(core: CoreDep, caller: CallerDep, key_id: str) -> dict[str, Any]:
    """End a key: at once on this server, within two seconds on the others."""
    key = await store.revoke(core.office.place.database, key_id, caller.name, time.time())
    core.keyring.forget()
    return key_document(key, time.time())


@router.post(
    "/{key_id}/rotate", status_code=201, responses={201: answer("The new key.", ref("Key"), _EXAMPLE), 404: _NO_KEY}
)
async def rotate(
    core: CoreDep, caller: CallerDep, key_id: str, body: Annotated[RotateBody | None, Body()] = None
) -> dict[str, Any]:
    """Make a key like this one, which stays valid for a day, or for `grace` seconds."""
    grace = check_seconds((body or RotateBody()).grace, "grace", least=0)
    made = await store.rotate(core.office.place.database, key_id, caller.name, time.time(), grace)
    core.keyring.forget()
    return _shown_once(made)


def wanted_key(body: NewKeyBody, now: float) -> Wanted:
    """Return what is asked for. Raises BadRequestError."""
    return Wanted(
        tenant=check_tenant(body.tenant),
        name=check_name(body.name),
        scopes=check_scopes(body.scopes),
        limits=check_limits(body.limits),
        expires_at=None if body.expires_in is None else now + check_seconds(body.expires_in, "expires_in", least=1),
    )


def check_seconds(given: float, param: str, least: float) -> float:
    """Return seconds that a clock can count. Raises BadRequestError."""
    if not least <= given <= MOST_SECONDS:
        raise BadRequestError(f"{param} must be from {least:g} to {MOST_SECONDS} seconds.", param)
    return given


def _shown_once(made: Made) -> dict[str, Any]:
    return key_document(made.key, made.key.created_at) | {"key": made.value}
