"""Discriminators: they find what is planted, and nothing where there is nothing."""

import numpy as np
import pytest

from audience.reward_models import discriminator
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.discriminator import discriminate, permuted_feedback
from audience.reward_models.discriminator_features import (
    WINDOW,
    ItemFacts,
    window_features,
)
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

ITEMS, LEVELS = 60, 5


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough steps for what is planted here; the default is for real users."""
    monkeypatch.setattr(discriminator, "STEPS", 30)


@pytest.fixture(scope="module")
def facts() -> ItemFacts:
    rng = np.random.default_rng(0)
    catalogue = Catalogue(
        np.arange(ITEMS).astype(np.str_),
        np.arange(ITEMS).astype(np.str_),
        np.arange(ITEMS) * 5,
        rng.uniform(2, 4, ITEMS),
    )
    vectors = rng.normal(size=(ITEMS, 8)).astype(np.float32)
    return ItemFacts.of(catalogue, FeedbackScale((1.0, 2.0, 3.0, 4.0, 5.0)), vectors)


def users_with_moods(seed: int, users: int = 60) -> Histories:
    """Each user likes to give one level; items are random."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(25, 60, users)
    mood = np.repeat(rng.integers(0, LEVELS - 1, users), lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = rng.integers(0, ITEMS, offsets[-1])
    return Histories(
        np.arange(users).astype(np.str_), offsets, items, mood + rng.integers(0, 2, len(mood))
    )


def test_the_same_kind_of_users_cannot_be_told_apart(facts: ItemFacts) -> None:
    found = discriminate(users_with_moods(1), users_with_moods(2), facts, seed=0)
    assert found.low < 0.6
    assert max(found.trees, found.sequence) == found.auc
    assert found.low <= found.auc <= found.high


def test_permuted_feedback_is_found_by_both(
    facts: ItemFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discriminator, "STEPS", 200)
    real = users_with_moods(1)
    fake = permuted_feedback(real, seed=0)
    assert (fake.items == real.items).all()
    assert (np.bincount(fake.levels) == np.bincount(real.levels)).all()
    found = discriminate(real, fake, facts, seed=0)
    assert found.trees > 0.95 and found.sequence > 0.8
    assert found.figures()["auc"] == found.auc
    assert any("feedback" in name or "level" in name for name in found.telling)


def test_the_order_of_events_is_seen(facts: ItemFacts) -> None:
    """Real users alternate between low and high levels; the simulated give the same mix."""
    rng = np.random.default_rng(0)
    offsets = np.arange(41) * 40
    items = rng.integers(0, ITEMS, (40, 40))
    levels = np.tile([0, 4], (40, 20))
    names = np.arange(40).astype(np.str_)
    real = Histories(names, offsets, items.ravel(), levels.ravel())
    fake = Histories(names, offsets, items.ravel(), rng.permuted(levels, axis=1).ravel())
    found = discriminate(real, fake, facts, seed=0)
    assert found.trees > 0.95


def test_the_same_seed_gives_the_same_figures(facts: ItemFacts) -> None:
    real, fake = users_with_moods(1, users=12), users_with_moods(2, users=12)
    assert discriminate(real, fake, facts, seed=3) == discriminate(real, fake, facts, seed=3)


def test_windows_and_features_by_hand(facts: ItemFacts) -> None:
    lengths = [3, 2 * WINDOW + 7]
    histories = Histories.from_lists([[(i % ITEMS, i % 2 * 4) for i in range(n)] for n in lengths])
    features, user, start = window_features(histories, facts)
    assert user.tolist() == [0, 1, 1]
    assert start.tolist() == [0, 3, 3 + WINDOW]
    assert len(features) == 3
    mean, spread = features[:, 0], features[:, 1]
    np.testing.assert_allclose(mean, [1 / 3, 1 / 2, 1 / 2])
    np.testing.assert_allclose(spread[1:], 1 / 2)
    np.testing.assert_allclose(features[1:, 3], -1, atol=0.11)  # each event reverses the last


def test_items_without_vectors_are_told_apart_by_the_rest() -> None:
    catalogue = Catalogue(
        np.arange(ITEMS).astype(np.str_),
        np.arange(ITEMS).astype(np.str_),
        np.arange(ITEMS),
        np.ones(ITEMS),
    )
    scale = FeedbackScale((1.0, 2.0, 3.0, 4.0, 5.0))
    for vectors in (None, np.zeros((ITEMS, 0), np.float32), np.ones((ITEMS, 4), np.float32)):
        facts = ItemFacts.of(catalogue, scale, vectors)
        assert facts.vectors.shape == (ITEMS, 0)
        real = users_with_moods(1, users=20)
        assert discriminate(real, permuted_feedback(real, 0), facts, seed=0).auc > 0.9


def test_other_users_or_empty_histories_are_refused(facts: ItemFacts) -> None:
    real = users_with_moods(1, users=4)
    with pytest.raises(ValueError, match="4 and 3 users"):
        discriminate(real, real.take(np.arange(3)), facts, seed=0)
    with pytest.raises(ValueError, match="histories of 0 events"):
        discriminate(real, real.first(0), facts, seed=0)
