"""What comes next: each kind by hand, and a mix that finds what users really go by."""

import numpy as np
import pytest

from audience.reward_models import input_fitting
from audience.reward_models.collaborative import follower_matrix, text_matrix, walk_matrix
from audience.reward_models.coming import KINDS, coming_matrix, fit_mix, mean_top
from audience.reward_models.histories import Histories
from audience.reward_models.input_fitting import fit_inputs

ITEMS, LENGTH = 40, 12
NO_TEXT = np.zeros((ITEMS, 2), np.float32)


def users_of(events: np.ndarray) -> Histories:
    return Histories.from_lists([[(item, 0) for item in row] for row in events.tolist()])


def marching(users: int, seed: int) -> Histories:
    """Users who go from an item to the one after it, from anywhere, around the catalogue."""
    first = np.random.default_rng(seed).integers(ITEMS, size=(users, 1))
    return users_of((first + np.arange(LENGTH)) % ITEMS)


def wandering(users: int, seed: int) -> Histories:
    """Users who know nothing of order or company."""
    rng = np.random.default_rng(seed)
    return users_of(np.stack([rng.permutation(ITEMS)[:LENGTH] for _ in range(users)]))


def mixed(histories: Histories, vectors: np.ndarray, items: int = ITEMS) -> dict[str, float]:
    even = np.arange(len(histories)) % 2 == 0
    halves = [histories.take(np.flatnonzero(part)) for part in (even, ~even)]
    inputs = fit_inputs(
        [(half, np.ones(len(half.items))) for half in halves],
        items,
        np.ones(1),
        factors=1,
        penalty=1.0,
        ease_l2=5.0,
        seed=0,
        vectors=vectors,
    )
    parts = [(halves[0], halves[1]), (halves[1], halves[0])]
    ease = list(zip(inputs.ease.numpy(), inputs.floors[:, 0].tolist(), strict=True))
    mix = fit_mix(parts, inputs.head.numpy(), vectors, 0, ease)
    assert fit_mix(parts, inputs.head.numpy(), vectors, 0).shape == mix.shape  # without EASE
    return dict(zip(KINDS, mix, strict=True))


def test_walks_and_texts_by_hand() -> None:
    events = users_of(np.array([[0, 1], [0, 2]]))
    walk = walk_matrix(events, 3)
    # From 0, whom two met, half the walks end at 1 by the first user's other item: 1/2 x 1/2.
    assert walk[0, 1] == pytest.approx(0.25)
    assert walk[1, 0] == pytest.approx(0.5 / 2**0.6)
    assert walk[1, 2] == 0 and not walk.diagonal().any()
    texts = np.array([[1, 0], [2, 2], [0, 0], [-1, 0]], np.float32)
    near = text_matrix(texts)
    assert near[0, 1] == pytest.approx(0.5)  # the square of cos 45 degrees
    assert not near[2].any() and near[0, 3] == 0 and not near.diagonal().any()


def test_a_mix_of_one_kind_is_that_kind_in_units_of_its_top() -> None:
    events = marching(30, seed=1)
    follows = follower_matrix(events, ITEMS)
    found = coming_matrix(events, NO_TEXT, np.eye(len(KINDS))[KINDS.index("follows")])
    np.testing.assert_allclose(found, follows / mean_top(events, follows, 0.7), rtol=1e-5)
    both = np.eye(len(KINDS))[[KINDS.index("follows"), KINDS.index("precedes")]].sum(0)
    twice = coming_matrix(events, NO_TEXT, both)
    back = follows.T / mean_top(events, follows.T, 0.7)
    np.testing.assert_allclose(twice, found + back, rtol=1e-5)
    assert not twice.diagonal().any()


def test_users_who_march_are_told_by_what_follows() -> None:
    mix = mixed(marching(60, seed=2), NO_TEXT)
    ahead = max(mix["follows"], mix["next"])
    assert ahead > 4 * mix["precedes"]


def test_users_who_go_by_texts_are_told_by_texts() -> None:
    """Everybody stays among the ten items of one text."""
    rng = np.random.default_rng(3)
    groups = np.arange(ITEMS) % 4
    rows = [rng.permutation(np.flatnonzero(groups == user % 4))[:8] for user in range(12)]
    texts = np.eye(4, dtype=np.float32)[groups]
    told, untold = mixed(users_of(np.stack(rows)), texts), mixed(wandering(60, seed=4), texts)
    assert told["text"] > 1.5 * untold["text"]


def test_nobody_to_learn_from_leaves_all_kinds_alike() -> None:
    """Of one event nothing comes next."""
    assert set(mixed(users_of(np.array([[3], [4]])), NO_TEXT).values()) == {1.0}


def test_items_beyond_the_head_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices cover the most frequent items alone, by places among them."""
    monkeypatch.setattr(input_fitting, "LINEAR_ITEMS", 30)
    mix = mixed(marching(60, seed=5), NO_TEXT)
    assert np.isfinite(list(mix.values())).all() and mix["next"] > mix["precedes"]
