import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience.reward_models.scale import BINS, MAX_LEVELS, FeedbackScale


def test_few_distinct_values_are_the_levels() -> None:
    scale = FeedbackScale.of([3, 1, 5, 3, 3.5])
    assert scale.values == (1, 3, 3.5, 5) and scale.edges is None
    assert scale.level_of([1, 3, 3.5, 5]).tolist() == [0, 1, 2, 3]
    # The nearest level; below and above the scale its ends.
    assert scale.level_of([-9, 2.1, 3.2, 4.9, 99]).tolist() == [0, 1, 1, 3, 3]
    assert scale.scaled.tolist() == [0, 0.5, 0.625, 1]


def test_likes_are_four_stars_and_more() -> None:
    halves = FeedbackScale.of(np.arange(1, 11) / 2)
    assert np.array(halves.values)[halves.likes].tolist() == [4, 4.5, 5]
    stars = FeedbackScale.of([1, 2, 3, 4, 5])
    assert np.array(stars.values)[stars.likes].tolist() == [4, 5]
    assert FeedbackScale((1.0,)).likes.tolist() == [True]
    assert FeedbackScale((1.0,)).scaled.tolist() == [1]


def test_negative_values_keep_their_order() -> None:
    scale = FeedbackScale.of([-10, 10, 0])
    assert scale.values == (-10, 0, 10)
    assert scale.scaled.tolist() == [0, 0.5, 1]


def test_many_values_become_equal_bins_with_their_means() -> None:
    values = np.arange(1000.0) - 500
    scale = FeedbackScale.of(values)
    levels = scale.level_of(values)
    assert np.bincount(levels).tolist() == [100] * BINS
    assert scale.values == tuple(np.arange(BINS) * 100 - 450.5)
    assert scale.likes.tolist() == [False] * 7 + [True] * 3


def test_exactly_max_levels_are_not_binned() -> None:
    assert FeedbackScale.of(np.arange(MAX_LEVELS)).edges is None
    assert FeedbackScale.of(np.arange(MAX_LEVELS + 1)).edges is not None


@pytest.mark.parametrize("at", ["highest", "lowest"])
def test_heavy_ties_at_an_end_do_not_swallow_the_rest(at: str) -> None:
    rare = np.linspace(0.1, 0.9, 30)
    tied = 1.0 if at == "highest" else 0.0
    scale = FeedbackScale.of(np.concatenate([np.full(5_000, tied), rare]))
    assert len(scale) == 2
    assert scale.values == pytest.approx(sorted([tied, 0.5]))
    assert len(set(scale.level_of([tied, 0.5]).tolist())) == 2


def test_rounding_of_tied_bins_keeps_round_trips() -> None:
    # The sum of 100,000 times .1 divided by 100,000 is not .1.
    values = np.concatenate([np.full(100_000, 0.1), np.full(100_000, 0.7), np.linspace(0.2, 1, 30)])
    scale = FeedbackScale.of(values)
    assert scale.level_of(scale.values).tolist() == list(range(len(scale)))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80))
def test_round_trip_and_monotony(values: list[float]) -> None:
    scale = FeedbackScale.of(values)
    assert scale.level_of(scale.values).tolist() == list(range(len(scale)))
    levels = scale.level_of(sorted(values))
    assert (np.diff(levels) >= 0).all()
    assert set(levels.tolist()) == set(range(len(scale)))
    if scale.edges is None:
        assert np.array_equal(np.array(scale.values)[levels], np.sort(values))
    else:
        at = scale.level_of(values)
        means = [np.mean(np.array(values)[at == level]) for level in range(len(scale))]
        assert np.allclose(means, scale.values)


def test_neighbouring_floats_round_trip() -> None:
    for low in (1.0, np.nextafter(1.0, 2)):
        scale = FeedbackScale.of([low, np.nextafter(low, 2)])
        assert scale.level_of(scale.values).tolist() == [0, 1]


def test_errors() -> None:
    with pytest.raises(ValueError, match="ascending and distinct, got"):
        FeedbackScale((2.0, 1.0))
    with pytest.raises(ValueError, match="ascending and distinct, got"):
        FeedbackScale.of([])
    with pytest.raises(ValueError, match="one fewer than the 2 values"):
        FeedbackScale((1.0, 2.0), edges=(1.0, 1.5))
