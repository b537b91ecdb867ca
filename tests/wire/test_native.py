from nautilus.wire.native import document
from tests.wire.sample import TRANSCRIPT


def test_the_document_tells_everything() -> None:
    whole = document(TRANSCRIPT, ("prompt has no effect.",))
    assert list(whole) == ["text", "language", "model", "segments", "words", "audio", "timings", "warnings"]
    assert whole["words"][0] == {"word": "hello", "start": 0.24, "end": 0.56, "confidence": 0.9}
    assert whole["segments"][0] == {"start": 0.24, "end": 1.04, "text": "hello world."}
    assert whole["audio"]["snr"] == 31.5
    assert whole["timings"] == {"decode": 0.001, "enhance": 0, "queue": 0.002, "inference": 0.02, "total": 0.0251}
    assert whole["warnings"] == ["prompt has no effect."]
