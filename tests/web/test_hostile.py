"""What strangers try: texts that end parsers, names that would be paths or headers, numbers beyond all columns.

Each is answered by a refusal that says why, or by what was asked for; never by a fault.
"""

import logging
from collections.abc import Iterator

import httpx
import pytest
import structlog

from nautilus.observe import configure_logging, printable
from nautilus.settings import Settings
from tests.web.clips import wav
from tests.web.jobs import JOBS, submit, working

DEEP = "[" * 100_000 + "]" * 100_000
DEEP_OBJECT = '{"a":' * 50_000 + "1" + "}" * 50_000
HALF = r'"\ud800"'
TEXTS: dict[str, str | bytes] = {
    "deep": DEEP,
    "deep object": DEEP_OBJECT,
    "half a pair": f'{{"name": {HALF}, "model": {HALF}, "url": [{HALF}], "metadata": {{"x": {HALF}}}, "a": {HALF}}}',
    "a half name": '{"url": ["http://example.org/a"], "name": "x", "\\udfff": 1}',
    "no number": '{"url": ["http://example.org/a"], "name": "x", "metadata": {"a": NaN}, "expires_after": Infinity}',
    "NUL": '{"url": ["http://example.org/\\u0000"], "name": "\\u0000", "metadata": {"a": "\\u0000"}}',
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "many digits": '{"name": 1' + "0" * 5000 + "}",
}
TAKES_JSON = [JOBS, "/v1/uploads", "/v1/realtime/client_secrets", "/v1/realtime/transcription_sessions"]
NAMES = [
    "%00",
    "%ed%a0%80",
    "x" * 5000,
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "%0d%0aSet-Cookie:a=b",
    "%1b[31m",
]
FIELDS: dict[str, dict[str, str]] = {
    "model": {"model": "\0"},
    "long model": {"model": "x" * 100_000},
    "path as model": {"model": "../../../etc/passwd"},
    "language": {"language": "\x1b[31m"},
    "temperature": {"temperature": "nan"},
    "long temperature": {"temperature": "9" * 100_000},
    "channel": {"channel": "9" * 5000},
    "superscript channel": {"channel": "²"},
    "chunking": {"chunking_strategy": DEEP},
    "format": {"response_format": "\0"},
    "level": {"preprocess": "x" * 100_000},
}
BODIES: dict[str, tuple[str, bytes]] = {
    "long boundary": ("b" * 10_000, b"--" + b"b" * 10_000),
    "no end": ("b", b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxx'),
    "no name": ("b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    "long preamble": ("b", b"x" * 100_000),
    "many headers": ("b", b"--b\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(50_000)) + b"\r\nx\r\n--b--\r\n"),
    "many parts": ("b", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 2000 + b"--b--\r\n"),
    "charset": ("b; charset=nonsense", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n'),
}


@pytest.fixture(scope="module")
def client(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with working(settings, tmp_path_factory.mktemp("hostile")) as client:
        yield client


def is_refusal(answer: httpx.Response) -> bool:
    error = answer.json()["error"]
    return 400 <= answer.status_code < 500 and len(error["message"]) < 1000 and "set-cookie" not in answer.headers


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("path", TAKES_JSON)
def test_json_that_nobody_can_keep_is_refused(client: httpx.Client, path: str, text: str) -> None:
    answer = client.post(path, content=TEXTS[text], headers={"Content-Type": "application/json"})
    assert answer.is_success or is_refusal(answer), answer.text
    assert not answer.is_success or text in ("a half name", "no number", "many digits")  # in what nobody reads


@pytest.mark.parametrize("text", ["deep", "half a pair", "NUL"])
def test_json_inside_of_a_form_is_no_better(client: httpx.Client, text: str) -> None:
    given = str(TEXTS[text])
    for name in ("metadata", "chunking_strategy"):
        answer = client.post(JOBS, files={"file": ("a.wav", wav(1)), name: (None, given)})
        assert is_refusal(answer), answer.text
    assert client.post(JOBS, files={"manifest": (None, given)}).status_code in (202, 400)  # a bad line fails alone


@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_an_address_leads_anywhere(client: httpx.Client, name: str) -> None:
    asked = [client.get(f"{JOBS}/{name}{rest}") for rest in ("", "/files", "/result", "/events")]
    asked += [client.delete(f"{JOBS}/{name}"), client.post(f"{JOBS}/{name}/cancel"), client.get(f"/v1/models/{name}")]
    asked += [client.put(f"/v1/uploads/{name}", content=b"x"), client.get(f"/static-offline-docs/{name}")]
    asked += [client.post(f"/v1/webhooks/deliveries/{name}/redeliver")]
    for answer in asked:
        assert is_refusal(answer), answer.text
    for query in (f"{JOBS}?after={name}", f"/v1/webhooks/deliveries?after={name}"):
        assert client.get(query).status_code in (200, 400, 404)


@pytest.mark.parametrize("number", [10**30, -(10**30), 2**63, 2**31, -2])
def test_no_number_is_beyond_what_a_column_takes(client: httpx.Client, number: int) -> None:
    job = f"{JOBS}/{submit(client, 1.0)['id']}"
    for path in (f"{job}/files?after={number}", f"{job}/result?file={number}", f"{JOBS}?limit={number}"):
        assert is_refusal(client.get(path))
    assert is_refusal(client.get(f"{job}/events", headers={"Last-Event-ID": str(number)}))


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/transcribe", JOBS])
def test_no_field_of_a_form_is_a_fault(client: httpx.Client, path: str, fields: str) -> None:
    answer = client.post(path, files={"file": ("a.wav", wav(1))}, data=FIELDS[fields])
    assert is_refusal(answer), answer.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Starlette leaves files to be collected
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", JOBS])
def test_no_form_is_a_fault(client: httpx.Client, path: str, body: str) -> None:
    boundary, content = BODIES[body]
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = client.post(path, content=content, headers=kind)
    assert is_refusal(answer), answer.text


def test_a_file_may_be_called_anything_and_stays_a_name(client: httpx.Client) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="../../a\0\x1b[31m.wav"\r\n\r\nx\r\n--b--\r\n'
    answer = client.post(JOBS, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 202
    (file,) = client.get(f"{JOBS}/{answer.json()['id']}/files").json()["data"]
    assert file["name"] == "../../a\ufffd\x1b[31m.wav"  # JSON says it harmlessly


@pytest.mark.parametrize("given", ["a b", "x" * 129, "\x1b[31m", "a\tb", "ü"])
def test_only_an_id_is_taken_for_the_id_of_a_request(client: httpx.Client, given: str) -> None:
    answer = client.get("/health/live", headers=[(b"X-Request-ID", given.encode())])
    assert answer.status_code == 400 or answer.headers["x-request-id"].startswith("req_")


def test_a_path_neither_ends_a_line_of_the_log_nor_speaks_to_a_terminal() -> None:
    entry = {"event": "request", "path": "/a\nb\x1b[31m\u202ec", "status": 200, "exception": "a\nb\x1b"}
    shown = printable(None, "info", entry)
    assert shown == entry | {"path": "/a\\nb\\x1b[31m\\u202ec", "exception": "a\nb\\x1b"}


def test_rows_of_the_database_are_in_no_log() -> None:
    before = structlog.get_config()
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    try:
        configure_logging("debug", "json")
        assert not logging.getLogger("aiosqlite").isEnabledFor(logging.DEBUG)
    finally:
        structlog.configure(**before)
        logging.basicConfig(handlers=handlers, level=level, force=True)


def test_the_log_of_a_terminal_is_made_so(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    try:
        configure_logging("info", "text")
        structlog.get_logger("trial").info("request", path="/a\nforged\x1b[31m")
        logging.getLogger("trial").warning("odd\nline %s", "\x1b[31m")
    finally:
        structlog.configure(**before)
        logging.basicConfig(handlers=handlers, level=level, force=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "/a\\nforged\\x1b[31m" in lines[0]
    assert "odd\\nline \\x1b[31m" in lines[1]
