"""Retention: what is due to go goes, and nothing else."""

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Table, func, insert, select

from nautilus.storage.blobs import Blobs
from nautilus.storage.database import Database
from nautilus.storage.settings import StorageSettings
from nautilus.storage.sweep import (
    BLOBS,
    Swept,
    expired_results,
    expired_uploads,
    old_events,
    old_jobs,
    old_requests,
    orphans,
    sweep,
)
from nautilus.storage.tables import (
    audit,
    deliveries,
    job_events,
    job_files,
    jobs,
    metadata,
    requests,
    uploads,
)

NOW = 1_000_000.0


async def add(database: Database, table: Table, *rows: dict[str, Any]) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(table), list(rows))


async def every(database: Database, *columns: Column[Any]) -> list[tuple[Any, ...]]:
    async with database.reading() as connection:
        return [tuple(row) for row in await connection.execute(select(*columns).order_by(*columns))]


async def count(database: Database, table: Table) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def audits(database: Database) -> list[tuple[Any, ...]]:
    return await every(database, audit.c.tenant, audit.c.action, audit.c.subject)


async def names(blobs: Blobs) -> list[str]:
    return sorted([stored.key async for stored in blobs.listed()])


def job(name: str, status: str, expires_at: float | None) -> dict[str, Any]:
    return {
        "id": name,
        "tenant": "t",
        "status": status,
        "priority": 2,
        "request": {},
        "meta": {},
        "files": 1,
        "created_at": 1.0,
        "expires_at": expires_at,
    }


def file(name: str, number: int = 1, audio: str | None = None, result: str | None = None) -> dict[str, Any]:
    row = {"job": name, "number": number, "name": "a.wav", "status": "completed", "checkpoint": {"text": "words"}}
    return {**row, "blob": audio, "result": result}


def upload(name: str, expires_at: float) -> dict[str, Any]:
    blob = f"t/upload/{name}"
    return {"id": name, "tenant": "t", "name": "a.wav", "blob": blob, "created_at": 1.0, "expires_at": expires_at}


async def test_uploads_past_their_time_go(database: Database, blobs: Blobs) -> None:
    await add(
        database, uploads, upload("old", NOW), upload("taken", NOW - 5), upload("new", NOW + 1), upload("gone", 1)
    )
    await add(database, jobs, job("j", "processing", None))
    await add(database, job_files, file("j", audio="t/upload/taken"))
    for name in ("old", "taken", "new"):
        await blobs.put_bytes(f"t/upload/{name}", b"x")
    assert await expired_uploads(database, blobs, NOW) == 3
    assert await names(blobs) == ["t/upload/new", "t/upload/taken"]
    assert await every(database, uploads.c.id) == [("new",)]
    assert await audits(database) == [("t", "upload expired", name) for name in ("gone", "old", "taken")]


async def test_results_past_their_time_go_and_the_job_says_so(database: Database, blobs: Blobs) -> None:
    due = [job("done", "completed", NOW), job("failed", "failed", NOW - 9), job("stopped", "cancelled", NOW - 9)]
    kept = [job("later", "completed", NOW + 1), job("running", "processing", 1.0), job("ever", "completed", None)]
    await add(database, jobs, *due, *kept)
    for row in (*due, *kept):
        name = row["id"]
        await add(database, job_files, file(name, 1, f"t/audio/{name}", f"t/result/{name}"))
        await add(
            database, job_events, {"job": name, "number": 1, "at": 1.0, "kind": "text", "data": {"text": "words"}}
        )
        await blobs.put_bytes(f"t/audio/{name}", b"x")
        await blobs.put_bytes(f"t/result/{name}", b"x")
    assert await expired_results(database, blobs, NOW) == 3
    assert await names(blobs) == [
        f"t/{kind}/{name}" for kind in ("audio", "result") for name in ("ever", "later", "running")
    ]
    assert await every(database, jobs.c.id, jobs.c.status) == [
        ("done", "expired"),
        ("ever", "completed"),
        ("failed", "expired"),
        ("later", "completed"),
        ("running", "processing"),
        ("stopped", "expired"),
    ]
    async with database.reading() as connection:
        left = select(job_files.c.job).where(job_files.c.checkpoint.is_not(None)).order_by(job_files.c.job)
        assert list((await connection.execute(left)).scalars()) == ["ever", "later", "running"]
    assert await every(database, job_events.c.job) == [("ever",), ("later",), ("running",)]
    assert await audits(database) == [("t", "results expired", name) for name in ("done", "failed", "stopped")]
    assert await expired_results(database, blobs, NOW) == 0


