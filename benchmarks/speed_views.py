"""The views of an environment as one thing to be timed, and the actions that they are given."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audience.agents.vec_env import make_sb3_env
from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.reward_models.users import UserModel

ViewName = Literal["vector", "sb3", "single"]

REDRAWS = 16
"""Rounds in which actions that are not open are drawn again, before all items are looked at."""


@dataclass
class Taken:
    """One step, or the sum of several.

    Attributes:
        seconds: What it took.
        steps: User-steps: users whose session ran.
        chosen: Of these, at how many something was chosen.
        ended: Episodes that ended.
    """

    seconds: float = 0.0
    steps: int = 0
    chosen: int = 0
    ended: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            self.seconds + other.seconds,
            self.steps + other.steps,
            self.chosen + other.chosen,
            self.ended + other.ended,
        )


class View(ABC):
    """An environment of `users` users, in the form that somebody steps it in.

    Attributes:
        core: The vector environment behind it.
        mask: Which actions are open, shape (users, choices).
        lengths: Events observed of each user, shape (users,).
    """

    core: RecommendVectorEnv
    mask: NDArray[Any]
    lengths: NDArray[Any]

    @abstractmethod
    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """Begin new episodes in all environments."""

    def step(self, actions: NDArray[np.int64]) -> Taken:
        """Take a step and, where the form needs it, the resets after it."""
        began = time.perf_counter()
        done = self._step(actions)
        seconds = time.perf_counter() - began
        last = self.core.last_step
        assert last is not None
        chosen = int((last.response.choice >= 0).sum())
        return Taken(seconds, self._active, chosen, int(done.sum()))

    @property
    def _active(self) -> int:
        """Users whose session ran in the last step."""
        return self.core.num_envs

    @abstractmethod
    def _step(self, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which episodes ended."""


class VectorView(View):
    """`RecommendVectorEnv` itself; autoreset at the next step, which is no user-step."""

    def __init__(self, users: UserModel, num_users: int, **settings: Any) -> None:
        self.core = RecommendVectorEnv(num_users, users=users, **settings)
        self._resting = self._done = np.zeros(num_users, np.bool_)

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """Begin new episodes in all environments."""
        observation, info = self.core.reset(seed=seed, options=options)
        self.mask, self.lengths = info["action_mask"], observation["length"][:, 0]
        self._done = np.zeros(self.core.num_envs, np.bool_)

    @property
    def _active(self) -> int:
        return int((~self._resting).sum())

    def _step(self, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
        observation, _, terminated, truncated, info = self.core.step(actions)
        self._resting, self._done = self._done, terminated | truncated
        self.mask, self.lengths = info["action_mask"], observation["length"][:, 0]
        return self._done


class SB3View(View):
    """The `VecEnv` that `make_sb3_env` gives, with masks in the observation."""

    def __init__(self, users: UserModel, num_users: int, **settings: Any) -> None:
        self._view = make_sb3_env("audience/Recommend-v0", num_users, users=users, **settings)
        self.core = self._view.core

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """Begin new episodes in all environments."""
        self._view.seed(seed)
        self._view.set_options(options)
        self._see(self._view.reset())

    def _step(self, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
        observation, _, done, _ = self._view.step(actions)
        self._see(observation)
        return np.asarray(done)

    def _see(self, observation: Any) -> None:
        self.mask, self.lengths = observation["mask"], observation["length"][:, 0]


class SingleView(View):
    """`RecommendEnv`, reset as soon as an episode ends."""

    def __init__(self, users: UserModel, num_users: int = 1, **settings: Any) -> None:
        self._env = RecommendEnv(users=users, **settings)
        self.core = self._env.core

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """Begin a new episode."""
        self._see(*self._env.reset(seed=seed, options=options))

    def _step(self, actions: NDArray[np.int64]) -> NDArray[np.bool_]:
        observation, _, terminated, truncated, info = self._env.step(actions[0])
        if terminated or truncated:
            observation, info = self._env.reset()
        self._see(observation, info)
        return np.array([terminated or truncated])

    def _see(self, observation: Any, info: Any) -> None:
        mask = info["action_mask"]
        self.mask = np.asarray(mask[0] if isinstance(mask, tuple) else mask)[None]
        self.lengths = observation["length"]


VIEWS: dict[ViewName, type[VectorView | SB3View | SingleView]] = {
    "vector": VectorView,
    "sb3": SB3View,
    "single": SingleView,
}


def valid_actions(
    mask: NDArray[Any], slate_size: int, weights: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Random slates of open items, none twice.

    Args:
        mask: Which choices are open, shape (users, choices), at least a slate in each row.
        slate_size: Places of a slate.
        weights: How often each choice is drawn, all above 0, shape (choices,).
        rng: What draws.

    Returns:
        Shape (users,) for slates of 1, else (users, slate size).
    """
    users, choices = mask.shape
    below = weights.cumsum() / weights.sum()
    drawn = np.zeros((users, slate_size), np.int64)
    wrong = np.ones(drawn.shape, np.bool_)
    for _ in range(REDRAWS):
        place = np.searchsorted(below, rng.random(int(wrong.sum())), side="right")
        drawn[wrong] = np.minimum(place, choices - 1)
        again = (drawn[:, :, None] == drawn[:, None, :]) & np.tri(slate_size, k=-1, dtype=np.bool_)
        wrong = again.any(2) | (np.take_along_axis(mask, drawn, axis=1) == 0)
        if not wrong.any():
            break
    rows = np.flatnonzero(wrong.any(1))  # those for whom little is open
    keys = np.where(mask[rows] != 0, np.log(weights) + rng.gumbel(size=(len(rows), choices)), -1e9)
    drawn[rows] = np.argpartition(-keys, slate_size - 1, axis=1)[:, :slate_size]
    return drawn[:, 0] if slate_size == 1 else drawn
