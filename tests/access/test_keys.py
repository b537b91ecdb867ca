"""Keys as values."""

from typing import Any

import pytest

from nautilus.access import keys
from nautilus.access.settings import AccessSettings, Limits, keys_required
from nautilus.errors import BadRequestError, ConfigurationError, UnauthorizedError
from nautilus.jobs.job import NO_TENANT

LIMITS = Limits(requests_per_minute=60, streams=2)


def key(**changes: Any) -> keys.Key:
    made = keys.Key("key_1", "acme", "a key", "abcdefgh", "", ("jobs",), {})
    return keys.Key(**({name: getattr(made, name) for name in made.__dataclass_fields__} | changes))


def test_no_two_keys_are_alike_and_each_is_found_by_its_prefix() -> None:
    made = [keys.make_key() for _ in range(100)]
    assert len({one.value for one in made} | {one.prefix for one in made}) == 200
    assert all(keys.prefix_of(one.value) == one.prefix for one in made)
    assert all(len(one.value.removeprefix(f"nau_{one.prefix}_")) == 43 for one in made)  # 256 bits


def test_only_the_digest_is_kept_and_only_the_whole_key_matches() -> None:
    made = keys.make_key()
    kept = key(prefix=made.prefix, digest=made.digest)
    assert made.value.split("_", 2)[2] not in repr(kept)
    assert kept.matches(made.value)
    assert not kept.matches(made.value[:-1])
    assert not kept.matches(keys.make_key().value)


@pytest.mark.parametrize("value", ["", "sk-test", "nau_", "nau_abcdefgh_short", "nau_abc_" + 43 * "x", "nau_ä"])
def test_what_we_never_made_has_no_prefix(value: str) -> None:
    assert keys.prefix_of(value) is None


@pytest.mark.parametrize("ended", [{"revoked_at": 5.0}, {"expires_at": 10.0}])
def test_a_key_that_has_ended_speaks_for_nobody(ended: dict[str, float]) -> None:
    with pytest.raises(UnauthorizedError):
        keys.caller(key(**ended), LIMITS, now=10.0)


def test_a_key_s_own_limits_go_before_the_usual_ones() -> None:
    caller = keys.caller(key(limits={"streams": 0, "upload_bytes": 9}, expires_at=10.1), LIMITS, now=10.0)
    assert caller == keys.Caller("acme", "key_1", frozenset({"jobs"}), Limits(requests_per_minute=60, upload_bytes=9))


def test_nobody_in_particular_is_the_tenant_of_jobs_without_one_and_no_administrator() -> None:
    assert keys.Caller().tenant == NO_TENANT
    assert "admin" not in keys.Caller().scopes


@pytest.mark.parametrize("tenant", ["", "..", ".hidden", "a/b", "a b", "é", 65 * "a", "a\n"])
def test_a_tenant_s_name_is_safe_in_a_path(tenant: str) -> None:
    with pytest.raises(BadRequestError):
        keys.check_tenant(tenant)


def test_scopes_are_some_of_the_known_ones() -> None:
    assert keys.check_scopes(["jobs", "transcribe", "jobs"]) == ("transcribe", "jobs")
    for wrong in ([], ["everything"]):
        with pytest.raises(BadRequestError, match="transcribe, stream, jobs, admin"):
            keys.check_scopes(wrong)


@pytest.mark.parametrize("limits", [[], {"request": 1}, {"streams": -1}, {"streams": "many"}, {"streams": 1.5}])
def test_a_wrong_limit_is_named(limits: Any) -> None:
    with pytest.raises(BadRequestError, match="limits"):
        keys.check_limits(limits)


@pytest.mark.parametrize(
    ("settings", "host", "required"),
    [
        (AccessSettings(), "127.0.0.1", False),
        (AccessSettings(), "127.8.8.8", False),
        (AccessSettings(), "localhost", False),
        (AccessSettings(), "::1", False),
        (AccessSettings(required=True), "127.0.0.1", True),
        (AccessSettings(), "0.0.0.0", True),  # noqa: S104 - the address in question
        (AccessSettings(), "::", True),
        (AccessSettings(), "", True),
        (AccessSettings(), "example.org", True),
        (AccessSettings(open=True), "0.0.0.0", False),  # noqa: S104 - the address in question
    ],
)
def test_keys_are_asked_for_where_others_than_this_machine_could_come(
    settings: AccessSettings, host: str, required: bool
) -> None:
    assert keys_required(settings, host) is required


def test_open_and_closed_at_once_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="NAUTILUS_ACCESS__OPEN"):
        keys_required(AccessSettings(open=True, required=True), "127.0.0.1")
