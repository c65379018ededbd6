"""Choice of judges: channels by hand, and slopes that hold for users whom weights never met."""

import numpy as np
import pytest

from audience.reward_models.collaborative import only_items
from audience.reward_models.coming import KINDS
from audience.reward_models.histories import Histories
from audience.reward_models.judge_channels import (
    Channels,
    cosine_channel,
    ease_channel,
    mixed_channels,
    order_channels,
    rounded,
    sums_before,
    walk_channels,
)
from audience.reward_models.judge_choice import STATES, LogLinearChoice
from audience.reward_models.judge_factors import NextFactors

ITEMS = 30


def users_of(events: np.ndarray) -> Histories:
    """One user a row of items, all of feedback 0."""
    users, length = events.shape
    offsets = np.arange(users + 1) * length
    names = np.array([f"user-{i}" for i in range(users)])
    return Histories(names, offsets, events.ravel(), np.zeros(events.size, np.int64))


def random_users(users: int, seed: int) -> Histories:
    """Users whose items tell nothing of each other."""
    return users_of(np.argsort(np.random.default_rng(seed).random((users, ITEMS)), 1)[:, :15])


def marching_users(users: int, seed: int) -> Histories:
    """Users who go from an item to the one after it, from anywhere, around the catalogue."""
    first = np.random.default_rng(seed).integers(ITEMS, size=(users, 1))
    return users_of((first + np.arange(12)) % ITEMS)


def surprise(choice: LogLinearChoice, histories: Histories) -> float:
    """Mean nats of all events but the first ones."""
    late = np.arange(len(histories.items)) % histories.lengths[0] > 0
    return float(choice.ranks(histories)[1][late].mean())


def fitted(
    channels: list[str], fitting: Histories, cross_fit: bool, check: Histories | None = None
) -> LogLinearChoice:
    def of(events: Histories) -> list[Channels]:
        known = {
            "ease": [ease_channel(events, ITEMS, 5.0)],
            "order": order_channels(events, ITEMS),
        }
        return [channel for name in channels for channel in known[name]]

    even = np.arange(len(fitting)) % 2 == 0
    halves = [fitting.take(np.flatnonzero(part)) for part in (even, ~even)]
    parts = [(halves[0], halves[1]), (halves[1], halves[0])] if cross_fit else [(fitting, fitting)]
    head, popularity = np.arange(ITEMS), np.full(ITEMS, 1 / ITEMS)
    check = fitting.take(np.zeros(0, np.int64)) if check is None else check
    texts = np.zeros((ITEMS, 1), np.float32)
    return LogLinearChoice.fit(of, fitting, parts, check, head, texts, popularity, seed=0)


def test_slopes_are_not_those_of_users_known_by_heart() -> None:
    """Where items tell nothing of each other, popularity (here: nothing) is the truth."""
    fitting, fresh = random_users(60, seed=0), random_users(60, seed=1)
    truth = np.log(ITEMS - np.arange(1, 15)).mean()
    assert surprise(fitted(["ease"], fitting, cross_fit=True), fresh) < truth + 0.02
    assert surprise(fitted(["ease"], fitting, cross_fit=False), fresh) > truth + 0.05


def test_what_follows_what_is_found() -> None:
    fitting, fresh = marching_users(60, seed=0), marching_users(60, seed=1)
    choice = fitted(["ease", "order"], fitting, cross_fit=True)
    rank, _ = choice.ranks(fresh)
    assert (rank[np.arange(len(rank)) % 12 > 0] == 0).mean() > 0.99
    assert surprise(choice, fresh) < 0.1


def test_factors_find_what_no_channel_says() -> None:
    """EASE knows no order: 3 goes with 4 as with 2. Nothing is learned where nobody checks it."""
    fitting, fresh = marching_users(200, seed=0), marching_users(60, seed=1)
    alone = fitted(["ease"], fitting, cross_fit=True)
    choice = fitted(["ease"], fitting, cross_fit=True, check=marching_users(20, seed=2))
    assert alone.factors.shape[1] == 1 and surprise(alone, fresh) > 0.3
    assert surprise(choice, fresh) < surprise(alone, fresh) - 0.2


def test_factors_that_tell_nobody_anything_are_not_kept() -> None:
    fitting, check = random_users(60, seed=0), random_users(20, seed=1)
    alone = fitted(["ease"], fitting, cross_fit=True)
    choice = fitted(["ease"], fitting, cross_fit=True, check=check)
    assert surprise(choice, check) <= surprise(alone, check) + 1e-3


def test_who_met_nothing_or_only_rare_items_is_no_obstacle() -> None:
    """The head is all items but the last: of user b only an event beyond it can be asked."""
    fitting = users_of(np.argsort(np.random.default_rng(0).random((20, ITEMS)), 1)[:, :8])
    odd = Histories.from_lists([[], [(ITEMS - 1, 0)], [(0, 0), (ITEMS - 1, 0), (1, 0)]])
    head, popularity = np.arange(ITEMS - 1), np.full(ITEMS, 1 / ITEMS)

    def channels(events: Histories) -> list[Channels]:
        return [ease_channel(only_items(events, head, ITEMS), len(head), 5.0)]

    texts = np.zeros((len(head), 1), np.float32)
    parts = [(fitting, odd), (odd, fitting)]
    choice = LogLinearChoice.fit(channels, fitting, parts, odd, head, texts, popularity, seed=0)
    rank, surprise = choice.ranks(odd)
    assert rank.shape == (4,) and np.isfinite(surprise).all()


