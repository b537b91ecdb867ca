"""Rows of webhooks, as tests write and read them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.jobs.deliveries import Notice, enqueue
from nautilus.jobs.job import Job
from nautilus.jobs.rows import OnEnd
from nautilus.jobs.webhook import payload
from nautilus.storage.database import Database
from nautilus.storage.tables import deliveries

START = 1_800_000_000.0
Line = Row[*tuple[Any, ...]]


def notice(url: str, job: str = "job_1", tenant: str = "ours") -> Notice:
    return Notice(tenant, job, 1, "completed", url, payload("completed", {"id": job}, START))


async def write(database: Database, *notices: Notice, now: float = START) -> None:
    async with database.begin() as connection:
        for one in notices:
            await enqueue(connection, one, now)


async def rows(database: Database) -> Sequence[Line]:
    async with database.begin() as connection:
        return (await connection.execute(select(deliveries).order_by(deliveries.c.job))).all()


async def _promise(connection: AsyncConnection, job: Job) -> None:
    del connection, job


NOBODY = OnEnd(_promise, lambda job: None)  # noqa: ARG005 - told of a job's end, and does nothing
