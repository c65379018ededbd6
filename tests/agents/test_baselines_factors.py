"""Factorisations, their product with EASE, and bandits, worked by hand on tiny matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray

from audience.agents import baseline_bandits, baseline_factors
from audience.agents.baseline_bandits import LinUCBAgent, ThompsonAgent
from audience.agents.baseline_events import event_matrix
from audience.agents.baseline_factors import ALSAgent, BPRAgent, ExplicitALSAgent, fold_in
from audience.agents.baseline_items import EASEAgent
from audience.agents.baseline_products import EASEFeedbackAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

SCALE = FeedbackScale((1.0, 2.0, 3.0))
ITEMS = 12


def log(users: int = 40, seed: int = 0) -> Histories:
    """Users of either half of the items, who like (2) what they meet there, and hate (0) else."""
    rng = np.random.default_rng(seed)
    events = []
    for user in range(users):
        own, other = np.arange(6) + 6 * (user % 2), np.arange(6) + 6 * (1 - user % 2)
        met = [(int(i), 2) for i in rng.permutation(own)[:4]] + [(int(rng.choice(other)), 0)]
        events.append(met)
    return Histories.from_lists(events)


def catalogue(histories: Histories) -> Catalogue:
    names = np.array([f"i{i}" for i in range(ITEMS)])
    counts = np.bincount(histories.items, minlength=ITEMS)
    return Catalogue(names, names, counts, np.zeros(ITEMS))


def rows(*lists: list[tuple[int, int]]) -> tuple[NDArray[np.int64], ...]:
    return Histories.from_lists(list(lists)).padded(5)


def test_fold_in_solves_each_users_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors, gram = rng.normal(size=(6, 3)), np.diag([1.0, 2.0, 3.0])
    items = rng.integers(0, 6, (4, 5))
    counted = rng.random((4, 5)) < 0.6
    counted[3] = False
    weights, wanted = rng.random((4, 5)), rng.normal(size=(4, 5))
    expected = []
    for row in range(4):
        x = vectors[items[row][counted[row]]]
        w, y = weights[row][counted[row]], wanted[row][counted[row]]
        expected.append(np.linalg.solve(gram + (x.T * w) @ x, x.T @ y))
    for cells in (baseline_factors.CELLS, 1):
        monkeypatch.setattr(baseline_factors, "CELLS", cells)
        users = fold_in(vectors, gram, items, counted, weights, wanted)
        np.testing.assert_allclose(users, expected, atol=1e-12)
    assert not users[3].any()


def test_als_folds_in_as_the_library_does() -> None:
    histories = log()
    agent = ALSAgent.fit(histories, catalogue(histories), SCALE, factors=4, alpha=2.0)
    items, levels, lengths = rows([(0, 2), (7, 0), (3, 1)], [(8, 1)])
    confidence = event_matrix(items, lengths, (1 + 2 * SCALE.scaled)[levels], ITEMS)
    library: Any = AlternatingLeastSquares(factors=4, regularization=10.0, num_threads=1)
    library.item_factors = agent.factors
    users = library.recalculate_user(np.arange(2), confidence)
    expected = users @ agent.factors.T
    np.testing.assert_allclose(agent.scores(items, levels, lengths), expected, atol=1e-4)
    confidence[0, 7] *= -1  # what speaks against an item is negative there
    expected = library.recalculate_user(np.arange(2), confidence) @ agent.factors.T
    agent.dislikes = True
    np.testing.assert_allclose(agent.scores(items, levels, lengths), expected, atol=1e-4)


def test_bpr_finds_the_halves_and_is_the_same_under_the_same_seed() -> None:
    histories = log()
    first, second = (
        BPRAgent.fit(histories, catalogue(histories), SCALE, factors=8) for _ in range(2)
    )
    np.testing.assert_array_equal(first.factors, second.factors)
    scores = first.scores(*rows([(0, 2), (1, 2)], [(7, 2), (8, 2)], []))
    assert scores[0, 2:6].mean() > scores[0, 6:].mean()
    assert scores[1, 9:].mean() > scores[1, :6].mean()
    np.testing.assert_allclose(scores[2], 0.3 * first.bias + first.prior, atol=1e-6)
    # What is asked for: 1 at the events, 0 elsewhere.
    x, event = first.factors.astype(float), first.factors[0].astype(float)
    gram = np.eye(8) + 0.1 * x.T @ x + np.outer(event, event)
    expected = x @ np.linalg.solve(gram, event) + 0.3 * first.bias
    np.testing.assert_allclose(first.scores(*rows([(0, 2)]))[0], expected, atol=1e-4)


def test_explicit_als_expects_what_was_given() -> None:
    histories = log(200)
    agent = ExplicitALSAgent.fit(histories, catalogue(histories), SCALE, factors=2, penalty=1.0)
    expected = agent.expected(*rows([(0, 2), (7, 0)], [(0, 0), (7, 2)], []))
    assert expected.min() >= 0 and expected.max() <= 1
    assert (expected[0, :6] > 0.7).all() and (expected[0, 6:] < 0.5).all()
    assert (expected[1, :6] < 0.5).all() and (expected[1, 6:] > 0.7).all()
    # Of nobody in particular: what the item gets, on the scale from 1 to 3.
    np.testing.assert_allclose(expected[2], (agent.base - 1) / 2)
    popular = ExplicitALSAgent(**(agent.parameters() | {"popularity": 2.0}))
    shift = popular.scores(*rows([])) - expected[2]
    np.testing.assert_allclose(shift[0], 2 * np.log(catalogue(histories).popularity))


def test_the_product_is_that_of_a_logit_and_the_expected_feedback() -> None:
    histories = log()
    agent = EASEFeedbackAgent.fit(histories, catalogue(histories), SCALE, l2=5.0, slope=4.0)
    history = rows([(0, 2), (7, 0)])
    ease = EASEAgent.fit(histories, catalogue(histories), SCALE, l2=5.0).scores(*history)
    expected = ExplicitALSAgent.fit(histories, catalogue(histories), SCALE).expected(*history)
    np.testing.assert_allclose(
        np.exp(agent.scores(*history)), np.exp(4 * ease) * np.maximum(expected, 0.02), rtol=1e-5
    )


def bandit(kind: type[LinUCBAgent] | type[ThompsonAgent], **settings: Any) -> Any:
    features = np.array([[1, 0], [0, 1], [1, 1], [2, 0]], np.float32)
    offset = np.array([0.1, 0.2, 0.3, 0.0], np.float32)
    rewards = np.array([0, 1], np.float32)
    return kind(features, offset, np.zeros(4, np.float32), rewards, 2.0, 0.5, **settings)


HISTORY = (np.array([[0, 2, 0], [0, 0, 0]]), np.array([[1, 0, 0], [0, 0, 0]]), np.array([2, 0]))


def posterior() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and covariance after item 0 paid 1 and item 2 paid 0, by hand."""
    x = np.array([[1.0, 0], [0, 1], [1, 1], [2, 0]])
    seen = x[[0, 2]]
    covariance = np.linalg.inv(2 * np.eye(2) + 0.5 * x.T @ x + seen.T @ seen)
    return covariance @ seen.T @ [1 - 0.1, 0 - 0.3], covariance


