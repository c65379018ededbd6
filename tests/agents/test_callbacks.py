from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.logger import KVWriter, Logger

from audience.agents.callbacks import UsersCallback
from audience.agents.policies import ItemScoringPolicy
from audience.agents.vec_env import make_sb3_env
from audience.agents.watching import EvaluationCallback


class Kept(KVWriter):
    """Keeps what is logged: (user-steps, figures)."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.rows.append((step, dict(key_values)))

    def close(self) -> None:
        pass


def logged(users: Any, callback: Any, steps: int = 48, **settings: Any) -> Any:
    env = make_sb3_env("audience/Recommend-v0", 6, seed=0, users=users, **settings)
    model = PPO(ItemScoringPolicy, env, n_steps=4, batch_size=24, seed=0, device="cpu")
    kept = Kept()
    model.set_logger(Logger(None, [kept]))
    model.learn(steps, callback=callback)
    return kept.rows


def test_rates_have_known_values_in_a_known_world(tiny_users: Any) -> None:
    rows = logged(
        tiny_users,
        UsersCallback(1),
        slate_size=2,
        acceptance=0.9999,
        leave_after_choice=1.0,
        leave_after_skip=1.0,
    )
    assert [step for step, _ in rows] == [24, 48]
    for _, row in rows:
        assert row["users/leave_rate"] == 1 and row["users/session_length"] == 1
        assert row["users/acceptance"] > 0.9
        assert 0 <= row["users/like_rate"] <= row["users/acceptance"]
        # 24 slates of 2 show 1 to 30 of the 30 items.
        assert 2 / 30 <= row["recommendations/coverage"] <= 1
        assert 0 < row["recommendations/gini"] < 1
        assert row["charts/steps_per_second"] > 0


def test_no_session_length_before_a_session_ended(tiny_users: Any) -> None:
    rows = logged(tiny_users, UsersCallback(1), leave_after_choice=0.0, leave_after_skip=0.0)
    assert "users/session_length" not in rows[0][1] and rows[0][1]["users/leave_rate"] == 0


def test_evaluation_comes_as_often_as_asked_and_leaves_training_alone(tiny_users: Any) -> None:
    rows = logged(tiny_users, EvaluationCallback(tiny_users, every=40), steps=120)
    assert [step for step, row in rows if "evaluation/return" in row] == [48, 96, 120]
    values = [row["evaluation/return"] for _, row in rows if "evaluation/return" in row]
    assert np.isfinite(values).all() and max(values) > 0
    plain = logged(tiny_users, UsersCallback(1), steps=120)
    assert rows[-1][1]["train/loss"] == plain[-1][1]["train/loss"]


def test_errors(tiny_users: Any) -> None:
    with pytest.raises(ValueError, match="every must be at least 1 user-step, got 0"):
        EvaluationCallback(tiny_users, every=0)
