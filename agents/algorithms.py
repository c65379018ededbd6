"""The algorithms that `audience-train` knows: their classes, policies and default settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise

from audience.agents.embedding_policies import HistoryFeatures
from audience.agents.item_to_item import ItemToItem
from audience.agents.policies import ItemScoringPolicy, MaskableItemScoringPolicy
from audience.agents.q_policies import ItemDQN, ItemQRDQN, ItemQuantilePolicy, ItemValuePolicy
from audience.agents.vec_env import SB3VecEnv

ROLLOUT = 8192
"""User-steps of a rollout of PPO: of 32 steps with 256 users; a session's limit is 30."""

PPO_DEFAULTS: dict[str, Any] = {
    "n_steps": 32,
    "batch_size": 2048,
    "n_epochs": 2,  # 4 gave the same return in scripted users, for more time
    "learning_rate": 1e-3,
    # Scripted users leave after some 15 steps, and a taste pays once it is built up: after 200,000
    # steps .97 with .9 came to 11.8, .9 with .8 to 11.2 (one seed each; the best is 11.9).
    "gamma": 0.97,
    "gae_lambda": 0.9,
    "ent_coef": 0.003,  # .01 and .001 did no better; entropies begin at about 6
    "target_kl": 0.05,  # late in training a few epochs can wreck a policy that is nearly sure
}
"""Of PPO with `ItemScoringPolicy` and 256 users: `PPO(ItemScoringPolicy, env, **PPO_DEFAULTS)`.
Stable-Baselines3's own (rollouts of 2,048 steps a user, minibatches of 64) are made for one
environment: with 256 users the first update would come after 524,288 steps."""

_VALUE_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "buffer_size": 100_000,
    "learning_starts": 5_000,
    "batch_size": 512,
    "gamma": 0.9,
    "train_freq": 1,  # of all users at a time
    "gradient_steps": 2,
    "target_update_interval": 2_048,  # user-steps
    "exploration_fraction": 0.5,
    "exploration_final_eps": 0.02,
}

_POINT_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "buffer_size": 100_000,
    "learning_starts": 5_000,
    "batch_size": 512,
    "gamma": 0.9,
    "train_freq": 1,
    "gradient_steps": 2,
}


@dataclass(frozen=True)
class Algorithm:
    """One of them.

    Attributes:
        make: The class.
        policy: Its policy.
        defaults: Its settings, with 256 users (off-policy: 64). PPO's were compared in scripted
            users; the others are known to learn an identity environment, no more.
        num_envs: Users at a time by default.
        slates: Whether it recommends slates of more than one item.
        embeds: Whether its actions are embeddings.
        on_policy: Whether it learns from rollouts, not from a replay buffer.
        imitates: Whether it has probabilities, which a warm start can fit.
    """

    make: Callable[..., BaseAlgorithm]
    policy: Any
    defaults: Mapping[str, Any] = field(default_factory=dict)
    num_envs: int = 256
    slates: bool = True
    embeds: bool = False
    on_policy: bool = True
    imitates: bool = False


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(PPO, ItemScoringPolicy, PPO_DEFAULTS, imitates=True),
    "maskable_ppo": Algorithm(MaskablePPO, MaskableItemScoringPolicy, PPO_DEFAULTS, imitates=True),
    "a2c": Algorithm(
        A2C,
        ItemScoringPolicy,
        {
            "n_steps": 4,  # one gradient step a rollout: many small ones
            "learning_rate": 2e-3,
            "gamma": 0.97,
            "gae_lambda": 0.9,
            "ent_coef": 0.003,
            "use_rms_prop": False,  # Adam, as in all the others
            "normalize_advantage": True,
        },
        imitates=True,
    ),
    "dqn": Algorithm(
        ItemDQN, ItemValuePolicy, _VALUE_DEFAULTS, num_envs=64, slates=False, on_policy=False
    ),
    "qr_dqn": Algorithm(
        ItemQRDQN, ItemQuantilePolicy, _VALUE_DEFAULTS, num_envs=64, slates=False, on_policy=False
    ),
    "sac": Algorithm(
        SAC,
        "MultiInputPolicy",
        # A small coefficient to begin with, learned from there: an inner product tells directions
        # apart only where the noise leaves one.
        {**_POINT_DEFAULTS, "ent_coef": "auto_0.05"},
        num_envs=64,
        embeds=True,
        on_policy=False,
    ),
    "td3": Algorithm(
        TD3, "MultiInputPolicy", _POINT_DEFAULTS, num_envs=64, embeds=True, on_policy=False
    ),
}
"""By name. All of PPO's rollouts and buffers are in user-steps."""

