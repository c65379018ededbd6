"""What text says of items: known answers, slow definitions beside fast ones, limits."""

from __future__ import annotations

import numpy as np
import pytest

from audience.reward_models import text_prior
from audience.reward_models.collaborative import ExplicitFactors, explicit_als
from audience.reward_models.feedback_baselines import fold_in
from audience.reward_models.histories import Histories
from audience.reward_models.text_prior import (
    PENALTIES,
    level_prior,
    text_axes,
    text_prediction,
    with_text_prior,
)

ITEMS, COLD = 60, 10


def planted(users: int, seed: int) -> tuple[Histories, np.ndarray, np.ndarray]:
    """Users love or hate what lies on the first axis of the text; the last items are cold.

    The second axis says how good an item is. Returns events, values and vectors.
    """
    rng = np.random.default_rng(99)
    vectors = rng.normal(size=(ITEMS, 5))
    rng = np.random.default_rng(seed)
    events, values = [], []
    for user in range(users):
        items = rng.choice(ITEMS - COLD, 20, replace=False)
        taste = 1 if user % 2 else -1
        said = taste * vectors[items, 0] + 0.5 * vectors[items, 1] + rng.normal(0, 0.3, 20)
        events.append([(int(item), 0) for item in items])
        values.append(3 + said)
    return Histories.from_lists(events), np.concatenate(values), vectors


def test_leaving_each_item_out_in_turn_chooses_the_penalty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    x, evidence = rng.normal(size=(30, 6)), rng.integers(0, 4, 30) / 4.0
    y = np.column_stack([x @ rng.normal(size=6) + rng.normal(0, 2, 30), rng.normal(size=30)])

    def ridge(known: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Normal equations with an intercept, and what they predict for every item."""
        weight = np.where(known, evidence, 0)
        centred = x - evidence @ x / evidence.sum()
        size = (evidence @ centred**2).sum() / evidence.sum()
        design = np.column_stack([np.ones(30), centred])
        gram = (design * weight[:, None]).T @ design + np.diag([0] + [penalty * size] * 6)
        return design @ np.linalg.solve(gram, (design * weight[:, None]).T @ y), weight

    grid = np.array([0.1, 3.0, 100.0, 1e6])
    errors = []
    for penalty in grid:
        left_out = np.array([ridge(np.arange(30) != i, penalty)[0][i] for i in range(30)])
        errors.append(evidence @ (left_out - y) ** 2)
    best = np.argmin(errors, axis=0)
    assert best[0] < best[1] == 3  # the second target is noise
    monkeypatch.setattr(text_prior, "PENALTIES", grid)
    found = text_prediction(x, y, evidence)
    for target in range(2):
        wanted = ridge(np.ones(30, bool), grid[best[target]])[0]
        np.testing.assert_allclose(found[:, target], wanted[:, target], atol=1e-9)


def test_texts_that_say_nothing_predict_the_weighted_mean() -> None:
    targets, evidence = np.array([[1.0], [4.0], [100.0]]), np.array([2.0, 1.0, 0.0])
    for vectors in (np.zeros((3, 1)), np.ones((3, 4)), np.zeros((3, 0))):
        np.testing.assert_allclose(text_prediction(vectors, targets, evidence), 2.0)
    assert not text_prediction(np.ones((3, 4)), targets, np.zeros(3)).any()
    noise = np.random.default_rng(0).normal(size=(200, 20))
    targets = np.random.default_rng(1).normal(size=(200, 1))
    found = text_prediction(noise, targets, np.ones(200))
    assert found.std() < 0.2  # least squares: 0.35
    assert PENALTIES[-1] >= 1e6


def test_cold_items_are_served_by_text() -> None:
    histories, values, vectors = planted(80, seed=0)
    als = explicit_als(histories, values, ITEMS, factors=2)
    found = with_text_prior(als, histories, values, vectors, axes=0)
    cold = np.arange(ITEMS - COLD, ITEMS)
    assert not als.item_bias[cold].any()
    assert np.corrcoef(found.item_bias[cold], vectors[cold, 1])[0, 1] > 0.95
    # New users, with warm events first and one cold item in the end.
    test, known, _ = planted(20, seed=1)
    last = test.offsets[1:] - 1
    rng = np.random.default_rng(2)
    test.items[last] = rng.choice(cold, 20)
    taste = np.where(np.arange(20) % 2, 1, -1)
    known[last] = 3 + taste * vectors[test.items[last], 0] + 0.5 * vectors[test.items[last], 1]

    def error(factors: ExplicitFactors) -> float:
        return float(np.sqrt(np.mean((fold_in(factors, test, known) - known)[last] ** 2)))

    nothing = with_text_prior(als, histories, values, 0 * vectors, axes=8)
    shuffled = with_text_prior(als, histories, values, rng.permutation(vectors), axes=8)
    assert error(found) < 0.6 * min(error(nothing), error(shuffled), error(als))


def test_an_item_lies_between_its_text_and_its_events() -> None:
    """Of users without taste: bias = (sum of residuals + penalty x prediction) / (n + penalty)."""
    users = 40
    histories = Histories.from_lists([[(u % 3, 0), (3, 0)][: 1 + (u < 2)] for u in range(users)])
    values = np.where(histories.items == 3, 5.0, 3.0 - histories.items)
    als = ExplicitFactors(
        2.0, np.array([1.0, 0.0, -1.0, 0.5]), np.zeros((4, 0)), np.array([4.0]), 1
    )
    vectors = np.array([[1.0], [0.0], [-1.0], [1.0]])
    found = with_text_prior(als, histories, values, vectors, axes=0)
    n = np.bincount(histories.items)
    told = text_prediction(vectors, als.item_bias[:, None], n / (n + 4.0))[:, 0]
    owner = np.repeat(np.arange(users), histories.lengths)
    own = values - 2.0 - als.item_bias[histories.items]
    bias = np.bincount(owner, own) / (histories.lengths + 4.0)
    total = np.bincount(histories.items, values - 2.0 - bias[owner])
    np.testing.assert_allclose(found.item_bias, (total + 4 * told) / (n + 4))


def test_axes_of_the_text_are_factors_of_their_own() -> None:
    """With no learned factor at all, the users' taste is found on the axes of the text."""
    histories, values, vectors = planted(80, seed=0)
    als = explicit_als(histories, values, ITEMS, factors=0)
    flat = with_text_prior(als, histories, values, vectors, axes=0)
    found = with_text_prior(als, histories, values, vectors, axes=5)
    assert found.item_factors.shape == (ITEMS, 5) and found.precision.shape == (6,)
    test, known, _ = planted(20, seed=1)

    def error(factors: ExplicitFactors) -> float:
        return float(np.mean(np.abs(fold_in(factors, test, known) - known)))

    assert error(found) < 0.8 * error(flat)
    assert found.noise < 0.8 * flat.noise


def test_axes_by_definition() -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 4)) * [5, 1, 3, 0]
    axes = text_axes(vectors, 6)
    assert axes.shape == (30, 6)
    assert not axes[:, 4:].any() and np.abs(axes[:, 3]).max() < 1e-6  # rank 3
    assert np.square(axes).sum(1).mean() == pytest.approx(1)
    places = np.linalg.svd(vectors - vectors.mean(0))
    np.testing.assert_allclose(
        np.linalg.norm(axes[:, :3], axis=0) / np.linalg.norm(axes),
        places[1][:3] / np.linalg.norm(places[1]),
    )
    assert not text_axes(np.ones((30, 3)), 2).any()
    assert text_axes(vectors, 0).shape == (30, 0)


