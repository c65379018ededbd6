"""How far worlds rank agents alike, on ranks that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audience.agents.evaluation import Evaluation
from audience.benchmarks.correlations import (
    rank_correlation,
    rank_correlations,
    under_masks,
)


def sessions(returns: Any, users: list[str]) -> Evaluation:
    n = len(users)
    none = np.full((n, 1), -1)
    ones = np.ones(n, np.int64)
    return Evaluation(
        np.array(users), np.array(returns, float), ones, ones, none[..., None], none, none, 4, n
    )


def values(means: list[float], noise: float = 0.0, users: int = 50) -> Any:
    rng = np.random.default_rng(0)
    return np.array(means)[:, None, None] + noise * rng.normal(size=(len(means), 2, users))


def test_ranks_worked_by_hand() -> None:
    first, second = values([1, 2, 3, 4]), values([10, 30, 20, 40])
    found = rank_correlation(first, second)
    # Of six pairs one is the other way; squared rank differences add up to 2.
    assert found["kendall"]["mean"] == pytest.approx((5 - 1) / 6)
    assert found["spearman"]["mean"] == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found["agents"] == 4
    # Nobody differs from anybody: resampling changes nothing.
    assert found["kendall"]["low"] == found["kendall"]["high"] == found["kendall"]["mean"]
    assert rank_correlation(first, values([7, 7, 7, 7]))["kendall"] is None


def test_what_cannot_be_told_apart_has_a_wide_interval() -> None:
    sure = rank_correlation(values([1, 2, 3, 4], 0.1), values([1, 2, 3, 4], 0.1))
    assert sure["kendall"]["low"] == 1.0
    unsure = rank_correlation(values([1, 1.01, 1.02, 1.03], 2.0), values([4, 3, 2, 1]))
    assert unsure["kendall"]["high"] - unsure["kendall"]["low"] > 0.6


def test_worlds_are_compared_on_the_users_and_agents_of_both() -> None:
    users = ["a", "b", "c"]
    worlds = {
        "simulator": {
            "random": {0: sessions([1, 1, 9], users)},
            "ease": {0: sessions([2, 2, 0], users)},
            "ppo": {0: sessions([3, 3, 0], users)},
            "greedy": {0: sessions([0, 0, 0], users)},
        },
        # Fewer users and agents: over all of c, random would be first in the simulator.
        "replay": {
            "random": {0: sessions([1, 1], ["a", "b"])},
            "ease": {0: sessions([2, 2], ["a", "b"])},
            "ppo": {0: sessions([3, 3], ["a", "b"])},
        },
        "judge_als": {"random": {0: sessions([1, 2, 3], users)}},
    }
    found = rank_correlations(worlds)
    assert set(found) == {"simulator_replay"}  # one agent has no rank
    assert found["simulator_replay"]["kendall"]["mean"] == 1.0
    assert found["simulator_replay"]["agents"] == 3


def test_under_masks_pairs_users_over_seeds() -> None:
    one = {"users": [0, 1, 2], "values": {"x": [[1, 1, 1], [1, 1, 9]], "y": [[2, 2, 2], [2, 3, 9]]}}
    two = {"users": [1, 2, 3], "values": {"x": [[1, 1, 5], [1, 1, 5]], "y": [[2, 2, 5], [3, 2, 5]]}}
    found = under_masks([one, two])["simulator_replay_same_masks"]
    # Users 1 and 2 are in both. x: 1 and (1 + 9 + 1 + 1) / 4 = 3; y: 2 and (3 + 9 + 3 + 2) / 4.
    assert found["mean_absolute_error"] == pytest.approx((2 + 2.25) / 2)
    assert found["agents"] == 2 and found["kendall"]["mean"] == 1.0
    assert under_masks([one, None]) == {} and under_masks([]) == {}
