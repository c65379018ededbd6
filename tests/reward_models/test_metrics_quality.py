"""Measures with answers worked by hand, and slow definitions beside fast ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from audience.reward_models import metrics, ordinal
from audience.reward_models.metrics import UserBootstrap
from audience.reward_models.ordinal import OrdinalRegression


def test_auc_of_hand_worked_scores_counts_ties_half() -> None:
    # Positives .8 and .5, negatives .5 and .1: won 1, 1, .5, 1 of 4 pairs.
    assert metrics.auc([0.8, 0.5, 0.5, 0.1], [True, True, False, False]) == 0.875
    assert np.isnan(metrics.auc([0.8, 0.5], [True, True]))
    assert np.isnan(metrics.auc([], []))


def test_auc_agrees_with_sklearn_pooled_and_within_users() -> None:
    rng = np.random.default_rng(0)
    user = rng.integers(6, size=400)
    scores = rng.integers(12, size=400) / 12.0  # many ties
    liked = rng.random(400) < expit(3 * scores - 1.5)
    liked[user == 4] = True  # one class only
    user[user == 5] = 3  # no events
    assert metrics.auc(scores, liked) == pytest.approx(roc_auc_score(liked, scores))
    found = metrics.auc_by_user(scores, liked, user, 6)
    for u in range(4):
        assert found[u] == pytest.approx(roc_auc_score(liked[user == u], scores[user == u]))
    assert np.isnan(found[4:]).all()


def test_pooled_auc_of_a_resample_is_that_of_the_repeated_events() -> None:
    rng = np.random.default_rng(1)
    user = np.sort(rng.integers(5, size=60))
    scores, liked = rng.integers(9, size=60) / 9.0, rng.random(60) < 0.4
    bootstrap = UserBootstrap(5, seed=3, resamples=4)
    found = bootstrap.auc(scores, liked, user)
    for sample, counts in zip(found, bootstrap.counts, strict=True):
        rows = np.repeat(np.arange(60), counts[user].astype(int))
        assert sample == pytest.approx(roc_auc_score(liked[rows], scores[rows]))


def test_pooled_auc_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    scores, liked, user = rng.random(50), rng.random(50) < 0.5, np.repeat(np.arange(10), 5)
    whole = UserBootstrap(10, seed=0, resamples=30).auc(scores, liked, user)
    monkeypatch.setattr(metrics, "CELLS", 120)  # two resamples a chunk
    np.testing.assert_allclose(UserBootstrap(10, 0, 30).auc(scores, liked, user), whole)


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.1, 0.3, 0.8, 0.6])
    happened = np.array([False, False, True, False])
    # Bins {.1, .3} and {.6, .8}: |.4 - 0| and |1.4 - 1|, over four events.
    assert metrics.calibration_error(probability, happened, bins=2) == pytest.approx(0.2)
    assert metrics.calibration_error(np.ones(7), np.ones(7, bool)) == 0


def test_reliability_by_hand() -> None:
    probability = np.array([0.1, 0.6, 0.3, 0.8, 0.7])
    happened = np.array([False, False, True, True, True])
    # Sorted: .1 and .3 and .6, of which the second happened; .7 and .8, which both did.
    predicted, observed, count = metrics.reliability(probability, happened, bins=2)
    np.testing.assert_allclose(predicted, [1 / 3, 0.75])
    np.testing.assert_allclose(observed, [1 / 3, 1])
    np.testing.assert_array_equal(count, [3, 2])
    error = metrics.calibration_error(probability, happened, bins=2)
    assert error == pytest.approx(2 / 5 * 0.25)


def test_reliability_has_no_more_bins_than_events() -> None:
    predicted, observed, count = metrics.reliability(np.array([0.2, 0.4]), np.array([True, False]))
    np.testing.assert_allclose(predicted, [0.2, 0.4])
    np.testing.assert_array_equal(observed, [1, 0])
    np.testing.assert_array_equal(count, [1, 1])
    assert all(len(part) == 0 for part in metrics.reliability(np.zeros(0), np.zeros(0, bool)))
    assert np.isnan(metrics.calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_gain_of_rank_stops_at_ten() -> None:
    gain = metrics.gain_of_rank(np.array([0, 2, 9, 10]))
    np.testing.assert_allclose(gain, [1, 1 / 2, 1 / np.log2(11), 0])


def test_ranking_of_several_relevant_items_by_hand() -> None:
    scores = np.array([[5.0, 4, 3, 2], [-np.inf, 4, 3, 2], [5, 4, 3, 2]])
    relevant = np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    gain, hit = metrics.ranking(scores, relevant, top=3)
    ideal = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(gain, [1 / np.log2(3) / ideal, 0, np.nan])
    np.testing.assert_array_equal(hit, [1, 0, np.nan])


def test_bootstrap_of_a_mean_has_its_standard_error_and_is_seeded() -> None:
    values = np.random.default_rng(0).normal(2, 1, 400)
    ones = np.ones(400)
    samples = UserBootstrap(400, seed=1).ratio(values, ones)
    assert samples.std() == pytest.approx(values.std() / 20, rel=0.1)
    low, high = metrics.interval(samples)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    np.testing.assert_array_equal(UserBootstrap(400, seed=1).ratio(values, ones), samples)
    assert not np.array_equal(UserBootstrap(400, seed=2).ratio(values, ones), samples)


def test_bootstrap_leaves_out_users_without_weight() -> None:
    samples = UserBootstrap(2, seed=0, resamples=50).ratio(np.array([3.0, 0]), np.array([1.0, 0]))
    assert set(samples[np.isfinite(samples)]) == {3.0}
    assert np.isnan(samples).any()  # the second user twice


def test_differences_take_the_best_baseline_and_pair_the_samples() -> None:
    shift = np.linspace(-1, 1, 100)
    found: dict[str, metrics.Measures] = {
        "model": {"rmse": (0.9, 0.9 + shift)},
        "poor": {"rmse": (1.2, 1.2 + shift)},
        "good": {"rmse": (1.0, 1.0 + shift)},
        "undefined": {"rmse": (float("nan"), shift)},
    }
    lower = metrics.differences(found, {"rmse": True})["rmse"]
    assert lower["against"] == "good"
    # Paired: what moves both moves no difference.
    for key in ("mean", "low", "high"):
        assert lower[key] == pytest.approx(-0.1)
    assert metrics.differences(found, {"rmse": False})["rmse"]["against"] == "poor"


def test_figures_have_no_nan() -> None:
    samples = np.full(10, np.nan)
    assert metrics.figures({"auc": (float("nan"), samples), "ece": (0.5, None)}) == {
        "auc": None,
        "auc_low": None,
        "auc_high": None,
        "ece": 0.5,
    }


def test_ordinal_regression_recovers_planted_thresholds_and_slope() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 0.7, 40_000)
    thresholds = np.array([2.0, 4.0, 7.0])
    chance = OrdinalRegression(thresholds, 1.5).probabilities(x)
    levels = (rng.random((len(x), 1)) > chance.cumsum(1)).sum(1)
    found = OrdinalRegression.fit(x, levels, 4)
    assert found.slope == pytest.approx(1.5, abs=0.06)
    np.testing.assert_allclose(found.thresholds, thresholds, atol=0.15)


def test_ordinal_probabilities_by_hand() -> None:
    found = OrdinalRegression(np.array([0.0, np.log(3)]), 1.0).probabilities(np.array([0.0]))
    np.testing.assert_allclose(found, [[0.5, 0.25, 0.25]])


def test_ordinal_gradient_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    z, y, weight = rng.normal(size=30), rng.integers(4, size=30), rng.random(30)
    free = np.array([-0.7, 0.1, -0.4, 0.8])
    numeric = approx_fprime(free, lambda f: ordinal._loss(f, z, y, weight)[0], 1e-7)
    np.testing.assert_allclose(ordinal._loss(free, z, y, weight)[1], numeric, atol=1e-5)


@pytest.mark.parametrize("events", [0, 1, 50])
def test_ordinal_regression_of_hardly_anything_is_finite(events: int) -> None:
    levels = np.full(events, 2)  # levels 0, 1 and 3 were never seen
    chance = OrdinalRegression.fit(np.full(events, 1.5), levels, 4).probabilities(np.arange(5.0))
    assert np.isfinite(chance).all() and (chance > 0).all()
    np.testing.assert_allclose(chance.sum(1), 1)


def test_ordinal_regression_of_levels_told_apart_perfectly_has_a_finite_slope() -> None:
    x = np.linspace(-1, 1, 40)
    found = OrdinalRegression.fit(x, (x > 0).astype(np.int64), 2)
    assert 1 < found.slope < 100


def test_ordinal_regression_refuses_a_single_level() -> None:
    with pytest.raises(ValueError, match="n_levels must be at least 2, got 1"):
        OrdinalRegression.fit(np.zeros(3), np.zeros(3, np.int64), 1)
