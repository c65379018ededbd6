import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from audience.envs import RecommendVectorEnv
from audience.reward_models.replay import ReplayUsers

ID = "audience/Replay-v0"


def real_level(user: int, item: int) -> int:
    return (3 * user + item) % 5  # as `make_replay_users` has it


def test_ten_picks_are_answered_by_real_feedback(replay_users: Any) -> None:
    env = gym.make(ID, users=replay_users, population="test")
    generator = np.random.default_rng(0)
    for seed in range(6):
        observation, info = env.reset(seed=seed)
        number = 8 + int(info["user"].removeprefix("test-"))  # after 6 fitting, 2 validation
        assert observation["length"].tolist() == [8]
        shown = observation["item"][:8].tolist()
        assert observation["feedback"][:8].tolist() == [real_level(number, i) for i in shown]
        open_ = set(np.flatnonzero(info["action_mask"]).tolist())
        assert not open_ & set(shown)
        for step in range(10):
            item = int(generator.choice(sorted(open_)))
            observation, reward, terminated, truncated, info = env.step(item)
            assert info["level"] == real_level(number, item) and reward == info["level"] / 4
            assert info["choice"] == 0 and not terminated and truncated == (step == 9)
            open_ -= {item}
            assert set(np.flatnonzero(info["action_mask"]).tolist()) == open_
        assert observation["length"].tolist() == [18]


def test_unrated_items_are_shown_but_not_chosen(replay_users: Any) -> None:
    env = gym.make(ID, users=replay_users)
    _, info = env.reset(seed=0, options={"user": "fitting-0"})
    assert info["action_mask"].sum() == 40
    _, reward, *_, info = env.step(int(info["action_mask"].argmin()))
    assert reward == 0 and info["choice"] == -1 and info["action_mask"].sum() == 40


def test_a_vector_meets_each_user_of_the_population(replay_users: Any) -> None:
    env = gym.make_vec(ID, num_envs=5, users=replay_users, population="test", in_order=True)
    _, info = env.reset(seed=0)
    assert info["user"].tolist() == [f"test-{user}" for user in range(5)]
    assert info["action_mask"].sum(axis=1).tolist() == [40, 42, 52, 53, 72]
    with pytest.raises(ValueError, match="real users only"):
        env.reset(options={"history": [("i3", 1.0)]})
    with pytest.raises(ValueError, match="slate_size must be 1 in a replay"):
        gym.make_vec(ID, num_envs=2, users=replay_users, slate_size=2)


def test_an_agent_that_looks_gets_more_than_one_that_does_not(replay_users: Any) -> None:
    """The best pick of each user by the known rule, against the first open one."""
    returns = []
    for best in (True, False):
        env = RecommendVectorEnv(
            5, users=replay_users, population="test", in_order=True, step_limit=10
        )
        _, info = env.reset(seed=0)
        total = np.zeros(5)
        levels = np.array([[real_level(8 + u, i) for i in range(80)] for u in range(5)])
        for _ in range(10):
            value = levels if best else -np.arange(80)[None]
            actions = np.where(info["action_mask"] == 1, value, -999).argmax(axis=1)
            _, reward, _, _, info = env.step(actions)
            total += reward
        returns.append(total)
    assert (returns[0] >= 9).all() and (returns[1] < 8).all()


def test_the_split_is_that_of_a_fit(planted_log: Any) -> None:
    from audience.reward_models.fit_data import FitData

    with pytest.raises(ValueError, match="at least 48 events .* the longest history has 14"):
        gym.make(ID, log=planted_log)
    for half, seed in ((None, 0), ("a", 3)):
        data = FitData.of(planted_log, half, seed)  # type: ignore[arg-type]
        users = ReplayUsers(data.catalogue, data.scale, data.histories, min_events=12)
        env = gym.make_vec(ID, num_envs=2, users=users, population="validation")
        starts = env.unwrapped.users.starts("validation")  # type: ignore[attr-defined]
        whole = data.histories["validation"]
        kept = np.flatnonzero(whole.lengths >= 12)
        assert starts.users.tolist() == [f"validation-{row}" for row in kept]
        assert (starts.items == whole.take(kept).first(8).items).all()


def test_movielens_is_replayed_without_torch() -> None:
    """The named log, where it is to be had; skipped where it is not."""
    code = (
        "import sys, gymnasium as gym, audience.envs\n"
        "from audience.reward_models.log_sources import LogError\n"
        "env = gym.make('audience/Replay-v0', population='test')\n"
        "_, info = env.reset(seed=0)\n"
        "env.step(int(info['action_mask'].argmax()))\n"
        "print(len(env.unwrapped.core._starts)); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "LogError" in done.stderr:
        pytest.skip("movielens is not to be had here")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50
