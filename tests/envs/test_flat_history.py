from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from audience.agents.vec_env import make_sb3_env
from audience.envs import FlatHistory, FlatHistoryVector, RecommendVectorEnv
from audience.envs.flat import FlatEncoder

ID = "audience/Recommend-v0"


def test_averages_by_hand(tiny_users: Any) -> None:
    vectors = np.eye(30)[:, :2] + np.eye(30)[:, :2][::-1]  # of items 0, 1, 28, 29; else zeros
    env = RecommendVectorEnv(1, users=tiny_users, item_vectors=vectors, history_size=8)
    encoder = FlatEncoder(env)
    flat = encoder.encode(
        {
            "item": np.array([[0, 1, 0, 5, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]),
            "feedback": np.array([[4, 2, 0, 4, 4, 4, 4, 4], [3, 0, 0, 0, 0, 0, 0, 0]]),
            "length": np.array([[4], [0]]),
        }
    )
    assert flat.dtype == np.float32 and encoder.space.shape == (7,)
    assert flat[0].tolist() == [0.5, 0.25, 0.25, 0.125, 0, 0, 0.5]
    assert flat[1].tolist() == [0] * 7


def test_checkers_are_silent_and_views_agree(tiny_users: Any) -> None:
    settings = {"users": tiny_users, "item_vectors": tiny_users.vectors, "step_limit": 4}
    single = FlatHistory(gym.make(ID, **settings))
    with pytest.warns(UserWarning, match="different from the unwrapped version"):
        check_env(single, skip_render_check=True)
    check_env_sb3(single)
    for mode in ("NextStep", "SameStep"):
        core = RecommendVectorEnv(3, **settings, autoreset_mode=AutoresetMode(mode))
        vector = FlatHistoryVector(core)
        observation, _ = vector.reset(seed=5)
        alone, _ = single.reset(seed=6)
        done = False
        for item in range(12):
            assert observation in vector.observation_space
            assert (observation[1] == alone).all()
            observation, _, _, _, info = vector.step(np.full(3, item))
            if done and mode == "NextStep":
                alone, done = single.reset()[0], False
                continue
            alone, _, *ends, _ = single.step(item)
            if mode == "SameStep" and any(ends):
                assert (info["final_obs"][1] == alone).all()
                alone, _ = single.reset()
            else:
                done = any(ends)


def test_mlp_policy_learns_from_it(tiny_users: Any) -> None:
    settings = {"users": tiny_users, "item_vectors": tiny_users.vectors, "step_limit": 5}
    env = make_sb3_env(ID, 8, seed=0, flat_history=True, **settings)
    assert env.observation_space.shape == (7,)
    PPO("MlpPolicy", env, n_steps=8, batch_size=32, n_epochs=1, seed=0).learn(128)
    env.reset()
    done = np.zeros(8, np.bool_)
    while not done.any():
        _, _, done, infos = env.step(np.zeros(8, np.int64))
    ended = infos[int(done.argmax())]
    assert ended["terminal_observation"].shape == (7,)


def test_errors(tiny_users: Any) -> None:
    with pytest.raises(ValueError, match="the users have no text_vectors"):
        FlatHistory(gym.make(ID, users=tiny_users))
    with pytest.raises(ValueError, match="env must be a RecommendEnv, got CartPole"):
        FlatHistory(gym.make("CartPole-v1"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="env must be a RecommendVectorEnv"):
        FlatHistoryVector(gym.make_vec("CartPole-v1", num_envs=2))  # type: ignore[arg-type]
    env = RecommendVectorEnv(2, users=tiny_users, item_vectors=tiny_users.vectors)
    with pytest.raises(ValueError, match="dim must be a whole number"):
        FlatHistoryVector(env, dim=0)