def test_levels_of_an_item_without_events_are_those_its_text_tells() -> None:
    rng = np.random.default_rng(0)
    good = np.arange(60) % 2 == 0
    chance = np.where(good[:, None], [0.2, 0.3, 0.5], [0.5, 0.3, 0.2])
    counts = np.array([rng.multinomial(400, row) for row in chance])
    counts[-2:] = 0
    shares = counts.sum(0) / counts.sum()
    vectors = np.where(good[:, None], 1.0, -1.0) * np.array([[1.0, 0.5]])
    found = level_prior(counts, shares, vectors, 5.0)
    told = shares * np.exp(found)
    np.testing.assert_allclose(told.sum(1), 1)
    np.testing.assert_allclose(told[-2:], chance[-2:], atol=0.05)
    # Without a word an item starts from the shares of all events.
    plain = level_prior(counts, shares, 0 * vectors, 5.0)
    table = (counts + 5 * shares) / (counts.sum(1, keepdims=True) + 5)
    np.testing.assert_allclose(plain, np.log(table / shares), atol=1e-12)


@pytest.mark.parametrize("wrong", ["rows", "nan"])
def test_vectors_that_do_not_fit_are_refused(wrong: str) -> None:
    histories, values, vectors = planted(8, seed=0)
    als = explicit_als(histories, values, ITEMS, factors=1, rounds=1)
    vectors = (
        vectors[1:] if wrong == "rows" else np.where(vectors == vectors[3, 3], np.nan, vectors)
    )
    with pytest.raises(ValueError, match=r"vectors must be finite, of shape \(items, dim\)"):
        with_text_prior(als, histories, values, vectors, axes=8)
    with pytest.raises(ValueError, match="encode the texts"):
        level_prior(np.ones((ITEMS, 2), int), np.array([0.5, 0.5]), vectors, 5.0)


def test_a_log_without_events_changes_nothing() -> None:
    als = ExplicitFactors(0.0, np.zeros(4), np.zeros((4, 2)), np.ones(3), 1.0)
    found = with_text_prior(als, Histories.from_lists([[]]), np.zeros(0), np.eye(4), axes=0)
    assert not found.item_bias.any() and not found.item_factors.any()
