import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.reward_models.scripted import ScriptedUsers


@pytest.mark.parametrize("settings", [{}, {"slate_size": 3, "mask_in_observation": True}])
def test_both_checkers_are_silent(settings: dict[str, Any]) -> None:
    env = gym.make("audience/Scripted-v0", **settings)
    check_env(env.unwrapped)
    check_env_sb3(env.unwrapped)


def test_it_brings_its_users_and_takes_others() -> None:
    env = gym.make("audience/Scripted-v0").unwrapped
    assert isinstance(env, RecommendEnv) and env.core.slate_size == 1
    assert isinstance(env.core.users, ScriptedUsers)
    mine = ScriptedUsers(50, 2)
    other = gym.make_vec("audience/Scripted-v0", num_envs=4, users=mine).unwrapped
    assert isinstance(other, RecommendVectorEnv) and other.users is mine


def test_environment_i_of_a_vector_lives_the_session_of_a_single_one() -> None:
    vector = gym.make_vec("audience/Scripted-v0", num_envs=3, slate_size=2)
    single = gym.make("audience/Scripted-v0", slate_size=2)
    vector.reset(seed=10)
    single.reset(seed=12)
    generator = np.random.default_rng(0)
    for _ in range(30):
        actions = generator.integers(200, size=(3, 2))
        _, rewards, terminated, truncated, _ = vector.step(actions)
        _, reward, *ends, _ = single.step(actions[2])
        assert reward == rewards[2] and ends == [terminated[2], truncated[2]]
        if any(ends):
            return
    pytest.fail("a session must end")


def test_neither_a_fit_nor_torch_is_needed() -> None:
    code = (
        "import sys, gymnasium as gym, audience.envs; env = gym.make('audience/Scripted-v0');"
        "env.reset(seed=0); env.step(3); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
