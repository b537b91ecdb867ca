"""Nothing accepted is lost: jobs outlive kills, stops and restarts, with real processes and the embedded model."""

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import nautilus
from tests.jobs.servers import JOBS, Server, serving
from tests.web.clips import SPEECH, spoken

KILLS = 20
LONG = 900
"""Times the sentence of four seconds: an hour."""


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """Settings of servers that share a SQLite database and a folder of blobs."""
    return {
        "NAUTILUS_STORAGE__DATA_DIR": str(tmp_path / "data"),
        "NAUTILUS_JOBS__CHECKPOINT_SECONDS": "0.2",
        "NAUTILUS_JOBS__DEAD_AFTER": "6",
    }


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour of speech."""
    path = tmp_path_factory.mktemp("recording") / "hour.wav"
    path.write_bytes(spoken(LONG))
    return path


def begin(server: Server, recording: Path) -> str:
    with recording.open("rb") as file:
        return str(httpx.post(f"{server.url}{JOBS}", files={"file": file}, timeout=60).json()["id"])


def result(server: Server, job: str) -> str:
    return httpx.get(f"{server.url}{JOBS}/{job}/result", params={"response_format": "srt"}, timeout=60).text


def direct(server: Server, recording: Path) -> str:
    with recording.open("rb") as file:
        form = {"response_format": "srt"}
        return httpx.post(f"{server.url}/v1/audio/transcriptions", files={"file": file}, data=form, timeout=120).text


@pytest.mark.timeout(400)
def test_a_job_outlives_twenty_kills_with_the_same_result(
    tmp_path: Path, place: dict[str, str], recording: Path
) -> None:
    chance = random.Random(7)  # noqa: S311 - any moments will do
    with serving(tmp_path, **place) as server:
        expected = direct(server, recording)
        job = begin(server, recording)
        reached = [0.0]
        for _ in range(KILLS // 2):  # the process of the model is a worker of the server: it is started again
            pause(server, chance)
            for child in server.children():
                if "model_process" in Path(f"/proc/{child}/cmdline").read_text():
                    os.kill(child, signal.SIGKILL)
        server.kill()
    for _ in range(KILLS // 2):
        with serving(tmp_path, **place) as server:
            pause(server, chance)
            if not server.ended(job):
                reached.append(server.job(job)["audio"]["seconds_done"])
            server.kill()
    with serving(tmp_path, **place) as server:
        server.until(lambda: server.ended(job))
        ended = server.job(job)
        assert (ended["status"], ended["files"]) == ("completed", {"total": 1, "completed": 1, "failed": 0})
        assert result(server, job) == expected
        kinds = httpx.get(f"{server.url}{JOBS}/{job}/events").text
        assert kinds.count("event: transcription.job.completed\n") == 1
    assert reached == sorted(reached), "work that was done was done again"


def pause(server: Server, chance: random.Random) -> None:
    """Let a server work for a moment."""
    with pytest.raises(TimeoutError):
        server.until(lambda: False, chance.uniform(0.05, 0.6))


@pytest.mark.timeout(200)
def test_a_server_that_is_told_to_stop_hands_its_jobs_to_the_next_at_once(
    tmp_path: Path, place: dict[str, str], recording: Path
) -> None:
    patient = place | {"NAUTILUS_JOBS__DEAD_AFTER": "3600"}
    with serving(tmp_path, **patient) as server:
        job = begin(server, recording)
        server.until(lambda: server.job(job)["audio"]["seconds_done"] > 0)
        server.stop()
        assert "Traceback" not in server.log.read_text()
    with serving(tmp_path, **patient) as server:
        assert 0 < server.job(job)["audio"]["seconds_done"] < 4 * LONG
        server.until(lambda: server.ended(job))
        assert server.job(job)["status"] == "completed"


@pytest.mark.timeout(200)
def test_two_servers_share_the_work_and_one_takes_over_from_the_other(
    tmp_path: Path, place: dict[str, str], recording: Path
) -> None:
    with serving(tmp_path, **place) as one, serving(tmp_path, **place) as other:
        jobs = [begin(one, recording) for _ in range(3)]
        one.until(lambda: all(one.job(job)["audio"]["seconds_done"] > 0 for job in jobs[:2]))
        one.kill()
        other.until(lambda: all(other.ended(job) for job in jobs))
        assert {other.job(job)["status"] for job in jobs} == {"completed"}
        assert len({result(other, job) for job in jobs}) == 1


@pytest.mark.timeout(200)
def test_a_new_release_goes_on_with_the_jobs_of_the_old_one(
    tmp_path: Path, place: dict[str, str], recording: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(Path(nautilus.__file__).parent, old / "nautilus", ignore=shutil.ignore_patterns("__pycache__"))
    runner = old / "nautilus" / "jobs" / "runner.py"
    runner.write_text(runner.read_text() + "\nRELEASE = 'the one before'\n")
    with serving(tmp_path, PYTHONPATH=str(old), **place) as server:
        job = begin(server, recording)
        server.until(lambda: server.job(job)["audio"]["seconds_done"] > 0)
        server.kill()
    with serving(tmp_path, **place) as server:
        server.until(lambda: server.ended(job))
        assert server.job(job)["status"] == "completed"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 200 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write until there is no room."""
    with file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


@pytest.mark.mount
@pytest.mark.timeout(240)
def test_a_job_outlives_a_full_disk(tmp_path: Path, place: dict[str, str], recording: Path, disk: Path) -> None:
    with serving(tmp_path, **place | {"NAUTILUS_STORAGE__DATA_DIR": str(disk)}) as server:
        expected = direct(server, recording)
        job = begin(server, recording)
        server.until(lambda: server.job(job)["audio"]["seconds_done"] > 0)
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            fill(ballast)
        answer = httpx.post(f"{server.url}/transcribe", files={"file": SPEECH.read_bytes()}, timeout=20)
        assert answer.json()["text"], "who needs no disk is heard"
        refused = httpx.post(f"{server.url}{JOBS}", files={"file": SPEECH.read_bytes()}, timeout=20)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
        pause(server, random.Random(1))  # noqa: S311
        assert not server.ended(job)
        ballast.unlink()
        server.until(lambda: server.ended(job))
        assert server.job(job)["status"] == "completed"
        assert result(server, job) == expected


@pytest.mark.timeout(180)
def test_a_job_can_be_cancelled_while_it_runs_and_tried_again(
    tmp_path: Path, place: dict[str, str], recording: Path
) -> None:
    with serving(tmp_path, **place) as server:
        job = begin(server, recording)
        server.until(lambda: server.job(job)["audio"]["seconds_done"] > 0)
        partial = httpx.get(f"{server.url}{JOBS}/{job}/result", params={"partial": True}).json()["text"]
        assert partial.split()
        assert httpx.post(f"{server.url}{JOBS}/{job}/cancel").json()["status"] == "cancelled"
        assert httpx.get(f"{server.url}{JOBS}/{job}/result").status_code == 409
        assert httpx.post(f"{server.url}{JOBS}/{job}/retry").status_code == 202
        server.until(lambda: server.ended(job))
        assert server.job(job)["status"] == "completed"


def test_requests_are_answered_while_a_job_runs(tmp_path: Path, place: dict[str, str], recording: Path) -> None:
    with serving(tmp_path, **place) as server:
        job = begin(server, recording)
        server.until(lambda: server.job(job)["status"] == "processing")
        answer = httpx.post(f"{server.url}/transcribe", files={"file": SPEECH.read_bytes()}, timeout=20)
        assert answer.json()["text"]
        assert not server.ended(job)
