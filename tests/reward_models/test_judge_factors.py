"""Factors of judges: their sums by hand, whichever way they are taken."""

import numpy as np

from audience.reward_models.histories import Histories
from audience.reward_models.judge_factors import PACES, REACH, NextFactors, means_of

ITEMS, SIZE = 7, 3


def some_factors() -> NextFactors:
    rng = np.random.default_rng(0)
    return NextFactors(
        rng.normal(size=(len(PACES), ITEMS, SIZE)).astype(np.float32),
        rng.normal(size=(ITEMS, SIZE)).astype(np.float32),
        rng.normal(size=ITEMS).astype(np.float32),
    )


def test_a_history_of_two_by_hand() -> None:
    """Of items 2 and 5 the later weighs 1, the one before it the pace."""
    factors, place = some_factors(), np.arange(ITEMS)
    sums = factors.sums_of(Histories.from_lists([[(2, 0), (5, 0)]]), place)
    mean = sum(
        (pace * met[2] + met[5]) / (pace + 1) for pace, met in zip(PACES, factors.met, strict=True)
    )
    expected = factors.come @ mean + factors.bias
    np.testing.assert_allclose(factors.utilities(sums)[0], expected, rtol=1e-5)


def test_sums_are_the_same_of_whole_histories_before_events_and_step_by_step() -> None:
    """Item 6 is beyond the head: nothing is added, and the rest fades."""
    factors, place = some_factors(), np.where(np.arange(ITEMS) == 6, -1, np.arange(ITEMS))
    items = np.array([3, 6, 0, 1, 6, 5])
    before = factors.before(place[items], np.arange(len(items)))
    stepwise = np.zeros((1, *factors.shape), np.float32)
    for i, item in enumerate(items):
        whole = Histories.from_lists([[(int(met), 0) for met in items[:i]]])
        np.testing.assert_allclose(before[i], stepwise[0], atol=1e-6)
        np.testing.assert_allclose(before[i], factors.sums_of(whole, place)[0], atol=1e-6)
        factors.add(stepwise, np.array([0]), place[[item]])
    weights = [of.toarray() for of in means_of(place[items], np.arange(len(items)), ITEMS)]
    means = np.stack([of @ met for of, met in zip(weights, factors.met, strict=True)], 1)
    used = before[..., :-1] / np.maximum(before[..., -1:], 1e-9)
    np.testing.assert_allclose(used, means, atol=1e-6)


def test_before_the_first_event_only_the_bias_speaks() -> None:
    factors = some_factors()
    sums = factors.before(np.array([1]), np.array([0]))
    np.testing.assert_array_equal(factors.utilities(sums)[0], factors.bias)


def test_means_reach_back_no_further_than_they_need() -> None:
    places = np.arange(2 * REACH)
    (_, slow) = means_of(places, np.array([2 * REACH - 1]), 2 * REACH)
    assert slow.nnz == REACH and slow.indices.min() == REACH - 1
    np.testing.assert_allclose(slow.sum(), 1, rtol=1e-6)


def test_what_is_kept_is_what_is_used() -> None:
    kept = some_factors().arrays()
    again = NextFactors.of_arrays(kept)
    assert kept["met"].dtype == np.float16 and again.met.dtype == np.float32
    assert all((again.arrays()[name] == kept[name]).all() for name in kept)
    none = NextFactors.of_arrays(NextFactors.none(ITEMS).arrays())
    assert none.shape == (len(PACES), 1) and not none.utilities(np.zeros((2, 2, 1))).any()
