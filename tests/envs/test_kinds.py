"""What every id promises, with every kind of action and observation."""

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import audience.envs  # noqa: F401  registers the ids
from audience.envs.infos import of_slot
from audience.reward_models.scripted import ScriptedUsers

IDS = ["Recommend", "MovieLens", "MovieLensSlate", "Scripted", "Replay"]
KINDS: dict[str, dict[str, Any]] = {
    "index": {},
    "masked": {"mask_in_observation": True},
    "candidates": {"candidates": 12},
    "masked_candidates": {"candidates": 12, "mask_in_observation": True},
    "embedding": {"actions": "embedding"},
    "embedding_candidates": {"actions": "embedding", "candidates": 12, "embedding_dim": 3},
    "sessions": {"sessions_per_episode": 3, "pessimism": 0.5},
}


@pytest.fixture(params=IDS)
def env_id(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=list(KINDS))
def settings(
    request: pytest.FixtureRequest, env_id: str, tiny_users: Any, replay_users: Any
) -> dict[str, Any]:
    users = {"Scripted": ScriptedUsers(60), "Replay": replay_users}.get(env_id, tiny_users)
    own = {"users": users, **KINDS[request.param]}
    if own.get("actions") == "embedding":
        n_items = len(users.catalogue)
        own["item_vectors"] = np.random.default_rng(0).normal(size=(n_items, 20))
    return own


def test_both_checkers_are_silent(env_id: str, settings: dict[str, Any]) -> None:
    env = gym.make(f"audience/{env_id}-v0", **settings)
    check_env(env.unwrapped, skip_render_check=True)  # test_pictures has the render modes
    check_env_sb3(env.unwrapped)


def test_one_seed_one_life_over_50_steps(env_id: str, settings: dict[str, Any]) -> None:
    """Two copies agree, and environment i of a vector agrees with a single one, seeded s + i."""
    pair = [gym.make_vec(f"audience/{env_id}-v0", num_envs=4, **settings) for _ in range(2)]
    single = gym.make(f"audience/{env_id}-v0", **settings)
    pair[0].action_space.seed(5)
    seen = [env.reset(seed=20) for env in pair]
    alone, alone_info = single.reset(seed=22)
    done = False
    for _ in range(50):
        assert pickle.dumps(seen[0]) == pickle.dumps(seen[1])
        for key, value in seen[0][0].items():
            assert value[2].dtype == alone[key].dtype and (value[2] == alone[key]).all()
        mine = of_slot(seen[0][-1], 2)
        for key in ("user", "clock_seconds", "session", "choice", "level", "reward_parts"):
            assert mine.get(key) == alone_info.get(key)
        actions = pair[0].action_space.sample()
        seen = [env.step(actions) for env in pair]
        assert np.isfinite(seen[0][1]).all()
        if done:  # the vector rests for a step
            alone, alone_info = single.reset()
            done = False
            continue
        alone, reward, *ends, alone_info = single.step(actions[2])
        assert (reward, ends) == (seen[0][1][2], [seen[0][2][2], seen[0][3][2]])
        done = any(ends)
