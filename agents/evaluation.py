"""Every user of a population meets an agent, under the same draws for every agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from audience.agents.base import Agent
from audience.agents.measures import coverage, gini
from audience.agents.one_episode import OneEpisodeEnv
from audience.envs.checks import one_of
from audience.reward_models.users import POPULATIONS, Population, UserModel, load_users

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

RESAMPLES = 2000
"""Of the bootstrap: the ends of a 95 % interval stand on 50 resamples each."""

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True)
class Evaluation:
    """What happened in each session.

    Two evaluations with the same users, seed and settings are paired row by row.

    Attributes:
        users: Pseudonym of the user of each session, shape (sessions,).
        return_: Sum of rewards, shape (sessions,).
        length: Steps, shape (sessions,).
        likes: Steps in which the chosen item was liked, shape (sessions,).
        recommended: Catalogue indices shown, -1 after the end, shape (sessions, steps, slate).
        chosen: Catalogue index chosen at each step, -1 for none, shape (sessions, steps).
        levels: Feedback level on it, -1 for none, shape (sessions, steps).
        n_items: Size of the catalogue.
        n_users: Users of the population; row i belongs to user i modulo this.
    """

    users: NDArray[np.str_]
    return_: NDArray[np.float64]
    length: NDArray[np.int64]
    likes: NDArray[np.int64]
    recommended: NDArray[np.int64]
    chosen: NDArray[np.int64]
    levels: NDArray[np.int64]
    n_items: int
    n_users: int

    def summary(self, seed: int = 0) -> dict[str, Any]:
        """The figures of a comparison.

        Returns:
            `return.{mean|iqm|low|high}`: mean and interquartile mean over users of a user's mean
                return; `low` and `high` are the ends of the mean's 95 % bootstrap interval, users
                resampled with `seed`.
            `session_length`: Steps of a session.
            `like_rate`, `acceptance`: Share of steps with a like, and with a choice.
            `coverage`: Share of the catalogue that was recommended at least once.
            `gini`: Of how often each item was recommended: 0 for all alike, towards 1 for one.
        """
        by_user = self.user_returns()
        low, high = bootstrap_interval(by_user, seed)
        shown = np.bincount(self.recommended[self.recommended >= 0], minlength=self.n_items)
        steps = int(self.length.sum())
        return {
            "return": {
                "mean": float(by_user.mean()),
                "iqm": float(trim_mean(by_user, 0.25)),
                "low": low,
                "high": high,
            },
            "session_length": float(self.length.mean()),
            "like_rate": float(self.likes.sum() / steps),
            "acceptance": float((self.chosen >= 0).sum() / steps),
            "coverage": coverage(shown),
            "gini": gini(shown),
        }

    def user_returns(self) -> NDArray[np.float64]:
        """Mean return of each user, in the order of the population, shape (users,)."""
        return self.return_.reshape(-1, self.n_users).mean(0)


def evaluate(
    agent: Agent | BaseAlgorithm,
    users: str | Path | UserModel,
    *,
    population: Population = "test",
    sessions_per_user: int = 1,
    seed: int = 0,
    deterministic: bool = True,
    **env_kwargs: Any,
) -> Evaluation:
    """Let the agent recommend to every user of a population, all at once.

    Session i lives under the draws of seed + i and with the same user whatever the agent does,
    so that agents are compared in pairs.

    Args:
        agent: Anything with `predict`, an algorithm of Stable-Baselines3 included.
        users: A user model, or its directory.
        population: "fitting", "validation" or "test".
        sessions_per_user: Sessions that each user lives, at least 1.
        seed: Of the users' draws; the agent's own randomness is its own.
        deterministic: Passed to the agent.
        **env_kwargs: Settings of `RecommendVectorEnv`. Observations hold `mask`, unless
            `mask_in_observation=False`, for policies trained without it.

    Raises:
        ValueError: The population has no users, or a setting breaks its rule.
    """
    if sessions_per_user < 1:
        raise ValueError(f"sessions_per_user must be at least 1, got {sessions_per_user!r}")
    users = load_users(users)
    one_of("population", population, POPULATIONS)
    n_users = max(len(users.starts(population).at_least(1)), 1)  # the environment refuses none
    settings = {"mask_in_observation": True, **env_kwargs}
    env = OneEpisodeEnv(
        n_users * sessions_per_user,
        users=users,
        population=population,
        in_order=True,
        **settings,
    )
    observation, info = env.reset(seed=seed)
    n, likes_level = env.num_envs, users.scale.likes
    names = info["user"].astype(np.str_)
    running = np.ones(n, np.bool_)
    total, length, likes = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
    recommended = np.full((n, env.step_limit, env.slate_size), -1, np.int64)
    chosen, levels = (np.full((n, env.step_limit), -1, np.int64) for _ in range(2))
    actions = np.zeros((n, *(env.single_action_space.shape or ())), env.action_space.dtype)
    state, begins = None, np.ones(n, np.bool_)
    for step in range(env.step_limit):
        # An agent without memory need not be asked again for those who left.
        asked = running if state is None else np.ones(n, np.bool_)
        seen = {key: part[asked] for key, part in observation.items()}
        actions[asked], state = agent.predict(
            seen, state=state, episode_start=begins[asked], deterministic=deterministic
        )
        observation, reward, terminated, truncated, info = env.step(actions)
        total += reward
        length += running
        likes += running & (info["choice"] >= 0) & likes_level[info["level"]]
        assert env.last_step is not None
        slates = env.last_step.slates  # items, whatever the actions index or embed
        recommended[:, step] = np.where(running[:, None], slates, -1)
        chosen[:, step] = np.where(running, info["item"], -1)
        levels[:, step] = np.where(running, info["level"], -1)
        begins = terminated | truncated
        running &= ~begins
        if not running.any():
            break
    env.close()
    n_items = len(users.catalogue)
    return Evaluation(names, total, length, likes, recommended, chosen, levels, n_items, n_users)


def bootstrap_interval(
    values: NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of values, shape (users,)."""
    rng = np.random.default_rng(seed)
    # How often each user is drawn is multinomial: one matrix product gives all the means.
    weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), resamples)
    means = weights @ values / len(values)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
