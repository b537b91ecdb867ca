"""An upload becomes a file of one job, in either database."""

from collections.abc import AsyncIterator
from pathlib import Path

from nautilus.jobs.job import JobLimits, JobRequest, Source
from nautilus.jobs.records import Records
from nautilus.jobs.uploads import Uploads
from nautilus.storage.blobs import open_blobs
from nautilus.storage.database import Database
from tests.jobs.rows import NOBODY


async def recording() -> AsyncIterator[bytes]:
    yield b"recording"


async def test_of_two_jobs_that_found_an_upload_one_gets_it(database: Database, tmp_path: Path) -> None:
    uploads, records = Uploads(database, open_blobs(str(tmp_path)), JobLimits()), Records(database, NOBODY)
    upload = await uploads.begin("ours", "talk.wav")
    await uploads.receive("ours", upload.id, recording())
    (foreign,) = await uploads.found("theirs", [Source(upload.id, upload=upload.id)])
    assert foreign.error is not None
    found = await uploads.found("ours", [Source(upload.id, upload=upload.id)])
    request = JobRequest((), {})
    for number in (1, 2):  # both looked before either took it
        await records.add(f"job_{number}", "ours", request, found, 10)
    (first,), (second,) = await records.files("job_1"), await records.files("job_2")
    assert (first.status, first.blob, first.name, first.error) == ("queued", upload.blob, "talk.wav", None)
    assert (second.status, second.blob) == ("failed", None)
    assert second.error is not None
    assert second.error.code == "upload_not_found"
    assert await records.delete("ours", "job_2", "test") == ()
    assert await records.delete("ours", "job_1", "test") == (upload.blob,)
