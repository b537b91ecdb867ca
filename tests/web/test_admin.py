"""`/v1/admin/keys`: what it shows and what it refuses."""

from typing import Any

import httpx
import pytest

from tests.web.test_access import ADMIN, administer, bearer, guarded, made

__all__ = ["guarded"]


def test_a_key_is_shown_once(guarded: str) -> None:
    key = made(guarded, tenant="acme", scopes=["jobs"], limits={"streams": 2}, expires_in=3600)
    assert key["key"].startswith(key["prefix"] + "_")
    assert (key["tenant"], key["scopes"], key["limits"]) == ("acme", ["jobs"], {"streams": 2})
    assert key["expires_at"] - key["created_at"] == 3600
    assert (key["status"], key["revoked_at"], key["used_at"]) == ("valid", None, None)
    listed = administer(guarded, "GET", "?tenant=acme")["data"]
    assert {name: value for name, value in key.items() if name != "key"} in listed
    assert key["key"] not in str(listed)
    assert administer(guarded, "GET", "?tenant=nobody")["data"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a", "tenant": "../b"}, "tenant"),
        ({"name": "a", "scopes": []}, "scopes"),
        ({"name": "a", "scopes": ["root"]}, "scopes"),
        ({"name": "a", "limits": {"request": 1}}, "limits"),
        ({"name": "a", "expires_in": 0}, "expires_in"),
        ({"name": "a", "expires_in": 1e300}, "expires_in"),
    ],
)
def test_a_mistake_is_named(guarded: str, body: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{guarded}/v1/admin/keys", headers=bearer(ADMIN), json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/key_none"), ("POST", "/key_none/rotate")])
def test_what_is_not_there_can_not_be_changed(guarded: str, method: str, path: str) -> None:
    answer = httpx.request(method, f"{guarded}/v1/admin/keys{path}", headers=bearer(ADMIN))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "key_not_found")


def test_a_key_that_has_ended_is_not_rotated(guarded: str) -> None:
    key = made(guarded)
    administer(guarded, "DELETE", f"/{key['id']}")
    answer = httpx.post(f"{guarded}/v1/admin/keys/{key['id']}/rotate", headers=bearer(ADMIN))
    assert answer.status_code == 404
