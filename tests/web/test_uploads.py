"""Recordings that are sent before the job: taken once, in time, by their owner."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from nautilus.jobs.job import JobLimits
from nautilus.settings import Settings
from nautilus.storage.blobs import S3Options
from nautilus.storage.settings import StorageSettings
from tests.storage.s3 import new_bucket
from tests.web.clips import wav
from tests.web.jobs import JOBS, done, files_of, submit, until, working

UPLOADS = "/v1/uploads"
LARGEST = 2_000_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def client(settings: Settings, place: Path) -> Iterator[httpx.Client]:
    limits = JobLimits(poll_seconds=0.1, max_uploads=50)
    with working(settings, place, jobs=limits, max_upload_bytes=LARGEST) as client:
        yield client


def begin(client: httpx.Client, name: str = "talk.wav") -> dict[str, Any]:
    answer = client.post(UPLOADS, json={"name": name})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def uploaded(client: httpx.Client, seconds: float, name: str = "talk.wav") -> str:
    upload = begin(client, name)
    assert httpx.request(upload["method"], upload["url"], content=wav(seconds)).is_success
    return str(upload["id"])


def test_a_job_takes_what_was_uploaded_under_its_name_and_deletes_it_when_it_is_heard(
    client: httpx.Client, place: Path
) -> None:
    upload = begin(client)
    assert (upload["object"], upload["method"]) == ("upload", "PUT")
    sent = client.put(upload["url"], content=wav(3)).json()
    assert (sent["id"], sent["bytes"], sent["name"]) == (upload["id"], len(wav(3)), "talk.wav")
    job = submit(client, upload=[upload["id"]])["id"]
    assert done(client, job)["status"] == "completed"
    assert client.get(f"{JOBS}/{job}/result").json()["text"] == "zero one two"
    assert files_of(client, job)[0]["name"] == "talk.wav"
    until(lambda: not any(file.is_file() for file in place.rglob(f"{upload['id']}/*")))


def test_files_uploads_and_manifests_go_together(client: httpx.Client) -> None:
    first, second = uploaded(client, 1), uploaded(client, 2)
    manifest = json.dumps({"upload": second, "name": "of the manifest"})
    job = submit(client, 3.0, upload=first, manifest=manifest)["id"]
    assert done(client, job)["files"] == {"total": 3, "completed": 3, "failed": 0}
    assert [(file["name"], file["seconds"]) for file in files_of(client, job)] == [
        ("0.wav", 3.0),
        ("talk.wav", 1.0),
        ("of the manifest", 2.0),
    ]


def test_what_cannot_be_taken_fails_alone_and_says_why(client: httpx.Client) -> None:
    good, empty, unknown = uploaded(client, 1), begin(client)["id"], "upload_nobody's"
    job = submit(client, upload=[unknown, good, empty, good])["id"]
    assert done(client, job)["files"] == {"total": 4, "completed": 1, "failed": 3}
    errors = [file["error"] for file in files_of(client, job)]
    assert [error and error["code"] for error in errors] == [
        "upload_not_found",
        None,
        "upload_empty",
        "upload_not_found",
    ]
    assert unknown in errors[0]["message"]


def test_an_upload_that_was_heard_before_is_not_heard_again(client: httpx.Client) -> None:
    def hits() -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if 'result="hit"' in line).split()[-1])

    before = hits()
    for _ in range(2):
        job = submit(client, upload=[uploaded(client, 21)])["id"]
        assert done(client, job)["status"] == "completed"
    assert hits() == before + 1


def test_one_job_takes_an_upload_and_no_other_does(client: httpx.Client) -> None:
    upload = uploaded(client, 1)
    first, second = (submit(client, upload=[upload])["id"] for _ in range(2))
    assert done(client, first)["status"] == "completed"
    ended = done(client, second)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "upload_not_found")
    refused = client.put(f"{UPLOADS}/{upload}", content=wav(1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "upload_not_found")


def test_a_submission_that_is_repeated_gives_the_same_job_though_it_took_the_upload(client: httpx.Client) -> None:
    fields = {"upload": [uploaded(client, 1)]}
    key = {"Idempotency-Key": "once and again"}
    job = submit(client, headers=key, **fields)["id"]
    assert done(client, job)["status"] == "completed"
    assert submit(client, headers=key, **fields)["id"] == job


def test_a_refused_job_leaves_the_upload_for_another(client: httpx.Client) -> None:
    upload = uploaded(client, 1)
    assert client.post(JOBS, json={"upload": upload, "model": "nothing"}).status_code == 404
    assert done(client, submit(client, upload=[upload])["id"])["status"] == "completed"


def test_what_is_sent_again_replaces_what_was_sent(client: httpx.Client) -> None:
    upload = begin(client)
    for seconds in (1, 2):
        assert client.put(upload["url"], content=wav(seconds)).is_success
    job = submit(client, upload=[upload["id"]])["id"]
    assert done(client, job)["audio"]["seconds_total"] == 2.0


def test_an_upload_that_fails_can_be_tried_again_as_part_of_the_job(client: httpx.Client, place: Path) -> None:
    upload = begin(client)
    client.put(upload["url"], content=b"no audio")
    job = submit(client, upload=[upload["id"]])["id"]
    assert done(client, job)["status"] == "failed"
    assert client.post(f"{JOBS}/{job}/retry").status_code == 202
    assert done(client, job)["error"]["code"] == "bad_audio"
    assert any(file.is_file() for file in place.rglob(f"{upload['id']}/*"))
    client.delete(f"{JOBS}/{job}")
    assert not any(file.is_file() for file in place.rglob(f"{upload['id']}/*"))


def test_too_many_bytes_are_refused_whether_announced_or_not(client: httpx.Client, place: Path) -> None:
    upload = begin(client)

    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(LARGEST // 20)

    for content in (bytes(LARGEST + 1), pieces()):
        refused = client.put(upload["url"], content=content)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "upload_too_large")
    assert not any(file.is_file() for file in place.rglob(f"{upload['id']}/*"))


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 501}, {"name": 7}])
def test_an_upload_needs_a_name(client: httpx.Client, body: dict[str, Any]) -> None:
    refused = client.post(UPLOADS, json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "name")


def test_only_so_many_uploads_wait(client: httpx.Client) -> None:
    answers = [client.post(UPLOADS, json={"name": "x"}) for _ in range(51)]
    assert (answers[-1].status_code, answers[-1].json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_an_upload_is_taken_in_time_or_not_at_all(settings: Settings, tmp_path: Path) -> None:
    with working(settings, tmp_path, jobs=JobLimits(poll_seconds=0.1, upload_seconds=1.0)) as client:
        upload = begin(client)
        assert client.put(upload["url"], content=wav(1)).is_success
        until(lambda: client.put(upload["url"], content=wav(1)).status_code == 404)
        ended = done(client, submit(client, upload=[upload["id"]])["id"])
        assert (ended["status"], ended["error"]["code"]) == ("failed", "upload_not_found")


def test_a_store_that_takes_uploads_itself_is_named(settings: Settings, s3: S3Options, tmp_path: Path) -> None:
    storage = StorageSettings(
        data_dir=tmp_path,
        blobs_url=f"s3://{new_bucket(s3)}/jobs",
        s3_endpoint=s3.endpoint,
        s3_region=s3.region,
        s3_access_key_id=SecretStr(s3.access_key_id),
        s3_secret_access_key=SecretStr(s3.secret_access_key),
    )
    with working(settings, tmp_path, storage=storage) as client:
        upload = begin(client)
        assert upload["url"].startswith(s3.endpoint)
        assert httpx.put(upload["url"], content=wav(2)).is_success
        many = [begin(client)["id"] for _ in range(101)]
        job = submit(client, upload=[upload["id"], *many])["id"]
        assert done(client, job)["files"] == {"total": 102, "completed": 1, "failed": 101}
        assert client.get(f"{JOBS}/{job}/result", params={"file": 0}).json()["text"] == "zero one"
