"""Webhooks that were given up are seen, and sent again, by those whose they are; a deleted job takes its own along."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from nautilus.jobs.webhook import WebhookSettings
from nautilus.outside.limits import OutsideLimits
from nautilus.settings import Settings
from tests.jobs.receiver import SECRET, Receiver, receiving
from tests.web.jobs import JOBS, done, submit, until, working

DELIVERIES = "/v1/webhooks/deliveries"
GONE = 410


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("webhooks")


@pytest.fixture(scope="module")
def client(settings: Settings, place: Path) -> Iterator[httpx.Client]:
    limits = OutsideLimits(networks=(ip_network("127.0.0.0/8"),), ports=())
    with working(settings, place, outside=limits, webhooks=WebhookSettings((SecretStr(SECRET),))) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def rows(place: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place / "nautilus.db")) as database:
        found = database.execute(query, values).fetchall()
        database.commit()
        return found


def dead(client: httpx.Client, receiver: Receiver) -> dict[str, Any]:
    """Let a webhook be given up; its document."""
    receiver.status = GONE
    job = submit(client, 1.0, webhook_url=receiver.url)["id"]
    done(client, job)

    def letters() -> list[dict[str, Any]]:
        found = client.get(DELIVERIES, params={"status": "dead"}).raise_for_status().json()["data"]
        return [letter for letter in found if letter["job"] == job]

    until(lambda: bool(letters()))
    return letters()[0]


def test_a_dead_letter_is_listed_and_sent_again_with_its_id(client: httpx.Client, receiver: Receiver) -> None:
    letter = dead(client, receiver)
    assert (letter["status"], letter["url"], letter["attempts"]) == ("dead", receiver.url, 1)
    assert "410" in letter["error"]
    receiver.status = 204
    answer = client.post(f"{DELIVERIES}/{letter['id']}/redeliver")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    until(lambda: len(receiver.told) == 2)
    assert receiver.ids(letter["job"]) == [letter["id"]] * 2
    assert letter["id"] not in client.get(DELIVERIES).text


def test_the_newest_letters_come_first_in_pages(client: httpx.Client, receiver: Receiver) -> None:
    older, newer = dead(client, receiver)["id"], dead(client, receiver)["id"]
    page = client.get(DELIVERIES, params={"limit": 1}).json()
    assert ([letter["id"] for letter in page["data"]], page["has_more"]) == ([newer], True)
    following = client.get(DELIVERIES, params={"limit": 1, "after": page["last_id"]}).json()
    assert following["data"][0]["id"] == older


def test_letters_of_others_are_nobodys_business(client: httpx.Client, receiver: Receiver, place: Path) -> None:
    letter = dead(client, receiver)["id"]
    rows(place, "update deliveries set tenant = 'another' where id = ?", letter)
    assert letter not in client.get(DELIVERIES).text
    refused = client.post(f"{DELIVERIES}/{letter}/redeliver")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "delivery_not_found")


def test_what_is_no_status_is_refused(client: httpx.Client) -> None:
    assert client.get(DELIVERIES, params={"status": "lost"}).json()["error"]["param"] == "status"


def test_a_deleted_job_takes_its_webhooks_along_and_leaves_its_name_in_the_audit(
    client: httpx.Client, receiver: Receiver, place: Path
) -> None:
    job = dead(client, receiver)["job"]
    assert client.delete(f"{JOBS}/{job}").is_success
    assert rows(place, "select id from deliveries where job = ?", job) == []
    assert rows(place, "select tenant, actor, action from audit where subject = ?", job) == [
        ("default", "tenant:default", "job deleted")
    ]


def test_a_webhook_on_its_way_outlives_its_job(client: httpx.Client, receiver: Receiver, place: Path) -> None:
    receiver.status = 503
    job = submit(client, 1.0, webhook_url=receiver.url)["id"]
    done(client, job)
    until(lambda: bool(receiver.told))
    client.delete(f"{JOBS}/{job}")
    assert rows(place, "select status from deliveries where job = ?", job) == [("pending",)]
