import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection
from standardwebhooks import Webhook

from nautilus.errors import StorageError
from nautilus.jobs.courier import SPARE, Courier, Transactions, choose, full_origins
from nautilus.jobs.deliveries import Delivery, list_dead, redeliver
from nautilus.jobs.webhook import SCHEDULE, WebhookSettings, payload
from nautilus.outside.door import Outside
from nautilus.outside.limits import OutsideLimits
from nautilus.storage.database import Database, open_database
from tests.conftest import ROOT
from tests.jobs.rows import START, Line, notice, rows, write
from tests.outside.server import HERE, Names, Request, always, head, serving

SECRET = SecretStr("whsec_" + base64.b64encode(b"s" * 32).decode())
SETTINGS = WebhookSettings((SECRET,), timeout=5.0, poll_seconds=60.0)
HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time


class Switch:
    """A receiver that answers with one status until it is told another."""

    def __init__(self, status: int, **headers: object) -> None:
        self.status = status
        self.headers = headers

    async def __call__(self, _: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(self.status, Content_Length=0, **self.headers))


async def eventually(check: Callable[[Sequence[Line]], bool], database: Database) -> Sequence[Line]:
    """Wait until the rows are so."""
    while True:
        found = await rows(database)
        if check(found):
            return found
        await asyncio.sleep(0.005)


async def until(database: Database, **values: object) -> Line:
    """Wait until the only row is so."""
    (row,) = await eventually(lambda found: all(getattr(found[0], name) == values[name] for name in values), database)
    return row


def delivered(number: int) -> Callable[[Sequence[Line]], bool]:
    return lambda found: sum(row.status == "delivered" for row in found) == number


@asynccontextmanager
async def courier(
    database: Transactions,
    now: Clock,
    settings: WebhookSettings = SETTINGS,
    limits: OutsideLimits = HERE,
    names: Names | None = None,
) -> AsyncIterator[Courier]:
    async with Outside(limits, names or Names()) as outside, asyncio.TaskGroup() as group:
        one = Courier(database, outside, settings, now=now, chance=lambda: 0.0)
        task = group.create_task(one.run())
        yield one
        task.cancel()


async def test_a_webhook_arrives_signed(database: Database) -> None:
    clock = Clock()
    clock.time = time.time()
    async with serving(Switch(204)) as receiver, courier(database, clock) as one:
        await write(database, notice(f"{receiver.url}/ended?a=1"), now=clock.time)
        one.wake()
        row = await until(database, status="delivered")
    (request,) = receiver.requests
    assert (request.method, request.target) == ("POST", "/ended?a=1")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == row.id
    told = Webhook(SECRET.get_secret_value()).verify(request.body, request.headers)
    assert told == json.loads(payload("completed", {"id": "job_1"}, START))
    assert (row.attempts, row.delivered_at, row.error) == (1, clock.time, None)


async def test_the_receiver_of_the_documents_takes_it(database: Database) -> None:
    clock, example = Clock(), ROOT / "docs" / "examples" / "receive_webhooks.py"
    clock.time = time.time()
    program = (sys.executable, str(example), SECRET.get_secret_value(), "0")
    receiver = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    assert receiver.stdout is not None
    try:
        port = int((await receiver.stdout.readline()).split()[-1])
        async with courier(database, clock) as one:
            await write(database, notice(f"http://127.0.0.1:{port}/"), now=clock.time)
            one.wake()
            await until(database, status="delivered")
        assert await receiver.stdout.readline() == b"transcription.job.completed job_1\n"
    finally:
        receiver.terminate()
        await receiver.wait()


async def test_a_receiver_down_for_an_hour_gets_it_with_the_same_id(database: Database) -> None:
    clock, switch = Clock(), Switch(503)
    async with serving(switch) as receiver, courier(database, clock) as one:
        await write(database, notice(receiver.url))
        one.wake()
        waited: list[float] = []
        while clock.time < START + HOUR:
            attempt = len(waited) + 1
            row = await until(database, attempts=attempt, due_at=clock.time + SCHEDULE[attempt])
            waited.append(row.due_at - clock.time)
            clock.time = row.due_at
            if clock.time > START + HOUR:
                switch.status = 200
            one.wake()
        row = await until(database, status="delivered")
    assert waited == [5.0, 300.0, 1800.0, 7200.0]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    stamps = [int(request.headers["webhook-timestamp"]) - START for request in receiver.requests]
    assert stamps == [0.0, 5.0, 305.0, 2105.0, 9305.0]
    assert row.attempts == 5


async def test_nothing_is_sent_before_it_is_due(database: Database) -> None:
    clock, switch = Clock(), Switch(200)
    async with serving(switch) as receiver, courier(database, clock) as one:
        await write(database, notice(receiver.url), now=START + 10)
        one.wake()
        await until(database, attempts=0)
        clock.time += 10
        one.wake()
        await until(database, status="delivered")
    assert len(receiver.requests) == 1


