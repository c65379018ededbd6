"""Simulation quality: perfect, blind and wrong users are seen for what they are."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.reward_models import discriminator
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.quality_data import FIRST_EVENT
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.simulation import LONGEST, simulation_quality

ITEMS = 300
SCALE = FeedbackScale((1.0, 2.0, 3.0, 4.0, 5.0))
WEIGHT = np.arange(1, ITEMS + 1) / (ITEMS * (ITEMS + 1) / 2)
CATALOGUE = Catalogue(
    np.arange(ITEMS).astype(np.str_),
    np.arange(ITEMS).astype(np.str_),
    np.arange(1, ITEMS + 1),
    np.full(ITEMS, 3.0),
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boosted trees find what is planted here; the network need not."""
    monkeypatch.setattr(discriminator, "STEPS", 10)


class MoodUsers:
    """Users who draw items by popularity, and levels around that of their first event."""

    def __init__(self, shift: int = 0, popular: bool = True, repeats: bool = False) -> None:
        self.shift, self.popular, self.repeats = shift, popular, repeats

    def simulate(self, starts: Histories, lengths: NDArray[np.int64], seed: int) -> Histories:
        rng = np.random.default_rng(seed)
        lists = []
        for user, length in enumerate(lengths.tolist()):
            rows = slice(starts.offsets[user], starts.offsets[user + 1])
            given = list(
                zip(starts.items[rows].tolist(), starts.levels[rows].tolist(), strict=True)
            )
            left = length - len(given)
            old = [i for i, _ in given]
            weight = WEIGHT.copy() if self.popular else np.full(ITEMS, 1 / ITEMS)
            weight[old] = 0
            items = rng.choice(ITEMS, left, replace=self.repeats, p=weight / weight.sum())
            level = 2 * (given[0][1] // 2) + rng.integers(0, 2, left)
            level = np.minimum(level + self.shift, 4)
            lists.append(given + list(zip(items.tolist(), level.tolist(), strict=True)))
        return Histories.from_lists(lists, starts.users.tolist())


def real_users(users: int = 80, seed: int = 11) -> Histories:
    rng = np.random.default_rng(seed)
    first = [[(int(rng.integers(ITEMS)), int(rng.integers(4)))] for _ in range(users)]
    return MoodUsers().simulate(Histories.from_lists(first), rng.integers(3, 130, users), seed)


def test_users_like_the_real_ones_pass() -> None:
    real = real_users()
    found = simulation_quality(MoodUsers(), real, SCALE, CATALOGUE, seed=0)
    counted = real.lengths[real.lengths > FIRST_EVENT]
    assert found["users"] == len(counted)
    assert found["events"] == (np.minimum(counted, LONGEST) - FIRST_EVENT).sum()
    assert found["feedback_tv"] < 0.05
    assert found["popularity_ks"] < 0.05
    assert found["discriminator_auc_low"] < 0.6
    assert found["discriminator_check_auc"] > 0.9
    assert found["session_length_ks"] is None
    assert found["repeat_share"] == {"real": 0, "simulated": 0}
    curves = found["curves"]
    assert sum(curves["feedback"]["real"]) == pytest.approx(1)
    assert curves["popularity"]["items"][-1] == curves["popularity"]["real"][-1] == 1
    assert curves["popularity"]["simulated"][24] == pytest.approx(0.75, abs=0.05)
    json.dumps(found, allow_nan=False)


def test_wrong_feedback_popularity_and_repeats_are_seen() -> None:
    wrong = MoodUsers(shift=1, popular=False, repeats=True)
    found = simulation_quality(wrong, real_users(), SCALE, CATALOGUE, seed=0)
    shares = found["curves"]["feedback"]
    distance = np.abs(np.array(shares["real"]) - shares["simulated"]).sum() / 2
    assert found["feedback_tv"] == pytest.approx(distance) and distance > 0.2
    assert found["popularity_ks"] > 0.15
    assert found["repeat_share"]["simulated"] > 0.05
    assert found["discriminator_auc_low"] > 0.8


def test_learned_lengths_are_compared() -> None:
    lengths = (np.arange(10), np.arange(10) + 5)
    found = simulation_quality(
        MoodUsers(), real_users(6), SCALE, CATALOGUE, seed=0, session_lengths=lengths
    )
    assert found["session_length_ks"] == pytest.approx(0.5)
    assert found["session_length"] == {"sessions": 10, "real": 4.5, "simulated": 9.5}
    curve = found["curves"]["session_length"]
    assert curve["steps"] == list(range(1, 15))
    assert curve["real"][:3] == pytest.approx([0.9, 0.8, 0.7]) and curve["real"][9:] == [0] * 5
    assert curve["simulated"][4:7] == pytest.approx([1, 0.9, 0.8])


def test_too_few_users_have_no_figures() -> None:
    found = simulation_quality(MoodUsers(), real_users(8).first(5), SCALE, CATALOGUE, seed=0)
    assert found["users"] == found["events"] == 0
    assert found["feedback_tv"] is found["discriminator_auc"] is None


def test_users_who_stop_early_are_refused() -> None:
    class Lazy(MoodUsers):
        def simulate(self, starts: Histories, lengths: NDArray[np.int64], seed: int) -> Histories:
            return starts

    with pytest.raises(ValueError, match="must continue all"):
        simulation_quality(Lazy(), real_users(10), SCALE, CATALOGUE, seed=0)
