import numpy as np
import pytest

from nautilus.engines.features import FeatureStream, LogMel
from nautilus.types import SAMPLE_RATE, Waveform


def noise(seconds: float, seed: int = 0) -> Waveform:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def test_ten_milliseconds_make_a_frame() -> None:
    assert LogMel()(noise(1.0)).shape == (80, 100)
    assert LogMel()(noise(0.1))[:, :5].dtype == np.float32


def test_less_than_a_frame_makes_none() -> None:
    assert LogMel()(noise(0.005)).shape == (80, 0)
    assert LogMel()(np.zeros(0, np.float32)).shape == (80, 0)


def test_silence_is_the_logarithm_of_the_guard() -> None:
    assert np.allclose(LogMel()(np.zeros(SAMPLE_RATE, np.float32)), np.log(2.0**-24))


def test_a_long_waveform_gives_the_frames_of_its_parts() -> None:
    log_mel, long = LogMel(), noise(45.0)
    whole = log_mel(long)
    part = log_mel(long[18 * SAMPLE_RATE : 24 * SAMPLE_RATE])
    assert np.allclose(whole[:, 1810:2390], part[:, 10:590], atol=1e-4)


def test_normalised_features_have_no_mean_and_unit_deviation() -> None:
    features = LogMel(normalize="per_feature")(noise(2.0))
    assert np.allclose(features.mean(axis=1), 0, atol=1e-4)
    assert np.allclose(features.std(axis=1, ddof=1), 1, atol=1e-3)


@pytest.mark.nemo
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("nemo")
@pytest.mark.parametrize("seconds", [0.1, 0.513, 3.0, 25.0])
@pytest.mark.parametrize(("ours", "theirs"), [("none", "NA"), ("per_feature", "per_feature")])
@pytest.mark.parametrize("mels", [80, 128])
def test_they_are_nemo_s(seconds: float, ours: str, theirs: str, mels: int) -> None:
    import torch
    from nemo.collections.asr import modules

    preprocessor = modules.AudioToMelSpectrogramPreprocessor(
        normalize=theirs, features=mels, window_size=0.025, n_fft=512, dither=0.0, pad_to=0
    )
    waveform = noise(seconds)
    expected, lengths = preprocessor(
        input_signal=torch.from_numpy(waveform)[None], length=torch.tensor([len(waveform)])
    )
    features = LogMel(n_mels=mels, normalize=ours)(waveform)  # type: ignore[arg-type]  # a Literal, spelt in parameters
    assert features.shape[1] == int(lengths[0])
    assert np.abs(features - expected[0, :, : features.shape[1]].numpy()).max() < 2e-3


def test_a_stream_has_the_features_of_the_whole() -> None:
    random = np.random.default_rng(0)
    for samples in (0, 1, 159, 160, 400, 5000, 48_123):
        waveform = random.standard_normal(samples).astype(np.float32)
        stream = FeatureStream(LogMel())
        cuts = np.sort(random.integers(0, samples + 1, 20))
        parts = [stream.add(piece) for piece in np.split(waveform, cuts)]
        features = np.concatenate([*parts, stream.finish()], axis=1)
        np.testing.assert_allclose(features, LogMel()(waveform), atol=2e-4)
