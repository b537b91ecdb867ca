"""Jobs over HTTP: what is accepted is done, and said as it is; with a model that is easy to predict."""

import json
from collections.abc import Iterator

import httpx
import pytest

from nautilus.settings import Settings
from tests.web.clips import spoken, wav
from tests.web.jobs import JOBS, done, submit, working
from tests.web.test_metrics import grown, page


@pytest.fixture(scope="module")
def client(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that works on jobs."""
    with working(settings, tmp_path_factory.mktemp("jobs")) as client:
        yield client


def test_a_job_of_one_file_is_done_and_its_result_comes_in_every_format(client: httpx.Client) -> None:
    job = submit(client, 3.0, metadata='{"case": "17"}')
    assert (job["object"], job["status"], job["metadata"]) == ("transcription.job", "queued", {"case": "17"})
    ended = done(client, job["id"])
    assert (ended["status"], ended["progress"], ended["error"]) == ("completed", 1.0, None)
    assert ended["audio"] == {"seconds_done": 3.0, "seconds_total": 3.0}
    assert ended["files"] == {"total": 1, "completed": 1, "failed": 0}
    assert ended["created_at"] <= ended["started_at"] <= ended["completed_at"] < ended["expires_at"]
    result = f"{JOBS}/{job['id']}/result"
    assert client.get(result).json()["text"] == "zero one two"
    assert client.get(result, params={"response_format": "text"}).text == "zero one two\n"
    assert "-->" in client.get(result, params={"response_format": "srt"}).text
    assert client.get(result, params={"response_format": "verbose_json"}).json()["duration"] == 3.0


def test_jobs_are_counted_for_prometheus(client: httpx.Client) -> None:
    before = page(str(client.base_url))
    done(client, submit(client, 1.0, 1.0)["id"])
    after = page(str(client.base_url))
    assert grown(before, after, "nautilus_jobs_accepted_total") == 1
    assert grown(before, after, "nautilus_jobs_ended_total[completed]") == 1
    assert grown(before, after, "nautilus_job_files_total[completed]") == 2


def test_a_result_is_what_the_direct_call_gives(client: httpx.Client) -> None:
    recording = spoken(24)
    direct = client.post("/v1/audio/transcriptions", files={"file": recording}, data={"response_format": "srt"})
    job = client.post(JOBS, files={"file": recording}, data={"response_format": "srt"}).json()["id"]
    done(client, job)
    assert client.get(f"{JOBS}/{job}/result").text == direct.text


def test_bad_files_of_a_batch_fail_alone_with_their_reason(client: httpx.Client) -> None:
    files = [("file", ("good.wav", wav(2))), ("file", ("bad.wav", b"no audio")), ("file", ("empty.wav", b""))]
    manifest = '{"upload": 7}\nnot json\n'
    job = client.post(JOBS, files=files, data={"manifest": manifest}).json()["id"]
    ended = done(client, job)
    assert (ended["status"], ended["files"]) == ("completed", {"total": 5, "completed": 1, "failed": 4})
    listed = client.get(f"{JOBS}/{job}/files").json()
    assert [file["status"] for file in listed["data"]] == ["completed", *["failed"] * 4]
    assert [file["error"]["code"] for file in listed["data"][1:]] == ["bad_audio", "bad_audio", "bad_row", "bad_row"]
    assert "Line 2" in listed["data"][4]["error"]["message"]
    assert client.get(f"{JOBS}/{job}/result", params={"file": 1}).status_code == 409
    lines = [json.loads(line) for line in client.get(f"{JOBS}/{job}/result").text.splitlines()]
    assert [line["result"] and line["result"]["text"] for line in lines] == ["zero one", None, None, None, None]


def test_a_job_of_which_nothing_can_be_heard_has_failed(client: httpx.Client) -> None:
    job = client.post(JOBS, files={"file": b"no audio"}).json()["id"]
    ended = done(client, job)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "bad_audio")


def test_hundreds_of_files_come_in_pages(client: httpx.Client) -> None:
    job = submit(client, *([1.0] * 300))
    ended = done(client, job["id"])
    assert ended["files"] == {"total": 300, "completed": 300, "failed": 0}
    first = client.get(f"{JOBS}/{job['id']}/files", params={"limit": 200}).json()
    rest = client.get(f"{JOBS}/{job['id']}/files", params={"limit": 200, "after": first["last_id"]}).json()
    assert (first["has_more"], len(first["data"]), len(rest["data"]), rest["has_more"]) == (True, 200, 100, False)
    assert len(client.get(f"{JOBS}/{job['id']}/result").text.splitlines()) == 300


def test_the_same_idempotency_key_gives_the_same_job(client: httpx.Client) -> None:
    key = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    job = submit(client, 1.0, headers=key)
    unquoted = {"Idempotency-Key": key["Idempotency-Key"].strip('"')}
    assert submit(client, 1.0, headers=unquoted)["id"] == job["id"]
    other = client.post(JOBS, files={"file": wav(2)}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "job_conflict")


def test_events_tell_all_and_resume_behind_the_last_one(client: httpx.Client) -> None:
    job = submit(client, 1.0)["id"]
    events = client.get(f"{JOBS}/{job}/events").text  # it ends with the job
    kinds = [line.removeprefix("event: transcription.job.") for line in events.splitlines() if line[:5] == "event"]
    assert (kinds[0], kinds[1], kinds[-1]) == ("queued", "processing", "completed")
    again = client.get(f"{JOBS}/{job}/events", headers={"Last-Event-ID": "2"}).text
    assert again.startswith("id: 3\n")
    assert events.endswith(again)


def test_jobs_are_listed_the_youngest_first(client: httpx.Client) -> None:
    ids = [submit(client, 1.0)["id"] for _ in range(3)]
    for job in ids:
        done(client, job)
    page = client.get(JOBS, params={"limit": 2, "status": "completed"}).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    following = client.get(JOBS, params={"limit": 1, "after": page["last_id"]}).json()
    assert following["data"][0]["id"] == ids[0]


def test_a_deleted_job_is_gone_with_its_result(client: httpx.Client) -> None:
    job = submit(client, 1.0)["id"]
    done(client, job)
    assert client.delete(f"{JOBS}/{job}").json() == {"id": job, "object": "transcription.job", "deleted": True}
    for path in ("", "/result", "/files", "/events"):
        assert client.get(f"{JOBS}/{job}{path}").status_code == 404


def test_an_ended_job_is_not_cancelled_and_a_good_one_not_retried(client: httpx.Client) -> None:
    job = submit(client, 1.0)["id"]
    done(client, job)
    for action in ("cancel", "retry"):
        refused = client.post(f"{JOBS}/{job}/{action}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_conflict")


def test_a_failed_job_can_be_tried_again(client: httpx.Client) -> None:
    job = client.post(JOBS, files={"file": b"no audio"}).json()["id"]
    done(client, job)
    assert client.post(f"{JOBS}/{job}/retry").status_code == 202
    assert done(client, job)["status"] == "failed"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "nothing"}, "model"),
        ({"stream": "true"}, "stream"),
        ({"priority": "now"}, "priority"),
        ({"metadata": "[]"}, "metadata"),
        ({"metadata": json.dumps({"a": 1})}, "metadata"),
        ({"response_format": "docx"}, "response_format"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_is_accepted(
    client: httpx.Client, fields: dict[str, str], param: str
) -> None:
    before = client.get(JOBS).json()["data"][:1]
    refused = client.post(JOBS, files={"file": wav(1)}, data=fields)
    assert refused.status_code in (400, 404)
    assert refused.json()["error"]["param"] == param
    assert client.get(JOBS).json()["data"][:1] == before


def test_a_job_needs_a_file_and_takes_so_many(client: httpx.Client) -> None:
    assert "at least one" in client.post(JOBS, json={"model": "whisper-1"}).json()["error"]["message"]
    manifest = "\n".join('{"url": "https://example.org/a.wav"}' for _ in range(301))
    assert "300 files" in client.post(JOBS, json={"manifest": manifest}).json()["error"]["message"]


def test_files_keep_their_names_in_any_script(client: httpx.Client) -> None:
    names = ["zwölf.wav", "会議 1.wav", 'a "b".wav', "смех 😀.wav"]
    job = client.post(JOBS, files=[("file", (name, wav(1))) for name in names]).json()["id"]
    listed = client.get(f"{JOBS}/{job}/files").json()["data"]
    assert [file["name"].replace("%22", '"') for file in listed] == names


def test_a_body_that_is_neither_form_nor_json_is_told_what_to_be(client: httpx.Client) -> None:
    refused = client.post(JOBS, content=b"x", headers={"content-type": "text/plain"})
    assert "multipart/form-data, or addresses as JSON" in refused.json()["error"]["message"]


def test_a_body_that_is_cut_is_refused(client: httpx.Client) -> None:
    head = {"content-type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
    refused = client.post(JOBS, content=body, headers=head)
    assert "ended too early" in refused.json()["error"]["message"]


def test_a_server_without_jobs_says_so(fake_server: str) -> None:
    refused = httpx.get(f"{fake_server}{JOBS}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported")
