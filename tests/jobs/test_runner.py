"""What becomes of a job's files, whatever the world around them does; in databases of each kind."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nautilus.assembly import Core, assemble
from nautilus.errors import FetchError, FetchRefusedError, StorageError, UnknownModelError
from nautilus.hearing import Task
from nautilus.jobs.job import Job, JobLimits, JobRequest, Source
from nautilus.jobs.kept import Kept
from nautilus.jobs.records import Records
from nautilus.jobs.runner import MOST_TRIES, TRIES, Books, Runner
from nautilus.jobs.runs import Runs, SupersededError
from nautilus.settings import Settings
from nautilus.storage.blobs import S3Options, StoredBlobs, open_blobs
from nautilus.storage.cache import CacheLimits, ResultCache
from nautilus.storage.database import Database
from tests.conftest import fake_engine
from tests.jobs.rows import NOBODY
from tests.web.clips import wav

TENANT = "default"


class Flaky(StoredBlobs):
    """A store that is away for some calls."""

    away = 0

    async def put_many(self, blobs: Mapping[str, bytes]) -> None:
        if self.away:
            self.away -= 1
            raise StorageError("the store is away")
        await super().put_many(blobs)


@dataclass
class Work:
    """A runner and what it stands on."""

    records: Records
    runs: Runs
    blobs: Flaky
    ended: list[Job] = field(default_factory=list)
    pages: dict[str, bytes | Exception] = field(default_factory=dict)
    """What addresses lead to."""
    asked: list[str] = field(default_factory=list)
    asking: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an address was asked that never answers."""
    model: list[str] = field(default_factory=list)
    """A model that is gone."""
    runner: Runner = field(init=False)

    async def submit(self, *audio: bytes, urls: tuple[str, ...] = ()) -> str:
        sources = [Source(url, url=url) for url in urls]
        for number, sound in enumerate(audio):
            key = f"{TENANT}/audio/job-{number}/{len(self.ended)}-{number}"
            await self.blobs.put_bytes(key, sound)
            sources.append(Source(f"{number}.wav", blob=key, bytes=len(sound)))
        request = JobRequest((), {})
        job, _ = await self.records.add(f"job-{len(self.asked)}-{len(sources)}", TENANT, request, sources, 100)
        return job.id

    async def run(self, job: str) -> Job:
        """Do a whole job, waiting for nothing."""
        run = await self.runner.begin(job)
        assert run is not None
        outcome = await self.runner.advance(run)
        while outcome.left:
            outcome = await self.runner.advance(run)
        await self.runner.finish(run, outcome.fault)
        return await self.records.get(TENANT, job)


@pytest.fixture
async def core(settings: Settings) -> AsyncIterator[Core]:
    async with assemble(settings, fake_engine) as running:
        yield running


@pytest.fixture
async def work(core: Core, database: Database, tmp_path: Path) -> Work:
    stored = open_blobs(str(tmp_path / "blobs"), S3Options())
    blobs = Flaky(stored._store, stored._folder)
    ended: list[Job] = []

    on_end = replace(NOBODY, told=ended.append)
    records, runs = Records(database, on_end), Runs(database, on_end)
    kept = Kept(ResultCache(database, blobs, CacheLimits(10**6, 3600.0)), lambda name: name)
    work = Work(records, runs, blobs, ended)

    async def fetch(url: str) -> AsyncGenerator[bytes, None]:
        work.asked.append(url)
        if url.endswith("never.wav"):
            work.asking.set()
            await asyncio.Event().wait()
        page = work.pages[url]
        if isinstance(page, Exception):
            raise page
        yield page

    def plan(job: Job) -> Task:
        del job
        if work.model:
            raise UnknownModelError(work.model[0])
        return Task(core.default_model)

    work.runner = Runner(Books(records, runs, blobs, kept, core.threads), core.pipeline, plan, fetch, JobLimits())
    return work


async def test_files_are_heard_and_their_audio_goes(work: Work) -> None:
    job = await work.submit(wav(1), wav(2))
    ended = await work.run(job)
    assert (ended.status, ended.files_done, ended.seconds_done) == ("completed", 2, 3.0)
    files = await work.records.files(job)
    assert [file.blob for file in files] == [None, None]
    assert [stored.key async for stored in work.blobs.listed(f"{TENANT}/audio")] == []
    assert [one.id for one in work.ended] == [job]