async def test_a_batch_of_many_files_goes_as_a_whole(database: Database, blobs: Blobs) -> None:
    await add(database, jobs, job("j", "completed", NOW))
    await add(database, job_files, *(file("j", number, None, f"t/result/j/{number}") for number in range(450)))
    for number in range(0, 450, 10):
        await blobs.put_bytes(f"t/result/j/{number}", b"x")
    assert (await expired_results(database, blobs, NOW), await names(blobs)) == (1, [])


async def test_expired_jobs_are_forgotten_later_with_all_that_is_theirs(database: Database) -> None:
    await add(database, jobs, job("old", "expired", 10.0), job("new", "expired", 30.0), job("kept", "completed", 10.0))
    await add(database, job_files, file("old"), file("new"))
    hook = {"tenant": "t", "job": "old", "url": "u", "body": "b", "due_at": 1.0, "created_at": 10.0}
    await add(
        database, deliveries, {**hook, "id": "1", "status": "delivered"}, {**hook, "id": "2", "status": "pending"}
    )
    assert await old_jobs(database, 20.0, NOW) == 1
    assert await every(database, jobs.c.id) == [("kept",), ("new",)]
    assert await every(database, job_files.c.job) == [("new",)]
    assert await every(database, deliveries.c.id) == [("2",)]
    assert await audits(database) == [("t", "job forgotten", "old"), ("t", "webhook forgotten", "1")]


async def test_old_events_go_but_not_those_of_jobs_that_run(database: Database) -> None:
    await add(database, jobs, job("done", "completed", None), job("running", "processing", None))
    for name in ("done", "running"):
        rows: list[dict[str, Any]] = [
            {"job": name, "number": n, "at": float(n), "kind": "k", "data": {}} for n in range(450)
        ]
        await add(database, job_events, *rows)
    assert await old_events(database, 440.0, NOW) == 440
    assert await count(database, job_events) == 460
    assert (await audits(database))[-1][:2] == ("*", "events forgotten")


async def test_old_requests_go(database: Database) -> None:
    row = {"request": "r", "tenant": "t", "kind": "request", "model": "m", "seconds": 1, "latency": 1, "status": 200}
    await add(database, requests, *({**row, "at": float(at)} for at in range(450)))
    assert await old_requests(database, 440.0, NOW) == 440
    assert await every(database, requests.c.at) == [(float(at),) for at in range(440, 450)]


def age(folder: Path, at: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (at, at))


async def test_blobs_that_belong_to_nothing_go_once_they_are_old(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    await add(database, jobs, job("j", "completed", None))
    await add(database, job_files, file("j", 1, "t/audio/j", "t/result/j"))
    await add(database, uploads, upload("u", NOW))
    belonging = ["t/audio/j", "t/result/j", "t/upload/u"]
    for name in (*belonging, *(f"u/audio/{number}" for number in range(250))):
        await blobs.put_bytes(name, b"x")
    age(tmp_path / "blobs", 500.0)
    await blobs.put_bytes("t/audio/young", b"x")
    assert await orphans(database, blobs, 400.0, NOW) == 0
    assert await orphans(database, blobs, 1000.0, NOW) == 250
    assert await names(blobs) == sorted([*belonging, "t/audio/young"])
    assert await audits(database) == sorted(("u", "orphan deleted", f"u/audio/{number}") for number in range(250))


async def test_files_that_are_not_ours_stay(database: Database, blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "blobs" / "README").write_text("keep out")
    age(tmp_path / "blobs", 500.0)
    assert await orphans(database, blobs, 1000.0, NOW) == 0
    assert (tmp_path / "blobs" / "README").exists()


def test_every_column_that_names_a_blob_keeps_it_from_being_an_orphan() -> None:
    named = {column for table in metadata.tables.values() for column in table.c if column.name in {"blob", "result"}}
    assert set(BLOBS) == named


async def test_a_sweep_does_all_of_it_and_the_next_one_nothing(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    row = {"request": "r", "tenant": "t", "kind": "request", "model": "m", "seconds": 1, "latency": 1, "status": 200}
    now = 100 * 365 * 86400.0
    await add(database, uploads, upload("u", 1.0))
    await add(database, requests, {**row, "at": 1.0})
    await add(database, jobs, job("j", "completed", 1.0), job("k", "completed", now - 1), job("l", "completed", None))
    await add(database, job_events, {"job": "l", "number": 1, "at": 1.0, "kind": "k", "data": {}})
    await blobs.put_bytes("t/audio/orphan", b"x")
    age(tmp_path / "blobs", 1.0)
    settings = StorageSettings(data_dir=tmp_path)
    assert await sweep(database, blobs, settings, now) == Swept(
        uploads=1, results=2, jobs=1, events=1, requests=1, orphans=1
    )
    assert await sweep(database, blobs, settings, now) == Swept(0, 0, 0, 0, 0, 0)
    assert await every(database, jobs.c.id, jobs.c.status) == [("k", "expired"), ("l", "completed")]