EXPLORATION_NOISE = 0.3
"""Standard deviation of TD3's exploration, in an action space from -1 to 1."""


def make_algorithm(
    name: str,
    env: SB3VecEnv,
    *,
    item_vectors: NDArray[np.floating] | None = None,
    item_bias: NDArray[np.floating] | None = None,
    item_to_item: ItemToItem | None = None,
    seed: int = 0,
    device: str = "auto",
    steps: int | None = None,
    **changes: Any,
) -> BaseAlgorithm:
    """An algorithm with its policy and default settings.

    Args:
        name: One of ALGORITHMS.
        env: To train in; with `actions="embedding"` for SAC and TD3.
        item_vectors: Given vectors of the items, (items, any width).
        item_bias: Scores to start from, (items,); SAC and TD3 have none.
        item_to_item: Filters whose scores are added; SAC and TD3 take none.
        seed: Of the initial values and all draws of the algorithm.
        device: Where it lives: "auto", "cpu", "cuda".
        steps: User-steps that it will be trained for, where known: short trainings get short
            rollouts and warm-ups.
        **changes: Settings in place of the defaults.

    Raises:
        ValueError: The name is unknown, or the algorithm knows no slates.
    """
    known = algorithm_of(name)
    if not known.slates and not isinstance(env.action_space, spaces.Discrete):
        raise ValueError(
            f"algo={name!r} recommends single items: its environment needs slate_size=1 and "
            f"actions='index', got the action space {env.action_space}"
        )
    settings = dict(known.defaults)
    policy: dict[str, Any] = {"item_vectors": item_vectors}
    if known.embeds:
        policy = {
            "features_extractor_class": HistoryFeatures,
            "features_extractor_kwargs": policy,
            "net_arch": [128, 128],
        }
        if known.make is TD3:
            shape = env.action_space.shape or (1,)
            deviation = np.full(shape, EXPLORATION_NOISE)
            settings["action_noise"] = NormalActionNoise(np.zeros(shape), deviation)
    else:
        policy |= {"item_bias": item_bias, "item_to_item": item_to_item}
    if known.make in (PPO, MaskablePPO):
        # A rollout of as many user-steps with any number of users, in equal minibatches.
        rollout = ROLLOUT if steps is None else min(ROLLOUT, steps)
        settings["n_steps"] = max(2, -(-rollout // env.num_envs))
    settings |= changes
    if known.make in (PPO, MaskablePPO):
        whole = settings["n_steps"] * env.num_envs
        settings["batch_size"] = _largest_divisor(whole, settings["batch_size"])
    if not known.on_policy and steps is not None:
        settings["learning_starts"] = min(settings["learning_starts"], steps // 10)
        settings["buffer_size"] = min(settings["buffer_size"], max(steps, env.num_envs))
    policy |= settings.pop("policy_kwargs", {})
    return known.make(known.policy, env, policy_kwargs=policy, seed=seed, device=device, **settings)


def algorithm_of(name: str) -> Algorithm:
    """The algorithm of this name.

    Raises:
        ValueError: There is none.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"algo must be one of {', '.join(ALGORITHMS)}, got {name!r}")
    return ALGORITHMS[name]


def _largest_divisor(number: int, at_most: int) -> int:
    return max(d for d in range(1, min(number, at_most) + 1) if number % d == 0)
