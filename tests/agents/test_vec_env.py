from typing import Any

import numpy as np
import pytest
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from audience.agents.vec_env import SB3VecEnv, make_sb3_env
from audience.envs import RecommendEnv, RecommendVectorEnv

ID = "audience/Recommend-v0"


def first_open(env: SB3VecEnv) -> np.ndarray:
    return np.stack(env.env_method("action_masks")).argmax(axis=1)


@pytest.mark.parametrize("slate_size", [1, 3])
def test_agrees_with_sb3s_own_vector_of_single_ones(tiny_users: Any, slate_size: int) -> None:
    settings: dict[str, Any] = {
        "users": tiny_users,
        "slate_size": slate_size,
        "mask_in_observation": True,
        "step_limit": 7,
    }
    ours = make_sb3_env(ID, 6, seed=3, **settings)
    theirs = VecMonitor(DummyVecEnv([lambda: RecommendEnv(**settings)] * 6))
    theirs.seed(3)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    generator = np.random.default_rng(0)
    mine, other = ours.reset(), theirs.reset()
    ends = []
    for _ in range(50):
        assert isinstance(mine, dict) and isinstance(other, dict)
        for key in mine:
            assert mine[key].dtype == other[key].dtype and (mine[key] == other[key]).all()
        actions = generator.integers(30, size=(6, slate_size)).squeeze()
        mine, reward, done, infos = ours.step(actions)
        other, their_reward, their_done, their_infos = theirs.step(actions)
        assert reward.dtype == their_reward.dtype == np.float32
        assert (reward == their_reward).all() and (done == their_done).all()
        for info, their_info, finished in zip(infos, their_infos, done, strict=True):
            assert bool(info) == finished
            if finished:
                for key, value in info["terminal_observation"].items():
                    assert (value == their_info["terminal_observation"][key]).all()
                assert info["TimeLimit.truncated"] == their_info["TimeLimit.truncated"]
                assert info["episode"]["r"] == pytest.approx(their_info["episode"]["r"])
                assert info["episode"]["l"] == their_info["episode"]["l"]
                ends.append(info["TimeLimit.truncated"])
    assert set(ends) == {True, False}


def test_ppo_learns_and_logs_returns(tiny_users: Any) -> None:
    env = make_sb3_env(ID, 16, seed=0, users=tiny_users, step_limit=5)
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=64, n_epochs=1, seed=0)
    model.learn(16 * 16)
    assert model.ep_info_buffer is not None and len(model.ep_info_buffer) > 16
    assert all(0 <= episode["r"] <= episode["l"] <= 5 for episode in model.ep_info_buffer)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=16)  # silent: it is its own monitor
    assert 0 <= mean <= 5


def test_seeds_serve_once_and_govern_the_sessions(tiny_users: Any) -> None:
    def users(env: SB3VecEnv) -> list[str]:
        env.reset()
        return env.step_info["user"].tolist()

    env, again = (make_sb3_env(ID, 12, seed=5, users=tiny_users) for _ in range(2))
    first, second = users(env), users(env)
    assert [users(again), users(again)] == [first, second] and first != second
    assert env.seed(5) == list(range(5, 17))
    assert users(env) == first
    env.seed(None)
    assert users(env) != first


def test_step_info_holds_what_the_infos_leave_out(tiny_users: Any) -> None:
    env = make_sb3_env(ID, 4, seed=0, users=tiny_users)
    env.reset()
    _, reward, done, _ = env.step(first_open(env))
    assert env.step_info["reward_parts"]["feedback"].astype(np.float32).tolist() == reward.tolist()
    assert (env.step_info["_choice"] == ~done).all()


def test_masks_by_env_method(tiny_users: Any) -> None:
    env = make_sb3_env(ID, 4, users=tiny_users, slate_size=2)
    observation = env.reset()
    assert isinstance(observation, dict)
    assert is_masking_supported(env)
    masks = get_action_masks(env)
    assert masks.shape == (4, 60) and masks.dtype == np.bool_
    assert (masks == np.tile(observation["mask"], (1, 2))).all()
    (third,) = env.env_method("action_masks", indices=2)
    assert (third == masks[2]).all()
    with pytest.raises(AttributeError):
        env.env_method("no_such_method")
    with pytest.raises(ValueError, match="one row an environment"):
        env.env_method("close")


def test_attributes_are_the_cores(tiny_users: Any) -> None:
    env = make_sb3_env(ID, 3, users=tiny_users)
    assert env.get_attr("step_limit") == [30, 30, 30]
    assert env.get_attr("step_limit", indices=[0, 2]) == [30, 30]
    assert env.has_attr("users") and not env.has_attr("nothing")
    env.set_attr("step_limit", 4)
    assert env.core.step_limit == 4
    with pytest.raises(ValueError, match="all 3 environments"):
        env.set_attr("step_limit", 4, indices=0)
    assert env.env_is_wrapped(Monitor) == [True] * 3
    env.close()
    assert env.core.closed


def test_refuses_other_environments(tiny_users: Any) -> None:
    with pytest.raises(ValueError, match="SAME_STEP"):
        SB3VecEnv(RecommendVectorEnv(2, users=tiny_users))
    with pytest.raises(ValueError, match="must be a RecommendVectorEnv, got RecommendEnv"):
        SB3VecEnv(RecommendEnv(users=tiny_users))  # type: ignore[arg-type]
    env = make_sb3_env(ID, 2, users=tiny_users)
    env.set_options({"who": "a"})
    with pytest.raises(ValueError, match="options may hold only .* got who"):
        env.reset()
