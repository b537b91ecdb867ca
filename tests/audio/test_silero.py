from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from recipes.vad.silero import Silero

from nautilus.audio.silero import CHUNK, Matrix, listen
from nautilus.types import SAMPLE_RATE, Waveform
from tests.engines.sounds import noise, sample


def probabilities(waveform: Waveform) -> Matrix:
    return np.concatenate([np.zeros(0, np.float32), *listen(waveform)])


@pytest.mark.nemo  # the package is set up with it
@pytest.mark.parametrize("seconds", [0.01, 0.032, 0.5, 5.0])
def test_it_is_the_network_of_its_package(seconds: float) -> None:
    package = find_spec("silero_vad")
    assert package, "make setup installs it"
    assert package.origin
    theirs = Silero(Path(package.origin).parent / "data" / "silero_vad_16k_sequence.onnx")
    for waveform in (sample(), noise(seconds), noise(seconds) * 0.01):
        cut = waveform[: round(seconds * SAMPLE_RATE)]
        assert np.abs(probabilities(cut) - theirs.chunks(cut)).max() < 1e-4


def test_speech_is_speech_and_noise_and_silence_are_not() -> None:
    assert np.median(probabilities(sample())) > 0.9
    for waveform in (noise(2.0) * 0.1, np.zeros(2 * SAMPLE_RATE, np.float32)):
        assert probabilities(waveform).max() < 0.3


@pytest.mark.parametrize("samples", [0, 1, CHUNK, CHUNK + 1, 200 * CHUNK])
def test_every_chunk_has_a_probability(samples: int) -> None:
    sound: Waveform = noise(10.0)[:samples]
    found = probabilities(sound)
    assert found.shape == (-(-samples // CHUNK),)
    assert np.array_equal(found, probabilities(sound.copy()))


def test_what_comes_later_changes_nothing() -> None:
    early = probabilities(sample()[: 100 * CHUNK])
    assert np.allclose(early, probabilities(sample())[:100], atol=1e-5)
