"""What DBOS does with a job, whose work here is a list of outcomes."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from dbos import _queue
from dbos._dbos import _get_dbos_instance

from nautilus.errors import StorageError
from nautilus.jobs import workflow
from nautilus.jobs.job import Fault, Job, JobLimits
from nautilus.jobs.runner import Outcome, Runner
from nautilus.jobs.workflow import Workflows, open_workflows

LIMITS = JobLimits(poll_seconds=0.05, patience=0.0)
AWAY = Fault("storage_unavailable", "away")


def job(name: str, tenant: str = "default") -> Job:
    return Job(
        id=name,
        tenant=tenant,
        status="queued",
        priority=2,
        form=(),
        metadata={},
        webhook_url=None,
        fingerprint=None,
        files=1,
        files_done=0,
        files_failed=0,
        seconds_total=None,
        seconds_done=0.0,
        error=None,
        created_at=0.0,
        started_at=None,
        completed_at=None,
        expires_at=None,
        runs=0,
    )


class Script:
    """Answers as it is told, and notes what it was asked."""

    def __init__(self, *outcomes: Outcome, hangs: bool = False) -> None:
        self.outcomes = list(outcomes)
        self.hangs = hangs
        self.begun = self.away = 0
        self.advanced = asyncio.Event()
        self.finished: asyncio.Queue[Fault | None] = asyncio.Queue()

    async def begin(self, name: str) -> Job | None:
        if self.away:
            self.away -= 1
            raise StorageError("away")
        self.begun += 1
        return job(name)

    async def advance(self, run: Job) -> Outcome:
        del run
        self.advanced.set()
        if self.hangs:
            await asyncio.Event().wait()
        return self.outcomes.pop(0)

    async def finish(self, run: Job, gave_up: Fault | None) -> Outcome:
        del run
        self.finished.put_nowait(gave_up)
        return Outcome(left=False)


@asynccontextmanager
async def working(
    folder: Path, script: Script, server: str = "one", limits: JobLimits = LIMITS
) -> AsyncIterator[Workflows]:
    url = f"sqlite:///{folder / 'workflows.db'}"
    with ThreadPoolExecutor(2) as threads:
        async with open_workflows(url, server, cast("Runner", script), limits, threads) as workflows:
            yield workflows


async def test_steps_are_taken_until_nothing_is_left(tmp_path: Path) -> None:
    script = Script(Outcome(left=True), Outcome(left=True), Outcome(left=False))
    async with working(tmp_path, script) as workflows:
        await workflows.enqueue(job("a"))
        assert await script.finished.get() is None
    assert (script.begun, script.outcomes) == (1, [])


async def test_the_same_job_is_done_once_however_often_it_is_enqueued(tmp_path: Path) -> None:
    script = Script(Outcome(left=False))
    async with working(tmp_path, script) as workflows:
        for _ in range(3):
            await workflows.enqueue(job("a"))
        await script.finished.get()
        await workflows.enqueue(job("a"))
    assert script.begun == 1


async def test_a_job_that_is_taken_while_the_server_stops_is_left_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script, taken = Script(hangs=True), threading.Event()
    begin = _queue.execute_dequeued_workflow

    def begin_late(*claim: Any) -> Any:
        taken.set()
        time.sleep(0.5)  # noqa: TID251 - in a thread, as a slow database would
        return begin(*claim)

    monkeypatch.setattr(_queue, "execute_dequeued_workflow", begin_late)
    async with working(tmp_path, script) as workflows:
        await workflows.enqueue(job("a"))
        assert await asyncio.get_running_loop().run_in_executor(None, taken.wait, 10)
    assert workflows.unfinished
    assert "Error executing workflow" not in caplog.text


async def test_where_there_are_no_jobs_nothing_is_started(tmp_path: Path) -> None:
    async with working(tmp_path, Script()) as workflows:
        assert (await workflows.find_broken(), await workflows.forget(time.time())) == (set(), 0)
        assert not workflows.started
    assert not (tmp_path / "workflows.db").exists()


async def test_many_jobs_at_once_start_it_once_whoever_leaves_meanwhile(tmp_path: Path) -> None:
    script = Script(*[Outcome(left=False)] * 3)
    async with working(tmp_path, script) as workflows:
        first = asyncio.gather(workflows.start())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(*(workflows.enqueue(job(name)) for name in "abc"))
        for _ in "abc":
            assert await script.finished.get() is None


async def test_a_database_that_cannot_be_used_at_first_is_tried_again(tmp_path: Path) -> None:
    script, folder = Script(Outcome(left=False)), tmp_path / "later"
    async with working(folder, script) as workflows:
        with pytest.raises(StorageError, match="cannot be used"):
            await workflows.enqueue(job("a"))
        folder.mkdir()
        await workflows.enqueue(job("a"))
        assert await script.finished.get() is None


async def test_what_lasts_longer_than_patience_is_given_up_with_its_reason(tmp_path: Path) -> None:
    script = Script(Outcome(left=True, fault=AWAY))
    async with working(tmp_path, script) as workflows:
        await workflows.enqueue(job("a"))
        assert await script.finished.get() == AWAY


async def test_a_job_whose_steps_cannot_be_written_down_breaks_off_and_can_be_enqueued_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(result: object) -> None:
        raise OSError(f"database or disk is full: {result}")

    script = Script(Outcome(left=True), Outcome(left=False))
    async with working(tmp_path, script) as workflows:
        await workflows.start()
        with monkeypatch.context() as patched:
            patched.setattr(_get_dbos_instance()._sys_db, "record_operation_result", full)
            await workflows.enqueue(job("a"))
            async with asyncio.timeout(20):
                while not workflows.broken:  # noqa: ASYNC110 - a thread of DBOS adds it
                    await asyncio.sleep(0.01)
        assert workflows.broken == {"a"}
    script.hangs = True
    script.advanced.clear()
    async with working(tmp_path, script) as workflows:  # a server that was started again knows it too
        await workflows.start()
        assert await workflows.find_broken() == {"a"}
        await workflows.enqueue(replace(job("a"), runs=1))
        await script.advanced.wait()
        assert await workflows.find_broken() == set(), "it is worked on"
    script.hangs = False
    async with working(tmp_path, script, "two") as workflows:
        await workflows.recover(["one"])
        assert await script.finished.get() is None
    assert script.begun == 3


async def test_a_database_that_is_away_holds_a_job_up_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "FIRST_WAIT", 0.01)
    script = Script(Outcome(left=False))
    script.away = 3
    async with working(tmp_path, script) as workflows:
        await workflows.enqueue(job("a"))
        assert await script.finished.get() is None


async def test_the_jobs_of_a_server_that_is_gone_are_begun_anew(tmp_path: Path) -> None:
    hanging = Script(hangs=True)
    async with working(tmp_path, hanging, "gone") as workflows:
        await workflows.enqueue(job("a"))
        await hanging.advanced.wait()
    assert workflows.unfinished
    script = Script(Outcome(left=False))
    async with working(tmp_path, script, "here") as workflows:
        await workflows.recover(["gone"])
        assert await script.finished.get() is None
    assert script.begun == 1


async def test_who_has_done_all_his_jobs_leaves_none(tmp_path: Path) -> None:
    script = Script(Outcome(left=False))
    async with working(tmp_path, script) as workflows:
        await workflows.enqueue(job("a"))
        await script.finished.get()
        while not await workflows.forget(time.time() + 60):  # noqa: ASYNC110 - a thread of DBOS writes its end down
            await asyncio.sleep(0.01)
    assert not workflows.unfinished


async def test_tenants_take_turns_and_what_is_more_important_goes_first(tmp_path: Path) -> None:
    order: list[str] = []

    class Noting(Script):
        async def begin(self, name: str) -> Job | None:
            order.append(name)
            return await super().begin(name)

    script = Noting(hangs=True)
    async with working(tmp_path, script, limits=replace(LIMITS, at_once=2, at_once_per_tenant=1)) as workflows:
        await workflows.enqueue(job("a-first", "a"))
        await script.advanced.wait()
        for name in ("a-second", "a-third"):
            await workflows.enqueue(job(name, "a"))
        script.advanced.clear()
        await workflows.enqueue(job("b-first", "b"))
        await script.advanced.wait()
    assert order == ["a-first", "b-first"]
    script = Noting(*[Outcome(left=False)] * 4)
    async with working(tmp_path, script, "next", replace(LIMITS, at_once=1)) as workflows:
        await workflows.enqueue(replace(job("a-urgent", "a"), priority=1))
        for _ in range(3):
            await script.finished.get()
    assert order.index("a-urgent") < order.index("a-third")


async def test_workflows_that_ended_are_forgotten(tmp_path: Path) -> None:
    script = Script(Outcome(left=False), Outcome(left=False))
    async with working(tmp_path, script) as workflows:
        for name in ("a", "b"):
            await workflows.enqueue(job(name))
        for _ in range(2):
            await script.finished.get()
        assert await workflows.forget(time.time() - 3600) == 0
        forgotten = 0
        while forgotten < 2:  # the last one ends just after it has said so
            forgotten += await workflows.forget(time.time() + 60)
        assert await workflows.forget(time.time() + 60) == 0
