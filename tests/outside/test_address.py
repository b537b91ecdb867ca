import socket
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from nautilus.errors import AddressRefusedError, FetchError, FetchRefusedError
from nautilus.outside.address import addresses, is_allowed, parse, system_resolver
from nautilus.outside.limits import OutsideLimits
from tests.outside.server import LOOPBACK, Names

USUAL = OutsideLimits()
PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808", "2002:808:808::1")
CLOSED = (
    "0.0.0.0",  # noqa: S104 - to refuse it
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_allowed(text: str) -> None:
    assert is_allowed(ip_address(text), USUAL)


@pytest.mark.parametrize("text", CLOSED)
def test_other_addresses_are_not(text: str) -> None:
    assert not is_allowed(ip_address(text), USUAL)


def test_a_network_is_opened_by_a_setting_and_no_other_with_it() -> None:
    open_one = OutsideLimits(networks=(ip_network("10.1.0.0/16"),))
    assert is_allowed(ip_address("10.1.2.3"), open_one)
    assert is_allowed(ip_address("::ffff:10.1.2.3"), open_one)
    assert not is_allowed(ip_address("10.2.0.1"), open_one)
    assert not is_allowed(ip_address("127.0.0.1"), open_one)


@pytest.mark.parametrize("text", ["169.254.169.254", "::ffff:169.254.169.254", "168.63.129.16", "100.100.100.200"])
def test_no_setting_opens_what_clouds_keep_secrets_on(text: str) -> None:
    assert not is_allowed(ip_address(text), OutsideLimits(networks=(ip_network("0.0.0.0/0"), ip_network("::/0"))))


@pytest.mark.parametrize("text", ["93.184.216.34", "64:ff9b::5db8:d822"])
def test_a_public_network_is_closed_by_a_setting(text: str) -> None:
    assert not is_allowed(ip_address(text), OutsideLimits(refused_networks=(ip_network("93.184.216.0/24"),)))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("https://media.example/a.wav?key=1#part", "https://media.example/a.wav?key=1"),
        ("HTTPS://Media.Example:443/A", "https://media.example/A"),
        ("https://media.example?x=1", "https://media.example/?x=1"),
        ("https://bücher.example/ton.wav", "https://xn--bcher-kva.example/ton.wav"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://media.example./", "https://media.example./"),
        ("http://8.8.8.8:8080/", "http://8.8.8.8:8080/"),
        ("https://[2606:2800:220:1:248:1893:25c8:1946]/", "https://[2606:2800:220:1:248:1893:25c8:1946]/"),
        ("https://media.example/%0d%0aX-Evil:%201", "https://media.example/%0d%0aX-Evil:%201"),
    ],
)
def test_urls_are_read_in_one_way(text: str, read: str) -> None:
    assert str(parse(text, USUAL)) == read


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ftp://media.example/", "begin with https"),
        ("file:///etc/passwd", "begin with https"),
        ("//media.example/", "begin with https"),
        ("media.example", "begin with https"),
        ("", "begin with https"),
        ("http:media.example", "not a name"),
        ("http:///a", "not a name"),
        ("https://user:secret@media.example/", "user name or password"),
        ("https://user@media.example/", "user name or password"),
        ("https://media.example\\@127.0.0.1/", "backslash"),
        ("https://media.example/a b", "blanks"),
        ("https://media.example/\r\nX-Evil: 1", "control"),
        ("https://media.example\t/", "control"),
        ("https://media.example/\x00", "control"),
        ("https://media.example/\u2028", "control"),
        ("https://media.example%0d%0a/", "not a name"),
        ("https://a..example/", "not a name"),
        ("https://-a.example/", "not a name"),
        ("https://①②⑦.0.0.1/", "not a valid URL"),
        ("http://[::1/", "not a valid URL"),
        ("https://media.example/\ud800", "not a valid URL"),
        ("https://\ud800.example/", "not a valid URL"),
        ("https://media.example:22/", "port 22"),
        ("https://media.example:0/", "port 0"),
        ("https://media.example:99999/", "port 99999"),
        ("https://media.example/" + "a" * 9000, "longer than"),
        ("http://2130706433/", "four numbers"),
        ("http://0x7f000001/", "four numbers"),
        ("http://0x7f.1/", "four numbers"),
        ("http://127.1/", "four numbers"),
        ("http://127.0.0.1./", "four numbers"),
        ("http://0177.0.0.1/", "not a valid URL"),
        ("http://127.0.0.1/", "public"),
        ("http://127。0。0。1/", "public"),  # IDNA takes these full stops for dots
        ("http://[::1]/", "public"),
        ("http://[::ffff:127.0.0.1]/", "public"),
        ("http://[::ffff:7f00:1]/", "public"),
        ("http://[fe80::1%25eth0]/", "not a name"),
    ],
)
def test_a_refusal_says_why_and_blames_the_field(text: str, why: str) -> None:
    with pytest.raises(AddressRefusedError, match=why) as refused:
        parse(text, USUAL, "webhook_url")
    assert refused.value.param == "webhook_url"


def test_an_empty_list_of_ports_allows_all() -> None:
    limits = OutsideLimits(ports=())
    assert parse("http://media.example:22/", limits).port == 22
    with pytest.raises(AddressRefusedError, match="no port 70000"):
        parse("http://media.example:70000/", limits)


async def test_a_name_is_looked_up_once_and_gives_all_its_addresses() -> None:
    names = Names(media_example=[["93.184.216.34", "8.8.8.8", "8.8.8.8"]])
    assert await addresses("media.example", 443, USUAL, names) == ["93.184.216.34", "8.8.8.8"]
    assert names.asked == ["media.example"]


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"], ["fe80::1%eth0"]])
async def test_one_refused_address_refuses_the_name(found: list[str]) -> None:
    with pytest.raises(AddressRefusedError, match=r"localtest\.me cannot be used") as refused:
        await addresses("localtest.me", 80, USUAL, Names(localtest_me=[found]))
    assert not any(address in str(refused.value) for address in found)


@pytest.mark.parametrize("found", [[], ["8.8.8.8"] * 0, [f"8.8.{number}.8" for number in range(65)]])
async def test_no_addresses_or_far_too_many_are_refused(found: list[str]) -> None:
    with pytest.raises(FetchRefusedError, match="addresses"):
        await addresses("media.example", 80, USUAL, Names(media_example=[found]))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), FetchRefusedError),
        (socket.gaierror(socket.EAI_AGAIN, "later"), FetchError),
        (UnicodeError("label too long"), FetchRefusedError),
    ],
)
async def test_unknown_names_are_told_from_names_that_nobody_could_look_up(
    error: Exception, kind: type[Exception]
) -> None:
    async def resolve(_: str, __: int, /) -> Sequence[str]:
        raise error

    with pytest.raises(kind, match=r"media\.example"):
        await addresses("media.example", 80, USUAL, resolve)


async def test_the_system_looks_up_names_and_odd_numbers_which_are_checked_then() -> None:
    assert "127.0.0.1" in await addresses(
        "localhost", 80, OutsideLimits((*LOOPBACK, ip_network("::1"))), system_resolver
    )
    for odd in ("2130706433", "0x7f.1", "0177.0.0.1", "127.1"):
        with pytest.raises(AddressRefusedError):
            await addresses(odd, 80, USUAL, system_resolver)
