"""Live speech through the whole server with a model that hears utterances as a whole, alone and as second pass."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import AsyncOpenAI
from websockets.exceptions import InvalidStatus

from nautilus.engines.bundle import Bundle
from nautilus.settings import Settings
from tests.conftest import running
from tests.engines.sounds import noise, sample, silence
from tests.web.test_realtime import BY_SERVER, MANUAL, at_24_khz
from tests.web.test_realtime import pieces as in_base64
from tests.web.test_stream import HEARD, converse, finals, opened, parts, pcm


@pytest.fixture(scope="module")
def offline(embedded: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model without its graph for streams."""
    folder = tmp_path_factory.mktemp("models") / "offline"
    shutil.copytree(embedded.folder, folder, ignore=shutil.ignore_patterns("streaming.onnx", "model.nemo"))
    manifest = json.loads((folder / "nautilus.json").read_text(encoding="utf-8"))
    del manifest["graphs"]["streaming"], manifest["sha256"]
    (folder / "nautilus.json").write_text(json.dumps(manifest | {"name": "offline"}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def offline_server(settings: Settings, offline: Path) -> Iterator[str]:
    """URL of a server whose only model hears recordings."""
    with running(settings.model_copy(update={"model": str(offline)})) as url:
        yield url


@pytest.fixture(scope="module")
def two_pass_server(settings: Settings, offline: Path) -> Iterator[str]:
    """URL of a server that streams with the embedded model, and hears each utterance again."""
    with running(settings.model_copy(update={"final_model": str(offline)})) as url:
        yield url


def test_any_model_hears_streams(offline_server: str) -> None:
    sound = pcm(np.concatenate([sample(), silence(1.5)]))
    events = converse(offline_server, [sound[start : start + 3200] for start in range(0, len(sound), 3200)], "")
    kinds = [event["type"] for event in events]
    assert events[0]["look_ahead"] == 1.0
    assert kinds[:2] == ["ready", "speech_started"]
    assert kinds[-2:] == ["final", "end"]
    assert all(event["stable"] <= len(event["words"]) for event in events if event["type"] == "partial")
    assert finals(events) == [HEARD]


def test_its_live_transcript_is_that_of_the_file(offline_server: str) -> None:
    from tests.web.clips import SPEECH

    document = httpx.post(f"{offline_server}/transcribe", files={"file": SPEECH.read_bytes()}).json()
    (final,) = [event for event in converse(offline_server, [pcm(sample())], "") if event["type"] == "final"]
    assert final["text"] == document["text"]
    for ours, theirs in zip(final["words"], document["words"], strict=True):
        assert ours["start"] == pytest.approx(theirs["start"], abs=0.09)


@pytest.mark.parametrize(
    ("seed", "longest", "delay"), [(1, 1001, "minimal"), (2, 33_333, "high"), (3, 200_000, "xhigh")]
)
def test_neither_messages_nor_delay_change_a_final(offline_server: str, seed: int, longest: int, delay: str) -> None:
    sound = pcm(np.concatenate([sample(), silence(1.5), sample()]))
    said = finals(converse(offline_server, list(parts(sound, seed, longest)), f"delay={delay}"))
    assert said[0] == HEARD
    assert said == finals(converse(offline_server, [sound], ""))
    assert len(said) == 2


def test_many_such_streams_do_not_disturb_each_other(offline_server: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        asked = [
            threads.submit(converse, offline_server, list(parts(pcm(sample()), seed, 9000)), "") for seed in range(8)
        ]
        assert [finals(one.result()) for one in asked] == [[HEARD]] * 8


async def test_openai_s_client_hears_such_a_model(offline_server: str) -> None:
    client = AsyncOpenAI(
        api_key="none",
        base_url=f"{offline_server}/v1",
        websocket_base_url=f"{offline_server}/v1".replace("http", "ws"),
    )
    for session in (MANUAL, BY_SERVER):
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            await connection.session.update(session=session)  # type: ignore[arg-type]  # its types know no dicts
            for audio in in_base64(at_24_khz(np.concatenate([sample(), silence(1.5)]))):
                await connection.input_audio_buffer.append(audio=audio)
            if session is MANUAL:
                await connection.input_audio_buffer.commit()
            seen: list[Any] = []
            async for event in connection:
                seen.append(event)
                if event.type == "conversation.item.input_audio_transcription.completed":
                    break
        deltas = "".join(event.delta for event in seen if event.type.endswith(".delta"))
        assert (seen[-1].transcript, deltas) == (HEARD, HEARD)


def test_a_language_that_the_model_does_not_know_is_refused(offline_server: str) -> None:
    for query, message in (("language=de", "does not know the language 'de'"), ("language=klingon", "ISO-639-1")):
        with pytest.raises(InvalidStatus) as refusal:
            opened(offline_server, query)
        assert message in json.loads(refusal.value.response.body or b"")["error"]["message"]


@pytest.mark.nemo
@pytest.mark.timeout(300)
def test_nemo_s_own_cache_aware_models_hear_streams(settings: Settings, embedded: Bundle) -> None:
    with running(settings.model_copy(update={"model": str(embedded.folder / "model.nemo")})) as url:
        events = converse(url, list(parts(pcm(np.concatenate([sample(), silence(1.5)])), 1, 9000)))
    assert events[0]["look_ahead"] == 1.04
    assert "partial" in [event["type"] for event in events]
    assert finals(events) == [HEARD]


def test_the_second_pass_s_words_are_final(two_pass_server: str) -> None:
    quick = np.concatenate([sample(), noise(1.5) * np.float32(0.001)])
    events = converse(two_pass_server, [pcm(np.concatenate([quick, quick]))], "delay=minimal")
    once = converse(two_pass_server, [pcm(np.concatenate([quick, quick]))], "delay=minimal&final_model=none")
    assert finals(events) == [HEARD, HEARD]
    assert finals(once) != finals(events), "without a look-ahead, the first pass errs"
    assert [event["text"] for event in events if event["type"] == "partial"] == [
        event["text"] for event in once if event["type"] == "partial"
    ]
    assert [event["type"] for event in events].count("end") == 1


def test_a_client_may_name_the_second_pass(two_pass_server: str, offline: Path) -> None:
    named = httpx.get(f"{two_pass_server}/v1/models").json()["data"]
    assert str(offline) in [model["id"] for model in named]
    assert finals(converse(two_pass_server, [pcm(sample())], "delay=minimal&final_model=embedded")) == [HEARD]
    with pytest.raises(InvalidStatus) as refusal:
        opened(two_pass_server, "final_model=nobody")
    assert "There is no model named 'nobody'" in json.loads(refusal.value.response.body or b"")["error"]["message"]
