"""Client secrets: made here, believed here, and for a while only."""

import pytest

from nautilus.access.keys import Caller
from nautilus.access.secrets import ClientSecrets, Granted
from nautilus.errors import UnauthorizedError

CONTENT = {"audio": {"input": {"turn_detection": None}}, "model": "größe"}
CALLER = Caller("acme", "key_1")
GRANTED = Granted(CONTENT, "acme", "key_1")


def test_a_secret_carries_what_it_was_made_with_until_it_expires() -> None:
    clock = [1000.0]
    secrets = ClientSecrets("", now=lambda: clock[0])
    secret = secrets.mint(CONTENT, 60, CALLER)
    assert (secret.value[:3], secret.expires_at) == ("ek_", 1060)
    clock[0] = 1059.9
    assert secrets.read(secret.value) == GRANTED
    clock[0] = 1060.0
    with pytest.raises(UnauthorizedError):
        secrets.read(secret.value)


def test_servers_with_one_key_know_each_other_s_secrets_and_no_others() -> None:
    secret = ClientSecrets("a key").mint(CONTENT, 60, CALLER)
    assert ClientSecrets("a key").read(secret.value) == GRANTED
    for other in (ClientSecrets("another"), ClientSecrets("")):
        with pytest.raises(UnauthorizedError):
            other.read(secret.value)


@pytest.mark.parametrize("change", [lambda v: v[:-1], lambda v: v + "a", lambda v: "ek_" + v[4:], lambda _: "ek_é"])
def test_a_changed_secret_is_none(change: object) -> None:
    secrets = ClientSecrets("")
    value = secrets.mint(CONTENT, 60, CALLER).value
    with pytest.raises(UnauthorizedError):
        secrets.read(change(value))  # type: ignore[operator]  # one of the functions above


def test_no_two_secrets_are_the_same_and_all_fit_in_a_subprotocol() -> None:
    secrets = ClientSecrets("")
    first, second = (secrets.mint(CONTENT, 60, CALLER).value for _ in range(2))
    assert first != second
    assert all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in first)
