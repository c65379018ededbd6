import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from audience.envs import RecommendEnv, RecommendVectorEnv

IDS = ["audience/Recommend-v0", "audience/MovieLens-v0", "audience/MovieLensSlate-v0"]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("mask_in_observation", [False, True])
def test_both_checkers_are_silent(tiny_users: Any, env_id: str, mask_in_observation: bool) -> None:
    env = gym.make(env_id, users=tiny_users, mask_in_observation=mask_in_observation)
    check_env(env.unwrapped)  # with all render modes
    check_env_sb3(env.unwrapped)


@pytest.mark.parametrize("settings", [{"slate_size": 5}, {"history_size": 3, "start": 1}])
def test_checkers_with_other_settings(make_tiny_users: Any, settings: dict[str, Any]) -> None:
    users = make_tiny_users(levels=1)
    env = gym.make("audience/Recommend-v0", users=users, **settings)
    check_env(env.unwrapped)
    check_env_sb3(env.unwrapped)


def test_made_env_plays_by_the_mask_of_its_info(tiny_users: Any) -> None:
    """Through Gymnasium's own wrappers, the passive checker among them."""
    for env_id, slate_size in zip(IDS, (1, 1, 10), strict=True):
        env = gym.make(f"audience.envs:{env_id}", users=tiny_users)
        assert isinstance(env.unwrapped, RecommendEnv)
        assert env.unwrapped.core.slate_size == slate_size
        env.action_space.seed(0)
        _, info = env.reset(seed=0)
        for _ in range(40):
            action = env.action_space.sample(info["action_mask"])
            mask = np.atleast_2d(info["action_mask"])
            assert mask[np.arange(slate_size), action].all()
            observation, _, terminated, truncated, info = env.step(action)
            assert observation in env.observation_space
            if terminated or truncated:
                _, info = env.reset()


def test_make_vec_gives_the_native_core(tiny_users: Any) -> None:
    env = gym.make_vec("audience.envs:audience/Recommend-v0", num_envs=3, users=tiny_users)
    assert isinstance(env.unwrapped, RecommendVectorEnv) and env.num_envs == 3
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    recorded = gym.wrappers.vector.RecordEpisodeStatistics(env)
    recorded.reset(seed=0)
    returns = np.zeros(3)
    for _ in range(80):
        _, reward, terminated, truncated, info = recorded.step(recorded.action_space.sample())
        returns += reward
        for slot in np.flatnonzero(terminated | truncated):
            assert info["episode"]["r"][slot] == pytest.approx(returns[slot])
            returns[slot] = 0
    assert recorded.episode_count > 3


def test_sync_vector_env_of_single_ones_agrees(tiny_users: Any) -> None:
    """Gymnasium's own vector of single environments, as a specification of ours."""
    kinds = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]
    for kind in kinds:
        ours = RecommendVectorEnv(5, users=tiny_users, slate_size=2, autoreset_mode=kind)
        theirs = gym.vector.SyncVectorEnv(
            [lambda: RecommendEnv(users=tiny_users, slate_size=2)] * 5, autoreset_mode=kind
        )
        assert theirs.observation_space == ours.observation_space
        assert theirs.action_space == ours.action_space
        ours.action_space.seed(0)
        ours.reset(seed=0)
        theirs.reset(seed=0)
        for _ in range(60):
            actions = ours.action_space.sample()
            mine, other = ours.step(actions), theirs.step(actions)
            for key in mine[0]:
                assert mine[0][key].dtype == other[0][key].dtype
                assert (mine[0][key] == other[0][key]).all()
            for one, another in zip(mine[1:4], other[1:4], strict=True):
                assert one.dtype == another.dtype and (one == another).all()
            _assert_same_info(mine[4], other[4])


def _assert_same_info(mine: dict[str, Any], other: dict[str, Any]) -> None:
    # action_mask has another form here: a tuple a slot.
    ours = {key for key in mine if not key.startswith("_") and mine[f"_{key}"].any()}
    assert ours == {key for key in other if not key.startswith("_")}
    for key in ours - {"action_mask"}:
        held = mine[f"_{key}"]
        assert (held == other[f"_{key}"]).all()
        if isinstance(mine[key], dict):
            _assert_same_info(mine[key], other[key])
        elif key == "final_obs":
            for slot in np.flatnonzero(held):
                for part, value in mine[key][slot].items():
                    assert (value == other[key][slot][part]).all()
        else:
            assert mine[key][held].tolist() == other[key][held].tolist()


def test_users_are_required() -> None:
    with pytest.raises(ValueError, match="users is required"):
        gym.make("audience/Recommend-v0")
    with pytest.raises(ValueError, match="users is required"):
        gym.make_vec("audience/Recommend-v0", num_envs=2)


def test_import_needs_no_torch() -> None:
    code = (
        "import sys, gymnasium, audience.envs;"
        "assert 'audience/MovieLens-v0' in gymnasium.registry;"
        "heavy = {'torch', 'transformers', 'stable_baselines3', 'implicit', 'polars'};"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