async def test_while_requests_come_few_files_are_begun(work: Work, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nautilus.jobs.runner.GIVE_WAY", 0.1)
    monkeypatch.setattr("nautilus.jobs.runner.cores", lambda: 2)
    job = await work.submit(urls=tuple(f"http://there/{number}/never.wav" for number in range(5)))
    run = await work.runner.begin(job)
    assert run is not None
    async with asyncio.TaskGroup() as tasks:
        with core.pipeline.requests.one():
            advancing = tasks.create_task(work.runner.advance(run))
            await work.asking.wait()
            await asyncio.sleep(0.5)
            assert len(work.asked) == 1
        async with asyncio.timeout(30):
            while len(work.asked) < 5:
                work.asking.clear()
                await work.asking.wait()
        work.runner.stop(job)
    assert not advancing.result().left


async def test_a_job_that_gives_way_ends_with_its_last_file(
    work: Work, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nautilus.jobs.runner.GIVE_WAY", 300.0)
    job = await work.submit(*(wav(1) for _ in range(10)))
    with core.pipeline.requests.one():  # to the end
        async with asyncio.timeout(60):
            assert (await work.run(job)).files_done == 10


async def test_a_store_that_is_away_is_waited_for(work: Work) -> None:
    job = await work.submit(wav(1))
    work.blobs.away = 3
    run = await work.runner.begin(job)
    assert run is not None
    for _ in range(3):
        outcome = await work.runner.advance(run)
        assert outcome.left
        assert outcome.fault is not None
        assert outcome.fault.code == "storage_unavailable"
    assert (await work.run(job)).status == "completed"


async def test_however_often_a_store_is_away_no_file_is_given_up_for_it(work: Work) -> None:
    job = await work.submit(wav(1))
    work.blobs.away = 2 * MOST_TRIES
    assert (await work.run(job)).status == "completed"


async def test_callers_are_not_told_where_things_lie(work: Work) -> None:
    job = await work.submit(wav(1))
    work.blobs.away = 1
    run = await work.runner.begin(job)
    assert run is not None
    outcome = await work.runner.advance(run)
    assert outcome.fault is not None
    assert "away" not in outcome.fault.message
    assert "error id" in outcome.fault.message


async def test_a_file_in_whose_hands_the_server_stops_again_and_again_is_given_up_and_others_are_not(
    work: Work,
) -> None:
    work.pages = {"https://a/good.wav": wav(1)}
    job = await work.submit(urls=("https://a/never.wav", "https://a/good.wav"))
    run = await work.runner.begin(job)
    assert run is not None
    await work.runs.started(run, [0])
    for _ in range(MOST_TRIES):  # each begins as the one before was killed
        run = await work.runner.begin(job)
    assert run is not None
    outcome = await work.runner.advance(run)
    while outcome.left:
        outcome = await work.runner.advance(run)
    bad, good = await work.records.files(job)
    assert (bad.status, good.status) == ("failed", "completed")
    assert bad.error is not None
    assert bad.error.code == "interrupted"


async def test_an_older_run_writes_no_more(work: Work) -> None:
    job = await work.submit(wav(1))
    old = await work.runner.begin(job)
    new = await work.runner.begin(job)
    assert old is not None
    assert new is not None
    assert await work.runner.advance(old) == await work.runner.advance(old)
    assert (await work.records.get(TENANT, job)).files_done == 0
    with pytest.raises(SupersededError):
        await work.runs.started(old, [0])
    await work.runner.advance(new)
    assert (await work.records.get(TENANT, job)).files_done == 1


async def test_addresses_are_fetched_and_bad_ones_fail_alone(work: Work) -> None:
    work.pages = {
        "https://a/good.wav": wav(2),
        "https://a/none.wav": FetchRefusedError("The host a answered 404.", "url"),
        "https://a/text": b"no audio",
    }
    job = await work.submit(urls=tuple(work.pages))
    ended = await work.run(job)
    assert (ended.status, ended.files_done, ended.files_failed) == ("completed", 3, 2)
    errors = [file.error and file.error.code for file in await work.records.files(job)]
    assert errors == [None, "fetch_refused", "bad_audio"]
    assert len(work.asked) == 3, "what fails for good is asked for once"


async def test_an_address_that_may_answer_another_time_is_asked_again_while_others_go_on(work: Work) -> None:
    work.pages = {"https://a/slow.wav": FetchError("The host a is away."), "https://a/good.wav": wav(1)}
    job = await work.submit(urls=tuple(work.pages))
    ended = await work.run(job)
    assert (ended.status, ended.files_failed) == ("completed", 1)
    assert work.asked.count("https://a/slow.wav") == TRIES
    assert work.asked.count("https://a/good.wav") == 1


async def test_the_same_long_audio_is_heard_once(work: Work, core: Core) -> None:
    work.pages = {"https://a/long.wav": wav(25), "https://b/same.wav": wav(25)}
    first = await work.run(await work.submit(urls=("https://a/long.wav",)))
    heard = core.meters.recordings.value
    job = await work.submit(urls=("https://b/same.wav", "https://b/same.wav"))
    second = await work.run(job)
    assert (first.status, second.status) == ("completed", "completed")
    assert core.meters.recordings.value == heard
    results = [await work.blobs.read_bytes(file.result or "") for file in await work.records.files(job)]
    assert results[0] == results[1]


async def test_a_job_whose_model_is_gone_fails_with_the_reason(work: Work) -> None:
    job = await work.submit(wav(1))
    work.model.append("gone")
    ended = await work.run(job)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == "model_not_found"
    (file,) = await work.records.files(job)
    assert (file.status, file.error) == ("failed", ended.error)


async def test_a_job_that_is_stopped_stops_at_once(work: Work) -> None:
    job = await work.submit(urls=("https://a/never.wav",))
    run = await work.runner.begin(job)
    assert run is not None
    async with asyncio.TaskGroup() as tasks:
        advancing = tasks.create_task(work.runner.advance(run))
        await work.asking.wait()
        await work.records.cancel(TENANT, job, 0.0)
        work.runner.stop(job)
    assert not advancing.result().left
    assert (await work.records.get(TENANT, job)).status == "cancelled"