def test_linucb_adds_the_standard_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, covariance = posterior()
    agent = bandit(LinUCBAgent, optimism=0.7)
    x = agent.features.astype(float)
    width = np.sqrt(np.einsum("ik,kl,il->i", x, covariance, x))
    np.testing.assert_allclose(
        agent.scores(*HISTORY)[0], agent.offset + x @ mean + 0.7 * width, atol=1e-6
    )
    start = np.linalg.inv(2 * np.eye(2) + 0.5 * x.T @ x)  # nothing seen: only uncertainty
    width = np.sqrt(np.einsum("ik,kl,il->i", x, start, x))
    expected = agent.offset + 0.7 * width
    np.testing.assert_allclose(agent.scores(*HISTORY)[1], expected, atol=1e-6)
    monkeypatch.setattr(baseline_bandits, "CELLS", 1)
    np.testing.assert_allclose(agent.scores(*HISTORY)[1], expected, atol=1e-6)


def test_thompson_draws_from_the_posterior() -> None:
    mean, covariance = posterior()
    one, same, other = (bandit(ThompsonAgent, optimism=0.5, seed=seed) for seed in (0, 0, 1))
    items, levels, lengths = (np.repeat(part[:1], 20_000, 0) for part in HISTORY)
    scores = one.scores(items, levels, lengths)
    np.testing.assert_array_equal(scores, same.scores(items, levels, lengths))
    assert (scores != other.scores(items, levels, lengths)).any()
    taste = scores[:, :2] - one.offset[:2]  # items 0 and 1 are the two axes
    np.testing.assert_allclose(taste.mean(0), mean, atol=0.01)  # 5 standard errors
    np.testing.assert_allclose(np.cov(taste.T), 0.25 * covariance, atol=0.005)


@pytest.mark.parametrize("kind", [LinUCBAgent, ThompsonAgent])
def test_bandits_learn_the_halves_from_events_alone(kind: Any) -> None:
    histories = log()
    agent = kind.fit(
        histories,
        catalogue(histories),
        SCALE,
        factors=2,
        optimism=0.01,
        text_vectors=np.zeros((ITEMS, 3)),
    )
    scores = agent.scores(*rows([(0, 2), (1, 2)], [(7, 2), (8, 2)]))
    assert scores[0, :6].mean() > scores[0, 6:].mean()
    assert scores[1, 6:].mean() > scores[1, :6].mean()
