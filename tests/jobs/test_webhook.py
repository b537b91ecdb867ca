import base64
import json
import time
from collections.abc import Callable

import openai
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from nautilus.errors import AddressRefusedError, ConfigurationError, UnsupportedError
from nautilus.jobs.webhook import (
    JITTER,
    LARGEST,
    SCHEDULE,
    Answer,
    Dead,
    Delivered,
    Fault,
    Retry,
    WebhookSettings,
    after,
    check_webhook_url,
    headers,
    is_failing,
    payload,
    sign,
)
from nautilus.outside.limits import OutsideLimits
from nautilus.settings import load_settings

OLD = SecretStr("whsec_" + base64.b64encode(b"o" * 24).decode())
NEW = SecretStr("whsec_" + base64.b64encode(b"n" * 64).decode())
BODY = '{"type":"transcription.job.completed","data":{"id":"job_1","näme":"ü"}}'

Verify = Callable[[str, dict[str, str], SecretStr], None]


def by_standardwebhooks(body: str, given: dict[str, str], secret: SecretStr) -> None:
    Webhook(secret.get_secret_value()).verify(body, given)


def by_openai(body: str, given: dict[str, str], secret: SecretStr) -> None:
    with openai.OpenAI(api_key="none") as client:
        client.webhooks.verify_signature(body, given, secret=secret.get_secret_value())


VERIFIERS = pytest.mark.parametrize("verify", [by_standardwebhooks, by_openai])
REFUSED = (WebhookVerificationError, openai.InvalidWebhookSignatureError)


@VERIFIERS
@pytest.mark.parametrize("secrets", [(NEW,), (NEW, OLD), (OLD, NEW)])
def test_others_verify_our_signature_also_while_secrets_change(verify: Verify, secrets: tuple[SecretStr, ...]) -> None:
    given = headers(secrets, "msg_1", int(time.time()), BODY)
    assert len(given["webhook-signature"].split()) == len(secrets)
    verify(BODY, given, NEW)


@VERIFIERS
@pytest.mark.parametrize("tampered", ["body", "webhook-id", "webhook-timestamp", "webhook-signature", "secret"])
def test_what_was_tampered_with_is_refused(verify: Verify, tampered: str) -> None:
    now = int(time.time())
    given = headers((NEW,), "msg_1", now, BODY)
    changed = {
        "webhook-id": "msg_2",
        "webhook-timestamp": str(now + 1),
        "webhook-signature": sign((NEW,), "msg_2", now, BODY),
    }
    given |= {name: value for name, value in changed.items() if name == tampered}
    with pytest.raises(REFUSED):
        verify(BODY + (" " if tampered == "body" else ""), given, OLD if tampered == "secret" else NEW)


@VERIFIERS
def test_an_old_attempt_cannot_be_played_again(verify: Verify) -> None:
    with pytest.raises(REFUSED):
        verify(BODY, headers((NEW,), "msg_1", int(time.time()) - 301, BODY), NEW)


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the standard's own libraries."""
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = sign((secret,), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_body_tells_what_ended_and_when() -> None:
    told = payload("failed", {"id": "job_1", "metadata": {"näme": "ü"}}, 1_700_000_000.25)
    assert json.loads(told) == {
        "type": "transcription.job.failed",
        "timestamp": "2023-11-14T22:13:20.250Z",
        "data": {"id": "job_1", "metadata": {"näme": "ü"}},
    }


def test_a_body_can_always_be_sent() -> None:
    told = payload("cancelled", {"id": "job_1", "metadata": {"half": "a\ud800b", "null": "\x00"}}, 0.0)
    assert json.loads(told.encode())["data"]["metadata"] == {"half": "a?b", "null": "\x00"}


def test_a_body_stays_small_whatever_callers_add() -> None:
    largest = {f"{number:064}": "🌊" * 512 for number in range(16)}
    told = payload("completed", {"id": "job_1", "metadata": largest}, 0.0)
    assert json.loads(told)["data"] == {"id": "job_1"}
    assert len(payload("completed", {"metadata": {"a": "b" * (LARGEST - 200)}}, 0.0).encode()) <= LARGEST
    with pytest.raises(ValueError, match=str(LARGEST)):
        payload("completed", {"id": "x" * LARGEST}, 0.0)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_delivered(status: int) -> None:
    assert after(1, Answer(status), 100.0) == Delivered()


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 408, 429, 500, 503])
def test_any_other_answer_is_tried_again(status: int) -> None:
    assert after(1, Answer(status), 100.0) == Retry(105.0, f"The receiver answered {status}.")


def test_waits_grow_as_scheduled_and_then_it_is_dead() -> None:
    fault = Fault("No answer.")
    waits = [after(attempt, fault, 0.0) for attempt in range(1, 10)]
    assert waits == [Retry(wait, "No answer.") for wait in SCHEDULE[1:]]
    assert after(10, fault, 0.0) == Dead("No answer. That was attempt 10, the last.")
    assert isinstance(after(11, fault, 0.0), Dead)


def test_chance_spreads_attempts_but_never_makes_them_early() -> None:
    assert after(3, Answer(500), 0.0, chance=1.0) == Retry(1800.0 * (1 + JITTER), "The receiver answered 500.")


@pytest.mark.parametrize(("asked", "at"), [(None, 5.0), (1.0, 5.0), (3600.0, 3600.0)])
def test_a_receiver_may_ask_for_more_time(asked: float | None, at: float) -> None:
    assert after(1, Answer(503, asked), 0.0) == Retry(at, "The receiver answered 503.")


def test_a_receiver_that_wants_no_more_gets_no_more() -> None:
    assert after(1, Answer(410), 0.0) == Dead("The receiver answered 410: it wants no more of these.")


def test_a_refused_address_is_not_tried_again() -> None:
    assert after(1, Fault("Refused.", final=True), 0.0) == Dead("Refused.")


@pytest.mark.parametrize(
    ("result", "failing"),
    [(Answer(200), False), (Answer(404), False), (Answer(429), True), (Answer(503), True), (Fault("No answer."), True)],
)
def test_a_host_is_failing_when_more_than_one_url_would_suffer(result: Answer | Fault, failing: bool) -> None:
    assert is_failing(result) is failing


def test_without_a_secret_a_job_may_not_name_a_webhook() -> None:
    with pytest.raises(UnsupportedError, match="NAUTILUS_WEBHOOKS__SECRETS") as refused:
        check_webhook_url("https://receiver.example/", WebhookSettings(), OutsideLimits())
    assert refused.value.param == "webhook_url"


def test_a_webhook_url_is_checked_and_kept_in_one_form() -> None:
    settings = WebhookSettings((NEW,))
    assert check_webhook_url("HTTPS://Receiver.example", settings, OutsideLimits()) == "https://receiver.example/"
    with pytest.raises(AddressRefusedError) as refused:
        check_webhook_url("https://127.0.0.1/", settings, OutsideLimits())
    assert refused.value.param == "webhook_url"


def encoded(size: int) -> str:
    return base64.b64encode(b"k" * size).decode()


@pytest.mark.parametrize(
    "secret", ["", "whsec_", encoded(32), "whsec_" + encoded(23), "whsec_" + encoded(65), "whsec_ä!", "whsec_abc"]
)
def test_a_malformed_secret_is_refused_at_the_start_and_not_shown(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_WEBHOOKS__SECRETS", json.dumps([NEW.get_secret_value(), secret]))
    with pytest.raises(ConfigurationError, match=r"NAUTILUS_WEBHOOKS.*secret 2") as refused:
        load_settings()
    assert not secret.removeprefix("whsec_") or secret not in str(refused.value)
