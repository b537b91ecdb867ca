import numpy as np
import pytest

from nautilus.measure.reliability import Judged, auc, bins, calibration_error, judge, plot
from nautilus.types import Word


def draws(sure: float) -> list[Judged]:
    """Draw words that are right as often as their confidence says, and say confidences raised to a power."""
    rng = np.random.default_rng(0)
    return [Judged(float(p**sure), bool(rng.random() < p)) for p in rng.random(20_000)]


def test_words_are_judged_where_they_are() -> None:
    words = [Word(text, 0.0, 1.0, 0.5) for text in ("One", "too", "three")]
    assert [one.right for one in judge("one two three", words)] == [True, False, True]
    assert [one.right for one in judge("", words)] == [False] * 3
    assert judge("one", []) == []


def test_auc_is_the_share_of_pairs_in_order() -> None:
    right = [Judged(confidence, right=True) for confidence in (0.9, 0.4)]
    wrong = [Judged(confidence, right=False) for confidence in (0.5, 0.1)]
    assert auc([*right, *wrong]) == 0.75
    assert auc([right[0], Judged(0.9, right=False)]) == 0.5
    assert np.isnan(auc(right))


def test_true_confidences_have_no_calibration_error() -> None:
    assert calibration_error(draws(1.0)) < 0.02
    assert calibration_error(draws(0.25)) > 0.2
    assert auc(draws(0.25)) == pytest.approx(auc(draws(1.0)))


def test_bins_hold_equally_many_words() -> None:
    assert {one.words for one in bins(draws(1.0))} == {2000}


def test_the_plot_has_a_line_for_each_series() -> None:
    drawn = plot({"before": bins(draws(0.25)), "after": bins(draws(1.0))}, ["#e53e3e", "#3182ce"])
    assert drawn.count("<polyline") == 2
