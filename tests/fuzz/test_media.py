"""Changed recordings, and small ones that are huge: each gets a transcript or a clear 4xx, and harms nobody.

`make fuzz` sends thousands; here are some, always the same.
"""

import gzip
from collections.abc import Iterator

import httpx
import pytest

from nautilus.hearing import AudioLimits
from nautilus.settings import Settings
from tests.conftest import fake_engine, running
from tests.fuzz.bombs import BOMBS
from tests.fuzz.media import fuzz
from tests.fuzz.mutations import mutated, recordings
from tests.web.clips import SPEECH, wav


def heard(url: str) -> str:
    with SPEECH.open("rb") as file:
        return str(httpx.post(f"{url}/transcribe", files={"file": file}, timeout=60).json()["text"])


@pytest.mark.timeout(120)
async def test_no_recording_is_a_fault(server: str) -> None:
    before = heard(server)
    report = await fuzz(server, recordings(), seed=7, numbers=range(160))
    assert report.failures == []
    assert report.outcomes["200"] > 10, "some are heard"
    assert report.outcomes["400 bad_audio"] > 10, "some are refused"
    assert heard(server) == before


def test_the_same_number_makes_the_same_recording() -> None:
    assert [mutated(1, number, recordings()) for number in range(20)] == [
        mutated(1, number, recordings()) for number in range(20)
    ]
    assert mutated(1, 0, recordings()) != mutated(2, 0, recordings())


@pytest.fixture(scope="module")
def brief(settings: Settings) -> Iterator[str]:
    """URL of a server that takes recordings of at most two minutes."""
    limits = {"audio": AudioLimits(max_seconds=120)}
    with running(settings.model_copy(update=limits), fake_engine) as url:
        yield url


@pytest.mark.parametrize("name", BOMBS)
def test_no_small_file_is_a_long_wait(brief: str, name: str) -> None:
    data = BOMBS[name]
    assert len(data) < 100_000
    answer = httpx.post(f"{brief}/transcribe", files={"file": data}, timeout=60)
    assert answer.status_code in (200, 400, 413), answer.text
    if answer.status_code == 200:
        assert answer.json()["audio"]["duration"] < 2
    else:
        assert len(answer.json()["error"]["message"]) > 15
    assert httpx.post(f"{brief}/transcribe", files={"file": wav(1)}).is_success


def test_a_day_of_silence_is_too_long(brief: str) -> None:
    answer = httpx.post(f"{brief}/transcribe", files={"file": BOMBS["a day of silence in FLAC"]}, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "audio_too_long")


def test_bodies_are_not_unpacked(brief: str) -> None:
    packed = gzip.compress(bytes(10 * 1024**2))
    kind = {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"}
    for path in ("/transcribe", "/v1/audio/transcriptions/jobs", "/v1/realtime/client_secrets"):
        answer = httpx.post(f"{brief}{path}", content=packed, headers=kind)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
