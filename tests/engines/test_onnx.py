from pathlib import Path

import numpy as np
import pytest

from nautilus.engines.base import Engine
from nautilus.engines.bundle import Bundle
from nautilus.engines.onnx import open_session, padded
from nautilus.errors import ModelLoadError
from nautilus.types import Options
from tests.engines.sounds import noise, sample, silence


def test_what_it_is(embedded: Bundle, embedded_onnx: Engine) -> None:
    info = embedded_onnx.info
    assert (info.name, info.family, info.runtime, info.device) == (embedded.name, "ctc", "onnx", "cpu")
    assert (info.languages, info.frame_seconds, info.translates) == (("en",), 0.08, False)
    assert info.packed


def test_its_language_is_known_even_of_silence(embedded_onnx: Engine) -> None:
    heard = embedded_onnx.transcribe([silence(1.0), silence(0.0), sample()], Options())
    assert [hypothesis.language for hypothesis in heard] == ["en"] * 3


def test_silence_has_no_words(embedded_onnx: Engine) -> None:
    for waveform in (silence(5.0), np.zeros(1, np.float32)):
        assert embedded_onnx.transcribe([waveform], Options())[0].words == ()


def test_loudness_hardly_matters_to_how_long_a_word_is(embedded_onnx: Engine) -> None:
    (heard,) = embedded_onnx.transcribe([sample()], Options())
    assert all(0 < word.end - word.start < 3 for word in heard.words)


def test_a_window_of_half_a_minute_is_heard_to_its_end(embedded_onnx: Engine) -> None:
    long = np.concatenate([sample(), noise(30.0 - 2 * len(sample()) / 16_000) * 0.01, sample()])
    (heard,) = embedded_onnx.transcribe([long], Options())
    assert heard.words[-1].end > 24.0


def test_neighbours_of_any_length_change_no_score(embedded: Bundle) -> None:
    """Recordings lie one after the other inside the graph, and must not hear each other."""
    session = open_session(embedded.folder / embedded.offline)
    features = [
        embedded.features(one) for one in (sample(), noise(0.3), sample()[20_000:], noise(11.0), sample()[:800])
    ]

    def scores(chosen: list[np.ndarray]) -> list[np.ndarray]:
        signal, lengths = padded(chosen)
        logprobs, counts = session.run(["logprobs", "encoded_lengths"], {"audio_signal": signal, "length": lengths})
        return [rows[:count] for rows, count in zip(logprobs, counts, strict=True)]

    for order in (features, features[::-1]):
        for together, one in zip(scores(order), order, strict=True):
            np.testing.assert_allclose(together, scores([one])[0], atol=1e-4)


def test_a_broken_graph_is_refused_by_name(tmp_path: Path) -> None:
    graph = tmp_path / "offline.onnx"
    graph.write_bytes(b"no graph")
    with pytest.raises(ModelLoadError, match=r"offline\.onnx"):
        open_session(graph)


def test_keywords_reach_the_engine(embedded_onnx: Engine) -> None:
    clip = sample()
    (plain,) = embedded_onnx.transcribe([clip], Options())
    (same,) = embedded_onnx.transcribe([clip], Options(keywords=tuple(word.text for word in plain.words)))
    (unheard,) = embedded_onnx.transcribe([silence(3.0)], Options(keywords=("nautilus", "submarine")))
    assert embedded_onnx.info.keywords
    assert same.text == plain.text
    assert unheard.text == ""
