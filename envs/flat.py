"""A flat observation for policies that read one vector, such as SB3's `MlpPolicy`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from audience.envs.actions import EMBEDDING_DIM, reduced
from audience.envs.checks import whole
from audience.envs.infos import Info
from audience.envs.observations import Observation
from audience.envs.single import RecommendEnv
from audience.envs.vector import RecommendVectorEnv

Flat = NDArray[np.float32]


class FlatEncoder:
    """Averages of item vectors over a history, as one vector.

    In this order: the mean vector of the events' items; their mean weighted by feedback, scaled
    to 0…1; the last item's vector; and the used part of the history, 0…1.

    Args:
        env: Whose observations; it must have item vectors.
        dim: Width of an item vector, at least 1: wider ones are reduced to their principal
            components, and all are scaled to norm 1.

    Attributes:
        space: Box(-1, 1), float32, shape (3 * width + 1,).

    Raises:
        ValueError: The environment has no item vectors.
    """

    def __init__(self, env: RecommendVectorEnv, dim: int = EMBEDDING_DIM) -> None:
        whole("dim", dim, 1)
        if env.item_vectors is None:
            raise ValueError(
                "a flat history averages item vectors, but the users have no text_vectors: pass "
                "item_vectors of shape (items, dim) to the environment"
            )
        self._vectors = reduced(env.item_vectors, dim)
        self._values = env.users.scale.scaled.astype(np.float32)
        self.space = spaces.Box(-1.0, 1.0, (3 * self._vectors.shape[1] + 1,), np.float32)

    def encode(self, observation: Observation) -> Flat:
        """A batch of observations, or one, as (n, width) or (width,)."""
        items = np.asarray(observation["item"], np.int64)
        levels = np.asarray(observation["feedback"], np.int64)
        length = np.asarray(observation["length"], np.int64)  # (..., 1)
        used = (np.arange(items.shape[-1]) < length).astype(np.float32)
        vectors = self._vectors[items]  # (..., history, dim)
        events = np.maximum(length, 1)
        mean = (vectors * used[..., None]).sum(axis=-2) / events
        weight = used * self._values[levels]
        liked = (vectors * weight[..., None]).sum(axis=-2) / events
        at = np.maximum(length - 1, 0)[..., None]
        last = np.take_along_axis(vectors, at, axis=-2)[..., 0, :] * (length > 0)
        flat = np.concatenate([mean, liked, last, length / items.shape[-1]], axis=-1)
        return np.clip(flat, -1.0, 1.0).astype(np.float32)  # a sum may round past 1


class FlatHistory(gym.ObservationWrapper[Flat, Any, Observation], RecordConstructorArgs):
    """A single environment with `FlatEncoder`'s observation; see there.

    Args:
        env: A `RecommendEnv`, wrapped or not.
        dim: See `FlatEncoder`.

    Raises:
        ValueError: It is another environment, or has no item vectors.
    """

    def __init__(self, env: gym.Env[Observation, Any], dim: int = EMBEDDING_DIM) -> None:
        RecordConstructorArgs.__init__(self, dim=dim)
        gym.ObservationWrapper.__init__(self, env)
        if not isinstance(env.unwrapped, RecommendEnv):
            raise ValueError(f"env must be a RecommendEnv, got {type(env.unwrapped).__name__}")
        self.encoder = FlatEncoder(env.unwrapped.core, dim)
        self.observation_space = self.encoder.space

    def observation(self, observation: Observation) -> Flat:
        """The flat form of one observation, shape (width,)."""
        return self.encoder.encode(observation)


class FlatHistoryVector(VectorWrapper[Flat, Any, Observation, Any, NDArray[Any]]):
    """A vector environment with `FlatEncoder`'s observation, `final_obs` included.

    Args:
        env: A `RecommendVectorEnv`, wrapped or not, in any autoreset mode.
        dim: See `FlatEncoder`.

    Raises:
        ValueError: It is another environment, or has no item vectors.
    """

    def __init__(
        self, env: VectorEnv[Observation, Any, NDArray[Any]], dim: int = EMBEDDING_DIM
    ) -> None:
        super().__init__(env)
        core = env.unwrapped
        if not isinstance(core, RecommendVectorEnv):
            raise ValueError(f"env must be a RecommendVectorEnv, got {type(core).__name__}")
        self.encoder = FlatEncoder(core, dim)
        self.single_observation_space = self.encoder.space
        self.observation_space = batch_space(self.encoder.space, self.num_envs)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Flat, Info]:
        """As of the environment, with flat observations."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self.encoder.encode(observation), info

    def step(self, actions: Any) -> tuple[Flat, NDArray[Any], NDArray[Any], NDArray[Any], Info]:
        """As of the environment, with flat observations."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        if "final_obs" in info:
            for slot in np.flatnonzero(info["_final_obs"]):
                info["final_obs"][slot] = self.encoder.encode(info["final_obs"][slot])
        return self.encoder.encode(observation), reward, terminated, truncated, info
