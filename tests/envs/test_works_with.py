"""What the environments work with, unmodified: one named test each."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from audience.agents.vec_env import make_sb3_env
from audience.envs import RecommendVectorEnv
from audience.reward_models.scripted import ScriptedUsers

ID = "audience/Scripted-v0"
QUICK: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "seed": 0}


@pytest.mark.parametrize("slate_size", [1, 3])
def test_sb3_ppo(slate_size: int) -> None:
    env = make_sb3_env(ID, 8, seed=0, slate_size=slate_size, step_limit=5)
    model = PPO("MultiInputPolicy", env, **QUICK).learn(256)
    assert model.ep_info_buffer is not None and len(model.ep_info_buffer) > 16


def test_sb3_ppo_on_a_single_environment() -> None:
    env = gym.make(ID, step_limit=5)
    model = PPO("MultiInputPolicy", env, **{**QUICK, "batch_size": 16}).learn(64)
    assert model.num_timesteps == 64
    assert model.ep_info_buffer is not None and len(model.ep_info_buffer) >= 64 // 5


@pytest.mark.parametrize("settings", [{}, {"slate_size": 3}, {"candidates": 10}])
def test_maskable_ppo_takes_open_items_only(settings: dict[str, Any]) -> None:
    env = make_sb3_env(ID, 4, seed=0, users=ScriptedUsers(20), step_limit=8, **settings)
    model = MaskablePPO("MultiInputPolicy", env, **QUICK).learn(128)
    observation = env.reset()
    for _ in range(12):
        masks = np.stack(env.env_method("action_masks"))
        actions, _ = model.predict(observation, action_masks=masks)  # type: ignore[arg-type]
        size = env.core.slate_size
        by_place = masks.reshape(4, size, -1)
        named = actions.reshape(4, size)
        assert np.take_along_axis(by_place, named[:, :, None], axis=2).all()
        observation, *_ = env.step(actions)


def test_sac_with_embedding_actions() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 8))
    env = make_sb3_env(ID, 4, seed=0, actions="embedding", item_vectors=vectors)
    model = SAC("MultiInputPolicy", env, learning_starts=8, batch_size=8, buffer_size=100, seed=0)
    actions, _ = model.learn(24).predict(env.reset())  # type: ignore[arg-type]
    assert model.num_timesteps == 24 and actions.shape == (4, *env.action_space.shape)  # type: ignore[misc]
    env.step(actions)
    shown = env.core.last_step
    assert shown is not None and (shown.slates < 200).all()


def test_dqn_on_flat_histories() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 8))
    env = make_sb3_env(ID, 4, seed=0, flat_history=True, item_vectors=vectors)
    model = DQN("MlpPolicy", env, learning_starts=8, batch_size=8, buffer_size=100, seed=0)
    actions, _ = model.learn(48).predict(env.reset())  # type: ignore[arg-type]
    assert model.num_timesteps == 48
    assert actions.shape == (4,) and ((actions >= 0) & (actions < 200)).all()


def test_plain_gymnasium_loop() -> None:
    env = gym.make("audience.envs:audience/Scripted-v0", slate_size=4, render_mode="ansi")
    env.action_space.seed(0)
    _, info = env.reset(seed=0)
    lengths, length = [], 0
    while len(lengths) < 3:
        action = env.action_space.sample(info["action_mask"])
        _, _, terminated, truncated, info = env.step(action)
        length += 1
        if terminated or truncated:
            lengths.append(length)
            length = 0
            _, info = env.reset()
    assert "nothing recommended yet" in str(env.render())


def test_record_episode_statistics() -> None:
    env = gym.wrappers.RecordEpisodeStatistics(gym.make(ID, step_limit=4))
    env.reset(seed=0)
    total, finished = 0.0, False
    while not finished:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        total, finished = total + float(reward), terminated or truncated
    assert info["episode"]["r"] == pytest.approx(total)
    vector = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(ID, num_envs=4))
    vector.reset(seed=0)
    for _ in range(40):
        vector.step(vector.action_space.sample())
    assert vector.episode_count > 4


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_make_vec(mode: str) -> None:
    env = gym.make_vec(ID, num_envs=3, vectorization_mode=mode, slate_size=2)
    assert isinstance(env.unwrapped, RecommendVectorEnv) == (mode != "sync")
    env.action_space.seed(0)
    env.reset(seed=4)
    rewards = [env.step(env.action_space.sample())[1].tolist() for _ in range(20)]
    other = gym.make_vec(ID, num_envs=3, slate_size=2)
    other.action_space.seed(0)
    other.reset(seed=4)
    assert [other.step(other.action_space.sample())[1].tolist() for _ in range(20)] == rewards


def test_subproc_vec_env_by_spawn() -> None:
    """Spawned workers live the sessions of those in this process."""
    make = partial(gym.make, "audience.envs:audience/Scripted-v0", step_limit=5)
    near = DummyVecEnv([make] * 2)
    far = SubprocVecEnv([make] * 2, start_method="spawn")
    try:
        near.seed(3)
        far.seed(3)
        mine, other = near.reset(), far.reset()
        ended = 0
        for item in range(14):
            assert isinstance(mine, dict) and isinstance(other, dict)
            assert all((mine[key] == other[key]).all() for key in mine)
            masks = far.env_method("action_masks")
            assert (np.stack(masks) == np.stack(near.env_method("action_masks"))).all()
            mine, reward, done, infos = near.step(np.array([item + 20, item + 90]))
            other, far_reward, far_done, far_infos = far.step(np.array([item + 20, item + 90]))
            assert (reward == far_reward).all() and (done == far_done).all()
            for slot in np.flatnonzero(done):
                for info in (infos[slot], far_infos[slot]):
                    assert "terminal_observation" in info and "TimeLimit.truncated" in info
                ended += 1
        assert ended > 2
    finally:
        far.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode_lives_the_same_sessions(mode: AutoresetMode) -> None:
    """The rewards of each slot's steps, whatever happens in between."""
    lives = {}
    for kind in (AutoresetMode.SAME_STEP, mode):
        env = gym.make_vec(ID, num_envs=3, step_limit=6, autoreset_mode=kind)
        env.reset(seed=1)
        core = env.unwrapped
        assert isinstance(core, RecommendVectorEnv)
        rewards: list[list[float]] = [[], [], []]
        for _ in range(60):
            resting = core._finished.copy()
            if kind is AutoresetMode.DISABLED and resting.any():
                env.reset(options={"reset_mask": resting})
                resting[:] = False
            turn = np.array([len(own) for own in rewards])
            _, reward, _, _, _ = env.step((turn * 7) % 200)
            for slot in np.flatnonzero(~resting):
                rewards[slot].append(float(reward[slot]))
        lives[kind] = [own[:40] for own in rewards]
    assert lives[mode] == lives[AutoresetMode.SAME_STEP]