async def test_it_wakes_by_itself_when_one_becomes_due(database: Database) -> None:
    clock = Clock()
    async with serving(always(200)) as receiver:
        await write(database, notice(receiver.url), now=START + 0.05)
        async with courier(database, clock):
            await until(database, attempts=0)
            clock.time += 1
            await until(database, status="delivered")


async def test_retry_after_is_honoured(database: Database) -> None:
    clock = Clock()
    async with serving(Switch(429, Retry_After=7200)) as receiver, courier(database, clock) as one:
        await write(database, notice(receiver.url))
        one.wake()
        row = await until(database, error="The receiver answered 429.")
    assert row.due_at == START + 7200


@pytest.mark.parametrize(
    ("status", "location"), [(301, "http://127.0.0.1:1/"), (307, "http://10.0.0.1/"), (308, "/elsewhere")]
)
async def test_a_redirect_is_not_followed(database: Database, status: int, location: str) -> None:
    async with serving(Switch(status, Location=location)) as receiver, courier(database, Clock()) as one:
        await write(database, notice(receiver.url))
        one.wake()
        await until(database, status="pending", error=f"The receiver answered {status}.")
    assert len(receiver.requests) == 1


async def test_dead_letters_are_listed_and_sent_again_with_the_same_id(database: Database) -> None:
    clock, switch = Clock(), Switch(410)
    async with serving(switch) as receiver, courier(database, clock) as one:
        await write(database, notice(receiver.url))
        one.wake()
        await until(database, status="dead")
        async with database.begin() as connection:
            (letter,) = await list_dead(connection, "ours")
            assert await list_dead(connection, "theirs") == []
            assert await list_dead(connection, None) == [letter]
            assert await list_dead(connection, None, after=letter.id) == []
            assert not await redeliver(connection, letter.id, "theirs", START)
            assert not await redeliver(connection, "msg_other", None, START)
        switch.status = 200
        async with database.begin() as connection:
            assert await redeliver(connection, letter.id, "ours", START)
            assert not await redeliver(connection, letter.id, "ours", START), "it is on its way"
        one.wake()
        await until(database, status="delivered")
    assert (letter.tenant, letter.job, letter.attempts) == ("ours", "job_1", 1)
    assert letter.error == "The receiver answered 410: it wants no more of these."
    assert {request.headers["webhook-id"] for request in receiver.requests} == {letter.id}


@pytest.mark.parametrize("found", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
async def test_a_name_that_leads_inside_by_now_is_dead_at_once(database: Database, found: str) -> None:
    names = Names(evil_example=[[found]])
    async with courier(database, Clock(), limits=OutsideLimits(), names=names) as one:
        await write(database, notice("https://evil.example/"))
        one.wake()
        row = await until(database, status="dead")
    assert "public" in str(row.error)
    assert names.asked == ["evil.example"]


async def test_a_receiver_that_never_answers_is_left(database: Database) -> None:
    stop = asyncio.Event()

    async def answer(_: Request, __: asyncio.StreamWriter) -> None:
        await stop.wait()

    settings = replace(SETTINGS, timeout=0.05)
    async with serving(answer) as receiver, courier(database, Clock(), settings) as one:
        await write(database, notice(receiver.url))
        one.wake()
        await until(database, error="The receiver did not answer within 0.05 s.")
        stop.set()


@pytest.mark.parametrize(("piece", "seconds"), [(b"x" * 100_000, 5.0), (b"", 5.0), (b"", 0.3)])
async def test_a_body_that_never_ends_is_a_delivery_all_the_same(
    database: Database, piece: bytes, seconds: float
) -> None:
    hung_up = asyncio.Event()

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200))
        try:
            while True:
                writer.write(piece or b"x")
                await writer.drain()
                await asyncio.sleep(0 if piece else 0.05)
        finally:
            hung_up.set()

    settings = replace(SETTINGS, timeout=seconds)
    async with serving(answer) as receiver, courier(database, Clock(), settings) as one:
        await write(database, notice(receiver.url))
        one.wake()
        await until(database, status="delivered")
        await hung_up.wait()


async def test_two_servers_never_send_the_same(database: Database, database_url: str) -> None:
    clock = Clock()
    settings = replace(SETTINGS, poll_seconds=0.01)
    async with serving(always(200)) as receiver:
        await write(database, *(notice(f"{receiver.url}/{number}", f"job_{number:03}") for number in range(60)))
        async with (
            open_database(database_url) as other,
            courier(database, clock, settings),
            courier(other, clock, settings),
        ):
            await eventually(delivered(60), database)
    assert len(receiver.requests) == 60
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 60