@pytest.mark.parametrize("rows", [range(100), (0, 1, 31, 32, 33, 64, 99), (50,), ()])
def test_fading_sums_are_those_of_a_loop(rows: tuple[int, ...]) -> None:
    each = np.random.default_rng(0).normal(size=(99, 3)).astype(np.float32)
    decays = np.array([0.0, 0.7, 1.0])
    expected, running = [], np.zeros((3, 3))
    for event in [*each, np.zeros(3)]:
        expected.append(running)
        running = decays[:, None] * running + event
    asked = np.array(list(rows), np.int64)
    found = sums_before(each, decays, asked)
    np.testing.assert_allclose(found, np.array(expected)[asked], atol=1e-4)


def test_order_channels_by_hand() -> None:
    """Two users met 0, 1, 2 in this order, a third one 2 and 3."""
    events = Histories(
        np.array(["a", "b", "c"]),
        np.array([0, 3, 6, 8]),
        np.array([0, 1, 2, 0, 1, 2, 2, 3]),
        np.zeros(8, np.int64),
    )
    followers, preceded, near, wide = (weights for weights, _ in order_channels(events, 4))
    # Pairs and their weights: 0-1 and 1-2 2, 0-2 2 * 1/2, 2-3 1; their sum is 6.
    pairs = np.array([[0, 2, 1, 0], [0, 0, 2, 0], [0, 0, 0, 1], [0, 0, 0, 0]], float)
    before, after = pairs.sum(1), pairs.sum(0)
    expected = pairs + np.outer(before, after) / 6
    expected /= np.sqrt((before + 1)[:, None] * (after + 1))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(followers, expected, rtol=1e-6)
    np.testing.assert_array_equal(preceded, followers.T)
    np.testing.assert_array_equal(near, followers)  # no history is longer than its reach
    assert wide[0, 2] / wide[0, 1] > near[0, 2] / near[0, 1]  # distance weighs less


def test_active_users_say_less_of_what_goes_together() -> None:
    """Items 0 and 1 share a user of two events, items 0 and 2 one of three."""
    events = Histories(
        np.array(["a", "b"]),
        np.array([0, 2, 5]),
        np.array([0, 1, 0, 2, 3]),
        np.zeros(5, np.int64),
    )
    cosine, _ = cosine_channel(events, 4)
    a, b = 1 / np.sqrt(2), 1 / np.sqrt(3)
    assert cosine[0, 1] == pytest.approx(a / np.sqrt((a + b) * a))
    assert cosine[0, 2] == pytest.approx(b / np.sqrt((a + b) * b))
    assert cosine[1, 2] == cosine[0, 0] == 0


def test_what_is_kept_is_what_is_used() -> None:
    choice = fitted(["ease", "order"], marching_users(20, seed=0), cross_fit=True)
    kept = choice.arrays()
    assert kept["weights"].dtype == np.float16
    again = LogLinearChoice.of_arrays(kept)
    assert (again.weights == choice.weights).all() and again.weights.dtype == np.float32
    weights = np.array([0.0, 1.0, 0.1], np.float32)
    assert rounded(rounded(weights)).tolist() == rounded(weights).tolist()


def test_two_walks_reach_what_one_does_not() -> None:
    """From 0 by the first user to 1, and from there by the second to 2."""
    events = Histories.from_lists([[(0, 0), (1, 0)], [(1, 0), (2, 0)]])
    (walk, _), (two, _) = walk_channels(events, 3)
    assert walk[0, 2] == 0
    assert two[0, 2] == pytest.approx(walk[0, 1] * walk[1, 2])
    assert two[0, 2] > 0 and not two.diagonal().any()


def test_a_mix_in_two_steps_follows_who_follows() -> None:
    """Where users march, the item after the next one is what two steps lead to."""
    mix = np.eye(len(KINDS))[KINDS.index("next")]
    (one, paces), (two, _) = mixed_channels(
        marching_users(20, seed=1), np.zeros((ITEMS, 1), np.float32), mix
    )
    assert len(paces) == 3 and two[3].argmax() in (5, 6) and one[3].argmax() == 4


def test_a_mix_of_any_size_stays_within_half_precision() -> None:
    users, vectors = marching_users(20, seed=1), np.ones((ITEMS, 1), np.float32)
    small = mixed_channels(users, vectors, np.ones(len(KINDS)))
    large = mixed_channels(users, vectors, np.full(len(KINDS), 4096.0))
    for (one, _), (other, _) in zip(small, large, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(rounded(one)).all()


def test_who_met_rare_items_expects_rare_ones_by_hand() -> None:
    """Nothing but popularity, of slope 1 and 2 more for each unit of how popular a user is."""
    popularity = np.array([0.5, 0.3, 0.15, 0.05])
    slopes = np.zeros((2, STATES, 2))
    slopes[:, 0, -1], slopes[:, 2, -1] = 1, 2
    choice = LogLinearChoice(
        np.zeros((1, 4, 4), np.float32),
        np.array([0]),
        np.arange(4),
        np.ones(1),
        np.ones(1),
        np.log(popularity),
        slopes,
        NextFactors.none(4),
    )
    met = np.array([[False] * 4, [True, False, False, False], [False, False, False, True]])
    found = choice.utilities(np.zeros((3, 1, 4), np.float32), met, None)
    mean = (popularity * np.log(popularity)).sum()
    for user, item in enumerate([None, 0, 3]):
        popular = 0.0 if item is None else (np.log(popularity[item]) - mean) / 6 / 0.7
        weight = np.where(met[user], 0, popularity ** (1 + 2 * popular))
        np.testing.assert_allclose(np.exp(found[user]), weight / weight.sum(), atol=1e-6)
