"""A training watched from other worlds, and started from imitation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

from audience.agents.algorithms import make_algorithm
from audience.agents.greedy import GreedyAgent
from audience.agents.training import policy_arguments, train
from audience.agents.training_settings import TrainSettings
from audience.agents.vec_env import make_sb3_env
from audience.agents.warm_start import clone_choices, imitate
from audience.agents.watching import EvaluationCallback
from audience.envs.scripted import scripted_users
from audience.reward_models.histories import Histories

SMALL: dict[str, Any] = {"num_envs": 12, "sessions_per_user": 1, "device": "cpu"}


def test_the_gap_to_an_inner_judge_is_logged_and_the_best_there_is_kept(
    tiny_users: Any, make_tiny_users: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience.agents.algorithms.ROLLOUT", 60)
    told = [3.0, 5.0, 4.0, 4.5]  # in the judge's world, from evaluation to evaluation

    class Scripted(EvaluationCallback):
        def _keep_best(self, value: float) -> None:
            super()._keep_best(told.pop(0))

    monkeypatch.setattr("audience.agents.training.EvaluationCallback", Scripted)
    settings = TrainSettings(
        out=str(tmp_path),
        steps=600,
        step_limit=5,
        evaluations=10,
        inner_judge="judge",
        early_stop=2,
        **SMALL,
    )
    train(tiny_users, settings, progress=False, inner_judge=make_tiny_users())
    run = json.loads((tmp_path / "training.json").read_text())
    # The second was the best, two more were not: the fourth, each after 60 user-steps, ended it
    # with the next step of the 12 users.
    assert not told and run["steps"] == 240 + 12
    # The judge is the same world as the simulator here, so there is nothing to exploit.
    assert run["final"]["inner_judge"] == run["final"]["simulator"]
    assert (tmp_path / "best.zip").exists()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    gaps = [point.value for point in events.Scalars("evaluation/exploitation_gap")]
    assert gaps and not any(gaps)
    assert {"final/simulator", "reward/feedback", "policy/entropy"} <= set(events.Tags()["scalars"])
    assert "users/feedback" in events.Tags()["histograms"]
    assert any("session" in tag for tag in events.Tags()["tensors"])
    assert (tmp_path / "projector_config.pbtxt").exists()


def test_worlds_of_another_catalogue_are_refused(
    tiny_users: Any, make_tiny_users: Any, tmp_path: Path
) -> None:
    settings = TrainSettings(out=str(tmp_path / "run"), **SMALL)
    with pytest.raises(ValueError, match=r"inner_judge must have the catalogue .*31 items \(i30\)"):
        train(tiny_users, settings, progress=False, inner_judge=make_tiny_users(items=31))
    with pytest.raises(ValueError, match="replay must have the feedback scale"):
        train(tiny_users, settings, progress=False, replay=make_tiny_users(levels=4))
    assert not (tmp_path / "run").exists()


def test_replayed_users_meet_the_agent_at_the_end(
    replay_users: Any, make_tiny_users: Any, tmp_path: Path
) -> None:
    users = make_tiny_users(items=80)
    settings = TrainSettings(out=str(tmp_path), steps=60, evaluations=1, **SMALL)
    train(users, settings, progress=False, replay=replay_users)
    final = json.loads((tmp_path / "training.json").read_text())["final"]
    # Ten picks, each of real feedback from 0 to 1.
    assert final["validation_replay"]["session_length"] == 10
    assert 0 < final["validation_replay"]["return"]["mean"] < 10


def model_of(users: Any, **settings: Any) -> Any:
    env = make_sb3_env(
        "audience/Recommend-v0", 64, seed=0, users=users, mask_in_observation=False, **settings
    )
    vectors = policy_arguments(users, TrainSettings())["item_vectors"]
    return make_algorithm("ppo", env, item_vectors=vectors, device="cpu")


def test_cloning_learns_what_was_taken_next_and_liked(make_tiny_users: Any) -> None:
    users = make_tiny_users(levels=2)
    # After item 3 all took 7 and liked it, or took 9 and did not.
    events = [[(3, 1), (7, 1)] if user % 2 else [(3, 1), (9, 0)] for user in range(40)]
    model = model_of(users)
    losses = clone_choices(model, users, Histories.from_lists(events), 60, np.random.default_rng(0))
    assert losses[-1] < 0.1 < losses[0]
    seen = {
        "item": np.eye(1, 38, dtype=np.int64)[0] * 3,
        "feedback": np.eye(1, 38, dtype=np.int64)[0],
        "length": np.array([1]),
    }
    assert model.predict(seen, deterministic=True)[0] == 7
    with pytest.raises(ValueError, match="users with at least two events, got 2 users"):
        lone = Histories.from_lists([[(1, 1)], [(2, 0)]])
        clone_choices(model, users, lone, 1, np.random.default_rng(0))


@pytest.mark.parametrize("slate", [1, 3])
def test_imitation_comes_near_to_its_teacher(slate: int) -> None:
    users = scripted_users()
    model = model_of(users, slate_size=slate)
    teacher = GreedyAgent(users, slate_size=slate)
    losses = imitate(model, teacher, 40, np.random.default_rng(0))
    assert np.mean(losses[-5:]) < 0.75 * losses[0]


@pytest.mark.parametrize(
    ("warm", "rates"), [("none", [1e-3] * 3), ("greedy", [2.5e-4, 1.25e-4, 0.0])]
)
def test_a_policy_that_imitated_learns_by_small_steps(
    tmp_path: Path, warm: Any, rates: list[float]
) -> None:
    """At the beginning, half-way and at the end of the training."""
    settings = TrainSettings(
        out=str(tmp_path), steps=32, evaluations=0, warm_start=warm, warm_start_steps=1, **SMALL
    )
    train(scripted_users(), settings, progress=False)
    schedule = PPO.load(tmp_path / "model.zip").lr_schedule
    assert [schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx(rates)