async def test_what_a_killed_server_was_sending_is_sent_again(database: Database) -> None:
    clock, came, stop = Clock(), asyncio.Event(), asyncio.Event()

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        if not came.is_set():
            came.set()
            await stop.wait()
        writer.write(head(200, Content_Length=0))

    async with serving(answer) as receiver:
        await write(database, notice(receiver.url))
        async with courier(database, clock):
            await came.wait()
        row = await until(database, status="pending", attempts=1, due_at=START + SETTINGS.timeout + SPARE)
        async with courier(database, clock) as one:
            await until(database, attempts=1)
            clock.time = row.due_at
            one.wake()
            await until(database, status="delivered", attempts=2)
        stop.set()
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == row.id


async def test_a_failing_host_is_asked_once_at_a_time_and_others_do_not_wait(database: Database) -> None:
    go_on = asyncio.Event()
    inside: list[int] = [0, 0]
    """How many requests the failing host has now, and has had at most."""

    async def fail(_: Request, writer: asyncio.StreamWriter) -> None:
        inside[0] += 1
        inside[1] = max(inside)
        await go_on.wait()
        inside[0] -= 1
        writer.write(head(503, Content_Length=0))

    settings = replace(SETTINGS, at_once=4)
    async with serving(fail) as down, serving(always(200)) as up, courier(database, Clock(), settings) as one:
        go_on.set()
        await write(database, notice(down.url))
        one.wake()
        await until(database, error="The receiver answered 503.")
        go_on.clear()
        await write(database, *(notice(f"{down.url}/{n}", f"job_a{n}") for n in range(10)), now=START - 1)
        await write(database, *(notice(f"{up.url}/{n}", f"job_b{n}") for n in range(10)))
        one.wake()
        await eventually(delivered(10), database)
        assert inside == [1, 1]
        go_on.set()
        await eventually(lambda _: len(down.requests) == 11, database)
    assert inside[1] == 1


@pytest.fixture
def found() -> list[Delivery]:
    urls = ("https://a.example/1", "https://a.example/2", "https://b.example/1", "https://a.example:8443/1")
    return [Delivery(f"msg_{number}", url, "{}", 0) for number, url in enumerate(urls)]


def test_a_host_gets_its_share_and_a_failing_one_a_single_place(found: list[Delivery]) -> None:
    settings = WebhookSettings(at_once_per_host=2)
    a = "https://a.example/"
    assert choose(found, {}, (), settings) == ["msg_0", "msg_1", "msg_2", "msg_3"]
    assert choose(found, {}, {a}, settings) == ["msg_0", "msg_2", "msg_3"]
    assert choose(found, {a: 1}, (), settings) == ["msg_0", "msg_2", "msg_3"]
    assert choose(found, {a: 1}, {a}, settings) == ["msg_2", "msg_3"]
    assert full_origins({a: 1, "https://b.example/": 2}, {a}, settings) == [a, "https://b.example/"]
    assert full_origins({a: 1}, (), settings) == []


class Away:
    """A database that cannot be reached so many times."""

    def __init__(self, database: Database, times: int) -> None:
        self.database = database
        self.times = times

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        self.times -= 1
        if self.times >= 0:
            raise StorageError("away")
        async with self.database.begin() as connection:
            yield connection


async def test_a_courier_outlives_a_database_that_is_away(database: Database) -> None:
    away, settings = Away(database, 3), replace(SETTINGS, poll_seconds=0.01)
    async with serving(always(200)) as receiver:
        await write(database, notice(receiver.url))
        async with courier(away, Clock(), settings):
            await until(database, status="delivered", attempts=1)
    assert len(receiver.requests) == 1


async def test_what_could_not_be_written_down_is_sent_again_and_harms_no_other(database: Database) -> None:
    clock, away = Clock(), Away(database, 0)

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        away.times = 1 if len(receiver.requests) == 1 else 0
        writer.write(head(200, Content_Length=0))

    async with serving(answer) as receiver, courier(away, clock) as one:
        await write(database, notice(receiver.url))
        one.wake()
        await until(database, status="pending", attempts=1)
        await eventually(lambda _: len(receiver.requests) == 1 and away.times < 0, database)
        clock.time += SETTINGS.timeout + SPARE
        one.wake()
        await until(database, status="delivered", attempts=2)
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_without_secrets_nothing_is_sent(database: Database) -> None:
    async with serving(always(200)) as receiver, courier(database, Clock(), WebhookSettings(poll_seconds=60)) as one:
        await write(database, notice(receiver.url))
        one.wake()
        await until(database, attempts=1, error="NAUTILUS_WEBHOOKS__SECRETS is empty.")
    assert receiver.requests == []
